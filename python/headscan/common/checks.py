"""Checks of arguments at the boundary: whole numbers, options of a code, embeddings, texts, flags."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = [
    "MAX_THREADS",
    "check_code_options",
    "check_threads",
    "checked",
    "embeddings",
    "flags",
    "texts",
    "whole_number",
]

MAX_THREADS = 1024


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
    texts = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise HeadscanError(f"{name} must be a list of texts, at least one; got {values!r:.80}")
    return texts


def check_code_options(*, k: int, coherence: float, concepts: int, threads: int) -> None:
    """Raise unless a code of `k` atoms can be made from so many concepts.

    Raises
    ------
    HeadscanError
        If an option is out of range.
    """
    if whole_number(k, "k", least=1) > concepts:
        raise HeadscanError(f"k must be from 1 to the number of atoms, {concepts}, not {k}")
    if (
        isinstance(coherence, bool)
        or not isinstance(coherence, Real)
        or not (np.isfinite(coherence) and coherence >= 0)
    ):
        raise HeadscanError(f"coherence must be a finite number of at least 0, not {coherence!r}")
    check_threads(threads)


def check_threads(threads: int) -> int:
    """Return a number of threads, 0 (all that the process may use) to `MAX_THREADS`.

    Raises
    ------
    HeadscanError
        If it is another.
    """
    return whole_number(threads, "threads", least=0, most=MAX_THREADS)


def whole_number(value: object, name: str, *, least: int | None = None, most: int | None = None) -> int:
    """Return `value` as an int, from `least` to `most` where they are given.

    Raises
    ------
    HeadscanError
        If it is no whole number (True and False are none either), or out of range.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise HeadscanError(f"{name} must be a whole number, not {value!r:.80}") from None
    if least is not None and number < least:
        raise HeadscanError(f"{name} must be at least {least}, not {number}")
    if most is not None and number > most:
        raise HeadscanError(f"{name} must be at most {most}, not {number}")
    return number
