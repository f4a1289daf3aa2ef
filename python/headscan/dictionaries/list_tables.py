"""Tables that hold concepts: CSV with any usual separator, with a header or none; Parquet, whole or in parts."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headscan.common.reading import regular
from headscan.dictionaries.list_files import LONGEST_RECORD, Listing, explained, read_lines
from headscan.errors import HeadscanError

__all__ = ["column_of", "is_number", "looks_like_table", "read_csv", "read_parquet"]

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLE = 200  # rows that tell separator and header
# as pandas reads them
_MISSING = frozenset(("#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"))
_TITLES = (  # of columns that hold concepts, a plural s left out
    "caption", "categories", "category", "class", "class_name", "classe", "classname", "concept", "description",
    "label", "lemma", "name", "phrase", "prompt", "sentence", "tag", "term", "text", "title", "word",
)  # fmt: skip


@dataclass(frozen=True)
class _Layout:
    """How a CSV file is laid out: what separates its fields, its names where line 1 holds them, lines before rows."""

    separator: str
    names: tuple[str, ...]
    header: bool
    skipped: int


def read_csv(path: Path, column: str | None, *, tabs: bool) -> Listing:
    """Read one column of a table of text: by name, or by number from 1, or the only one.

    Raises
    ------
    HeadscanError
        If it has no such column, or a line has more or fewer fields than the first.
    """
    sample = list(itertools.islice(read_lines(path, longest=LONGEST_RECORD), 2 * _SAMPLE))
    layout = _layout(sample, column, path, tabs=tabs)
    index = column_of(layout.names, column, path, header=layout.header)
    if layout.header:
        read_as = f"column `{layout.names[index]}` of {len(layout.names)}"
    else:
        read_as = f"column {index + 1} of {len(layout.names)}, no header (line 1 has `{layout.names[index]}`)"
    if len(layout.names) > 1:
        read_as += f", {_SEPARATORS[layout.separator]} between them"
    return Listing(_cells(path, layout, index), "line", read_as)


def _cells(path: Path, layout: _Layout, index: int) -> Iterator[tuple[int, str | None]]:
    lines = itertools.islice(read_lines(path, longest=LONGEST_RECORD), layout.skipped, None)
    rows = _fields((f"{line}\n" for line in lines), layout.separator)
    width = len(layout.names)
    try:
        for row in itertools.islice(rows, int(layout.header), None):
            number = rows.line_num + layout.skipped
            if len(row) > width and any(row[width:]):
                raise HeadscanError(
                    f"{path}, line {number} has {len(row)} fields, more than the {width} of line "
                    f"{layout.skipped + 1}: put texts that hold {_SEPARATORS[layout.separator]} in double quotes, or "
                    "name the file .txt if a line is one concept"
                )
            if row and len(row) <= index:
                raise HeadscanError(f"{path}, line {number} has {len(row)} of the columns of its header")
            cell = row[index].strip() if row else ""
            yield number, None if cell in _MISSING else _unquoted(cell) if layout.separator == "\t" else cell
    except csv.Error as error:
        raise HeadscanError(f"{path}, line {rows.line_num + layout.skipped} is not CSV: {error}") from error


def _fields(lines: Iterable[str], separator: str) -> csv._reader:  # type: ignore[name-defined]
    if separator == "\t":
        return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=separator, strict=True)


def looks_like_table(sample: list[str]) -> bool:
    """Say whether lines are those of a table: as many fields in each, one of them a number below the first line."""
    for separator in _SEPARATORS:
        rows = _rows(sample, separator)
        if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
            return any(all(is_number(row[index]) for row in rows[1:]) for index in range(len(rows[0])))
    return False


def _unquoted(cell: str) -> str:
    """Return a cell of a table with tabs without its quotes, if those are quotes of CSV and not part of the text."""
    inner = cell[1:-1].replace('""', "")
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if quoted else cell


def _layout(sample: list[str], column: str | None, path: Path, *, tabs: bool) -> _Layout:
    skipped, given = 0, re.fullmatch('"?sep=(.)"?\r?', sample[0]) if sample else None
    if given and given[1] in _SEPARATORS:  # Excel's first line
        skipped, separator = 1, given[1]
    elif tabs and sample and "\t" in sample[0]:
        separator = "\t"
    else:
        separator = _separator(sample, path)
    rows = _rows(sample[skipped:], separator)
    first = [_unquoted(name.strip()) for name in rows[0]] if rows else []
    header = _has_header(first, rows[1:], column)
    return _Layout(separator, tuple(first), header, skipped)


def _rows(sample: list[str], separator: str) -> list[list[str]]:
    """Return the rows of a sample of lines that are not blank, as far as they can be read."""
    rows = []
    try:
        for row in csv.reader((f"{line}\n" for line in sample), delimiter=separator):
            if row:
                rows.append(row)
    except csv.Error:
        pass
    return rows[: max(1, len(rows) - 1)] if len(sample) == 2 * _SAMPLE else rows  # the last may be cut


def _separator(sample: list[str], path: Path) -> str:
    """Return what separates the fields of the first row, and best of the others; a comma where there is one field."""
    best, most, odd = ",", (0.0, 0.0), ""
    for separator in _SEPARATORS:
        rows = _rows(sample, separator)
        width = len(rows[0]) if rows else 1
        if width > 1:
            cells = [cell for row in rows for cell in row]
            clean = sum(is_number(cell) or not any(other in cell for other in _SEPARATORS) for cell in cells)
            score = (sum(len(row) == width for row in rows) / len(rows), clean / len(cells))
            if score > most:
                best, most = separator, score
        elif len(rows) > 1 and len(rows[1]) > 1 and len({len(row) for row in rows[1:]}) == 1:
            odd = f"line 2 has {len(rows[1])} fields between {_SEPARATORS[separator]}, more than line 1"
    if odd and most == (0.0, 0.0):
        raise HeadscanError(
            f"{path}, {odd}: put texts that hold them in double quotes, or name the file .txt if a line is one "
            "concept"
        )
    return best


def _has_header(first: Sequence[str], later: Sequence[Sequence[str]], column: str | None) -> bool:
    """Say whether a table's first row names its columns: asked for by name, known names, or numbers below names."""
    if column is not None and not column.isdecimal() and column.lower() in (name.lower() for name in first):
        return True
    if any(map(is_number, first)):
        return False
    if any(title in _TITLES for name in first for title in (name.lower(), name.lower().removesuffix("s"))):
        return True
    columns = [[row[index] for row in later if len(row) > index] for index in range(len(first))]
    if any(values and all(map(is_number, values)) for values in columns):
        return True
    return any("_" in name for name in first) and not any("_" in cell for values in columns for cell in values)


def is_number(text: str) -> bool:
    """Say whether a text is a number, with a point or a comma in it, as in English or in German."""
    return re.fullmatch(r"\s*[-+]?(\d+([.,]\d*)*|[.,]\d+)([eE][-+]?\d+)?\s*%?\s*", text) is not None


def read_parquet(paths: Sequence[Path], column: str | None) -> Listing:
    """Read one column of a Parquet file, or of the parts of one, in order; lists in it are several concepts a row.

    Raises
    ------
    HeadscanError
        If one cannot be read, or has no such column; the message names those there are.
    """
    import pyarrow
    from pyarrow import parquet

    def opened(path: Path) -> tuple[parquet.ParquetFile, list[str]]:
        with explained(path):
            try:
                file = parquet.ParquetFile(regular(path))
            except (pyarrow.ArrowException, UnicodeDecodeError) as error:
                raise HeadscanError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
            return file, [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]

    def values() -> Iterator[tuple[int, object]]:
        number = 0
        for path in paths:
            file, names = opened(path)
            with explained(path), file:
                name = names[column_of(names, column, path)]
                try:
                    for batch in file.iter_batches(columns=[name]):
                        for value in batch.column(0).to_pylist():
                            number += 1
                            for one in value or [None] if isinstance(value, list) else [value]:
                                yield number, one
                except (pyarrow.ArrowException, UnicodeDecodeError) as error:
                    raise HeadscanError(f"cannot read {path}: {str(error).splitlines()[0]}") from error

    file, names = opened(paths[0])
    file.close()
    index = column_of(names, column, paths[0])
    parts = f" in {len(paths)} parts" if len(paths) > 1 else ""
    return Listing(values(), "row", f"column `{names[index]}` of {len(names)}{parts}")


def column_of(names: Sequence[str], column: str | None, path: Path, *, header: bool = True) -> int:
    """Return the index of a column, by its name (in any case), its number from 1, or because there is no other.

    Raises
    ------
    HeadscanError
        If there is no such column, several, or none is named and there are several with a name.
    """
    if column is None:
        named = [index for index, name in enumerate(names) if name or len(names) == 1]
        if len(named) == 1:
            return named[0]
    else:
        known = list(enumerate(names)) if header else []
        same = [index for index, name in known if name == column]
        same = same or [index for index, name in known if name.lower() == column.lower()]
        if len(same) > 1:
            numbers = " or ".join(str(index + 1) for index in same)
            raise HeadscanError(f"{path} has {len(same)} columns {column!r}: name one by its number, {numbers}")
        if same:
            return same[0]
        if column.isdecimal() and 1 <= int(column) <= len(names):
            return int(column) - 1
    other = "" if column is None else f", not {column!r}"
    listed = ", ".join(names[:20]) or "(none)"
    if header or not names or not any(map(is_number, names)):
        raise HeadscanError(f"{path} has the columns {listed}: name one of them (column, --column){other}")
    raise HeadscanError(
        f"{path} has {len(names)} columns and no header (line 1 is {listed}): name one by its number (column, "
        f"--column 1){other}"
    )
