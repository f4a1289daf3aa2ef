"""From concepts to embeddings: tokenised in windows, repetitions dropped, encoded, averaged over templates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.terminal import progress_bar
from headscan.common.vectors import unit
from headscan.errors import HeadscanError
from headscan.models.text import Tokens, encode_tokens, tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["Window", "encode_windows", "tokens_sample"]

_WINDOW = 65_536  # texts tokenised and sorted by length at a time: bounds the memory for token ids
_SAMPLE = 256  # texts whose tokens tell one tokenizer from another


@dataclass(frozen=True, eq=False)
class Window:
    """Some concepts in the order of their list, with what was noticed on the way.

    Attributes
    ----------
    texts : list of str
        The concepts kept: of those with the same tokens only the first of the whole list, since to the model they
        are one concept, and a second copy of an atom would only compete with the first.
    truncated : int
        How many of them fill the model's context and may have been cut.
    encode : callable
        Returns their embeddings (n, joint_dim), float32, not normalised. Need not be called.
    """

    texts: list[str]
    truncated: int
    encode: Callable[[], NDArray[np.float32]]


def encode_windows(
    model: Model, texts: Sequence[str], *, templates: Sequence[str], batch_size: int, progress: bool | None
) -> Iterator[Window]:
    """Yield distinct concepts window by window, ready to be encoded.

    Of several templates, the unit embeddings are averaged.

    Raises
    ------
    HeadscanError
        If the text tower yields NaN, infinity or zero, or the device has too little memory for a batch.
    """
    seen: set[bytes] = set()
    with progress_bar("encoding concepts", total=len(texts), unit="texts", show=progress) as advance:
        for start in range(0, len(texts), _WINDOW):
            listed = texts[start : start + _WINDOW]
            filled = [_tokens(model, listed, template) for template in templates]
            rows = _first_of_each(filled, seen)
            told: list[float] = []
            encode = partial(
                _average, model, [listed[row] for row in rows], [tokens.select(rows) for tokens in filled],
                batch_size=batch_size, advance=partial(_tell, advance, told, 1 / len(templates)),
            )  # fmt: skip
            kept, chosen = encode.args[1:]
            yield Window(texts=kept, truncated=_count_full(chosen), encode=encode)
            advance(len(listed) - sum(told))


def tokens_sample(model: Model, texts: Sequence[str], *, templates: Sequence[str]) -> str:
    """Return a hash of the tokens of texts spread over a list: another tokenizer has another."""
    digest = hashlib.sha256()
    some = texts[:: max(1, len(texts) // _SAMPLE)]
    for template in templates:
        tokens = _tokens(model, some, template)
        digest.update(f"{tokens.ids.shape} {tokens.causal}\n".encode() + tokens.ids.astype("<i8").tobytes())
    return digest.hexdigest()


def _tokens(model: Model, texts: Sequence[str], template: str) -> Tokens:
    return tokenize(model.module, model.tokenizer, [template.replace("{}", text) for text in texts])


def _tell(advance: Callable[[float], None], told: list[float], share: float, count: int) -> None:
    told.append(count * share)
    advance(told[-1])


def _average(
    model: Model, texts: list[str], filled: list[Tokens], *, batch_size: int, advance: Callable[[int], None]
) -> NDArray[np.float32]:
    import torch

    if not texts:
        return np.empty((0, model.joint_dim), dtype=np.float32)
    try:
        parts = [
            encode_tokens(model.module, one, batch_size=batch_size, dtype=model.dtype, advance=advance)
            for one in filled
        ]
    except torch.OutOfMemoryError as error:
        raise HeadscanError(
            f"the device has not enough memory for {batch_size} texts at a time: use a smaller batch size"
        ) from error
    for part in parts:
        _check_usable(part, texts)
    if len(parts) == 1:
        return parts[0]
    average: NDArray[np.float32] = np.mean([unit(part) for part in parts], axis=0).astype(np.float32)
    _check_usable(average, texts)
    return average


def _check_usable(embeddings: NDArray[np.float32], texts: list[str]) -> None:
    unusable = np.flatnonzero(~(np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)))
    if unusable.size:
        raise HeadscanError(
            f"the text tower gives no usable embedding for {texts[unusable[0]]!r} (NaN, infinite or zero)"
        )


def _first_of_each(filled: list[Tokens], seen: set[bytes]) -> list[int]:
    """Return the rows whose tokens were not seen before, and remember them, 16 bytes each."""
    rows = []
    for row in range(len(filled[0].lengths)):
        digest = hashlib.blake2b(digest_size=16)
        for tokens in filled:
            ids = tokens.ids[row, : tokens.lengths[row]]
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
        key = digest.digest()
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


def _count_full(filled: list[Tokens]) -> int:
    """Return how many texts fill the whole context: all that were cut do, and next to no others."""
    full = [tokens.lengths == tokens.ids.shape[1] for tokens in filled if tokens.causal]
    return int(np.count_nonzero(np.any(full, axis=0))) if full else 0
