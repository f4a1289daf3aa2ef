"""The codes of a scan's write side, which edits go by: over the atoms of its dictionary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headscan.edit.direction import Direction
from headscan.errors import HeadscanError
from headscan.explanations.origin import check_origin, scan_dictionary
from headscan.explanations.result import check_scan
from headscan.heads.layers import parse_layers, select_layers

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["Codes", "read_codes", "written_rows"]


@dataclass(frozen=True, eq=False)
class Codes:
    """The write side of a scan: each explanation's code over the atoms of a dictionary.

    Attributes
    ----------
    rows : pandas.DataFrame
        The scan's rows, in its order.
    indices : ndarray of int64, shape (n, k)
        Rows of the dictionary.
    coefficients : ndarray of float64, shape (n, k)
    dictionary : Dictionary
        The scan's.
    """

    rows: pd.DataFrame
    indices: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    dictionary: Dictionary

    @cached_property
    def directions(self) -> list[Direction]:
        """The direction of each row."""
        rows = zip(*(self.rows[name].tolist() for name in ("layer", "head", "index")), strict=True)
        return [Direction("vo", *row) for row in rows]

    def by_direction(self, rows: NDArray[np.int64] | None = None) -> dict[Direction, list[int]]:
        """Return the rows of each direction, of all of them or of some."""
        grouped: dict[Direction, list[int]] = {}
        for row in range(len(self.rows)) if rows is None else rows.tolist():
            grouped.setdefault(self.directions[row], []).append(row)
        return grouped


def read_codes(
    scan: Scan, model: Model, *, dictionary: Dictionary | None, layers: str | int | Iterable[int] | None
) -> Codes:
    """Return the codes of a scan's write side.

    Raises
    ------
    HeadscanError
        If the scan has no write side, model or dictionary is not the scan's, or there is no such dictionary.
    """
    check_origin(scan, model)
    rows = written_rows(scan, layers=layers)
    own = scan_dictionary(scan, model, dictionary)
    ranks = range(scan.info.k)
    indices = rows[[f"atom_{rank}" for rank in ranks]].to_numpy(dtype=np.int64)
    if indices.max(initial=0) >= len(own):
        raise HeadscanError(f"the scan names atom {indices.max()} of a dictionary of {len(own)} concepts: scan again")
    coefficients = rows[[f"coefficient_{rank}" for rank in ranks]].to_numpy(dtype=np.float64)
    return Codes(rows, indices.clip(min=0), coefficients, own)  # -1, where no concept was needed, has coefficient 0


def written_rows(scan: Scan, *, layers: str | int | Iterable[int] | None) -> pd.DataFrame:
    """Return what can be edited: the write side of the image tower's value-output directions.

    Raises
    ------
    HeadscanError
        If the scan has none, or not those layers.
    """
    held = check_scan(scan).info.layers
    chosen = held
    if layers is not None and not (isinstance(layers, str) and parse_layers(layers) is None):
        chosen = select_layers(layers, count=max(held) + 1, tower="scanned part of the image")
    absent = sorted({*chosen} - {*held})
    if absent:
        raise HeadscanError(f"layer {absent[0]} is not in the scan: it holds {', '.join(map(str, held))}")
    rows = scan.rows(layers=chosen, side="write", part="vo") if scan.info.tower == "image" else scan.explanations[:0]
    if len(rows) == 0:
        raise HeadscanError(
            "the scan explains no write directions of these layers (image tower, part vo), and only those are edited"
        )
    return rows
