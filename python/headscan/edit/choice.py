"""Directions chosen by a text: those whose explanation is better than chance, and matches it better than chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.edit.codes import read_codes
from headscan.edit.direction import Direction, check_number, is_finite
from headscan.edit.evidence import NEAREST, Evidence, Match, random_scores, weigh
from headscan.edit.info import Choice
from headscan.edit.matching import check_poles, combine_poles, contrast, mean_similarity, texts
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.edit.codes import Codes
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["choose"]


def choose(
    scan: Scan,
    model: Model,
    *,
    made_by: str,
    like: str | Sequence[str],
    strength: float,
    unlike: str | Sequence[str] | None,
    threshold: float | None,
    chance: float,
    graded: bool,
    poles: str,
    layers: str | int | Iterable[int] | None,
    dictionary: Dictionary | None,
) -> Choice:
    """Return the directions whose explanation matches a text, each with its multiplier; see `Edit.suppress`."""
    check_number("strength", strength)
    if threshold is not None:
        check_number("threshold", threshold)
    if not (is_finite(chance) and 0 < chance < 1):
        raise HeadscanError(f"chance must be a share between 0 and 1, not {chance!r}")
    check_poles(poles)
    codes = read_codes(scan, model, dictionary=dictionary, layers=layers)
    wanted, avoided = texts(like), texts(unlike, "unlike") if unlike is not None else ()
    similarity = contrast(model, codes.dictionary, wanted, avoided)
    scores = mean_similarity(codes.indices, codes.coefficients, similarity)
    by_direction = combine_poles(codes.directions, scores, poles)
    median = float(np.median(random_scores(scan, model, codes, similarity))) if graded else None
    evidence = None
    if threshold is None:
        evidence = weigh(scan, model, codes, similarity, scores, wanted, poles=poles, chance=chance)
        matches = {key: match for key, match in evidence.matches.items() if match.q_match <= chance}
        degrees = _degrees({key: by_direction[key] for key in matches}, median, None)
    else:
        degrees = _degrees(by_direction, median, threshold)
    multipliers = {key: 1 + (strength - 1) * degree if degree < 1 else strength for key, degree in degrees.items()}
    step = {
        "made_by": made_by, "like": list(wanted), "unlike": list(avoided), "strength": strength, "chance": chance,
        "threshold": threshold, "graded_from": median, "poles": poles,
        "layers": sorted({direction.layer for direction in by_direction}),
        "directions_considered": len(by_direction), "directions_chosen": len(multipliers),
        "highest_score": max(by_direction.values()),
        "why_empty": None if multipliers else _why_empty(evidence, wanted, by_direction, median, threshold, chance),
        "chosen": _reasons(codes, scores, multipliers, {} if evidence is None else evidence.matches),
    }  # fmt: skip
    return Choice(multipliers, step)


def _degrees(
    scores: Mapping[Direction, float], median: float | None, threshold: float | None
) -> dict[Direction, float]:
    """Return how far each direction goes, more than 0 and at most 1, of those that go at all.

    Without a median all go, or those that reach a threshold; with one, by their score: from 0 at the median to 1 at
    the threshold, or at the highest score where there is none.
    """
    if median is None:
        return {key: 1.0 for key, score in scores.items() if threshold is None or score >= threshold}
    top = max(scores.values(), default=np.inf) if threshold is None else threshold
    if top <= median:
        raise HeadscanError(
            f"a graded edit goes from the median score of random directions, {median:.3f}, to the threshold: this "
            f"has to be larger, not {top:.3f}"
        )
    degrees = {key: min((score - median) / (top - median), 1.0) for key, score in scores.items()}
    return {key: degree for key, degree in degrees.items() if degree > 0}


def _reasons(
    codes: Codes,
    scores: NDArray[np.float64],
    multipliers: Mapping[Direction, float],
    matches: Mapping[Direction, Match],
) -> list[dict[str, Any]]:
    """Return why each direction is scaled: the explanation that matches, with its q-value and that of the match."""
    best: dict[Direction, int] = {}
    for row in np.argsort(-scores, kind="stable").tolist():
        best.setdefault(codes.directions[row], row)
    reasons = []
    for key in sorted(multipliers):
        match = matches.get(key)
        number = best[key] if match is None else match.row
        row = codes.rows.iloc[number]
        reasons.append(
            {
                "layer": key.layer,
                "head": key.head,
                "index": key.index,
                "pole": row["pole"],
                "multiplier": multipliers[key],
                "score": float(scores[number]),
                "q_explanation": float(row["q_value"]) if "q_value" in row else None,
                "q_match": None if match is None else match.q_match,
                "nearest": None if match is None else match.nearest,
                "concepts": row["concepts"],
            }
        )
    return reasons


def _why_empty(
    evidence: Evidence | None,
    wanted: Sequence[str],
    scores: Mapping[Direction, float],
    median: float | None,
    threshold: float | None,
    chance: float,
) -> str:
    """Say why no direction was chosen."""
    if evidence is None:
        least = threshold if median is None else median
        return f"no direction matched, the highest score is {max(scores.values()):.3f} and {least:.3f} is needed"
    about = ", ".join(wanted)
    if not evidence.matches:
        return (
            f"no explanation of these layers is better than chance (a q-value of at most {chance:g}), about anything"
        )
    best = min(evidence.matches.values(), key=lambda match: (match.q_match, match.nearest))
    return (
        f"no direction matches {about!r} better than chance: {len(evidence.matches)} have an explanation that is, "
        f"the best match among them has a q-value of {best.q_match:.2g} ({chance:g} is needed) and is as near to "
        f"{best.nearest:.1%} of the dictionary's concepts ({NEAREST:.0%} at most)"
    )
