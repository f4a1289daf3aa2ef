"""Directions chosen by a text: those whose explanation matches it better than chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from headscan.edit.codes import read_codes
from headscan.edit.direction import check_number, is_finite
from headscan.edit.info import Choice
from headscan.edit.matching import chance_levels, check_poles, combine_poles, contrast, mean_similarity, texts
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from headscan.dictionaries.load import Dictionary
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
    if not (is_finite(chance) and 0 < chance < 1):
        raise HeadscanError(f"chance must be a share between 0 and 1, not {chance!r}")
    check_poles(poles)
    codes = read_codes(scan, model, dictionary=dictionary, layers=layers)
    wanted, avoided = texts(like), texts(unlike, "unlike") if unlike is not None else ()
    similarity = contrast(model, codes.dictionary, wanted, avoided)
    level, median = -math.inf, -math.inf
    if threshold is None or graded:
        chances = (chance, 0.5)
        level, median = chance_levels(scan, model, codes, similarity, poles=poles, chances=chances)
    threshold = level if threshold is None else threshold
    check_number("threshold", threshold)
    if graded and threshold <= median:
        raise HeadscanError(
            f"a graded edit goes from the median score of random directions, {median:.3f}, to the threshold: this "
            f"has to be larger, not {threshold:.3f}"
        )
    scores = combine_poles(codes.rows, mean_similarity(codes.indices, codes.coefficients, similarity), poles)
    if graded:
        degrees = {d: min(max((s - median) / (threshold - median), 0.0), 1.0) for d, s in scores.items()}
    else:
        degrees = {d: float(s >= threshold) for d, s in scores.items()}
    chosen = {d: strength if degree == 1 else 1 + (strength - 1) * degree for d, degree in degrees.items() if degree}
    step = {
        "made_by": made_by, "like": list(wanted), "unlike": list(avoided), "strength": strength,
        "threshold": threshold, "graded_from": median if graded else None, "poles": poles,
        "layers": sorted({direction.layer for direction in scores}),
        "directions_considered": len(scores), "directions_chosen": len(chosen), "highest_score": max(scores.values()),
    }  # fmt: skip
    return Choice(chosen, step)
