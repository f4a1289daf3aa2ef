"""Edits for a classification task: directions by their relevance for telling classes apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import whole_number
from headscan.core.comp import comp
from headscan.edit.codes import read_codes
from headscan.edit.direction import check_number
from headscan.edit.info import Choice
from headscan.edit.matching import combine_poles, embed_queries, names_one_of, texts
from headscan.errors import HeadscanError
from headscan.models.prompts import class_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["relevant"]


def relevant(
    scan: Scan,
    model: Model,
    classes: Sequence[str],
    *,
    offset: float,
    floor: float | None,
    ceiling: float | None,
    sparsity: int,
    centred: bool,
    exclude: str,
    poles: str,
    layers: str | int | Iterable[int] | None,
    dictionary: Dictionary | None,
) -> Choice:
    """Return every direction's multiplier by its relevance for classes; see `Edit.for_classes`."""
    for name, value in (("offset", offset), ("floor", floor), ("ceiling", ceiling)):
        if value is not None or name == "offset":
            check_number(name, value)
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
    relevance = combine_poles(codes.directions, (nearest[codes.indices] * codes.coefficients).sum(axis=1), poles)
    low, high = -math.inf if floor is None else floor, math.inf if ceiling is None else ceiling
    multipliers = {direction: min(max(value + offset, low), high) for direction, value in relevance.items()}
    step = {
        "made_by": "for_classes", "classes": list(names), "offset": offset, "floor": floor, "ceiling": ceiling,
        "sparsity": sparsity, "centred": bool(centred), "exclude": exclude, "poles": poles,
        "task_concepts": [held.texts[row] for row in concepts],
    }  # fmt: skip
    return Choice(multipliers, step)


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
