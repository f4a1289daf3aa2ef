"""The result of a scan: a table of explanations and what it was made from, saved as Parquet and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan import _files
from headscan.errors import HeadscanError
from headscan.find import find

if TYPE_CHECKING:
    import pandas as pd

    from headscan.ground import Grounding
    from headscan.notebook import Head

__all__ = ["Scan", "ScanInfo", "load_scan", "make_table"]

_KIND, _FORMAT_VERSION = "headscan-scan", 1
_MANIFEST, _DATA = "manifest.json", "explanations.parquet"
_BEFORE_PARTS = {"tower": "image", "parts": ["vo"]}  # what scans were of before they said so
_LABELS = (
    "tower",
    "part",
    "layer",
    "head",
    "index",
    "side",
    "pole",
    "sigma",
    "fidelity",
    "joint_fidelity",
    "p_value",
    "q_value",
    "joint_p_value",
    "joint_q_value",
    "certified",
    "concepts",
)


@dataclass(frozen=True)
class ScanInfo:
    """What a scan was made from.

    Attributes
    ----------
    headscan, created : str
        Version of headscan, and when (ISO 8601, UTC).
    model, weights_hash : str
        The model's name and the SHA-256 of its weights.
    pretrained : str or None
        The tag or path of its weights, where the name alone does not say.
    image_mean_hash : str or None
        SHA-256 of the image mean that was subtracted (float64, little-endian), None if none was.
    dictionary, dictionary_hash, template : str
        The dictionary's source, SHA-256 and template.
    concepts : int
        Its number of concepts.
    tower : str
        The tower explained, ``"image"`` or ``"text"``.
    parts, layers, sides, poles : tuple
        What was explained in it.
    k : int
        Concepts per explanation.
    coherence : float
        Weight of the concepts' similarity to one another.
    folded : bool
        Whether the layer norm was folded in.
    significance : int
        Random directions that the explanations were compared with; 0 where they were not.
    """

    headscan: str
    created: str
    model: str
    pretrained: str | None
    weights_hash: str
    image_mean_hash: str | None
    dictionary: str
    dictionary_hash: str
    template: str
    concepts: int
    tower: str
    parts: tuple[str, ...]
    layers: tuple[int, ...]
    sides: tuple[str, ...]
    poles: tuple[str, ...]
    k: int
    coherence: float
    folded: bool
    significance: int = 0


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
        if count < 0:
            raise HeadscanError(f"count must be at least 0, not {count}")
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
        """Return one head's explanations of a part, for reading in a notebook; see `headscan.notebook.Head`."""
        from headscan.notebook import Head

        return Head.of(self, layer=layer, head=head, part=part)

    def _repr_html_(self) -> str:
        from headscan.notebook import scan_html

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
        target = _files.expanded(folder)
        check_destination(target)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with _files.write_aside(target / _DATA) as aside:
                self.explanations.to_parquet(aside, engine="pyarrow", index=False, compression="zstd")
                digest = _files.file_sha256(aside)
            manifest = {
                "format": _KIND,
                "format_version": _FORMAT_VERSION,
                **asdict(self.info),
                "explanations": {"file": _DATA, "rows": len(self), "sha256": digest},
            }
            _files.write_manifest(target / _MANIFEST, manifest)
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
    _files.check_writable(folder)
    if (folder / _DATA).is_dir():
        raise HeadscanError(f"will not write to {folder}: {folder / _DATA} is a folder")
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return
    try:
        _files.read_manifest(manifest, kind=_KIND, format_version=_FORMAT_VERSION)
    except HeadscanError as error:
        raise HeadscanError(f"will not write to {folder}: {error}") from error


def load_scan(folder: str | Path) -> Scan:
    """Return a scan saved by `Scan.save`.

    Raises
    ------
    HeadscanError
        If there is none, or its files are damaged or do not belong together.
    """
    import pandas as pd
    import pyarrow as pa

    source = _files.expanded(folder)
    if not source.is_dir():
        raise HeadscanError(f"there is no scan folder {source}")
    manifest = _files.read_manifest(source / _MANIFEST, kind=_KIND, format_version=_FORMAT_VERSION)
    try:
        manifest = _BEFORE_PARTS | manifest
        expected = manifest["explanations"]["sha256"]
        info = _info(manifest, where=source / _MANIFEST)
        if _files.file_sha256(source / _DATA) != expected:
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
    _files.check_types(manifest, {field.name: field.type for field in fields(ScanInfo)}, where=where)
    values: dict[str, Any] = {field.name: manifest[field.name] for field in fields(ScanInfo)}
    for name in ("parts", "layers", "sides", "poles"):  # JSON has no tuples
        values[name] = tuple(values[name])
    return ScanInfo(**values)


def make_table(columns: dict[str, Any], *, texts: Sequence[str], k: int) -> pd.DataFrame:
    """Return the table of `Scan.table`; codes come as columns ``indices`` and ``coefficients``, (n, k)."""
    import pandas as pd

    indices, coefficients = columns["indices"], columns["coefficients"]
    used, places = np.unique(indices, return_inverse=True)
    words = np.array([texts[atom] for atom in used], dtype=object)[places.reshape(indices.shape)]  # (n, k)
    table = {name: columns[name] for name in _LABELS if name in columns}
    table["concepts"] = [_joined(*row) for row in zip(words, coefficients, strict=True)]
    for place in range(k):
        table[f"concept_{place}"] = words[:, place]
        table[f"atom_{place}"] = indices[:, place]
        table[f"coefficient_{place}"] = coefficients[:, place]
    frame: pd.DataFrame = pd.DataFrame(table)
    return frame


def _joined(words: Sequence[str], coefficients: np.ndarray[Any, Any]) -> str:
    order = np.argsort(-coefficients, kind="stable")
    return ", ".join(words[place] for place in order if coefficients[place] > 0)
