"""The result: every pair of parts with its strength, and the channels of those above chance in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.explanations.find import brought_by_concepts
from headscan.explanations.folders import ResultFolder
from headscan.explanations.table import ScanInfo
from headscan.heads.parts import NO_HEAD
from headscan.wiring.frames import SIDES

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["FOLDER", "PAIR", "Circuits", "CircuitsInfo", "load_circuits", "parse_node"]

PAIR = ("writer_part", "writer_layer", "writer_head", "reader_part", "side", "reader_layer", "reader_head")
FOLDER = ResultFolder("headscan-circuits", 1, "circuits", ("pairs", "channels"))


@dataclass(frozen=True)
class CircuitsInfo(ScanInfo):
    """What circuits were made from: a scan's facts, and which pairs were explained.

    Attributes
    ----------
    level : float
        Pairs whose q-value is below it count as above chance.
    explained : int
        Pairs whose channels were explained: the strongest of those above chance.
    per_pair : int
        Channels of each of those, at most.
    """

    level: float = 0.05
    explained: int = 0
    per_pair: int = 0


@dataclass(frozen=True, eq=False)
class Circuits:
    """Pairs of parts and their channels; made by `headscan.circuits` or `headscan.load_circuits`.

    Attributes
    ----------
    info : CircuitsInfo
        What they were made from.
    pairs : pandas.DataFrame
        One row a writer and side of a reader in a later layer: the columns of `PAIR` (head -1 is the MLP; side is
        "value", "query", "key" or, of an MLP, "input"), `strength`, the Frobenius norm of the product over the root
        mean square that random subspaces give (1 is chance), `p_value` against those, and `q_value`, corrected by
        Benjamini and Hochberg within the pairs of the same writer_part and side.
    channels : pandas.DataFrame
        The channels themselves; `table` gives a copy.
    """

    info: CircuitsInfo
    pairs: pd.DataFrame
    channels: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of channels, each pole counted."""
        return len(self.channels)

    def table(
        self,
        *,
        about: str | None = None,
        writer: str | None = None,
        reader: str | None = None,
        side: str | None = None,
        model: Model | None = None,
        dictionary: Dictionary | None = None,
    ) -> pd.DataFrame:
        """Return channels, one row each and pole, the strongest first; or those about a text, the best first.

        Parameters
        ----------
        about : str, optional
            Only channels whose words, as written or as read, are about this text.
        writer, reader : str, optional
            Only from, or to, this node: "L3" (a layer), "L3.H2" (a head), "L3.MLP".
        side : {"value", "query", "key", "input"}, optional
            Only what is read so.
        model, dictionary
            As in `Scan.find`: with the model `about` goes by meaning, without by words.

        Columns
        -------
        The columns of `PAIR`
            Of the pair.
        channel : int
            From 0, the largest amplitude first.
        pole : str
            "+" or "-": the channel's two directions, or minus both.
        amplitude : float
            Singular value of the product of writer and reader.
        strength : float
            The same in units of the pair's chance: squares over all channels add up to `pair_strength` squared.
        pair_strength, p_value, q_value : float
            Of the pair.
        cosine : float
            Between the direction that is written and the one that is read.
        written_..., read_...
            The explanation of either direction: fidelity, p_value (against random directions), certified, concepts
            and the code, as in `Scan.table`.
        score : float
            First, with `about` alone: the larger of the two explanations' scores, as in `Scan.find`.
        """
        rows: pd.DataFrame = self.channels
        for end, node in (("writer", writer), ("reader", reader)):
            if node is not None:
                layer, head = parse_node(node)
                rows = rows[rows[f"{end}_layer"] == layer]
                rows = rows if head is None else rows[rows[f"{end}_head"] == head]
        if side is not None:
            if side not in SIDES:
                raise HeadscanError(f"side is one of {', '.join(SIDES)}, not {side!r}")
            rows = rows[rows["side"] == side]
        rows = rows.reset_index(drop=True)
        if about is None:
            return rows
        score = self.scores(rows, about, model=model, dictionary=dictionary)
        order = np.argsort(-score, kind="stable")
        order = order[score[order] > 0]
        best: pd.DataFrame = rows.iloc[order].reset_index(drop=True)
        best.insert(0, "score", score[order])
        return best

    def scores(
        self,
        rows: pd.DataFrame,
        text: str,
        *,
        model: Model | None = None,
        dictionary: Dictionary | None = None,
        ends: Sequence[str] = ("written", "read"),
    ) -> NDArray[np.float64]:
        """Return how much each row is about a text: the largest score of its explanations at `ends`, (rows,)."""
        by_end = [
            brought_by_concepts(self.info, rows, text, model=model, dictionary=dictionary, prefix=f"{end}_")[0]
            for end in ends
        ]
        scores: NDArray[np.float64] = np.max([brought.sum(axis=1) for brought in by_end], axis=0)
        return scores

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write pairs.parquet, channels.parquet and manifest.json into a folder, and return its path.

        See `ResultFolder.save`.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, or its manifest.json is not of circuits.
        """
        tables = {"pairs": self.pairs, "channels": self.channels}
        return FOLDER.save(folder, asdict(self.info), tables, force=force)


def load_circuits(folder: str | Path) -> Circuits:
    """Return circuits saved by `Circuits.save`.

    Raises
    ------
    HeadscanError
        If there are none, or their files are damaged or do not belong together.
    """
    info, (pairs, channels) = FOLDER.load(folder, CircuitsInfo, defaults={"image_mean_of": ""})
    wanted: dict[str, tuple[Any, list[str]]] = {
        "pairs": (pairs, [*PAIR, "strength", "p_value", "q_value"]),
        "channels": (channels, [*PAIR, "channel", "pole", "strength", f"read_concept_{info.k - 1}"]),
    }
    for name, (table, columns) in wanted.items():
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise HeadscanError(f"{folder} is damaged: {name}.parquet has no column {missing[0]}")
    return Circuits(info=info, pairs=pairs, channels=channels)


def parse_node(text: str) -> tuple[int, int | None]:
    """Return layer and head of a node, -1 of an MLP, None of a whole layer.

    Raises
    ------
    HeadscanError
        If it is none.
    """
    match = re.fullmatch(r"L(\d{1,6})(?:\.(?:H(\d{1,6})|MLP))?", text) if isinstance(text, str) else None
    if match is None:
        raise HeadscanError(f"a node is written L3 (a layer), L3.H2 (a head) or L3.MLP, not {text!r}")
    head = int(match[2]) if match[2] else NO_HEAD if text.endswith("MLP") else None
    return int(match[1]), head
