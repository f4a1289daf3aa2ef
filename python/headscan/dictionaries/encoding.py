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
from headscan.models.text import Tokens, encode_tokens, join, tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["Window", "encode_windows", "tokens_sample"]

_WINDOW = 65_536  # texts tokenised and sorted by their tokens at a time: bounds the memory
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
            tokens, full = _filled(model, listed, templates)
            rows = _first_of_each(tokens, len(listed), seen)
            kept = [listed[row] for row in rows]
            every = np.add.outer(np.arange(len(templates)) * len(listed), rows).ravel().tolist()
            done: list[float] = []
            encode = partial(
                _average,
                model,
                kept,
                tokens.select(every),
                batch_size=batch_size,
                advance=partial(_count, advance, done),
            )
            yield Window(texts=kept, truncated=int(np.count_nonzero(full[rows])), encode=encode)
            advance(len(listed) - sum(done))


def tokens_sample(model: Model, texts: Sequence[str], *, templates: Sequence[str]) -> str:
    """Return a hash of the tokens of texts spread over a list: another tokenizer has another."""
    digest = hashlib.sha256()
    some = texts[:: max(1, len(texts) // _SAMPLE)]
    for template in templates:
        tokens = _tokens(model, some, template)
        digest.update(f"{tokens.ids.shape} {tokens.own_lengths}\n".encode() + tokens.ids.astype("<i8").tobytes())
    return digest.hexdigest()


def _tokens(model: Model, texts: Sequence[str], template: str) -> Tokens:
    return tokenize(model.module, model.tokenizer, [template.replace("{}", text) for text in texts])


def _filled(model: Model, texts: Sequence[str], templates: Sequence[str]) -> tuple[Tokens, NDArray[np.bool_]]:
    """Return the tokens of texts in every template, template by template, and which texts may have been cut.

    Those fill the whole context: all that were cut do, and next to no others.
    """
    parts, full = [], np.zeros(len(texts), dtype=np.bool_)
    for template in templates:
        tokens = _tokens(model, texts, template)
        full |= tokens.own_lengths & (tokens.lengths == tokens.ids.shape[1])
        parts.append(tokens.trimmed())
    return join(parts), full


def _count(advance: Callable[[float], None], done: list[float], share: float) -> None:
    done.append(share)
    advance(share)


def _average(
    model: Model, texts: list[str], tokens: Tokens, *, batch_size: int, advance: Callable[[float], None]
) -> NDArray[np.float32]:
    """Return the embeddings of texts; of several templates, the mean of their unit embeddings."""
    import torch

    if not texts:
        return np.empty((0, model.joint_dim), dtype=np.float32)
    templates = len(tokens.lengths) // len(texts)
    total = np.zeros((len(texts), model.joint_dim), dtype=np.float32)
    try:
        for rows, batch in encode_tokens(model.module, tokens, batch_size=batch_size, dtype=model.dtype):
            concepts = rows % len(texts)
            _check_usable(batch, concepts, texts)
            np.add.at(total, concepts, batch if templates == 1 else (unit(batch) / templates).astype(np.float32))
            advance(len(rows) / templates)
    except torch.OutOfMemoryError as error:
        raise HeadscanError(
            f"the device has not enough memory for {batch_size} texts at a time: use a smaller batch size"
        ) from error
    _check_usable(total, np.arange(len(texts)), texts)
    return total


def _check_usable(embeddings: NDArray[np.float32], concepts: NDArray[np.int64], texts: list[str]) -> None:
    unusable = concepts[~(np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1))]
    if unusable.size:
        raise HeadscanError(
            f"the text tower gives no usable embedding for {texts[unusable.min()]!r} (NaN, infinite or zero)"
        )


def _first_of_each(tokens: Tokens, count: int, seen: set[bytes]) -> list[int]:
    """Return the rows of `count` texts whose tokens were not seen before, and remember them, 16 bytes each."""
    rows = []
    for row in range(count):
        digest = hashlib.blake2b(digest_size=16)
        for filled in range(row, len(tokens.lengths), count):
            ids = tokens.ids[filled, : tokens.lengths[filled]]
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
        key = digest.digest()
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows
