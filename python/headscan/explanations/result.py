"""The result of a scan: a table of explanations and what it was made from, saved as Parquet and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files
from headscan.common.checks import whole_number
from headscan.errors import HeadscanError
from headscan.explanations.find import find
from headscan.explanations.table import ScanInfo

if TYPE_CHECKING:
    import pandas as pd

    from headscan.explanations.head import Head
    from headscan.report.ground import Grounding

__all__ = ["Scan", "check_destination", "check_scan", "is_scan", "load_scan"]

_KIND, _FORMAT_VERSION = "headscan-scan", 1
_MANIFEST, _DATA = "manifest.json", "explanations.parquet"
_BEFORE_PARTS = {"tower": "image", "parts": ["vo"]}  # what scans were of before they said so


@dataclass(frozen=True, eq=False)
class Scan:
    """Explanations of singular directions; made by `headscan.scan` or `headscan.load_scan`.

    Attributes
    ----------
    info : ScanInfo
        What it was made from.
    explanations : pandas.DataFrame
        The table itself; `table` gives a copy that is safe to change.
    """

    info: ScanInfo
    explanations: pd.DataFrame

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
            Cosine, in the residual stream, between the direction and its reconstruction from the concepts.
        joint_fidelity : float
            The same cosine in the joint image-text space.
        p_value, q_value : float
            Share of random directions whose fidelity is at least as high, and the same corrected for how many
            explanations the scan holds; see `p_values` and `q_values`. Absent where `info.significance` is 0.
        joint_p_value, joint_q_value : float
            The same for the joint fidelity.
        certified : bool
            Every pick is proven to be the exact arg-max over the dictionary.
        concepts : str
            The concepts with a positive coefficient, the largest first, joined by ", ".
        concept_0 ..., atom_0 ..., coefficient_0 ...
            The code in the order of picking: concept, row of the dictionary, non-negative coefficient.
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

    find = find

    def report(self, path: str | Path, *, grounding: Grounding | None = None) -> Path:
        """Write the scan as one HTML file to browse, and return its path; see `headscan.report.write_report`."""
        from headscan.report import write_report

        return write_report(self, path, grounding=grounding)

    def head(self, layer: int, head: int, *, part: str = "vo") -> Head:
        """Return one head's explanations of a part, for reading in a notebook; see `Head`."""
        from headscan.explanations.head import Head

        return Head.of(self, layer=layer, head=head, part=part)

    def _repr_html_(self) -> str:
        from headscan.explanations.head import scan_html

        return scan_html(self)

    def save(self, folder: str | Path) -> Path:
        """Write explanations.parquet and manifest.json into a folder, made if need be, and return its path.

        Both files are written aside and then renamed, the manifest last; it holds the table's hash, so a save
        that was cut short is noticed. A scan already there is replaced; other files are left alone.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, or its manifest.json is not a scan's.
        """
        target = files.expanded(folder)
        check_destination(target)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with files.write_aside(target / _DATA) as aside:
                self.explanations.to_parquet(aside, engine="pyarrow", index=False, compression="zstd")
                digest = files.file_sha256(aside)
            manifest = {
                "format": _KIND,
                "format_version": _FORMAT_VERSION,
                **asdict(self.info),
                "explanations": {"file": _DATA, "rows": len(self), "sha256": digest},
            }
            files.write_manifest(target / _MANIFEST, manifest)
        except OSError as error:
            raise HeadscanError(f"cannot write the scan to {target}: {error.strerror or error}") from error
        return target


def check_destination(folder: Path) -> None:
    """Raise unless a scan can be saved in `folder`; asked before the work, it leaves nothing behind.

    Raises
    ------
    HeadscanError
        If the folder cannot be written, or holds the manifest of something else.
    """
    files.check_writable(folder)
    if (folder / _DATA).is_dir():
        raise HeadscanError(f"will not write to {folder}: {folder / _DATA} is a folder")
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return
    try:
        files.read_manifest(manifest, kind=_KIND, format_version=_FORMAT_VERSION)
    except HeadscanError as error:
        raise HeadscanError(f"will not write to {folder}: {error}") from error


def is_scan(folder: Path) -> bool:
    """Say whether a folder holds what looks like a saved scan."""
    return (folder / _MANIFEST).is_file() and (folder / _DATA).is_file()


def load_scan(folder: str | Path) -> Scan:
    """Return a scan saved by `Scan.save`.

    Raises
    ------
    HeadscanError
        If there is none, or its files are damaged or do not belong together.
    """
    import pandas as pd
    import pyarrow as pa

    source = files.expanded(folder)
    if not source.is_dir():
        raise HeadscanError(f"there is no scan folder {source}")
    manifest = files.read_manifest(source / _MANIFEST, kind=_KIND, format_version=_FORMAT_VERSION)
    try:
        manifest = _BEFORE_PARTS | manifest
        expected = manifest["explanations"]["sha256"]
        info = _info(manifest, where=source / _MANIFEST)
        if files.file_sha256(source / _DATA) != expected:
            raise HeadscanError(f"{source / _DATA} is damaged or cut short: its content does not match the manifest")
        explanations = pd.read_parquet(source / _DATA, engine="pyarrow")
    except FileNotFoundError as error:
        raise HeadscanError(f"{source} holds no {_DATA}") from error
    except OSError as error:
        raise HeadscanError(f"cannot read {source / _DATA}: {error.strerror or error}") from error
    except (KeyError, TypeError, pa.ArrowException) as error:
        raise HeadscanError(f"{source} is damaged: {type(error).__name__}: {error}") from error
    for place, (name, value) in enumerate((("tower", "image"), ("part", "vo"))):
        if name not in explanations:
            explanations.insert(place, name, value)
    codes = sum(name.startswith("concept_") for name in explanations.columns)
    if (manifest["explanations"].get("rows"), info.k) != (len(explanations), codes):
        raise HeadscanError(
            f"{source} is damaged: its table has {len(explanations)} rows of {codes} concepts, which its manifest "
            "does not say"
        )
    return Scan(info=info, explanations=explanations)


def _info(manifest: dict[str, Any], *, where: Path) -> ScanInfo:
    manifest = {"significance": 0, **manifest}  # scans of before it was measured
    files.check_types(manifest, {field.name: field.type for field in fields(ScanInfo)}, where=where)
    values: dict[str, Any] = {field.name: manifest[field.name] for field in fields(ScanInfo)}
    for name in ("parts", "layers", "sides", "poles"):  # JSON has no tuples
        values[name] = tuple(values[name])
    return ScanInfo(**values)


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
