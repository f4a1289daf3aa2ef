"""Concept lists: read, checked line by line, blank lines and repetitions dropped and counted."""

from __future__ import annotations

import gzip
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headscan._checkpoints import packaged_folder
from headscan.errors import HeadscanError

__all__ = ["PACKAGED", "Vocabulary", "read_vocabulary"]

PACKAGED = {"demo": ("demo", "dictionary.txt"), "wordnet": ("wordnet.txt.gz",)}
LONGEST_CONCEPT = 1000  # characters; longer lines mean that the file is not a list of concepts


@dataclass(frozen=True)
class Vocabulary:
    """A list of distinct concepts.

    Attributes
    ----------
    texts : tuple of str
        The concepts in the order of the list, stripped, each once.
    source : str
        Where they came from: a packaged name, a file name, or "texts".
    blank, repeated : int
        Lines dropped because they were empty, or the same as an earlier one.
    """

    texts: tuple[str, ...]
    source: str
    blank: int
    repeated: int


def read_vocabulary(source: str | Path | Sequence[str]) -> Vocabulary:
    """Read a packaged list, a text file (UTF-8, one concept a line, may be gzipped), or a sequence of texts.

    Raises
    ------
    HeadscanError
        If there is no such list, or it is not UTF-8, is empty, or has a line that cannot be a concept; the
        message gives the line's number.
    """
    if not isinstance(source, (str, Path)):
        return _distinct(source, source="texts", unit="text")
    if str(source) in PACKAGED:
        path, name = packaged_folder(*PACKAGED[str(source)]), str(source)
    else:
        path, name = Path(source).expanduser(), Path(source).name
    return _distinct(_read_lines(path, str(source)), source=name, unit=f"{source}, line")


def _read_lines(path: Path, given: str) -> list[str]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise HeadscanError(
            f"there is no dictionary {given!r}: it is neither a file, a saved folder nor one of the packaged "
            f"{', '.join(PACKAGED)}"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HeadscanError(f"cannot read {path}: it is not a whole gzip file ({error})") from error
    except OSError as error:
        raise HeadscanError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HeadscanError(f"{path}, line {line} is not UTF-8 (byte 0x{data[error.start]:02x})") from error
    return text.removesuffix("\n").split("\n")


def _distinct(lines: Iterable[str], *, source: str, unit: str) -> Vocabulary:
    texts: dict[str, None] = {}  # keeps the order of first appearance
    blank = repeated = total = 0
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, str):
            raise HeadscanError(f"{unit} {number} must be a string, got {type(line).__name__}")
        text = line.strip()
        total += bool(text)
        if not text:
            blank += 1
            continue
        _check_concept(text, f"{unit} {number}")
        texts[text] = None
    repeated = total - len(texts)
    if not texts:
        raise HeadscanError(f"the dictionary {source} is empty: it holds no concepts")
    return Vocabulary(texts=tuple(texts), source=source, blank=blank, repeated=repeated)


def _check_concept(text: str, where: str) -> None:
    if len(text) > LONGEST_CONCEPT:
        raise HeadscanError(f"{where} has {len(text)} characters, more than {LONGEST_CONCEPT}: that is not a concept")
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise HeadscanError(f"{where} holds the control character U+{ord(character):04X}")
