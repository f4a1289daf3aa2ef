"""From concepts to centred atoms: tokenised in windows, repetitions dropped, encoded, normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.errors import HeadscanError
from headscan.terminal import progress_bar
from headscan.text import Tokens, encode_tokens, tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models import Model

__all__ = ["Encoded", "centre", "encode_concepts"]

_WINDOW = 65_536  # texts tokenised and sorted by length at a time: bounds the memory for token ids
_ROWS = 16_384  # rows taken to float64 at a time
_SAME = 1e-6  # a unit embedding this close to the mean of all differs from it by float32 rounding alone


@dataclass(frozen=True, eq=False)
class Encoded:
    """Concepts kept, their centred atoms, and what was noticed on the way; see `headscan.Dictionary`."""

    texts: tuple[str, ...]
    atoms: NDArray[np.float32]
    mean: NDArray[np.float64]
    truncated: int


def encode_concepts(
    model: Model, texts: Sequence[str], *, template: str, batch_size: int, progress: bool | None
) -> Encoded:
    """Encode distinct concepts and centre their embeddings.

    Of texts with the same tokens only the first is kept: to the model they are one concept, and a second copy
    of an atom would only compete with the first.
    """
    kept: list[str] = []
    seen: set[bytes] = set()
    embeddings = np.empty((len(texts), model.joint_dim), dtype=np.float32)
    truncated = 0
    with progress_bar("encoding concepts", total=len(texts), unit="texts", show=progress) as advance:
        for start in range(0, len(texts), _WINDOW):
            window = texts[start : start + _WINDOW]
            tokens = tokenize(model.module, model.tokenizer, [template.replace("{}", text) for text in window])
            rows = _first_of_each(tokens, seen)
            chosen = tokens.select(rows)
            truncated += _count_full(chosen)
            embeddings[len(kept) : len(kept) + len(rows)] = _encode(
                model, chosen, batch_size=batch_size, advance=advance
            )
            kept.extend(window[row] for row in rows)
            advance(len(window) - len(rows))
    if len(kept) < 2:
        raise HeadscanError("the concepts are all the same to the model's tokenizer: a dictionary needs at least two")
    atoms = embeddings[: len(kept)]
    unusable = np.flatnonzero(~(np.isfinite(atoms).all(axis=1) & atoms.any(axis=1)))
    if unusable.size:
        raise HeadscanError(
            f"the text tower gives no usable embedding for {kept[unusable[0]]!r} (NaN, infinite or zero)"
        )
    mean = centre(atoms)
    return Encoded(texts=tuple(kept), atoms=atoms, mean=mean, truncated=truncated)


def _encode(model: Model, tokens: Tokens, *, batch_size: int, advance: Callable[[int], None]) -> NDArray[np.float32]:
    if len(tokens.lengths) == 0:
        return np.empty((0, model.joint_dim), dtype=np.float32)
    import torch

    try:
        return encode_tokens(model.module, tokens, batch_size=batch_size, dtype=model.dtype, advance=advance)
    except torch.OutOfMemoryError as error:
        raise HeadscanError(
            f"the device has not enough memory for {batch_size} texts at a time: use a smaller batch size"
        ) from error


def _first_of_each(tokens: Tokens, seen: set[bytes]) -> list[int]:
    """Return the rows whose tokens were not seen before, and remember them."""
    rows = []
    for row, (ids, length) in enumerate(zip(tokens.ids, tokens.lengths, strict=True)):
        key = ids[:length].tobytes()
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


def _count_full(tokens: Tokens) -> int:
    """Return how many texts fill the whole context: all that were cut do, and next to no others."""
    return int(np.count_nonzero(tokens.lengths == tokens.ids.shape[1])) if tokens.causal else 0


def centre(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Turn embeddings into atoms in place: normalise, subtract the mean, normalise.

    All of it in float64, some rows at a time.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, joint_dim)
        Overwritten with the atoms.

    Returns
    -------
    ndarray of float64, shape (joint_dim,)
        Mean of the normalised embeddings.

    Raises
    ------
    HeadscanError
        If a unit embedding coincides with the mean, which it can only where all embeddings are the same.
    """
    chunks = [slice(start, start + _ROWS) for start in range(0, len(embeddings), _ROWS)]
    mean = sum((_unit(embeddings[rows]).sum(axis=0) for rows in chunks), np.zeros(embeddings.shape[1]))
    mean = mean / len(embeddings)
    for rows in chunks:
        centred = _unit(embeddings[rows]) - mean
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        if lengths.min() <= _SAME:
            raise HeadscanError("the text tower gives every concept the same embedding: centring leaves nothing")
        embeddings[rows] = centred / lengths
    return np.asarray(mean, dtype=np.float64)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit
