"""Multipliers of singular values as a table: how two of them combine, invert, differ, and are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from headscan.common import files
from headscan.edit.direction import COLUMNS, Direction, checked_direction, checked_multiplier, in_words
from headscan.edit.files import EDIT, save_json
from headscan.edit.info import EditInfo
from headscan.errors import HeadscanError
from headscan.explanations.result import check_scan
from headscan.models.model import Model

if TYPE_CHECKING:
    import pandas as pd

    from headscan.explanations.result import Scan

__all__ = ["Multipliers"]

_Own = TypeVar("_Own", bound="Multipliers")


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Multipliers of singular values, and what they are of; see `headscan.Edit`.

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
        checked = {checked_direction(key): checked_multiplier(value) for key, value in self.multipliers.items()}
        kept = {key: checked[key] for key in sorted(checked) if checked[key] != 1.0}
        object.__setattr__(self, "multipliers", kept)

    def __len__(self) -> int:
        """Return the number of directions that change."""
        return len(self.multipliers)

    def __str__(self) -> str:
        """Say in a line what is scaled and why."""
        made = "; ".join(str(step.get("made_by", "?")) for step in self.info.steps)
        layers = sorted({direction.layer for direction in self.multipliers})
        heads = {(direction.layer, direction.head) for direction in self.multipliers}
        values = list(self.multipliers.values())
        span = f", multipliers {min(values):g} to {max(values):g}" if values else ""
        return (
            f"edit of {self.info.model} ({self.info.weights_hash[:12]}), made by {made}: {len(self)} directions "
            f"of {len(heads)} heads in layers {layers}{span}"
        )

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

    def combine(self: _Own, other: Multipliers) -> _Own:
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
        return self._with(both, *other.info.steps)

    def invert(self: _Own) -> _Own:
        """Return the edit that undoes this one, up to float32: what a small multiplier rounded away stays lost.

        Raises
        ------
        HeadscanError
            If a multiplier is 0: what is gone cannot be brought back from the edited weights.
        """
        for direction, multiplier in self.multipliers.items():
            if multiplier == 0:
                raise HeadscanError(
                    f"an edit that removes a direction has no inverse: {in_words(direction)} is scaled by 0"
                )
        inverse = {direction: 1 / multiplier for direction, multiplier in self.multipliers.items()}
        return self._with(inverse, {"made_by": "invert"})

    def shuffled(self: _Own, model: Model, *, seed: int = 0) -> _Own:
        """Return a random edit of the same size: the same multipliers at other directions of the same layers."""
        rng = np.random.default_rng(seed)
        moved: dict[Direction, float] = {}
        for layer in sorted({direction.layer for direction in self.multipliers}):
            values = [value for direction, value in self.multipliers.items() if direction.layer == layer]
            drawn = rng.choice(model.heads * model.rank, size=len(values), replace=False)
            for number, value in zip(drawn.tolist(), values, strict=True):
                moved[Direction("vo", layer, number // model.rank, number % model.rank)] = value
        return self._with(moved, {"made_by": "shuffled", "seed": seed})

    def diff(self, other: Multipliers) -> pd.DataFrame:
        """Return the directions whose multipliers differ, with both: columns `multiplier` and `other`."""
        import pandas as pd

        rows = []
        for direction in sorted({*self.multipliers, *other.multipliers}):
            pair = self.multipliers.get(direction, 1.0), other.multipliers.get(direction, 1.0)
            if pair[0] != pair[1]:
                rows.append((*direction, *pair))
        differing: pd.DataFrame = pd.DataFrame(rows, columns=[*COLUMNS, "other"])
        return differing

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the edit as JSON, aside and then renamed, and return its path.

        Raises
        ------
        HeadscanError
            If it cannot be written, or another edit is there, which only `force` replaces.
        """
        return save_json(path, self.content(), force=force)

    def content(self) -> dict[str, Any]:
        """Return what `save` writes."""
        rows = [[*direction, value] for direction, value in self.multipliers.items()]
        return {**EDIT.head, **asdict(self.info), "columns": list(COLUMNS), "multipliers": rows}

    def _with(self: _Own, multipliers: Mapping[Direction, float], *steps: Mapping[str, Any]) -> _Own:
        info = replace(self.info, created=files.now(), steps=(*self.info.steps, *steps))
        return replace(self, multipliers=multipliers, info=info)
