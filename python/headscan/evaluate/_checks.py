"""Checks of what a caller measured: every one returns an array that fits, or raises a HeadscanError."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["checked", "embeddings", "flags", "texts"]


def checked(values: Any, expected: str, *, kinds: str, ndim: int) -> NDArray[Any]:
    """Return values as an array with so many axes, of one of NumPy's kinds of dtype, such as "iu" for integers.

    Raises
    ------
    HeadscanError
        With what was `expected`, if they are no such array.
    """
    try:
        array = np.asarray(values)
        array = np.asarray(array.tolist()) if array.dtype == object else array  # as columns of a data frame are
    except (RuntimeError, TypeError, ValueError) as error:  # rows of unequal length, a tensor that is not on the CPU
        raise HeadscanError(f"{expected}; got {type(values).__qualname__}: {error}") from error
    if array.ndim != ndim or array.dtype.kind not in kinds:
        raise HeadscanError(f"{expected}; got {array.dtype} of shape {array.shape}")
    return array


def embeddings(values: Any, name: str, *, width: int | None = None) -> NDArray[np.float64]:
    """Return finite embeddings (n, width) of any length, as float64.

    Raises
    ------
    HeadscanError
        If they are of another shape, or one holds NaN or infinity.
    """
    expected = f"{name} must be finite embeddings of shape (n, {width or 'joint_dim'})"
    rows = checked(values, expected, kinds="fiu", ndim=2).astype(np.float64)
    bad = int((~np.isfinite(rows).all(axis=1)).sum())
    if bad or width not in (None, rows.shape[1]):
        raise HeadscanError(f"{expected}; got {rows.shape}, and {bad} rows hold NaN or infinity")
    return rows


def flags(values: Any, name: str, *, ndim: int = 1) -> NDArray[np.bool_]:
    """Return values that are true or false, or 1 or 0, as bools.

    Raises
    ------
    HeadscanError
        If one is anything else.
    """
    expected = f"{name} must be a {ndim}-D array of true and false (or 1 and 0)"
    array = checked(values, expected, kinds="biuf", ndim=ndim)
    other = array[~np.isin(array, (0, 1))]
    if other.size:
        raise HeadscanError(f"{expected}; got {other[0]}")
    return array.astype(bool)


def texts(values: Any, name: str) -> tuple[str, ...]:
    """Return a list of texts, at least one.

    Raises
    ------
    HeadscanError
        If there are none, one is no text, or a single text was given instead of a list.
    """
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not found or not all(isinstance(text, str) for text in found):
        raise HeadscanError(f"{name} must be a list of texts, at least one; got {values!r:.80}")
    return found
