"""The far tail of a null distribution of cosines: a generalised Pareto fit, tested, with its uncertainty.

Counting cannot give a p-value below one over the number of random values. Beyond that the tail itself is modelled
(Knijnenburg et al. 2009): what lies above a high threshold follows a generalised Pareto distribution (Pickands 1975).
The chance that a random direction comes within an angle of some subspace falls as a power of ``1 - cosine**2``, so
the fit is made to ``-log(1 - cosine**2)``, whose tail is about exponential: shape 0. A shape below 0 would end the
tail, and give p-values of 0, where no data are: it is fitted as 0, which errs on the side of chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TailFit", "fit_tail"]

_SIZES = (250, 150, 100, 60)  # values above the threshold, the first that fits (Knijnenburg et al. start at 250)
_LARGEST_SHARE = 0.1  # of the values: more is no tail
_REFITS = 400
_FITS = 0.05  # least p-value of the test of fit
_LIMIT = 0.95  # confidence of the limit that p-values are taken at
_ROWS = 4096  # values at once, against `_REFITS` refits each


@dataclass(frozen=True, eq=False)
class TailFit:
    """A fitted tail; made by `fit_tail`.

    Attributes
    ----------
    threshold : float
        Cosine above which the fit holds.
    exceedances, count : int
        Random values above it, and in all.
    scale, shape : float
        Of the generalised Pareto distribution of ``-log(1 - cosine**2)`` above the threshold's.
    fit_p : float
        p-value of the Anderson-Darling test of fit, by parametric bootstrap.
    refits : ndarray of float64, shape (refits, 2)
        Scale and shape fitted to samples drawn from the fit: its uncertainty.
    """

    threshold: float
    exceedances: int
    count: int
    scale: float
    shape: float
    fit_p: float
    refits: NDArray[np.float64]

    def p_values(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the upper 95 % confidence limit of the chance that a random value is as high, (n,).

        1 at or below the threshold, where counting does better.
        """
        excess = _stretched(values) - _stretched(np.array([self.threshold]))
        p = np.ones(len(values))
        share = self.exceedances / self.count * (1 + 1.645 / np.sqrt(self.exceedances))
        above = np.flatnonzero(excess > 0)
        for start in range(0, len(above), _ROWS):
            rows = above[start : start + _ROWS]
            survival = _survival(excess[rows, None], *self.refits.T)
            p[rows] = np.minimum(share * np.quantile(survival, _LIMIT, axis=1), 1.0)
        return p

    def facts(self) -> dict[str, float | int]:
        """Return what a manifest keeps: the fit, its standard errors, and how well it fits."""
        errors = self.refits.std(axis=0)
        return {
            "random_directions": self.count, "tail_threshold": self.threshold, "tail_values": self.exceedances,
            "tail_scale": self.scale, "tail_scale_error": float(errors[0]), "tail_shape": self.shape,
            "tail_shape_error": float(errors[1]), "tail_fit_p": self.fit_p,
        }  # fmt: skip


def fit_tail(null: NDArray[np.float64], *, seed: int = 0) -> TailFit | None:
    """Fit the tail of sorted random cosines; None where there are too few, or no threshold gives a fit.

    Parameters
    ----------
    null : ndarray of float64, shape (n,)
        Sorted, smallest first.
    seed : int
        Of the bootstrap.
    """
    stretched = _stretched(null)
    for size in (size for size in _SIZES if size <= _LARGEST_SHARE * len(null)):
        threshold = (stretched[-size] + stretched[-size - 1]) / 2
        excess = stretched[-size:] - threshold
        if not excess[-1] > excess[0] > 0:
            continue
        (scale,), (shape,) = _fit(excess[None])
        rng = np.random.default_rng(seed)
        drawn = np.sort(_quantile(rng.random((_REFITS, size)), scale, shape), axis=1)
        refits = np.stack(_fit(drawn), axis=1)
        distance = _anderson_darling(excess[None], np.array([[scale, shape]]))[0]
        fit_p = float((1 + (_anderson_darling(drawn, refits) >= distance).sum()) / (_REFITS + 1))
        if fit_p >= _FITS:
            cosine = float(np.sqrt(-np.expm1(-threshold))) if threshold > 0 else 0.0
            return TailFit(cosine, size, len(null), float(scale), float(shape), fit_p, refits)
    return None


def _stretched(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``-log(1 - c**2)``, negative cosines as 0; a cosine of 1 gives 34.5."""
    return np.asarray(-np.log1p(-np.minimum(np.maximum(cosines, 0.0) ** 2, 1 - 1e-15)))


def _fit(excess: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and shape, at least 0, of sorted rows (samples, n) by L-moments (Hosking and Wallis 1987)."""
    n = excess.shape[1]
    mean = excess.mean(axis=1)
    second = 2 * (excess * (np.arange(n) / (n - 1))).mean(axis=1) - mean
    shape = np.maximum(2 - mean / second, 0.0)
    return mean * (1 - shape), shape


def _survival(
    excess: NDArray[np.float64], scale: NDArray[np.float64], shape: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the chance of exceeding `excess`, ``(1 + shape x / scale) ** (-1 / shape)``."""
    safe = np.maximum(shape, 1e-9)  # 1e-9 is exponential to the last digit
    return np.asarray(np.exp(-np.log1p(safe * excess / scale) / safe))


def _quantile(upper: NDArray[np.float64], scale: float, shape: float) -> NDArray[np.float64]:
    """Return the excess that is exceeded with chance `upper`."""
    safe = max(shape, 1e-9)
    return np.asarray(scale * np.expm1(-safe * np.log(np.maximum(upper, 1e-300))) / safe)


def _anderson_darling(excess: NDArray[np.float64], fits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Anderson-Darling distance of sorted rows (samples, n) from their fits (samples, 2)."""
    n = excess.shape[1]
    above = np.clip(_survival(excess, fits[:, :1], fits[:, 1:]), 1e-300, 1 - 1e-16)
    weights = 2 * np.arange(1, n + 1) - 1
    return np.asarray(-n - (weights * (np.log1p(-above) + np.log(above[:, ::-1]))).mean(axis=1))
