"""The result of a comparison: tables of heads and directions, a figure, a folder with a page to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.errors import HeadscanError
from headscan.explanations.folders import ResultFolder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FOLDER", "NO_DIFFERENCE", "Comparison", "ComparisonInfo", "check_figure"]

NO_DIFFERENCE = "No difference: no head's W_VO changed in the layers compared, beyond rounding."

FOLDER = ResultFolder("headscan-comparison", 1, "comparison", ("heads", "changes", "reweighted"))


@dataclass(frozen=True, kw_only=True)
class ComparisonInfo:
    """What a comparison was made from, and what its q-values rest on.

    Attributes
    ----------
    base_hash, tuned_hash : str
        SHA-256 of both models' weights.
    image_mean_hash : str or None
        Of the base's image mean, as in `ScanInfo`.
    layers : tuple of int
        Those compared.
    count : int
        Directions kept per head.
    dictionary, dictionary_hash, template : str or None
        As in `ScanInfo`; None where the directions were not explained.
    concepts, k, significance : int
        Likewise; 0.
    coherence : float
    chance : mapping
        Of each table of directions its `rows` and, where they were compared with chance, how many have a q-value of
        at most 0.05 (`better`).
    """

    base_hash: str
    tuned_hash: str
    image_mean_hash: str | None
    layers: tuple[int, ...]
    count: int
    chance: Mapping[str, Mapping[str, int]]
    dictionary: str | None = None
    dictionary_hash: str | None = None
    template: str | None = None
    concepts: int = 0
    k: int = 0
    coherence: float = 0.0
    significance: int = 0


@dataclass(frozen=True, eq=False)
class Comparison:
    """What changed between two models' heads; made by `headscan.compare`.

    Attributes
    ----------
    base, tuned : str
        Names of what was compared.
    heads : pandas.DataFrame
        One row per head, the largest change first: `layer`, `head`; `norm` and `change`, the Frobenius norms of its
        W_VO and of the change; `relative`, their ratio; `sigma_moved`, the norm of the singular values' differences
        over `norm`; `write_angle`, `write_angle_max`, `read_angle`, `read_angle_max`, mean and largest principal
        angle in degrees between the spaces that the head writes into (reads from) before and after; and three shares
        of the squared change that sum to 1: `reweighted`, along the base's own singular directions, ``(u_i^T change
        v_i)^2``; `mixed`, from one of them to another; `outside`, beyond their spans.
    changes : pandas.DataFrame
        What the strongest singular directions of each head's change write, both poles: `layer`, `head`, `index`,
        `pole`, `sigma`, `share` of the head's squared change, then the explanation's columns of `Scan.table`. Less
        than a millionth of the head's largest singular value is no change, and has no row.
    reweighted : pandas.DataFrame
        The base's write directions that the change moves most: `layer`, `head`, `index`, `pole`, `sigma`, `moved`
        (``u_i^T change v_i``), `multiplier` (``1 + moved / sigma``; NaN where sigma is at most a thousandth of the
        head's largest, which is rounding), then the explanation's columns; likewise.
    unused : tuple of str
        What an adapter changes outside the heads' W_VO.
    info : ComparisonInfo or None
        What it was made from.
    """

    base: str
    tuned: str
    heads: pd.DataFrame
    changes: pd.DataFrame
    reweighted: pd.DataFrame
    unused: tuple[str, ...] = ()
    info: ComparisonInfo | None = None

    @property
    def differs(self) -> bool:
        """Whether any head changed: by more than a millionth of its largest singular value."""
        return len(self.changes) > 0

    def summary(self) -> dict[str, float]:
        """Return figures over all heads: relative change, and shares and angles weighted by squared change.

        `relative` is the root of the summed squared changes over that of the squared norms.
        """
        squared = self.heads["change"].to_numpy() ** 2
        whole = float(squared.sum())
        weights = squared / whole if whole else squared
        names = ("sigma_moved", "write_angle", "read_angle", "reweighted", "mixed", "outside")
        norm = float(np.linalg.norm(self.heads["norm"]))
        relative = float(np.sqrt(whole)) / norm if norm else 0.0
        return {"relative": relative, **{name: float(self.heads[name] @ weights) for name in names}}

    def figure(self) -> Any:
        """Return a matplotlib figure: maps of layers x heads for change, angle and share reweighted.

        Raises
        ------
        HeadscanError
            If matplotlib is not installed.
        """
        shown = {
            "relative": "relative change",
            "write_angle": "write angle, degrees",
            "reweighted": "share reweighted",
        }
        figure = _figure(figsize=(3.6 * len(shown), 3.4), layout="constrained")
        for axes, (column, title) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
            grid = self.heads.pivot(index="layer", columns="head", values=column)
            drawn = axes.imshow(grid.to_numpy(), aspect="auto", cmap="viridis", vmin=0)
            axes.set(title=title, xlabel="head", ylabel="layer")
            axes.set_xticks(range(len(grid.columns)), grid.columns)
            axes.set_yticks(range(len(grid.index)), grid.index)
            figure.colorbar(drawn, ax=axes)
        return figure

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the tables as Parquet, manifest.json and page.html into a folder, and return its path.

        A comparison of the same models is replaced, one of others with `force` alone; see `ResultFolder.save`.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, its manifest.json is not a comparison's, or it holds one of other models.
        """
        facts: dict[str, Any] = {
            "headscan": files.package_version(),
            "created": files.now(),
            "base": self.base,
            "tuned": self.tuned,
        }
        facts |= {"unused": list(self.unused), "summary": self.summary()}
        if self.info is not None:
            facts |= asdict(self.info)
        tables = {name: getattr(self, name) for name in FOLDER.tables}
        page = {"page.html": _PAGE.format(title=self._title(), body=self._repr_html_())}
        return FOLDER.save(folder, facts, tables, force=force, beside=page)

    def _title(self) -> str:
        return escape(f"{self.base} and {self.tuned}")

    def _repr_html_(self) -> str:
        """Return the comparison as HTML: summary, a map of the heads, the strongest directions."""
        if not self.differs:
            return f"<h2>{self._title()}</h2><p>{NO_DIFFERENCE}</p>"
        facts = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in self.summary().items())
        parts = [f"<h2>{self._title()}</h2><p>{facts}</p>", "<h3>Relative change of each head</h3>", self._map()]
        for name, title in (("changes", "What the change writes"), ("reweighted", "Directions reweighted")):
            table = getattr(self, name).head(40)
            table = table[[column for column in table.columns if column in _SHOWN]]
            html = table.to_html(index=False, escape=True, border=0, float_format="%.3f", na_rep="")
            parts.append(f"<h3>{title}</h3>{html}")
        return "\n".join(parts)

    def _map(self) -> str:
        """Return layers x heads as a table whose cells are shaded by the relative change."""
        grid = self.heads.pivot(index="layer", columns="head", values="relative")
        largest = float(grid.max(axis=None)) or 1.0
        head = "".join(f"<th>{column}</th>" for column in grid.columns)
        lines = [f"<tr><th>layer \\ head</th>{head}</tr>"]
        for layer, row in grid.iterrows():
            shades = [f"background:rgba(210,90,30,{value / largest:.2f})" for value in row]
            cells = (f'<td style="{shade}">{value:.3f}</td>' for shade, value in zip(shades, row, strict=True))
            lines.append(f"<tr><th>{layer}</th>{''.join(cells)}</tr>")
        return f"<table>{''.join(lines)}</table>"


def check_figure(path: Path) -> None:
    """Raise unless matplotlib can write a figure under this name.

    Raises
    ------
    HeadscanError
        If matplotlib is not installed, or does not know the suffix.
    """
    known = _figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise HeadscanError(f"the name of a figure ends in .png, .svg or .pdf, say, not as {path}")


def _figure(**options: Any) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HeadscanError("figures need matplotlib: pip install 'headscan[figures]'") from error
    return Figure(**options)


_SHOWN = (
    "layer",
    "head",
    "index",
    "pole",
    "sigma",
    "share",
    "moved",
    "multiplier",
    "fidelity",
    "q_value",
    "concepts",
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ padding: .15rem .6rem; text-align: left; border-bottom: 1px solid #8884 }}
</style></head><body>
{body}
</body></html>
"""
