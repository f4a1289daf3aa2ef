"""Directions of a comparison in words, each with how it stands beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.explanations.directions import explain_directions
from headscan.explanations.families import coordinate_profile
from headscan.explanations.null import random_explanations
from headscan.explanations.significance import LEVEL, p_values, q_values
from headscan.explanations.table import make_table
from headscan.explanations.tail import fit_tail
from headscan.models.joint import joint_map
from headscan.models.model import Model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary

__all__ = ["NO_CHANGE", "Coding", "Rows", "in_words"]

NO_CHANGE = 1e-6  # a change this small beside the head's largest singular value is rounding of float32 weights
_LEAST_PROFILE = 1e-4  # of a coordinate that no direction has


@dataclass(frozen=True, eq=False)
class Rows:
    """Directions with the columns of their table, one row each.

    Attributes
    ----------
    columns : dict
    vectors : ndarray of float64, shape (n, width)
    profile : ndarray of float64, shape (width,)
        The coordinates' scale in all of the layer's directions of the kind, as random ones have it.
    """

    columns: dict[str, Any]
    vectors: NDArray[np.float64]
    profile: NDArray[np.float64]

    @classmethod
    def larger(
        cls,
        columns: dict[str, Any],
        vectors: NDArray[np.float64],
        *,
        size: Any,
        than: Any,
        among: NDArray[np.float64],
    ) -> Rows:
        """Return those whose `size` is a change: more than `NO_CHANGE` of the head's largest singular value.

        `among` (m, width) are the directions whose scale chance has.
        """
        kept = size > NO_CHANGE * than
        profile = np.maximum(coordinate_profile(among), _LEAST_PROFILE)
        return cls({name: column[kept] for name, column in columns.items()}, vectors[kept], profile)


@dataclass(frozen=True)
class Coding:
    """How directions are explained; `significance` random ones stand beside them, 0 for none."""

    k: int
    coherence: float
    significance: int
    threads: int


def in_words(
    parts: Sequence[Rows], base: Model, dictionary: Dictionary | None, *, by: str, coding: Coding
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the parts as one table, the largest `by` first, with explanations where there is a dictionary.

    Then, too, with what their p-values and q-values rest on: random directions of the same scale of coordinates,
    explained in the same way; q-values are corrected over the table's rows.
    """
    import pandas as pd

    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    table = pd.DataFrame(columns)
    facts: dict[str, Any] = {"rows": len(table)}
    if dictionary is not None:
        vectors = np.concatenate([part.vectors for part in parts])
        code: dict[str, Any] = {"k": coding.k, "coherence": coding.coherence, "threads": coding.threads}
        explained = vars(explain_directions(vectors, dictionary, joint=joint_map(base), **code))
        if coding.significance and len(table):
            profiles = np.stack([part.profile for part in parts])
            null = random_explanations(
                dictionary, joint=joint_map(base), profiles=profiles, count=coding.significance,
                centred=base.tower.writes_centred, **code,
            )  # fmt: skip
            ranked = np.sort(null.fidelity)
            p = p_values(explained["fidelity"], ranked, tail=fit_tail(ranked))
            explained = {**explained, "p_value": p, "q_value": q_values(p)}
            facts["better"] = int((explained["q_value"] <= LEVEL).sum())
        table = pd.concat([table, make_table(explained, texts=dictionary.texts, k=coding.k)], axis=1)
    ordered: pd.DataFrame = table.sort_values(by, ascending=False, kind="stable", ignore_index=True)
    return ordered, facts
