"""Rows scaled to unit length, and their cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["cosine", "normalise", "unit"]

_TINY = 1e-30  # a shorter vector has no direction: it maps to zero rather than to NaN


def unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows scaled to unit length, in float64."""
    wide = rows.astype(np.float64)
    scaled: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return scaled


def normalise(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows of (n, e) scaled to unit length; a row that vanishes stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros(rows.shape), where=lengths > _TINY)
    return np.asarray(unit, dtype=np.float64)


def cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, (n,), in [-1, 1]; 0 where either vanishes."""
    product = np.einsum("ne,ne->n", normalise(left), normalise(right))
    return np.asarray(np.clip(product, -1.0, 1.0), dtype=np.float64)
