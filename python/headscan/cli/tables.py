"""Rows as a table, on a terminal and off it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headscan.common.terminal import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["print_rows"]

_PIPE_WIDTH = 140  # columns of a table that goes to a file or pipe
_LEAST_PIPE_WIDTH = 100  # however small COLUMNS is: below, no room is left for the concepts
_NARROW = 80  # a terminal that has no room for a table: its rows come one below another
_FOLDED = ("matched", "concept", "concepts", "written", "read")
_RIGHT = ("head", "index", "sigma", "fidelity", "score", "share")


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, title: str, columns: Sequence[str] | None = None, file: Any = None
) -> None:
    """Print rows as a table: numbers to three digits, foreign text made harmless, long cells folded.

    A terminal gets its own width, and where that has no room for a table the rows one below another; a file or pipe
    gets a width of its own, without trailing spaces.
    """
    from rich import table as tables
    from rich.console import Console

    names = list(rows[0]) if columns is None else columns
    console = Console(file=file)
    if console.is_terminal and console.width < _NARROW:
        _print_below(rows, names, title, console)
        return
    table = tables.Table(title=plain(title), title_justify="left")
    for name in names:
        folded = name in _FOLDED
        table.add_column(name, overflow="fold", no_wrap=not folded, justify="right" if name in _RIGHT else "left")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    if console.is_terminal:
        console.print(table)
        return
    console.width = max(console.width, _LEAST_PIPE_WIDTH) if "COLUMNS" in os.environ else _PIPE_WIDTH
    with console.capture() as printed:
        console.print(table)
    console.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def _print_below(rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, console: Console) -> None:
    """Print each row as a line of its short values and a line of each long one, wrapped between words."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Text(plain(title), style="italic"))
    for row in rows:
        console.print(Text("  ").join([Text(f"{name} ") + _cell(row[name]) for name in names if name not in _FOLDED]))
        for name in names:
            if name in _FOLDED:
                console.print(Padding(_cell(row[name]), (0, 0, 0, 2)))


def _cell(value: Any) -> Text:
    from rich.text import Text

    if isinstance(value, Text):
        return value
    return Text(f"{value:.3f}" if isinstance(value, float) else plain(str(value)))
