"""The table of an edit: which singular directions are scaled, by how much, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headscan import _files
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import pandas as pd

    from headscan.edit.apply import EditedModel
    from headscan.models import Model
    from headscan.results import Scan

__all__ = ["COLUMNS", "Direction", "Edit", "EditInfo", "check_scan", "is_finite", "said", "unique"]

COLUMNS = ("part", "layer", "head", "index", "multiplier")


class Direction(NamedTuple):
    """A singular pair of a head's value-output matrix: `index` counts from 0, the largest sigma first."""

    part: str
    layer: int
    head: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


@dataclass(frozen=True)
class EditInfo:
    """What an edit is for and how it was made.

    Attributes
    ----------
    headscan, created : str
        Version of headscan, and when (ISO 8601, UTC).
    model, weights_hash : str
        Name and SHA-256 of the model whose directions are meant. Indices mean nothing for other weights.
    folded : bool
        Whether the directions are those of the folded and centred matrices, as in `vo_factors`.
    steps : tuple of dict
        How the multipliers came about, one JSON object a step.
    """

    headscan: str
    created: str
    model: str
    weights_hash: str
    folded: bool
    steps: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, scan: Scan, step: Mapping[str, Any]) -> EditInfo:
        """Return the provenance of an edit made from a scan in one step."""
        info = check_scan(scan).info
        return cls(_files.package_version(), _files.now(), info.model, info.weights_hash, info.folded, (step,))


@dataclass(frozen=True, eq=False)
class Edit:
    """Multipliers of singular values: W_VO = U S V^T becomes U S M V^T (arXiv 2603.24653, section on edits).

    Made by the functions of `headscan.edit.make`, which are its class methods too, or read by `headscan.load_edit`.

    Attributes
    ----------
    multipliers : mapping of Direction to float
        Only those that change something: a multiplier of exactly 1 is left out.
    info : EditInfo
        Provenance.
    """

    multipliers: Mapping[Direction, float]
    info: EditInfo

    def __post_init__(self) -> None:
        checked = {_direction(key): _multiplier(value) for key, value in self.multipliers.items()}
        kept = {key: checked[key] for key in sorted(checked) if checked[key] != 1.0}
        object.__setattr__(self, "multipliers", kept)

    def __len__(self) -> int:
        """Return the number of directions that change."""
        return len(self.multipliers)

    def __str__(self) -> str:
        """Say in a few lines what is scaled and why."""
        made = "; ".join(str(step.get("made_by", "?")) for step in self.info.steps)
        layers = sorted({direction.layer for direction in self.multipliers})
        heads = {(direction.layer, direction.head) for direction in self.multipliers}
        values = list(self.multipliers.values())
        span = f", multipliers {min(values):g} to {max(values):g}" if values else ""
        return (
            f"edit of {self.info.model} ({self.info.weights_hash[:12]}), made by {made}: {len(self)} directions "
            f"of {len(heads)} heads in layers {layers}{span}"
        )

    @classmethod
    def suppress(cls, scan: Scan, model: Model, **options: Any) -> Edit:
        """Scale down what a text names; see `headscan.edit.make.suppress`."""
        from headscan.edit import make

        return make.suppress(scan, model, **options)

    @classmethod
    def amplify(cls, scan: Scan, model: Model, **options: Any) -> Edit:
        """Scale up what a text names; see `headscan.edit.make.amplify`."""
        from headscan.edit import make

        return make.amplify(scan, model, **options)

    @classmethod
    def for_classes(cls, scan: Scan, model: Model, classes: Sequence[str], **options: Any) -> Edit:
        """Scale by relevance for a classification task; see `headscan.edit.make.for_classes`."""
        from headscan.edit import make

        return make.for_classes(scan, model, classes, **options)

    @classmethod
    def from_judgements(cls, scan: Scan, source: Any, mapping: Any, **options: Any) -> Edit:
        """Scale by scores from a file or a callable; see `headscan.edit.judgements.from_judgements`."""
        from headscan.edit import judgements

        return judgements.from_judgements(scan, source, mapping, **options)

    @classmethod
    def from_table(cls, frame: pd.DataFrame, scan: Scan) -> Edit:
        """Take multipliers from a table; `scan` says for which model.

        Parameters
        ----------
        frame : pandas.DataFrame
            Columns layer, head, index and multiplier; part is "vo" where there is no such column. Other columns
            are ignored.
        scan : Scan
            A scan of the model that the directions belong to.

        Raises
        ------
        HeadscanError
            If a column is missing, a value is none, or a direction comes twice with different multipliers.
        """
        check_scan(scan)
        missing = [name for name in COLUMNS if name != "part" and name not in frame.columns]
        if missing:
            raise HeadscanError(
                f"the table of an edit needs the columns {', '.join(COLUMNS)}: {missing[0]} is missing"
            )
        parts = frame["part"] if "part" in frame.columns else ["vo"] * len(frame)
        rows = zip(parts, frame["layer"], frame["head"], frame["index"], frame["multiplier"], strict=True)
        return cls(unique(rows), EditInfo.of(scan, {"made_by": "from_table", "rows": len(frame)}))

    def table(self, scan: Scan | None = None) -> pd.DataFrame:
        """Return one row a direction; with the scan also its sigma and what its poles were explained by."""
        import pandas as pd

        rows = [(*direction, multiplier) for direction, multiplier in self.multipliers.items()]
        table: pd.DataFrame = pd.DataFrame(rows, columns=list(COLUMNS))
        if scan is None:
            return table
        where = ["layer", "head", "index"]
        written = check_scan(scan).rows(side="write", part="vo")
        concepts = written.pivot(index=where, columns="pole", values="concepts").add_prefix("concepts ")
        sigma = written.groupby(where)["sigma"].first()
        described: pd.DataFrame = table.join(sigma, on=where).join(concepts, on=where)
        return described

    def combine(self, other: Edit) -> Edit:
        """Return the edit that does both: multipliers of the same direction are multiplied.

        Raises
        ------
        HeadscanError
            If they are for different weights, or one is for folded matrices and the other is not.
        """
        if (self.info.weights_hash, self.info.folded) != (other.info.weights_hash, other.info.folded):
            raise HeadscanError(
                f"edits of different models or foldings cannot be combined: {self.info.model} "
                f"({self.info.weights_hash[:12]}) and {other.info.model} ({other.info.weights_hash[:12]})"
            )
        both = dict(self.multipliers)
        for direction, multiplier in other.multipliers.items():
            both[direction] = both.get(direction, 1.0) * multiplier
        return Edit(both, replace(self.info, created=_files.now(), steps=self.info.steps + other.info.steps))

    def invert(self) -> Edit:
        """Return the edit that undoes this one, up to float32: what a small multiplier rounded away stays lost.

        Raises
        ------
        HeadscanError
            If a multiplier is 0: what is gone cannot be brought back from the edited weights.
        """
        for direction, multiplier in self.multipliers.items():
            if multiplier == 0:
                raise HeadscanError(
                    f"an edit that removes a direction has no inverse: {said(direction)} is scaled by 0"
                )
        inverse = {direction: 1 / multiplier for direction, multiplier in self.multipliers.items()}
        steps = (*self.info.steps, {"made_by": "invert"})
        return Edit(inverse, replace(self.info, created=_files.now(), steps=steps))

    def shuffled(self, model: Model, *, seed: int = 0) -> Edit:
        """Return a random edit of the same size: the same multipliers at other directions of the same layers."""
        rng = np.random.default_rng(seed)
        moved: dict[Direction, float] = {}
        for layer in sorted({direction.layer for direction in self.multipliers}):
            values = [value for direction, value in self.multipliers.items() if direction.layer == layer]
            places = rng.choice(model.heads * model.rank, size=len(values), replace=False)
            for place, value in zip(places.tolist(), values, strict=True):
                moved[Direction("vo", layer, place // model.rank, place % model.rank)] = value
        steps = (*self.info.steps, {"made_by": "shuffled", "seed": seed})
        return Edit(moved, replace(self.info, created=_files.now(), steps=steps))

    def diff(self, other: Edit) -> pd.DataFrame:
        """Return the directions whose multipliers differ, with both: columns `multiplier` and `other`."""
        import pandas as pd

        rows = []
        for direction in sorted({*self.multipliers, *other.multipliers}):
            pair = self.multipliers.get(direction, 1.0), other.multipliers.get(direction, 1.0)
            if pair[0] != pair[1]:
                rows.append((*direction, *pair))
        differing: pd.DataFrame = pd.DataFrame(rows, columns=[*COLUMNS, "other"])
        return differing

    def apply(
        self, model: Model, *, in_place: bool = False, compensate: bool = True, pictures: Any = None
    ) -> EditedModel:
        """Return the edited model; see `headscan.edit.apply.apply_edit`."""
        from headscan.edit.apply import apply_edit

        return apply_edit(model, self, in_place=in_place, compensate=compensate, pictures=pictures)

    def changes(self, model: Model) -> pd.DataFrame:
        """Return by how much each head would change; see `headscan.edit.apply.changes`."""
        from headscan.edit.apply import changes

        return changes(model, self)

    def save(self, path: str | Path) -> Path:
        """Write the edit as JSON, aside and then renamed, and return its path.

        Raises
        ------
        HeadscanError
            If it cannot be written.
        """
        from headscan.edit.files import write_edit

        return write_edit(self, path)


def check_scan(scan: object) -> Scan:
    """Return the scan.

    Raises
    ------
    HeadscanError
        If it is something else.
    """
    from headscan.results import Scan

    if not isinstance(scan, Scan):
        raise HeadscanError(f"scan must be one from headscan.scan or load_scan, not {type(scan).__qualname__}")
    return scan


def unique(rows: Iterable[Sequence[Any]]) -> dict[Direction, float]:
    """Return rows of part, layer, head, index and multiplier as a mapping.

    Raises
    ------
    HeadscanError
        If one is not such a row, or a direction comes twice with different multipliers.
    """
    found: dict[Direction, float] = {}
    for *where, value in rows:
        direction, multiplier = _direction(where), _multiplier(value)
        if found.setdefault(direction, multiplier) != multiplier:
            raise HeadscanError(
                f"{said(direction)} comes twice: scaled by {found[direction]:g} and by {multiplier:g}"
            )
    return found


def _direction(key: Any) -> Direction:
    part, *numbers = key
    if part != "vo":
        raise HeadscanError(f"only directions of the part 'vo' can be edited, not of {part!r}")
    whole = [number for number in numbers if isinstance(number, (int, np.integer)) and not isinstance(number, bool)]
    if len(whole) != 3 or len(numbers) != 3 or min(whole) < 0:
        raise HeadscanError(f"layer, head and index of a direction are whole numbers from 0, not {numbers!r}")
    layer, head, index = map(int, whole)
    return Direction("vo", layer, head, index)


def _multiplier(value: Any) -> float:
    if not is_finite(value):
        raise HeadscanError(f"a multiplier is a finite number, not {value!r:.80}")
    return float(value)


def is_finite(value: Any) -> bool:
    """Say whether a value is a number, and no truth value, that a float can hold."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def said(direction: Direction) -> str:
    """Name a direction in words."""
    return f"layer {direction.layer}, head {direction.head}, index {direction.index}"
