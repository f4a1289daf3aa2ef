"""Dictionaries made from dictionaries: concepts dropped, lists merged; no text is encoded again.

The unit embeddings come back from atoms and mean (`Dictionary.embeddings`); what is left of them is centred anew,
since another set of concepts has another mean.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan._build import build, select_into
from headscan._dictionary import HEAD, Dictionary, open_dictionary, save_place
from headscan._files import expanded
from headscan._list_files import read_lines
from headscan._rows import centre, chunks
from headscan.comp import comp
from headscan.errors import HeadscanError
from headscan.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["filter_dictionary", "filter_folders", "merge_dictionaries"]

_QUERIES, _NEIGHBOURS = 4096, 4  # concepts whose neighbours are searched at a time, and how many at first
_ROUNDING = 1e-6  # of a cosine of float32 rows
Counts = Mapping[str, float] | Callable[[str], float] | str | Path


def filter_dictionary(
    dictionary: Dictionary,
    *,
    drop: str | re.Pattern[str] | None = None,
    drop_texts: Collection[str] | None = None,
    counts: Counts | None = None,
    at_least: float = 1.0,
    scripts: Collection[str] | None = None,
    similar: float | None = None,
    folder: str | Path | None = None,
    threads: int = 0,
) -> Dictionary:
    """Return a dictionary without some of its concepts; see `Dictionary.filter`."""
    keep = np.ones(len(dictionary), dtype=bool)
    history = list(dictionary.history)

    def apply(kept: NDArray[np.bool_], why: str) -> None:
        before = int(keep.sum())
        np.logical_and(keep, kept, out=keep)
        history.append(f"dropped {before - int(keep.sum()):,} of {before:,}: {why}")

    if drop is not None:
        pattern = _pattern(drop)
        apply(np.array([not pattern.search(text) for text in dictionary.texts]), f"matching {pattern.pattern}")
    if drop_texts is not None:
        listed = frozenset([drop_texts] if isinstance(drop_texts, str) else drop_texts)
        apply(np.array([text not in listed for text in dictionary.texts]), f"on a list of {len(listed):,}")
    if counts is not None:
        count, why = _counter(counts)
        often = (min((count(word.lower()) for word in text.split()), default=0.0) for text in dictionary.texts)
        apply(np.array([value >= at_least for value in often]), f"{why} count less than {at_least:g}")
    if scripts is not None:
        names = _script_names(scripts)
        apply(np.array([_written_in(text, names) for text in dictionary.texts]), f"not in {', '.join(scripts)}")
    if similar is not None:
        apply(_distinct(dictionary, keep, similar, threads), f"cosine {similar:g} or more with an earlier one")
    if len(history) == len(dictionary.history):
        raise HeadscanError("nothing to filter by: give texts or patterns to drop, counts, scripts or a similarity")
    chosen = np.flatnonzero(keep)
    if len(chosen) < 2:
        raise HeadscanError(f"the filter leaves {len(chosen)} of {len(dictionary):,} concepts: two are needed")
    record = _record(dictionary, history)
    return _made([(dictionary, chosen)], record, folder=folder, threads=threads)


def merge_dictionaries(
    dictionaries: Sequence[Dictionary], *, folder: str | Path | None = None, threads: int = 0
) -> Dictionary:
    """Return one dictionary of the concepts of several, each text once, in the order of first appearance.

    Parameters
    ----------
    dictionaries : sequence of Dictionary
        Of the same text tower and templates.
    folder : str or path, optional
        Build the result there, in bounded memory, and map it; by default it is made in memory.
    threads : int, default 0
        Worker threads; 0 takes all that the process may use.

    Returns
    -------
    Dictionary
        Centred on its own mean; its counts of dropped lines are sums, and its history names what went in.

    Raises
    ------
    HeadscanError
        If there are none, or they were encoded by different text towers or with different templates.
    """
    if not dictionaries:
        raise HeadscanError("there are no dictionaries to merge")
    first = dictionaries[0]
    for other in dictionaries[1:]:
        if other.text_hash != first.text_hash:
            raise HeadscanError(f"{first.source} and {other.source} were encoded by different text towers")
        if other.templates != first.templates:
            raise HeadscanError(
                f"{first.source} and {other.source} have different templates: "
                f"{first.template!r} and {other.template!r}"
            )
    seen: set[str] = set()
    parts = []
    for one in dictionaries:
        rows = np.array([row for row, text in enumerate(one.texts) if text not in seen], dtype=np.int64)
        seen.update(one.texts)
        parts.append((one, rows))
    record = _record(first, [line for one in dictionaries for line in one.history])
    for name in ("blank", "repeated", "same_tokens", "truncated"):
        record[name] = sum(getattr(one, name) for one in dictionaries)
    record["repeated"] += sum(len(one) - len(rows) for one, rows in parts)
    record["source"] = " + ".join(one.source for one in dictionaries)
    merged = " and ".join(f"{len(rows):,} of {one.source} ({one.hash[:12]})" for one, rows in parts)
    record["history"].append(f"merged {merged}")
    return _made(parts, record, folder=folder, threads=threads)


def filter_folders(folders: Sequence[Path], out: Path, *, drop_list: str | None = None, **filters: Any) -> Dictionary:
    """Merge saved dictionaries where there are several, filter, and write the result; for the command line.

    Parameters
    ----------
    folders : sequence of Path
        Saved dictionaries.
    out : Path
        Folder of the result.
    drop_list : str, optional
        List of concepts to drop, as `headscan.load_dictionary` reads them.
    **filters
        As in `Dictionary.filter`.

    Raises
    ------
    HeadscanError
        As `merge_dictionaries` and `Dictionary.filter` do, or if a single dictionary has nothing to be done to.
    """
    out = save_place(out)
    dictionaries = [open_dictionary(folder) for folder in folders]
    if drop_list is not None:
        filters["drop_texts"] = read_vocabulary(drop_list).texts
    chosen = {name: value for name, value in filters.items() if value is not None and name != "at_least"}
    if len(folders) > 1 and not chosen:
        return merge_dictionaries(dictionaries, folder=out)
    if len(folders) == 1:
        return filter_dictionary(dictionaries[0], folder=out, **filters)
    aside = out.with_name(f".{out.name}.merged")
    try:
        return filter_dictionary(merge_dictionaries(dictionaries, folder=aside), folder=out, **filters)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _record(dictionary: Dictionary, history: list[str]) -> dict[str, Any]:
    names = ("source", "templates", "text_hash", "blank", "repeated", "same_tokens", "truncated")
    return {**{name: getattr(dictionary, name) for name in names}, "history": history}


Parts = list[tuple[Dictionary, "NDArray[np.int64]"]]


class _PartRows:
    """Embeddings of chosen concepts of several dictionaries, recovered when they are asked for."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.width = parts, parts[0][0].atoms.shape[1]
        self.starts = [0, *np.cumsum([len(rows) for _, rows in parts]).tolist()]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chosen rows."""
        wanted = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        out = np.empty((len(wanted), self.width), dtype=np.float32)
        edges = np.searchsorted(wanted, self.starts)
        for (dictionary, chosen), start, first, last in zip(
            self.parts, self.starts, edges[:-1], edges[1:], strict=False
        ):
            for part in chunks(int(first), int(last)):
                out[part] = dictionary.embeddings(chosen[wanted[part] - start])
        return out

    def release(self, count: int) -> None:
        """Keep them: they are another dictionary's."""


def _made(parts: Parts, record: dict[str, Any], *, folder: str | Path | None, threads: int) -> Dictionary:
    rows = _PartRows(parts)
    texts = tuple(dictionary.texts[row] for dictionary, chosen in parts for row in chosen.tolist())
    if folder is None:
        atoms = rows.take(slice(0, len(rows)))
        record = {**record, "history": tuple(record["history"])}
        return Dictionary(texts=texts, mean=centre(atoms), atoms=atoms, **record)
    target = save_place(folder)
    digest = hashlib.sha256(json.dumps([HEAD, record], sort_keys=True).encode())
    for dictionary, chosen in parts:
        digest.update(dictionary.hash.encode() + chosen.astype("<i8").tobytes())
    build(target, key=digest.hexdigest(), make=select_into(rows, texts, record), head=HEAD, threads=threads)
    return open_dictionary(target, verify=False)


def _pattern(drop: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        return re.compile(drop)
    except (re.error, TypeError) as error:
        raise HeadscanError(f"{drop!r} is not a regular expression: {error}") from error


def _counter(counts: Counts) -> tuple[Callable[[str], float], str]:
    if isinstance(counts, (str, Path)):
        path = expanded(counts)
        if not path.is_file():
            raise HeadscanError(f"there is no file of counts {path}")
        return _read_counts(path), f"words of {path.name}"
    if isinstance(counts, Mapping):
        return lambda word: float(counts.get(word, 0.0)), "words"
    return counts, "words"


def _read_counts(path: Path) -> Callable[[str], float]:
    """Read ``word<TAB>count`` lines; a word's counts, in whatever case, are added up."""
    found: dict[str, float] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        word, _, count = line.rpartition("\t")
        try:
            found[word.lower()] = found.get(word.lower(), 0.0) + float(count)
        except ValueError as error:
            raise HeadscanError(f"{path}, line {number} is not a word, a tab and a number: {line[:80]!r}") from error
    return lambda word: found.get(word, 0.0)


def _script_names(scripts: Collection[str]) -> tuple[str, ...]:
    known = {unicodedata.name(chr(code), "").split(" ")[0] for code in _letters()}
    names = (scripts,) if isinstance(scripts, str) else scripts
    for name in names:
        if name.upper() not in known:
            raise HeadscanError(
                f"there is no script {name!r}: Unicode's names of letters begin with latin, greek, ..."
            )
    return tuple(name.upper() for name in names)


def _letters() -> Iterator[int]:
    return (code for code in range(0x30000) if unicodedata.category(chr(code)).startswith("L"))


def _written_in(text: str, scripts: tuple[str, ...]) -> bool:
    if text.isascii():
        return "LATIN" in scripts or not any(map(str.isalpha, text))
    return all(unicodedata.name(c, "").split(" ")[0] in scripts for c in text if c.isalpha())


def _distinct(dictionary: Dictionary, keep: NDArray[np.bool_], similar: float, threads: int) -> NDArray[np.bool_]:
    """Say which concepts have no earlier kept one at a cosine of `similar` or more."""
    if not 0 < similar <= 1:
        raise HeadscanError(f"similar must be a cosine above 0, at most 1, not {similar!r}")
    kept: NDArray[np.bool_] = keep.copy()
    candidates = np.flatnonzero(keep)
    for first in range(0, len(candidates), _QUERIES):
        some = candidates[first : first + _QUERIES]
        for row, near in zip(some.tolist(), _neighbours(dictionary, some, similar, threads), strict=True):
            kept[row] = not kept[near[near < row]].any()
    return kept


def _neighbours(
    dictionary: Dictionary, rows: NDArray[np.int64], similar: float, threads: int
) -> list[NDArray[np.int64]]:
    """Return for each row all atoms with a cosine of at least `similar`, itself among them."""
    found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)] * len(rows)
    left, k = np.arange(len(rows)), min(_NEIGHBOURS, len(dictionary))
    while len(left):
        codes = comp(dictionary.atoms[rows[left]], dictionary.packed, method="top_k", k=k, threads=threads)
        near = codes.coefficients >= similar - _ROUNDING
        for place, indices, chosen in zip(left.tolist(), codes.indices, near, strict=True):
            found[place] = indices[chosen]
        more = near[:, -1] & (k < len(dictionary))  # the k-th is near too: there may be others
        left, k = left[more], min(4 * k, len(dictionary))
    return found
