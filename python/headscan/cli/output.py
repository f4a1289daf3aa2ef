"""What a command shows: text and tables for reading, or the same as one JSON document or as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headscan.cli.tables import print_rows
from headscan.common.files import finite, package_version
from headscan.common.terminal import plain, say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Output", "Table", "records", "show"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows under a title.

    Attributes
    ----------
    name : str
        Its name in JSON.
    title : str
        Its title in text.
    rows : sequence of mappings
        What JSON and CSV hold.
    columns : sequence of str or None
        Those shown as text; None for all.
    text : sequence of mappings or None
        What is shown as text where that differs from the rows.
    """

    name: str
    title: str
    rows: Sequence[Row]
    columns: Sequence[str] | None = None
    text: Sequence[Row] | None = None


@dataclass(frozen=True)
class Output:
    """What a command answers: `parts` in the order of reading, a text being one line; `facts` for JSON."""

    parts: Sequence[str | Table]
    facts: Mapping[str, Any] = field(default_factory=dict)


def records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a data frame with Python's own types."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def show(output: Output, options: argparse.Namespace) -> None:
    """Write an output to standard output in the form that the options ask for."""
    tables = [part for part in output.parts if isinstance(part, Table)]
    if options.json:
        head = {"command": options.command, "headscan": package_version()}
        document = {**head, **output.facts, "tables": {table.name: list(table.rows) for table in tables}}
        sys.stdout.write(f"{json.dumps(finite(document), allow_nan=False, default=str)}\n")
    elif getattr(options, "csv", False):
        sys.stdout.write(_csv(tables[0].rows if tables else ()))
    elif not options.quiet:
        for part in output.parts:
            _show_part(part)


def _show_part(part: str | Table) -> None:
    if isinstance(part, str):
        say(part)
        return
    rows = part.rows if part.text is None else part.text
    if rows:
        sys.stdout.flush()
        print_rows(rows, title=part.title, columns=part.columns)


def _csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV; on a terminal with foreign text made harmless."""
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        harmless = plain if sys.stdout.isatty() else str
        for row in rows:
            joined = {name: ", ".join(value) if isinstance(value, tuple) else value for name, value in row.items()}
            writer.writerow(
                {name: harmless(cell) if isinstance(cell, str) else cell for name, cell in joined.items()}
            )
    return file.getvalue()
