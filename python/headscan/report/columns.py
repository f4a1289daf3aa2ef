"""Columns of a table as text: little-endian typed arrays in base64, for the report's lazily read chunks."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from headscan.report.ground import Grounding

__all__ = ["chunk_grounding", "chunk_scan", "encode"]

_SIDES, _POLES = ("write", "read"), ("+", "-")


def encode(values: Any) -> list[str]:
    """Return ``[kind, base64]`` of numbers: the narrowest of u1, u2, u4 for whole ones, else f4."""
    array = np.ravel(np.asarray(values))
    if array.dtype == bool or np.issubdtype(array.dtype, np.integer):
        largest = int(array.max(initial=0))
        kind = "u1" if largest < 1 << 8 else "u2" if largest < 1 << 16 else "u4"
    else:
        kind = "f4"
    return [kind, base64.b64encode(array.astype(f"<{kind}").tobytes()).decode("ascii")]


def chunk_scan(table: pd.DataFrame, *, k: int, measures: Sequence[str]) -> dict[str, Any]:
    """Return the chunks that hold a table's rows.

    Parameters
    ----------
    table : pandas.DataFrame
        As from `Scan.table`.
    k : int
        Concepts per explanation.
    measures : sequence of str
        Further columns of numbers to keep.

    Returns
    -------
    dict
        ``"texts"``: the distinct concepts; ``"layer-<number>"``: the columns of a layer's rows, codes as
        numbers of texts.
    """
    atoms = table[[f"atom_{column}" for column in range(k)]].to_numpy()
    concepts = table[[f"concept_{column}" for column in range(k)]].to_numpy(dtype=object)
    _, first, local = np.unique(atoms, return_index=True, return_inverse=True)
    chunks: dict[str, Any] = {"texts": [str(text) for text in concepts.ravel()[first]]}
    local = local.reshape(atoms.shape)  # (rows, k)
    coefficients = table[[f"coefficient_{column}" for column in range(k)]].to_numpy()
    columns = {name: table[name].to_numpy() for name in ("head", "index", "certified", "sigma", *measures)}
    columns["side"] = np.array([_SIDES.index(side) for side in table["side"]], dtype=np.int64)
    columns["pole"] = np.array([_POLES.index(pole) for pole in table["pole"]], dtype=np.int64)
    columns |= {"atoms": local, "coefficients": coefficients}
    layers = table["layer"].to_numpy()
    for layer in np.unique(layers):
        rows = layers == layer
        chunks[f"layer-{layer}"] = {name: encode(column[rows]) for name, column in columns.items()}
    return chunks


def chunk_grounding(grounding: Grounding) -> dict[str, Any]:
    """Return the chunks that hold images of directions: each thumbnail once, and numbers of them per layer."""
    used, local = np.unique(grounding.images, return_inverse=True)
    local = local.reshape(grounding.images.shape)
    thumbnails = [{"name": grounding.names[number], "data": grounding.thumbnail(number)} for number in used]
    _layers, _heads, rank, _poles, count = grounding.images.shape
    layers = {
        f"ground-{layer}": {
            "rank": rank,
            "count": count,
            "images": encode(local[row]),
            "values": encode(grounding.values[row]),
        }
        for row, layer in enumerate(grounding.layers)
    }
    return {"images": thumbnails, **layers}
