"""A choice of layers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headscan.common.checks import whole_number
from headscan.errors import HeadscanError

__all__ = ["parse_layers", "select_layers"]


def select_layers(layers: str | int | Iterable[int], *, count: int, tower: str = "image") -> tuple[int, ...]:
    """Return the layer numbers meant, ascending and each once.

    Raises
    ------
    HeadscanError
        If one does not exist in a tower of `count` layers, or the specification cannot be read.
    """
    chosen: set[int] = set()
    for first, last in _layer_ranges(layers, count=count):
        for layer in (first, last):
            if not -count <= layer < count:
                name = "vision" if tower == "image" else tower
                raise HeadscanError(f"there is no layer {layer}: the {name} tower has layers 0 to {count - 1}")
        first, last = first % count, last % count
        if first > last:
            raise HeadscanError(f"the range of layers {first}-{last} is empty: write the lower layer first")
        chosen.update(range(first, last + 1))
    if not chosen:
        raise HeadscanError("no layers were asked for")
    return tuple(sorted(chosen))


def _layer_ranges(layers: str | int | Iterable[int], *, count: int) -> list[tuple[int, int]]:
    if isinstance(layers, str):
        return parse_layers(layers) or [(0, count - 1)]
    numbers = layers if isinstance(layers, Iterable) else [layers]
    try:
        return [(whole_number(number, "a layer"),) * 2 for number in numbers]
    except (HeadscanError, TypeError):  # a tensor of no axes says that it is iterable
        raise HeadscanError(f"layers must be 'all', a range such as '20-23' or integers, not {layers!r}") from None


def parse_layers(text: str) -> list[tuple[int, int]] | None:
    """Read ``"all"`` (None), or ``"20-23"`` and ``"3,5-7,-1"`` as pairs of first and last layer.

    Raises
    ------
    HeadscanError
        If the text is none of these.
    """
    if text.strip() == "all":
        return None
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(-?\d{1,6})|(\d{1,6})\s*-\s*(\d{1,6}))\s*", part)
        if match is None:
            raise HeadscanError(f"layers must be 'all', numbers or ranges such as '20-23' or '3,5-7', not {text!r}")
        single, first, last = match.groups()
        ranges.append((int(single), int(single)) if single is not None else (int(first), int(last)))
    return ranges
