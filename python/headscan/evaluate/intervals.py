"""Confidence intervals of shares and of paired differences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import flags
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["paired_interval", "wilson"]

_Z = 1.959964  # 97.5th percentile of the normal distribution


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, (0, 1) where nothing was counted.

    Raises
    ------
    HeadscanError
        If the hits are not from 0 to `count`.
    """
    if not 0 <= hits <= count:
        raise HeadscanError(f"hits must be from 0 to the count, {count}; got {hits}")
    if count == 0:
        return 0.0, 1.0
    share = hits / count
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return middle - half, middle + half


def paired_interval(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return the mean change of hits on the same pictures and its normal 95 % interval.

    Raises
    ------
    HeadscanError
        If the hits are not of the same pictures, or of fewer than two.
    """
    first, second = flags(before, "before"), flags(after, "after")
    if len(first) != len(second) or len(first) < 2:
        raise HeadscanError(f"expected hits on the same pictures, at least 2; got {len(first)} and {len(second)}")
    change = second.astype(np.float64) - first
    mean = float(change.mean())
    half = _Z * float(change.std(ddof=1)) / math.sqrt(len(change))
    return mean, mean - half, mean + half
