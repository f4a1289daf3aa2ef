"""Confidence intervals of shares and of paired differences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["paired_interval", "wilson"]

_Z = 1.959964  # 97.5th percentile of the normal distribution


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    share = hits / count
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return middle - half, middle + half


def paired_interval(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return the mean change of hits on the same pictures and its normal 95 % interval."""
    change = after.astype(np.float64) - before
    mean = float(change.mean())
    half = _Z * float(change.std(ddof=1)) / math.sqrt(len(change))
    return mean, mean - half, mean + half
