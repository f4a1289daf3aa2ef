"""Tables on a terminal: scans, data frames, and what is scanned."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from headscan.common.terminal import plain

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan
    from headscan.models.model import Model


__all__ = ["print_rows", "print_strongest", "print_table", "summary"]

_PIPE_WIDTH = 140  # columns of a table that goes to a file or pipe
_LEAST_WIDTH, _LEAST_PIPE_WIDTH = 60, 100  # however small COLUMNS is: below, no room is left for the concepts


def summary(model: Model, dictionary: Dictionary, *, tower: str = "image") -> str:
    """Return two lines on what is scanned: the model's sizes, and the dictionary with what was dropped."""
    source = model.get_tower(tower)
    mean = "no image mean" if model.image_mean is None else "image mean subtracted"
    if tower == "text":
        mean = "text tower, dictionary's mean subtracted"
    sizes = f"{source.layers} layers of {source.heads} heads, width {source.width}, rank {source.rank}"
    dropped = f"{dictionary.blank:,} blank, {dictionary.repeated:,} repeated"
    return (
        f"model       {plain(model.name)}: {sizes}, joint space {source.joint_dim}, {mean}\n"
        f"dictionary  {plain(dictionary.source)}: {len(dictionary):,} concepts; dropped {dropped}, "
        f"{dictionary.same_tokens:,} with the tokens of another"
    )


def print_strongest(scan: Scan, *, rows: int, file: Any = None) -> None:
    """Print the explanations of the last scanned layer's strongest directions, by singular value.

    Parameters
    ----------
    scan : Scan
        The scan.
    rows : int
        Directions shown; a direction with two poles takes two lines.
    file : file, optional
        By default standard output.
    """
    from rich.table import Table
    from rich.text import Text

    layer = max(scan.info.layers)
    lines = len(scan.info.poles)
    shown = scan.strongest(rows * lines, layers=[layer])
    table = Table(title=f"Layer {layer}: the {len(shown) // lines} strongest directions", title_justify="left")
    several = len(scan.info.parts) > 1
    labels = [*(["part"] if several else []), "head", "index", "side", "pole"]
    for name in labels:
        table.add_column(name, justify="right" if name in ("head", "index") else "left", no_wrap=True)
    for name in ("sigma", "fidelity"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("concepts", overflow="fold")
    for row in shown.to_dict("records"):
        numbers = (f"{row['sigma']:.3f}", f"{row['fidelity']:.3f}")
        table.add_row(*map(Text, (*(str(row[name]) for name in labels), *numbers)), _concepts(row, k=scan.info.k))
    print_table(table, file=file)


def print_rows(rows: pd.DataFrame, *, title: str) -> None:
    """Print a data frame: numbers to three digits, texts made harmless, long ones folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for name in rows.columns:
        table.add_column(name, overflow="fold", no_wrap=name not in ("matched", "concept", "concepts"))
    for row in rows.itertuples(index=False):
        cells = (f"{value:.3f}" if isinstance(value, float) else plain(str(value)) for value in row)
        table.add_row(*map(Text, cells))
    print_table(table)


def print_table(table: Table, *, file: Any = None) -> None:
    """Print a table at the terminal's width; into a file or pipe at one of its own, without trailing spaces."""
    from rich.console import Console

    console = Console(file=file)
    if console.is_terminal:
        console.width = max(console.width, _LEAST_WIDTH)
    else:
        console.width = max(console.width, _LEAST_PIPE_WIDTH) if "COLUMNS" in os.environ else _PIPE_WIDTH
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as printed:
        console.print(table)
    console.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def _concepts(row: dict[Any, Any], *, k: int) -> Any:
    """Return a code for reading: concepts and coefficients, the largest first, unused ones left out."""
    from rich.text import Text

    code = [(row[f"coefficient_{place}"], row[f"concept_{place}"]) for place in range(k)]
    text = Text()
    for coefficient, concept in sorted(code, key=lambda pair: -pair[0]):
        if coefficient >= 0.005:  # what is not shown as 0.00
            text.append(", " if text else "")
            text.append(plain(concept))
            text.append(f" {coefficient:.2f}", style="dim")
    return text
