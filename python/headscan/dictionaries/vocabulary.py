"""Concept lists: read, checked line by line, blank lines and repetitions dropped and counted."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headscan.common.files import expanded, packaged_folder
from headscan.dictionaries.list_files import CONCEPTNET, read_conceptnet, read_words
from headscan.errors import HeadscanError

__all__ = ["PACKAGED", "Vocabulary", "list_path", "read_vocabulary"]

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


def read_vocabulary(source: str | Path | Iterable[str], *, column: str | None = None) -> Vocabulary:
    """Read a list of concepts.

    Parameters
    ----------
    source : str, path or iterable of str
        A packaged list; a text file (UTF-8, one concept a line), gzipped where it ends in ``.gz``; a ``.csv``,
        ``.tsv`` or ``.parquet`` table; ``"conceptnet:"`` and ConceptNet's assertions file, for its English
        concepts; or the texts themselves.
    column : str, optional
        Column of a table; may be left out where there is only one.

    Raises
    ------
    HeadscanError
        If there is no such list, or it is not UTF-8, is empty, or has a line that cannot be a concept; the
        message gives the line's number.
    """
    if not isinstance(source, (str, Path)):
        return _distinct(source, source="texts", unit="text")
    given, path = str(source), list_path(source)
    name = given if given in PACKAGED else path.name
    lines = read_conceptnet(path) if given.startswith(CONCEPTNET) else read_words(path, column=column)
    return _distinct(lines, source=name, unit=f"{given}, line")


def list_path(source: str | Path) -> Path:
    """Return the file of a list, or the folder of a dictionary, by its name.

    Raises
    ------
    HeadscanError
        If there is none.
    """
    given = str(source)
    path = packaged_folder(*PACKAGED[given]) if given in PACKAGED else expanded(given.removeprefix(CONCEPTNET))
    if not path.exists():
        raise HeadscanError(
            f"there is no list or dictionary {given!r}: it is neither a file, a saved folder nor one of the packaged "
            f"{', '.join(PACKAGED)}"
        )
    return path


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
