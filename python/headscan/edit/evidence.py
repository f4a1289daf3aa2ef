"""Whether explanations match a text better than chance.

An explanation is *better than chance* where the scan's q-value says so. It *matches* a text where its score is one
that explanations of random directions, of the same part and side over the same dictionary, hardly reach: the p-value
of the score, corrected for how many directions are looked at (Benjamini and Hochberg 1995). That alone would let a
text match that the model does not know: its embedding lies near some concept or other. So the text has to be nearer
to the explanation than most of the dictionary's own concepts are, too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.edit.direction import Direction
from headscan.edit.matching import blocks, embed_queries, mean_similarity
from headscan.errors import HeadscanError
from headscan.explanations.families import family_explanations
from headscan.explanations.significance import p_values, q_values
from headscan.explanations.tail import fit_tail
from headscan.models.joint import joint_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.edit.codes import Codes
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["NEAREST", "Evidence", "Match", "random_scores", "weigh"]

_log = logging.getLogger(__name__)
NEAREST = 0.01  # of the dictionary's concepts, among which a text is that an explanation is about
_SAME = 1e-6  # similarities closer than this are one, as texts of equal meaning have


@dataclass(frozen=True)
class Match:
    """How well a direction matches, by its best explanation that is better than chance.

    Attributes
    ----------
    row : int
        Of that explanation, in the codes.
    q_match : float
        Of the direction: chance that its poles match as well, corrected for the directions looked at.
    nearest : float
        Share of the dictionary's concepts that are as near to the explanation as the nearest of the texts.
    """

    row: int
    q_match: float
    nearest: float


@dataclass(frozen=True)
class Evidence:
    """Matches of the directions of which an explanation is better than chance."""

    matches: dict[Direction, Match]


def weigh(
    scan: Scan,
    model: Model,
    codes: Codes,
    similarity: NDArray[np.float64],
    scores: NDArray[np.float64],
    like: Sequence[str],
    *,
    poles: str,
    chance: float,
) -> Evidence:
    """Return how well each direction matches some texts, beside chance.

    Parameters
    ----------
    scan, model
        The scan, and the model that was scanned.
    codes : Codes
        Of the directions looked at.
    similarity : ndarray of float64, shape (concepts,)
        Of each concept of the dictionary with the texts.
    scores : ndarray of float64, shape (rows,)
        Of each explanation.
    like : sequence of str
        The texts.
    poles : {"any", "all", "mean"}
        How the p-values of a direction's poles are combined: the least, times how many there are; the largest; twice
        the mean. Each is a p-value however the poles depend on one another (Vovk and Wang 2020).
    chance : float
        Largest q-value of an explanation that is better than chance.

    Raises
    ------
    HeadscanError
        If the scan was not compared with chance.
    """
    _check_compared(scan)
    better = np.flatnonzero(codes.rows["q_value"].to_numpy() <= chance)
    p, nearest = np.ones(len(scores)), np.ones(len(scores))
    if len(better):
        null = np.sort(random_scores(scan, model, codes, similarity))
        tail = fit_tail(null)
        p[better] = p_values(scores[better], null, tail=tail)
        nearest[better] = _nearest(model, codes, better, like)
        if tail is None:
            _warn_if_coarse(p[better], len(codes.by_direction(better)), len(null), chance)
    return Evidence(_by_direction(codes, better, np.where(nearest <= NEAREST, p, 1.0), p, nearest, poles))


def random_scores(scan: Scan, model: Model, codes: Codes, similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores of random directions, explained as the scan's were, (significance,)."""
    _check_compared(scan)
    random = family_explanations(model, codes.dictionary, "vo", "write", joint=joint_map(model), info=scan.info)
    return mean_similarity(random.indices.clip(min=0), random.coefficients, similarity)


def _check_compared(scan: Scan) -> None:
    if "q_value" not in scan.explanations or not scan.info.significance:
        raise HeadscanError(
            "the scan was not compared with chance (significance 0): scan again with it, or name the directions "
            "(a threshold, --direction, Edit.from_table)"
        )


def _nearest(model: Model, codes: Codes, rows: NDArray[np.int64], like: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of the dictionary's concepts as near to each explanation as the nearest text, (rows,)."""
    atoms = codes.dictionary.atoms[codes.indices[rows]].astype(np.float64)  # (rows, k, joint_dim)
    vectors = np.einsum("nk,nkd->nd", codes.coefficients[rows], atoms)
    own = (vectors @ embed_queries(model, codes.dictionary, like).T).max(axis=1)
    least = own - _SAME * np.linalg.norm(vectors, axis=1)
    nearer = np.zeros(len(rows), dtype=np.int64)
    for block in blocks(codes.dictionary):
        nearer += (block @ vectors.T >= least).sum(axis=0)
    return nearer / len(codes.dictionary)


def _by_direction(
    codes: Codes,
    better: NDArray[np.int64],
    eligible: NDArray[np.float64],
    p: NDArray[np.float64],
    nearest: NDArray[np.float64],
    poles: str,
) -> dict[Direction, Match]:
    """Return each direction's match; `eligible` are the p-values (rows,), 1 where the text is not near enough."""
    every, good = codes.by_direction(), codes.by_direction(better)
    combined = []
    for key, rows in good.items():
        if poles == "any":
            value = len(rows) * eligible[rows].min()
        else:
            whole = eligible[every[key]]
            value = whole.max() if poles == "all" else min(len(whole), 2) * whole.mean()
        combined.append(min(float(value), 1.0))
    best = [min(rows, key=lambda row: (eligible[row], p[row])) for rows in good.values()]
    q = q_values(combined)
    return {key: Match(row, float(value), float(nearest[row])) for key, row, value in zip(good, best, q, strict=True)}


def _warn_if_coarse(p: NDArray[np.float64], directions: int, count: int, chance: float) -> None:
    """Warn where explanations that match better than any random one could not pass, as they are too few."""
    least = 1 / (count + 1)
    best = int((p <= least).sum())
    if best and directions * least / best > chance:
        _log.warning(
            "%d explanations match as none of %d random ones does, but of %d directions that is too coarse to tell "
            "them from chance: scan with more random directions (significance=, --significance), %d or more",
            best, count, directions, int(directions / best / chance),
        )  # fmt: skip
