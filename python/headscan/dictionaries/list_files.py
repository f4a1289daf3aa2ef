"""Files that hold concepts: plain text, a column of a table, the assertions of ConceptNet; read line by line."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from headscan.errors import HeadscanError

__all__ = ["CONCEPTNET", "read_column", "read_conceptnet", "read_lines", "read_words"]

CONCEPTNET = "conceptnet:"  # before the path of an assertions file
_LONGEST_LINE = 1 << 16  # bytes: a longer line holds no concept, and is not read to its end
_LONGEST_ASSERTION = 1 << 24
_TABLES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")


def read_words(path: Path, *, column: str | None) -> Iterator[str]:
    """Yield the concepts of a text file, or of one column of a CSV, TSV or Parquet file."""
    if path.name.endswith(_TABLES):
        return read_column(path, column)
    if column is not None:
        raise HeadscanError(f"a column belongs to a table ({', '.join(_TABLES)}): {path} is read line by line")
    return read_lines(path)


def read_lines(path: Path, *, longest: int = _LONGEST_LINE) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, unpacked where it is gzipped.

    Raises
    ------
    HeadscanError
        If it cannot be read, is not UTF-8 or has a line that is too long; the message gives its number.
    """
    with _explained(path), _opened(path) as file:
        number = 0
        while line := file.readline(longest):
            number += 1
            if len(line) == longest and not line.endswith(b"\n"):
                raise HeadscanError(f"{path}, line {number} has more than {longest:,} bytes: no concept is as long")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise HeadscanError(f"{path}, line {number} is not UTF-8 (byte 0x{byte:02x})") from error
            yield text.removesuffix("\n")


def read_column(path: Path, column: str | None) -> Iterator[str]:
    """Yield one column of a CSV, TSV (both with a header) or Parquet file; by default its only one.

    Raises
    ------
    HeadscanError
        If it cannot be read, or has no such column; the message names those there are.
    """
    return _parquet_column(path, column) if path.suffix == ".parquet" else _csv_column(path, column)


def _csv_column(path: Path, column: str | None) -> Iterator[str]:
    tabs = ".tsv" in path.suffixes
    rows = csv.reader(
        (f"{line}\n" for line in read_lines(path)), delimiter="\t" if tabs else ",", strict=not tabs,
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
    )  # fmt: skip
    try:
        place = _place(next(rows, []), column, path)
        for row in rows:
            if row and len(row) <= place:
                raise HeadscanError(f"{path}, line {rows.line_num} has {len(row)} of the columns of its header")
            yield row[place] if row else ""
    except csv.Error as error:
        raise HeadscanError(f"{path}, line {rows.line_num} is not CSV: {error}") from error


def _parquet_column(path: Path, column: str | None) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        with _explained(path), parquet.ParquetFile(path) as file:
            name = file.schema_arrow.names[_place(file.schema_arrow.names, column, path)]
            for batch in file.iter_batches(columns=[name]):
                yield from ("" if value is None else value for value in batch.column(0).to_pylist())
    except pyarrow.ArrowException as error:
        raise HeadscanError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _place(names: list[str], column: str | None, path: Path) -> int:
    if column is None and len(names) == 1:
        return 0
    if column not in names:
        said = "" if column is None else f", not {column!r}"
        raise HeadscanError(
            f"{path} has the columns {', '.join(names[:20]) or '(none)'}: name one of them (column, --column){said}"
        )
    return names.index(column)


def read_conceptnet(path: Path) -> Iterator[str]:
    """Yield the English concepts of ConceptNet's assertions, in the order in which they are met, repetitions and all.

    A line holds, between tabs, the assertion, its relation, two nodes and a description; ``/c/en/red_fox/n`` is
    "red fox" (ConceptNet 5.7, conceptnet-assertions-5.7.0.csv.gz).

    Raises
    ------
    HeadscanError
        If a line has not five fields.
    """
    for number, line in enumerate(read_lines(path, longest=_LONGEST_ASSERTION), start=1):
        fields = line.split("\t")
        if len(fields) != 5:
            raise HeadscanError(
                f"{path}, line {number} is not an assertion of ConceptNet: expected 5 fields between tabs, "
                f"got {len(fields)}"
            )
        for node in fields[2:4]:
            if node.startswith("/c/en/"):
                yield " ".join(node.split("/")[3].replace("_", " ").split())


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HeadscanError(f"cannot read {path}: it is not a whole gzip file ({error})") from error
    except OSError as error:
        raise HeadscanError(f"cannot read {path}: {error.strerror or error}") from error
