"""What a notebook shows: scans, heads and explanations as small tables, every text escaped."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import pandas as pd

    from headscan.explanations.table import ScanInfo

__all__ = ["Explanation", "Head", "scan_html"]

_LEAST_COEFFICIENT = 0.005  # what reads 0.00 is not shown
_ROWS = 10
_NOTE = "color: color-mix(in srgb, currentColor 65%, transparent)"
_CHIP = (
    "display: inline-block; margin: 1px 3px 1px 0; padding: 0 .45em; border-radius: 5px; "
    "background: color-mix(in srgb, #0f6b82 {share:.0f}%, transparent)"
)


@dataclass(frozen=True)
class Explanation:
    """One explained direction.

    Attributes
    ----------
    layer, head, index : int
        Where: all from 0.
    side, pole : str
        ``"write"`` or ``"read"``; ``"+"`` or ``"-"``.
    sigma, fidelity : float
        As in `Scan.table`.
    code : tuple of (str, float)
        Its concepts and their coefficients, the largest first, without those that read 0.00.
    """

    layer: int
    head: int
    index: int
    side: str
    pole: str
    sigma: float
    fidelity: float
    code: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, row: pd.Series[Any]) -> Explanation:
        """Make one from a row of `Scan.table`."""
        columns = [name.removeprefix("atom_") for name in row.index if name.startswith("atom_")]
        pairs = [(str(row[f"concept_{column}"]), float(row[f"coefficient_{column}"])) for column in columns]
        shown = sorted((pair for pair in pairs if pair[1] >= _LEAST_COEFFICIENT), key=lambda pair: -pair[1])
        return cls(
            layer=int(row["layer"]),
            head=int(row["head"]),
            index=int(row["index"]),
            side=str(row["side"]),
            pole=str(row["pole"]),
            sigma=float(row["sigma"]),
            fidelity=float(row["fidelity"]),
            code=tuple(shown),
        )

    def __str__(self) -> str:
        """Return it in one line."""
        concepts = ", ".join(f"{concept} {coefficient:.2f}" for concept, coefficient in self.code)
        return f"L{self.layer}.H{self.head}/{self.index}/{self.side}/{self.pole}: {concepts or 'no concepts'}"

    def _repr_html_(self) -> str:
        return _table([self], title=f"Layer {self.layer}, head {self.head}", where=False)


@dataclass(frozen=True, eq=False)
class Head:
    """One head's explanations; made by `Scan.head`.

    Attributes
    ----------
    layer, head : int
        Which, both from 0.
    explanations : pandas.DataFrame
        Its rows of `Scan.table`, of one part.
    """

    layer: int
    head: int
    explanations: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame, info: ScanInfo, *, layer: int, head: int, part: str = "vo") -> Head:
        """Take a head's explanations of one part from a scan's table.

        Raises
        ------
        HeadscanError
            If the scan has no explanation of it.
        """
        chosen = (table["layer"] == layer) & (table["head"] == head) & (table["part"] == part)
        rows = table[chosen].reset_index(drop=True)
        if rows.empty:
            layers, parts = ", ".join(map(str, info.layers)), ", ".join(table["part"].unique())
            raise HeadscanError(
                f"the scan has no head {head} in layer {layer} with the part {part}: its layers are {layers}, its "
                f"parts {parts}"
            )
        return cls(layer=layer, head=head, explanations=rows)

    def __len__(self) -> int:
        """Return the number of explanations."""
        return len(self.explanations)

    def explanation(self, index: int, *, side: str = "write", pole: str = "+") -> Explanation:
        """Return one explanation.

        Raises
        ------
        HeadscanError
            If there is none of this index, side and pole.
        """
        table = self.explanations
        rows = table[(table["index"] == index) & (table["side"] == side) & (table["pole"] == pole)]
        if rows.empty:
            raise HeadscanError(f"layer {self.layer}, head {self.head} has no explanation {index}, {side}, {pole}")
        return Explanation.of(rows.iloc[0])

    def _repr_html_(self) -> str:
        shown = self.explanations.head(2 * _ROWS)
        note = f"{len(shown)} of {len(self):,} explanations" if len(shown) < len(self) else ""
        rows = [Explanation.of(row) for _, row in shown.iterrows()]
        return _table(rows, title=f"Layer {self.layer}, head {self.head}", note=note, where=False)


def scan_html(table: pd.DataFrame, info: ScanInfo) -> str:
    """Return a scan as HTML: what it is of, and its explanations of largest sigma times fidelity."""
    best = (table["sigma"] * table["fidelity"]).nlargest(_ROWS).index
    rows = [Explanation.of(table.loc[label]) for label in best]
    note = (
        f"{len(table):,} explanations over {info.concepts:,} concepts ({info.dictionary}), method {info.method}; "
        f"fidelity {info.fidelity_definition}; the clearest {len(rows)}"
    )
    return _table(rows, title=info.model, note=note, where=True)


def _table(rows: list[Explanation], *, title: str, note: str = "", where: bool) -> str:
    names = [*(["head"] if where else []), "index", "side", "pole", "sigma", "fidelity", "concepts"]
    head = "".join(f'<th style="text-align: left">{name}</th>' for name in names)
    body = "".join(f"<tr>{_cells(row, where=where)}</tr>" for row in rows)
    return (
        f"<div><strong>{html.escape(title)}</strong> <span style='{_NOTE}'>{html.escape(note)}</span>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(row: Explanation, *, where: bool) -> str:
    name = [f"L{row.layer}.H{row.head}"] if where else []
    plain = [*name, str(row.index), row.side, row.pole, f"{row.sigma:.3f}", f"{row.fidelity:.3f}"]
    chips = "".join(_chip(concept, coefficient) for concept, coefficient in row.code) or "no concepts"
    cells = "".join(f'<td style="text-align: left">{html.escape(text)}</td>' for text in plain)
    return f'{cells}<td style="text-align: left">{chips}</td>'


def _chip(concept: str, coefficient: float) -> str:
    style = _CHIP.format(share=min(45.0, 6 + 60 * coefficient))
    return f"<span style='{style}' dir='auto'>{html.escape(concept)} <small>{coefficient:.2f}</small></span>"
