"""Rows of a dictionary, some at a time: from embeddings of any length to centred atoms, and back.

Everything is computed in float64, in the same chunks of rows whoever asks, so that a dictionary made in memory and
one made shard by shard on disk hold the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from headscan.common.vectors import unit
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayRows", "PartRows", "Rows", "centre", "centred", "chunks", "embeddings_of", "mean_of"]

_CHUNK = 16_384  # rows taken to float64 at a time
_SAME = 1e-6  # a unit embedding this close to the mean of all differs from it by float32 rounding alone


class Rows(Protocol):
    """Embeddings (n, width), not normalised, wherever they are."""

    @property
    def width(self) -> int:
        """Values a row."""

    def __len__(self) -> int: ...

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chosen rows, in rising order."""

    def release(self, count: int) -> None:
        """Learn that the first `count` rows will not be asked for again."""


class ArrayRows:
    """Rows of an array in memory."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self.array = array

    @property
    def width(self) -> int:
        """Values a row."""
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chosen rows."""
        return self.array[rows]

    def release(self, count: int) -> None:
        """Keep them."""


def chunks(start: int, stop: int) -> Iterator[slice]:
    """Yield the rows from `start` to `stop` some at a time."""
    for first in range(start, stop, _CHUNK):
        yield slice(first, min(first + _CHUNK, stop))


def mean_of(rows: Rows) -> NDArray[np.float64]:
    """Return the mean (width,) of the rows, each scaled to unit length."""
    parts = (unit(rows.take(part)).sum(axis=0) for part in chunks(0, len(rows)))
    return np.asarray(sum(parts, np.zeros(rows.width)) / len(rows), dtype=np.float64)


def centred(rows: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return atoms: rows normalised, less the mean, normalised.

    Raises
    ------
    HeadscanError
        If a unit row coincides with the mean, which it can only where all embeddings are the same.
    """
    atoms = np.empty(rows.shape, dtype=np.float32)
    for part in chunks(0, len(rows)):
        moved = unit(rows[part]) - mean
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        if lengths.min() <= _SAME:
            raise HeadscanError("the text tower gives every concept the same embedding: centring leaves nothing")
        atoms[part] = moved / lengths
    return atoms


def centre(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Turn embeddings (n, width) into atoms in place; return the mean (width,) of the normalised embeddings.

    Raises
    ------
    HeadscanError
        If the embeddings are all the same.
    """
    mean = mean_of(ArrayRows(embeddings))
    for part in chunks(0, len(embeddings)):
        embeddings[part] = centred(embeddings[part], mean)
    return mean


def embeddings_of(atoms: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit embeddings that became these atoms, to float32 rounding.

    An embedding is mean + t * atom with t > 0; the mean lies inside the unit sphere, so just one such t gives length
    1: t = sqrt(<mean, atom>^2 + 1 - |mean|^2) - <mean, atom>.
    """
    wide = unit(atoms)
    along = wide @ mean
    distance = np.sqrt(along**2 + 1 - mean @ mean) - along
    return mean + distance[:, None] * wide


class Embedded(Protocol):
    """What gives embeddings back by row: a dictionary."""

    @property
    def atoms(self) -> NDArray[np.float32]:
        """Centred rows (n, width)."""

    def embeddings(self, rows: Any = None) -> NDArray[np.float64]:
        """Return unit embeddings of the chosen rows."""


class JoinedRows(ABC):
    """Embeddings that lie in pieces of `counts` rows, one after the other, as one matrix."""

    def __init__(self, counts: Sequence[int], width: int) -> None:
        self.starts, self.width = [0, *np.cumsum(counts).tolist()], width

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chosen rows."""
        wanted = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        out = np.empty((len(wanted), self.width), dtype=np.float32)
        edges = np.searchsorted(wanted, self.starts)
        for number in np.flatnonzero(np.diff(edges)).tolist():
            for part in chunks(int(edges[number]), int(edges[number + 1])):
                out[part] = self.rows_of(number, wanted[part] - self.starts[number])
        return out

    @abstractmethod
    def rows_of(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return rows of a piece, counted from its first."""

    @abstractmethod
    def release(self, count: int) -> None:
        """Learn that the first `count` rows will not be asked for again."""


class PartRows(JoinedRows):
    """Embeddings of chosen concepts of several dictionaries, recovered when they are asked for."""

    def __init__(self, parts: Sequence[tuple[Embedded, NDArray[np.int64]]]) -> None:
        super().__init__([len(rows) for _, rows in parts], parts[0][0].atoms.shape[1])
        self.parts = parts

    def rows_of(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return rows of a dictionary's chosen concepts."""
        dictionary, chosen = self.parts[number]
        return dictionary.embeddings(chosen[rows])

    def release(self, count: int) -> None:
        """Keep them: they are another dictionary's."""
