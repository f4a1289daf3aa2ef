"""Concept lists: read, checked line by line, blank lines and repetitions dropped and counted."""

from __future__ import annotations

import itertools
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from headscan.common.files import expanded, packaged_folder
from headscan.dictionaries.list_documents import begins_as_document, read_bracketed, read_json, read_yaml
from headscan.dictionaries.list_files import (
    CONCEPTNET,
    Listing,
    check_text,
    head_of,
    kind_of,
    read_conceptnet,
    read_lines,
)
from headscan.dictionaries.list_tables import is_number, looks_like_table, read_csv, read_parquet
from headscan.errors import HeadscanError

__all__ = ["PACKAGED", "Vocabulary", "list_path", "read_vocabulary"]

PACKAGED = {"demo": ("demo", "dictionary.txt"), "wordnet": ("wordnet.txt.gz",)}
LONGEST_CONCEPT = 1000  # characters; longer lines mean that the file is not a list of concepts


_log = logging.getLogger(__name__)
_TABLES = (".csv", ".tsv", ".tab", ".psv")
_PARQUET, _JSON, _YAML = (".parquet", ".pq"), (".json", ".jsonl", ".ndjson"), (".yaml", ".yml")
_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")  # blanks that are not printed as such
_SYNSET = re.compile(r"n\d{8}\b")  # as ImageNet's lists have them
_NAMED = 5  # rows left out that are named one by one


@dataclass(frozen=True)
class Vocabulary:
    """A list of distinct concepts.

    Attributes
    ----------
    texts : tuple of str
        The concepts in the order of the list, stripped, each once.
    source : str
        Where they came from: a packaged name, a file name, or "texts".
    blank, repeated, skipped : int
        Rows dropped because they were empty, the same as an earlier one, or cannot be concepts.
    read_as : str
        What was read of a file, in words: "column `caption` of 3, 12,000 rows, 14 empty"; empty for texts.
    """

    texts: tuple[str, ...]
    source: str
    blank: int
    repeated: int
    skipped: int = 0
    read_as: str = ""

    @property
    def history(self) -> tuple[str, ...]:
        """What a dictionary records of how its list was read: nothing for texts and packaged lists."""
        plain = self.source in PACKAGED or not self.read_as
        return () if plain else (f"read {self.source}: {self.read_as}",)


def read_vocabulary(
    source: str | Path | Iterable[str], *, column: str | None = None, strict: bool = False
) -> Vocabulary:
    """Read a list of concepts.

    Parameters
    ----------
    source : str, path or iterable of str
        A packaged list; a file, packed by gzip, bzip2 or xz or not: text (UTF-8, one concept a line), a ``.csv``,
        ``.tsv`` or ``.parquet`` table, ``.json``, ``.jsonl`` or ``.yaml``; a folder of parts of a ``.parquet`` table;
        ``"conceptnet:"`` and ConceptNet's assertions file, for its English concepts; or the texts themselves.
    column : str, optional
        Column of a table or key of JSON's objects, by name or number from 1; may be left out where there is only one.
    strict : bool, default False
        Refuse a file with a row that cannot be a concept as it stands. By default line breaks and tabs in a row
        of a table or of JSON become spaces, rows that are too long or hold other control characters are left out,
        and both are counted. Texts that are given themselves are always read so.

    Raises
    ------
    HeadscanError
        If there is no such list, or it is empty, is not what its name says, holds numbers, or has a line that
        cannot be read; the message gives the line's number.
    """
    if not isinstance(source, (str, Path)):
        return _distinct(Listing(enumerate(source, start=1), "text"), source="texts", where="text", strict=True)
    given, path = str(source), list_path(source)
    name = given if given in PACKAGED else path.name
    if given.startswith(CONCEPTNET):
        listing = Listing(enumerate(read_conceptnet(path), start=1), "concept", "ConceptNet's English concepts")
    else:
        listing = _listing(path, column)
    listed = _distinct(listing, source=name, where=f"{given}, {listing.unit}", strict=strict)
    _log.info("read %s: %s", name, listed.read_as)
    return listed


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


def _listing(path: Path, column: str | None) -> Listing:
    """Read a file, or the parts of one in a folder, as what it is."""
    if path.is_dir():
        return _parts(path, column)
    if not path.is_file():
        raise HeadscanError(f"{path} is no file: a pipe or a device is not read")
    kind = kind_of(path)
    if kind in _PARQUET:
        return read_parquet([path], column)
    check_text(path)
    if not head_of(path).strip():
        return Listing(enumerate(read_lines(path), start=1))
    if kind in _TABLES:
        return read_csv(path, column, tabs=kind in (".tsv", ".tab"))
    if kind in _JSON:
        return read_json(path, column)
    if kind in _YAML:
        return read_yaml(path, column)
    if begins_as_document(path):
        return read_bracketed(path, column)
    if column is not None:
        kinds = ", ".join((*_TABLES[:2], *_PARQUET[:1], *_JSON))
        raise HeadscanError(f"a column belongs to a table or to JSON ({kinds}): {path} is read line by line")
    if looks_like_table(list(itertools.islice(read_lines(path), 200))):
        raise HeadscanError(f"{path} looks like a table with numbers in it: name it .csv, and the column (--column)")
    return Listing(enumerate(read_lines(path), start=1))


def _parts(folder: Path, column: str | None) -> Listing:
    parts = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _PARQUET and path.is_file() and path.name[0] not in "._"
    )
    if not parts:
        raise HeadscanError(f"{folder} holds no manifest.json of a dictionary, and no parts of a table (.parquet)")
    return read_parquet(parts, column)


def _distinct(listing: Listing, *, source: str, where: str, strict: bool) -> Vocabulary:
    texts: dict[str, None] = {}  # keeps the order of first appearance
    rows = blank = total = folded = skipped = 0
    flaws: list[str] = []
    for number, entry in listing.entries:
        rows += 1
        if not isinstance(entry, (str, type(None))):
            raise HeadscanError(f"{where} {number} must be a string, got {type(entry).__name__}")
        text = entry.strip() if entry else ""
        if not text:
            blank += 1
            continue
        if not (text.isprintable() and text.isascii() and len(text) <= LONGEST_CONCEPT):
            if listing.read_as and not strict and not _BREAKS.isdisjoint(text):
                text = " ".join(text.split())
                folded += 1
            if flaw := _flaw(text):
                if strict:
                    raise HeadscanError(f"{where} {number} {flaw}")
                skipped += 1
                flaws += [f"{listing.unit} {number} {flaw}"] if skipped <= _NAMED else []
                continue
        total += 1
        texts[text] = None
    if skipped > total:
        named = where.removesuffix(listing.unit)
        raise HeadscanError(f"{named}{flaws[0]}; in all {skipped:,} of {rows:,} {listing.unit}s are no concepts")
    _check_concepts(texts, source)
    counts = [f"{rows:,} {listing.unit}s"]
    noted = ((blank, "empty"), (folded, "with line breaks or tabs, now spaces"))
    counts += [f"{count:,} {what}" for count, what in noted if count]
    if skipped:
        counts.append(f"{skipped:,} left out ({'; '.join(flaws)}{'; ...' if skipped > len(flaws) else ''})")
    if listing.unit == "text":
        return Vocabulary(tuple(texts), source, blank, total - len(texts))
    read_as = ", ".join([listing.read_as or f"one concept a {listing.unit}", *counts])
    return Vocabulary(tuple(texts), source, blank, total - len(texts), skipped, read_as)


def _check_concepts(texts: Collection[str], source: str) -> None:
    """Raise where there are no concepts, or what is there are none: numbers, lines of WordNet."""
    if not texts:
        raise HeadscanError(f"the dictionary {source} is empty: it holds no concepts")
    first = next(iter(texts))
    if len(texts) > 1 and all(map(is_number, texts)):
        raise HeadscanError(f"{source} holds numbers where concepts are expected ({first} is the first)")
    if all(map(_SYNSET.match, texts)):
        raise HeadscanError(
            f"every concept of {source} begins with a number of WordNet's ({first[:9]}): cut them off"
        )


def _flaw(text: str) -> str:
    """Return why a text cannot be a concept; empty if it can."""
    if len(text) > LONGEST_CONCEPT:
        return f"has {len(text)} characters, more than {LONGEST_CONCEPT}: that is not a concept"
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            tab = ", a tab: the name of a table ends in .tsv" if character == "\t" else ""
            return f"holds the control character U+{ord(character):04X}{tab}"
    return ""
