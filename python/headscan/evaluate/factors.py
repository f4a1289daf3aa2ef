"""Labelled pictures: their factors, and what a dictionary's concepts claim about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Factor", "check_factors", "name_factor", "presence"]


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor of labelled pictures, and what a dictionary's concepts claim about it.

    Attributes
    ----------
    name : str
        Such as "colour".
    values : tuple of str
        Its values, such as "red".
    pictures : ndarray of int, shape (pictures,)
        Each picture's value, as its index in `values`; -1 where it has none.
    concepts : ndarray of bool, shape (concepts, values)
        The values that each concept allows; no value where the concept says nothing of this factor.
    """

    name: str
    values: tuple[str, ...]
    pictures: NDArray[np.int64]
    concepts: NDArray[np.bool_]


def name_factor(weights: NDArray[np.float64], factors: Sequence[Factor]) -> list[tuple[str, int, float] | None]:
    """Return the one factor value that each code names: where most of its weight lies.

    Parameters
    ----------
    weights : ndarray, shape (codes, concepts)
        Coefficients of each code.
    factors : sequence of Factor

    Returns
    -------
    list of (factor's name, index of the value, share of the weight) or None
        The value that concepts holding more than half of the code's weight allow; where several do, the one
        with the largest share, then the one that fewest concepts allow. None where there is none.
    """
    total = np.maximum(weights.sum(axis=1), 1e-30)
    named: list[tuple[str, int, float] | None] = [None] * len(weights)
    best = np.full(len(weights), 0.5)
    rarest = np.full(len(weights), np.inf)
    for factor in factors:
        shares = weights @ factor.concepts / total[:, None]  # (codes, values)
        common = factor.concepts.sum(axis=0)
        for value, share in enumerate(shares.T):
            better = (share > best + 1e-9) | ((share > best - 1e-9) & (share > 0.5) & (common[value] < rarest))
            for row in np.flatnonzero(better):
                named[row], best[row], rarest[row] = (
                    (factor.name, value, float(share[row])),
                    share[row],
                    common[value],
                )
    return named


def presence(factors: Sequence[Factor]) -> NDArray[np.float64]:
    """Return 1 where a picture shows a concept, else 0, (pictures, concepts): it has claims, and all of them hold."""
    shown: Any = 1.0
    claims: Any = False
    for factor in factors:
        allowed = np.vstack([factor.concepts.T, np.zeros(len(factor.concepts), bool)])  # the last row is "none"
        silent = ~factor.concepts.any(axis=1)
        shown = shown * (allowed[factor.pictures] | silent)
        claims = claims | ~silent
    return np.asarray(shown * claims, dtype=np.float64)


def check_factors(factors: Sequence[Factor], *, pictures: int, concepts: int) -> None:
    """Raise unless there are factors and they fit so many pictures and concepts.

    Raises
    ------
    HeadscanError
        If they do not.
    """
    if not factors:
        raise HeadscanError("no factors were given: at least one is needed to tell what explanations name")
    for factor in factors:
        values = len(factor.values)
        if factor.pictures.shape != (pictures,) or factor.concepts.shape != (concepts, values):
            raise HeadscanError(
                f"factor {factor.name!r} needs a value for each of {pictures} pictures and claims of shape "
                f"{(concepts, values)}; got {factor.pictures.shape} and {factor.concepts.shape}"
            )
        if pictures and not -1 <= factor.pictures.min() <= factor.pictures.max() < values:
            raise HeadscanError(
                f"factor {factor.name!r} has {values} values: pictures are labelled -1 to {values - 1}"
            )
