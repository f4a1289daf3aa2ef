"""Edits from explanations: what a text names, scaled down or up; what a classification task needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common.checks import whole_number
from headscan.core.comp import comp
from headscan.edit.direction import is_finite
from headscan.edit.edit import Edit, EditInfo
from headscan.edit.matching import (
    POLES,
    chance_levels,
    combine_poles,
    contrast,
    embed_queries,
    mean_similarity,
    names_one_of,
    read_codes,
    texts,
)
from headscan.errors import HeadscanError
from headscan.models.prompts import class_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["amplify", "for_classes", "suppress"]


def suppress(scan: Scan, model: Model, *, like: str | Sequence[str], strength: float = 0.0, **options: Any) -> Edit:
    """Scale down the directions whose explanation matches a text.

    An explanation's score is the mean, weighted by its coefficients, of each concept's largest similarity to the
    texts of `like` (and not to those of `unlike`), in the centred joint space. No label and no picture is looked
    at.

    Parameters
    ----------
    scan : Scan
        Explanations of the write side; only its layers are edited.
    model : Model
        The model that was scanned.
    like : str or sequence of str
        What to match: texts, or one text with commas.
    strength : float, default 0
        The multiplier: 0 removes.
    unlike : str or sequence of str, optional
        A concept that is nearer to one of these counts against the match, with minus that similarity.
    threshold : float, optional
        Scores of at least this are edited. By default what a share `chance` of random directions exceeds, when
        they are explained in the same way.
    chance : float, default 0.05
        That share.
    graded : bool, default False
        Scale by degree: the multiplier goes linearly from 1 at the median score of random directions to `strength`
        at the threshold, so that a direction which names the texts among other things gives up a part.
    poles : {"any", "all", "mean"}
        Which of a direction's poles have to match: scaling a singular value scales both.
    layers : str, int or iterable of int, optional
        As in `vo_factors`: only these of the scan's layers.
    dictionary : Dictionary, optional
        The one that the scan was made with. Without it the scan's concepts are encoded again.

    Returns
    -------
    Edit

    Raises
    ------
    HeadscanError
        If scan, model and dictionary do not belong together, or an option is out of range.
    """
    return _matching(scan, model, made_by="suppress", like=like, strength=strength, **options)


def amplify(scan: Scan, model: Model, *, like: str | Sequence[str], strength: float = 2.0, **options: Any) -> Edit:
    """Scale up the directions whose explanation matches a text: `suppress` with another default strength."""
    return _matching(scan, model, made_by="amplify", like=like, strength=strength, **options)


def _matching(
    scan: Scan,
    model: Model,
    *,
    made_by: str,
    like: str | Sequence[str],
    strength: float,
    unlike: str | Sequence[str] | None = None,
    threshold: float | None = None,
    chance: float = 0.05,
    graded: bool = False,
    poles: str = "any",
    layers: str | int | Iterable[int] | None = None,
    dictionary: Dictionary | None = None,
) -> Edit:
    _check_number("strength", strength)
    if not (is_finite(chance) and 0 < chance < 1):
        raise HeadscanError(f"chance must be a share between 0 and 1, not {chance!r}")
    if poles not in POLES:
        raise HeadscanError(f"poles must be one of {', '.join(POLES)}, not {poles!r}")
    codes = read_codes(scan, model, dictionary=dictionary, layers=layers)
    wanted, avoided = texts(like), texts(unlike, "unlike") if unlike is not None else ()
    similarity = contrast(model, codes.dictionary, wanted, avoided)
    level, median = -math.inf, -math.inf
    if threshold is None or graded:
        chances = (chance, 0.5)
        level, median = chance_levels(scan, model, codes, similarity, poles=poles, chances=chances)
    threshold = level if threshold is None else threshold
    _check_number("threshold", threshold)
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
    return Edit(chosen, EditInfo.of(scan, step))


def for_classes(
    scan: Scan,
    model: Model,
    classes: Sequence[str],
    *,
    offset: float = 0.3,
    floor: float | None = 0.8,
    ceiling: float | None = None,
    sparsity: int = 10,
    centred: bool = False,
    exclude: str = "exact",
    poles: str = "any",
    layers: str | int | Iterable[int] | None = None,
    dictionary: Dictionary | None = None,
) -> Edit:
    """Scale directions by their relevance for telling classes apart (arXiv 2603.24653, classification).

    Each class name's embedding is explained by COMP over the concepts that are no class name; what is picked for any
    class are the task's concepts. A direction's relevance is the sum over its code of coefficient times largest
    similarity to a task concept; its multiplier is ``relevance + offset``, at least `floor` and at most `ceiling`.

    Parameters
    ----------
    scan, model, poles, layers, dictionary
        As in `suppress`.
    classes : sequence of str
        Class names, without a prompt.
    offset, floor, ceiling : float
        None for no bound.
    sparsity : int, default 10
        Concepts a class.
    centred : bool, default False
        Centre class names and concepts on the dictionary's mean before they are compared; the published code does
        not.
    exclude : {"exact", "containing"}
        Leave out concepts that are a class name, as published, or all that hold one as a whole word.

    Returns
    -------
    Edit

    Raises
    ------
    HeadscanError
        If too few concepts are left, or an option is out of range.
    """
    for name, value in (("offset", offset), ("floor", floor), ("ceiling", ceiling)):
        if value is not None or name == "offset":
            _check_number(name, value)
    if floor is not None and ceiling is not None and floor > ceiling:
        raise HeadscanError(f"floor must be at most ceiling, got {floor} and {ceiling}")
    if exclude not in ("exact", "containing"):
        raise HeadscanError(f"exclude is 'exact' or 'containing', not {exclude!r}")
    names = texts(classes, "classes")
    codes = read_codes(scan, model, dictionary=dictionary, layers=layers)
    held = codes.dictionary
    embedded = (
        embed_queries(model, held, names) if centred else class_embeddings(model, names, templates=held.templates)
    )
    atoms = (held.atoms if centred else held.embeddings()).astype(np.float64)
    concepts = _task_concepts(
        scan, held.texts, names, embedded, atoms, sparsity=whole_number(sparsity, "sparsity"), exclude=exclude
    )
    nearest = (atoms @ atoms[concepts].T).max(axis=1)  # (concepts,)
    relevance = combine_poles(codes.rows, (nearest[codes.indices] * codes.coefficients).sum(axis=1), poles)
    low, high = -math.inf if floor is None else floor, math.inf if ceiling is None else ceiling
    multipliers = {direction: min(max(value + offset, low), high) for direction, value in relevance.items()}
    step = {
        "made_by": "for_classes", "classes": list(names), "offset": offset, "floor": floor, "ceiling": ceiling,
        "sparsity": sparsity, "centred": bool(centred), "exclude": exclude, "poles": poles,
        "task_concepts": [held.texts[row] for row in concepts],
    }  # fmt: skip
    return Edit(multipliers, EditInfo.of(scan, step))


def _task_concepts(
    scan: Scan,
    concepts: Sequence[str],
    names: Sequence[str],
    embedded: NDArray[np.float64],
    atoms: NDArray[np.float64],
    *,
    sparsity: int,
    exclude: str,
) -> list[int]:
    """Return the dictionary rows that explain the classes' embeddings, without class names."""
    exact = {name.casefold() for name in names}
    pool = np.array(
        [
            row
            for row, text in enumerate(concepts)
            if not (text.casefold() in exact if exclude == "exact" else names_one_of(text, names))
        ]
    )
    if not 1 <= sparsity <= len(pool):
        raise HeadscanError(f"sparsity must be from 1 to the {len(pool)} concepts that are left, not {sparsity}")
    picked = comp(embedded, atoms[pool].astype(np.float32), k=sparsity, coherence=scan.info.coherence)
    return sorted({int(pool[rank]) for rank in picked.indices[picked.coefficients > 0]})


def _check_number(name: str, value: object) -> None:
    if not is_finite(value):
        raise HeadscanError(f"{name} must be a finite number, not {value!r:.80}")
