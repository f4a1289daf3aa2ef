"""Significance: p-values against random directions, and what holds of many of them (q-values, local rates)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headscan.explanations.tail import TailFit

__all__ = ["LEVEL", "local_fdr", "p_values", "q_values"]

LEVEL = 0.05  # of q-values that count as better than chance
_COUNTED = 10  # with this many random values above, counting is sharp enough (Knijnenburg et al. 2009)


def p_values(values: ArrayLike, null: NDArray[np.float64], *, tail: TailFit | None = None) -> NDArray[np.float64]:
    """Return the share of random values that are at least as high, ``(r + 1) / (n + 1)``, in (0, 1].

    Counting the judged value among the n + 1 keeps the test exact: under the null, ``p <= a`` has at most
    probability a (Davison and Hinkley 1997, section 4.2.3). With a `tail`, values that fewer than ten random ones
    reach get its upper confidence limit where that is lower: p-values then go on below ``1 / (n + 1)``.

    Parameters
    ----------
    values : array of float, shape (m,)
    null : ndarray of float64, shape (n,)
        Sorted, smallest first: a field of `NullFidelity`.
    tail : TailFit, optional
        From `headscan.explanations.tail.fit_tail`, of the same null.

    Returns
    -------
    ndarray of float64, shape (m,)
    """
    given = np.asarray(values, dtype=np.float64)
    reached = len(null) - np.searchsorted(null, given, side="left")
    p = np.asarray((reached + 1) / (len(null) + 1), dtype=np.float64)
    if tail is not None:
        rare = reached < _COUNTED
        p[rare] = np.minimum(p[rare], tail.p_values(given[rare]))
    return p


def q_values(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values corrected for how many were looked at (Benjamini and Hochberg 1995).

    Taking every row with ``q <= a`` makes at most a share a of them false discoveries in expectation, where the
    p-values are independent or positively dependent.

    Parameters
    ----------
    p : array of float, shape (m,)

    Returns
    -------
    ndarray of float64, shape (m,)
        ``min over larger or equal p_(i) of m p_(i) / i``, at most 1.
    """
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given)
    scaled = given[order] * len(given) / np.arange(1, len(given) + 1)
    q = np.empty_like(given)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1.0)
    return q


def local_fdr(p: ArrayLike) -> NDArray[np.float64]:
    """Return the local false discovery rate of each p-value: the chance that this very row is no better than chance.

    The density of p-values under chance over their density as it is, ``1 / f(p)``, at most 1 (Efron 2001); f is
    Grenander's estimate, the slope of the least concave majorant of the p-values' distribution, as they can only
    grow denser towards 0 (Strimmer 2008). That all rows might be chance is not held against any: an upper bound.

    Parameters
    ----------
    p : array of float, shape (m,)
        Of one family, in (0, 1].

    Returns
    -------
    ndarray of float64, shape (m,)
        Rising with p, and nowhere below the q-value.
    """
    given = np.asarray(p, dtype=np.float64)
    points, inverse, counts = np.unique(given, return_inverse=True, return_counts=True)
    if not len(points):
        return np.empty(0)
    knots: list[tuple[float, float]] = [(0.0, 0.0)]
    for point, below in zip(points, np.cumsum(counts) / len(given), strict=True):
        while len(knots) > 1 and _slope(knots[-2], knots[-1]) <= _slope(knots[-1], (point, below)):
            knots.pop()
        knots.append((float(point), float(below)))
    edges = np.array(knots)
    density = np.diff(edges[:, 1]) / np.diff(edges[:, 0])
    segment = np.searchsorted(edges[1:, 0], points, side="left")
    return np.asarray(np.minimum(1 / density[segment], 1.0)[inverse])


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])
