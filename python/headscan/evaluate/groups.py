"""Accuracy by group: the worst one tells whether a model leans on what it should not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common.checks import checked, flags
from headscan.errors import HeadscanError
from headscan.evaluate.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["GroupAccuracy", "group_accuracy"]


@dataclass(frozen=True, eq=False)
class GroupAccuracy:
    """Accuracy of each group of pictures.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a group: group, pictures, accuracy, low, high (Wilson's 95 % interval).
    mean : float
        Accuracy over all pictures.
    worst : float
        The lowest accuracy of a group.
    """

    table: pd.DataFrame
    mean: float

    @property
    def worst(self) -> float:
        """The lowest accuracy of a group."""
        return float(self.table["accuracy"].min())


def group_accuracy(hits: NDArray[np.bool_], groups: Sequence[Any]) -> GroupAccuracy:
    """Return the accuracy of every group, in the order of their names.

    Parameters
    ----------
    hits : ndarray of bool, shape (n,)
        Which predictions are right.
    groups : sequence, length n
        The group of each picture, a text say.

    Raises
    ------
    HeadscanError
        If there are none, not one group a picture, or a hit or group is missing.
    """
    import pandas as pd

    right = flags(hits, "hits")
    expected = "groups must be texts or numbers, one a picture: leave out pictures without one, or name their group"
    names = checked(groups, expected, kinds="biufU", ndim=1)
    if pd.isna(np.asarray(groups, dtype=object)).any():
        raise HeadscanError(f"{expected}; got NaN")
    if len(right) == 0 or len(right) != len(names):
        raise HeadscanError(f"expected one group a picture, got {len(names)} groups for {len(right)} pictures")
    rows = []
    for name in sorted(set(names.tolist())):
        mine = right[names == name]
        low, high = wilson(int(mine.sum()), len(mine))
        rows.append((name, len(mine), float(mine.mean()), low, high))
    table = pd.DataFrame(rows, columns=["group", "pictures", "accuracy", "low", "high"])
    return GroupAccuracy(table, float(right.mean()))
