"""Files that hold concepts: plain text, tables, JSON, YAML, the assertions of ConceptNet; each read as what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from headscan.common.reading import regular
from headscan.errors import HeadscanError

__all__ = ["CONCEPTNET", "Listing", "check_text", "explained", "head_of", "kind_of", "read_conceptnet", "read_lines"]

CONCEPTNET = "conceptnet:"  # before the path of an assertions file
_LONGEST_LINE = 1 << 16  # bytes: a longer line holds no concept, and is not read to its end
LONGEST_RECORD = 1 << 24  # of an assertion, a line of a table or of JSON
_LONGEST_RECODED = 1 << 28  # bytes of a file that is recoded in memory
_HEAD = 1 << 16  # bytes that tell what a file is
_PACKERS: dict[str, Callable[..., object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_BINARY = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x93NUMPY": "a NumPy array",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"%PDF": "a PDF",
    b"\x80": "a pickle, or another binary file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "a database",
    b"\x1f\x8b": "packed by gzip, and its name does not end in .gz",
    b"\xfd7zXZ": "packed by xz, and its name does not end in .xz",
}


@dataclass(frozen=True)
class Listing:
    """What a file holds, before it is checked.

    Attributes
    ----------
    entries : iterable of (int, object)
        The number of a line, row or item, and what stands there: a text, or None where nothing does.
    unit : str
        What is numbered: "line", "row" or "item".
    read_as : str
        Which part was read, such as "column `caption` of 3"; empty where the file is a plain list.
    """

    entries: Iterable[tuple[int, object]]
    unit: str = "line"
    read_as: str = ""


def kind_of(path: Path) -> str:
    """Return a file's suffix in lower case, that of packing left out: ".csv" of ``LIST.CSV.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _PACKERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def check_text(path: Path) -> None:
    """Raise if a file begins as a binary file or a web page does.

    Raises
    ------
    HeadscanError
        With what it is.
    """
    head = head_of(path)
    for mark, what in _BINARY.items():
        if head.startswith(mark):
            raise HeadscanError(f"{path} is {what}: expected a text file, a table, JSON or YAML")
    if head.lstrip()[:14].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise HeadscanError(f"{path} is a web page or XML: expected one concept a line")
    few, many = sorted((head[::2].count(0), head[1::2].count(0)))
    if len(head) > 8 and 4 * many > len(head) and 8 * few < many:  # the high bytes of Latin letters
        raise HeadscanError(f"{path} is UTF-16 without its mark, or no text: save the file as UTF-8")


def head_of(path: Path) -> bytes:
    """Return the beginning of a file, unpacked, in UTF-8 without its byte order mark."""
    with explained(path), _opened(path) as file:
        return file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")


def read_lines(path: Path, *, longest: int = _LONGEST_LINE) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, unpacked where it is packed.

    UTF-16 and UTF-32 are read where the file begins with their byte order mark, and lines may end as on any system.

    Raises
    ------
    HeadscanError
        If it cannot be read, is not UTF-8 or has a line that is too long; the message gives its number.
    """
    with explained(path), _opened(path) as file:
        number = 0
        while line := file.readline(longest):
            number += 1
            if len(line) == longest and not line.endswith(b"\n"):
                raise HeadscanError(f"{path}, line {number} has more than {longest:,} bytes: no concept is as long")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise HeadscanError(
                    f"{path}, line {number} is not UTF-8 (byte 0x{byte:02x}): save the file as UTF-8"
                ) from error
            yield text.removesuffix("\n")


def read_conceptnet(path: Path) -> Iterator[str]:
    """Yield the English concepts of ConceptNet's assertions, in the order in which they are met, repetitions and all.

    A line holds, between tabs, the assertion, its relation, two nodes and a description; ``/c/en/red_fox/n`` is
    "red fox" (ConceptNet 5.7, conceptnet-assertions-5.7.0.csv.gz).

    Raises
    ------
    HeadscanError
        If a line has not five fields.
    """
    for number, line in enumerate(read_lines(path, longest=LONGEST_RECORD), start=1):
        fields = line.split("\t")
        if len(fields) != 5:
            raise HeadscanError(
                f"{path}, line {number} is not an assertion of ConceptNet: expected 5 fields between tabs, "
                f"got {len(fields)}"
            )
        for node in fields[2:4]:
            if node.startswith("/c/en/"):
                yield " ".join(node.split("/")[3].replace("_", " ").split())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Give a file, unpacked, with UTF-8 in it and lines that end in a line feed."""
    unpack = _PACKERS.get(path.suffix.lower(), open)
    with cast("IO[bytes]", unpack(regular(path), "rb")) as file:
        head = file.read(_HEAD)
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        old_ends = b"\r" in head[:-1] and b"\n" not in head  # as text files of the first Macintosh
        file.seek(0)
        if encoding == "utf-8" and not old_ends:
            yield file
            return
        data = file.read(_LONGEST_RECODED + 1)
        if len(data) > _LONGEST_RECODED:
            raise HeadscanError(f"{path} is {encoding} of more than {_LONGEST_RECODED:,} bytes: save it as UTF-8")
        try:
            text = data.decode(encoding, "strict" if encoding != "utf-8" else "surrogateescape")
        except UnicodeDecodeError as error:
            raise HeadscanError(f"{path} begins as {encoding} but is not: {error.reason}") from error
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        yield io.BytesIO(text.encode("utf-8", "surrogateescape"))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong while it is read."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        packer = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}.get(path.suffix.lower(), "packed")
        raise HeadscanError(f"cannot read {path}: it is not a whole {packer} file ({error})") from error
    except OSError as error:
        raise HeadscanError(f"cannot read {path}: {error.strerror or error}") from error
