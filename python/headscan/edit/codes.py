"""The codes of a scan's write side, which edits go by: over the atoms of its dictionary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.dictionaries.load import Dictionary, load_dictionary
from headscan.errors import HeadscanError
from headscan.explanations.result import check_scan
from headscan.heads.layers import parse_layers, select_layers
from headscan.models.model import check_model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

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
        Holds at least the concepts of the codes.
    """

    rows: pd.DataFrame
    indices: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    dictionary: Dictionary


def read_codes(
    scan: Scan, model: Model, *, dictionary: Dictionary | None, layers: str | int | Iterable[int] | None
) -> Codes:
    """Return the codes of a scan's write side; without its dictionary, its concepts are encoded again.

    Raises
    ------
    HeadscanError
        If the scan has no write side, or model or dictionary is not the scan's.
    """
    _check_origin(scan, model, dictionary)
    rows = written_rows(scan, layers=layers)
    concepts = rows[[f"concept_{place}" for place in range(scan.info.k)]].to_numpy(dtype=object)
    if dictionary is None:
        named = list(dict.fromkeys(concepts.ravel()))
        dictionary = load_dictionary(named, model=model, template=scan.info.template.split(" | "))
    place_of = {text: place for place, text in enumerate(dictionary.texts)}
    indices = np.array([[place_of[text] for text in code] for code in concepts], dtype=np.int64)
    coefficients = rows[[f"coefficient_{place}" for place in range(scan.info.k)]].to_numpy(dtype=np.float64)
    return Codes(rows, indices, coefficients, dictionary)


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


def _check_origin(scan: Scan, model: Model, dictionary: Dictionary | None) -> None:
    check_model(model)
    check_scan(scan)
    if model.weights_hash != scan.info.weights_hash:
        raise HeadscanError(
            f"the scan is of {scan.info.model} with the weights {scan.info.weights_hash[:12]}, but {model.name} has "
            f"{model.weights_hash[:12]}: scan this model"
        )
    if dictionary is not None and dictionary.hash != scan.info.dictionary_hash:
        raise HeadscanError(f"the dictionary {dictionary.source} is not the one that the scan was made with")
