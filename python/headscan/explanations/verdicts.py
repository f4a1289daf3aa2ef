"""Which heads say more than chance: all explanations of a head judged as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headscan.errors import HeadscanError
from headscan.explanations.significance import LEVEL, q_values

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["head_verdicts", "simes"]


def head_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each part, layer and head of a scan's table, the clearest first within a part.

    Parameters
    ----------
    table : pandas.DataFrame
        From `Scan.table`, with significance.

    Returns
    -------
    pandas.DataFrame
        Columns part, layer, head; `rows`: its explanations; `above`: those with a q-value below 0.05; `p_value`:
        how likely a head that says no more than chance, on either side, is to look so clear, see `simes`; `q_value`:
        the same corrected for the part's heads, see `q_values`.

    Raises
    ------
    HeadscanError
        If the scan was made with ``significance=0``.
    """
    import pandas as pd

    if "p_value" not in table.columns:
        raise HeadscanError("this scan has no p-values: scan again with significance, which is on by default")
    parts = table.get("part", pd.Series("vo", index=table.index))
    judged = table.assign(part=parts, above=table.get("q_value", table["p_value"]) < LEVEL)
    groups = judged.groupby(["part", "layer", "head"], sort=True)
    heads = groups.agg(rows=("above", "size"), above=("above", "sum"), p_value=("p_value", simes)).reset_index()
    heads["q_value"] = heads.groupby("part")["p_value"].transform(q_values)
    order = ["part", "p_value", "layer", "head"]
    verdicts: pd.DataFrame = heads.sort_values(order, kind="stable", ignore_index=True)
    return verdicts


def simes(p: pd.Series | NDArray[np.float64]) -> float:
    """Return the p-value of the hypothesis that all are chance: ``min over i of n p_(i) / i`` (Simes 1986).

    Valid where the p-values are independent or positively dependent, as the two poles and sides of a head are.
    """
    ordered = np.sort(np.asarray(p, dtype=np.float64))
    return float(min(1.0, (len(ordered) * ordered / np.arange(1, len(ordered) + 1)).min()))
