"""The result of a scan: a table of explanations and what it was made from, saved as Parquet and JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files
from headscan.common.checks import whole_number
from headscan.common.reading import check_columns
from headscan.errors import HeadscanError
from headscan.explanations.folders import ResultFolder
from headscan.explanations.head import Head, scan_html
from headscan.explanations.table import FIDELITY_VERSION, ScanInfo
from headscan.explanations.verdicts import head_verdicts

if TYPE_CHECKING:
    import pandas as pd

    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model
    from headscan.report.ground import Grounding

__all__ = ["Scan", "check_destination", "check_scan", "is_scan", "load_scan", "page_head"]

_log = logging.getLogger(__name__)
_FOLDER = ResultFolder("headscan-scan", 1, "scan", ("explanations",))
_HEAD_BYTES = 1 << 14  # of a report, in which it says what it is of
_MOST_HEADS = 100_000
_BEFORE = {"tower": "image", "parts": ["vo"], "significance": 0}  # what older manifests do not say
_BEFORE |= {"method": "comp", "penalty": 0.25, "chance": [], "image_mean_of": "", "fidelity_version": 1}


@dataclass(frozen=True, eq=False)
class Scan:
    """Explanations of singular directions; made by `headscan.scan` or `headscan.load_scan`.

    Attributes
    ----------
    info : ScanInfo
        What it was made from.
    explanations : pandas.DataFrame
        The table itself; `table` gives a copy that is safe to change.
    dictionary : Dictionary or None
        What it was made with, where that is in memory; it is not saved.
    """

    info: ScanInfo
    explanations: pd.DataFrame
    dictionary: Dictionary | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return the number of explanations."""
        return len(self.explanations)

    def table(self) -> pd.DataFrame:
        """Return the explanations as a table, one row each.

        Columns
        -------
        tower, part : str
            Where: ``"image"`` or ``"text"``; ``"vo"``, ``"qk"``, ``"mlp_svd"`` or ``"mlp_neuron"`` (see `scan`).
        layer, head, index : int
            The direction: layer and head from 0, index of the singular pair from 0, the largest sigma first. What is
            an MLP's has head -1, and the index of a neuron is its number.
        side : str
            ``"write"`` (right singular vector: what the head writes) or ``"read"`` (left: what it reads); for
            part "qk" ``"query"`` (left) or ``"key"`` (right).
        pole : str
            ``"+"`` or ``"-"``: the singular vector or its opposite.
        sigma : float
            Singular value: how strongly the head carries the read direction over to the written one. For a neuron
            the length of what it writes.
        fidelity : float
            Cosine, in the residual stream, between the direction and its reconstruction from the concepts; which
            definition, says `info.fidelity_definition`.
        joint_fidelity : float
            The same cosine in the joint image-text space.
        p_value, q_value, local_fdr : float
            Chance that a random direction of this part and side has a fidelity as high; the same corrected for how
            many explanations of the part and side the scan holds; the chance that this very row is no better than
            chance. See `p_values`, `q_values` and `local_fdr`. Absent where `info.significance` is 0.
        joint_p_value, joint_q_value, joint_local_fdr : float
            The same for the joint fidelity.
        certified : bool
            Every pick is proven to be the exact arg-max over the dictionary.
        concepts : str
            The concepts with a coefficient, the largest first, joined by ", "; one with a negative coefficient
            (method "omp" alone) has a minus before it.
        concept_0 ..., atom_0 ..., coefficient_0 ...
            The code in the order of picking: concept, row of the dictionary, coefficient. Where the method "lasso"
            needed fewer than k: "", -1 and 0.
        """
        copy: pd.DataFrame = self.explanations.copy()
        return copy

    def strongest(
        self,
        count: int = 10,
        *,
        by: str = "sigma",
        layers: Iterable[int] | None = None,
        side: str | None = None,
        pole: str | None = None,
        part: str | None = None,
    ) -> pd.DataFrame:
        """Return the explanations with the largest values of a column, ties in table order.

        Parameters
        ----------
        count : int, default 10
            Rows, at most. With both poles each direction has two.
        by : {"sigma", "fidelity", "joint_fidelity"}
            The column to order by, largest first.
        layers : iterable of int, optional
            Only these layers.
        side, pole, part : str, optional
            Only this side, pole or part.
        """
        if by not in ("sigma", "fidelity", "joint_fidelity"):
            raise HeadscanError(f"strongest can order by sigma, fidelity or joint_fidelity, not {by!r}")
        whole_number(count, "count", least=0)
        rows = self.rows(layers=layers, side=side, pole=pole, part=part)
        ordered = rows.sort_values(by, ascending=False, kind="stable", ignore_index=True)
        strongest: pd.DataFrame = ordered.head(count)
        return strongest

    def rows(
        self,
        *,
        layers: Iterable[int] | None = None,
        side: str | None = None,
        pole: str | None = None,
        part: str | None = None,
    ) -> pd.DataFrame:
        """Return the explanations of the chosen layers, side, pole and part, in table order."""
        rows = self.explanations
        if layers is not None:
            rows = rows[rows["layer"].isin(list(layers))]
        for name, wanted in (("side", side), ("pole", pole), ("part", part)):
            if wanted is not None:
                rows = rows[rows[name] == wanted]
        return rows

    def heads(self) -> pd.DataFrame:
        """Return one row a head, the clearest first: does it say more than chance, as a whole (`head_verdicts`)."""
        return head_verdicts(self.explanations)

    def find(
        self,
        text: str,
        *,
        model: Model | None = None,
        dictionary: Dictionary | None = None,
        count: int | None = 10,
        layers: Iterable[int] | None = None,
        side: str | None = None,
        pole: str | None = None,
    ) -> pd.DataFrame:
        """Return the explanations that are about a text, the best first.

        The score is the sum over an explanation's concepts of coefficient times similarity to the text: with a model,
        the inner product in joint space of the text and the explained part of the direction; without one, the weight
        of the concepts that hold every word of the text.

        Parameters
        ----------
        text : str
            What to look for.
        model : Model, optional
            The model of the scan, which encodes the text.
        dictionary : Dictionary, optional
            The scan's dictionary, where it is at hand. By default it is taken from the cache; where it is not there,
            the concepts that the scan uses are encoded, once, and a warning says so.
        count : int or None, default 10
            Rows, at most; None for all with a positive score.
        layers : iterable of int, optional
            Only these layers.
        side, pole : str, optional
            Only this side or pole.

        Returns
        -------
        pandas.DataFrame
            Columns `score`, `matched` (the concepts that made it match, with what each brought), then those of
            `Scan.table`.

        Raises
        ------
        HeadscanError
            If the text has no word, or model or dictionary are not the scan's.
        """
        from headscan.explanations.find import find  # reading a table needs no model

        rows = self.rows(layers=layers, side=side, pole=pole)
        return find(rows, self.info, text, model=model, dictionary=dictionary, count=count)

    def report(self, path: str | Path, *, grounding: Grounding | None = None) -> Path:
        """Write the scan as one HTML file to browse, and return its path; see `headscan.report.write_report`."""
        from headscan.report import write_report

        return write_report(self, path, grounding=grounding)

    def head(self, layer: int, head: int, *, part: str = "vo") -> Head:
        """Return one head's explanations of a part, for reading in a notebook; see `Head`."""
        return Head.of(self.explanations, self.info, layer=layer, head=head, part=part)

    def _repr_html_(self) -> str:
        return scan_html(self.explanations, self.info)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write explanations.parquet and manifest.json into a folder, made if need be, and return its path.

        A scan of the same parameters is replaced, one of others with `force` alone; a report of another scan beside
        it is removed. See `ResultFolder.save`.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, its manifest.json is not a scan's, or it holds a scan of other
            parameters.
        """
        target = _FOLDER.save(folder, asdict(self.info), {"explanations": self.explanations}, force=force)
        remove_stale_report(target, self.info)
        return target


def page_head(path: Path) -> str | None:
    """Return the start of a page that headscan wrote, which says what it is of; None of anything else."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    return head if 'name="generator" content="headscan' in head else None


def remove_stale_report(folder: Path, info: ScanInfo) -> None:
    """Remove the report beside a scan if headscan wrote it, and of a scan of other parameters."""
    report = folder / "report.html"
    head = page_head(report)
    if head is not None and info.mark not in head:
        _log.info("removed %s, which is of another scan", report)
        report.unlink(missing_ok=True)


def check_destination(folder: Path, facts: Mapping[str, Any] | None = None, *, force: bool = False) -> None:
    """Raise unless a scan of these facts can be saved in `folder`; asked before the work, it leaves nothing behind.

    Raises
    ------
    HeadscanError
        If the folder cannot be written, holds the manifest of something else, or, without `force`, a scan that was
        made from something else.
    """
    _FOLDER.check_destination(folder)
    _FOLDER.check_replaced(folder, facts or {}, force=force)


def is_scan(folder: Path) -> bool:
    """Say whether a folder holds what looks like a saved scan."""
    return _FOLDER.is_in(folder)


def load_scan(folder: str | Path) -> Scan:
    """Return a scan saved by `Scan.save`.

    Raises
    ------
    HeadscanError
        If there is none, or its files are damaged or do not belong together.
    """
    info, (explanations,) = _FOLDER.load(folder, ScanInfo, defaults=_BEFORE)
    for column, (name, value) in enumerate((("tower", "image"), ("part", "vo"))):
        if name not in explanations:
            explanations.insert(column, name, value)
    codes = sum(name.startswith("concept_") for name in explanations.columns)
    if info.k != codes:
        raise HeadscanError(f"{folder} is damaged: its table has {codes} concepts a row, its manifest says {info.k}")
    if info.tower == "image" and info.image_mean_hash is None:  # nothing to add back: all definitions are one
        info = replace(info, fidelity_version=FIDELITY_VERSION)
    if info.fidelity_version != FIDELITY_VERSION:
        _log.warning(
            "the fidelities in %s are %s: scan again to compare them with newer ones",
            folder,
            info.fidelity_definition,
        )
    where = files.expanded(folder) / "explanations.parquet"
    check_columns(explanations, _column_kinds(explanations, k=info.k), where=where)
    outside = set(explanations["layer"]) - set(info.layers)
    if outside or not explanations["head"].between(-1, _MOST_HEADS).all():
        raise HeadscanError(f"{where} is damaged: it has layers or heads that its manifest does not say")
    return Scan(info=info, explanations=explanations)


def _column_kinds(explanations: pd.DataFrame, *, k: int) -> dict[str, str]:
    kinds = dict.fromkeys(("tower", "part", "side", "pole", "concepts"), "text")
    kinds |= dict.fromkeys(("layer", "head", "index"), "int")
    kinds |= dict.fromkeys(("sigma", "fidelity", "joint_fidelity"), "float")
    kinds |= dict.fromkeys([str(name) for name in explanations if str(name).endswith(("_value", "_fdr"))], "number")
    kinds["certified"] = "bool"
    for rank in range(k):
        kinds |= {f"concept_{rank}": "text", f"atom_{rank}": "int", f"coefficient_{rank}": "float"}
    return kinds


def check_scan(scan: object) -> Scan:
    """Return the scan.

    Raises
    ------
    HeadscanError
        If it is something else.
    """
    if not isinstance(scan, Scan):
        raise HeadscanError(f"scan must be one from headscan.scan or load_scan, not {type(scan).__qualname__}")
    return scan
