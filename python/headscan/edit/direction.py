"""A direction of a head that an edit scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from headscan.common.checks import whole_number
from headscan.errors import HeadscanError

__all__ = [
    "COLUMNS",
    "Direction",
    "check_number",
    "checked_direction",
    "checked_multiplier",
    "in_words",
    "is_finite",
    "unique",
]

COLUMNS = ("part", "layer", "head", "index", "multiplier")


class Direction(NamedTuple):
    """A singular pair of a head's value-output matrix: `index` counts from 0, the largest sigma first."""

    part: str
    layer: int
    head: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


def unique(rows: Iterable[Sequence[Any]]) -> dict[Direction, float]:
    """Return rows of part, layer, head, index and multiplier as a mapping.

    Raises
    ------
    HeadscanError
        If one is not such a row, or a direction comes twice with different multipliers.
    """
    scaled: dict[Direction, float] = {}
    for *where, value in rows:
        direction, multiplier = checked_direction(where), checked_multiplier(value)
        if scaled.setdefault(direction, multiplier) != multiplier:
            raise HeadscanError(
                f"{in_words(direction)} comes twice: scaled by {scaled[direction]:g} and by {multiplier:g}"
            )
    return scaled


def checked_direction(key: Any) -> Direction:
    """Return a part, layer, head and index as a direction; raise where they are none."""
    part, *numbers = key
    if part != "vo":
        raise HeadscanError(f"only directions of the part 'vo' can be edited, not of {part!r}")
    if len(numbers) != 3:
        raise HeadscanError(f"a direction is a part, layer, head and index, not {key!r:.80}")
    names = ("layer", "head", "index")
    return Direction("vo", *(whole_number(*pair, least=0) for pair in zip(numbers, names, strict=True)))


def checked_multiplier(value: Any) -> float:
    """Return a multiplier; raise where it is no finite number."""
    if not is_finite(value):
        raise HeadscanError(f"a multiplier is a finite number, not {value!r:.80}")
    return float(value)


def is_finite(value: Any) -> bool:
    """Say whether a value is a number, and no truth value, that a float can hold."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def in_words(direction: Direction) -> str:
    """Name a direction in words."""
    return f"layer {direction.layer}, head {direction.head}, index {direction.index}"


def check_number(name: str, value: object) -> None:
    """Raise unless a value is a finite number."""
    if not is_finite(value):
        raise HeadscanError(f"{name} must be a finite number, not {value!r:.80}")
