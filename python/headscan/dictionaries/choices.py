"""What is kept of a dictionary: by pattern, list, counts, alphabet, nearness."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.files import expanded
from headscan.core.comp import comp
from headscan.dictionaries.list_files import read_lines
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.core.pack import PackedAtoms

__all__ = ["Counts", "distinct", "script_names", "word_counter", "written_in"]


_QUERIES, _NEIGHBOURS = 4096, 4  # concepts whose neighbours are searched at a time, and how many at first
_ROUNDING = 1e-6  # of a cosine of float32 rows
Counts = Mapping[str, float] | Callable[[str], float] | str | Path


def word_counter(counts: Counts) -> tuple[Callable[[str], float], str]:
    """Return a function from a word to its count, and what it counts, in words."""
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
    counts: dict[str, float] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        word, _, count = line.rpartition("\t")
        try:
            counts[word.lower()] = counts.get(word.lower(), 0.0) + float(count)
        except ValueError as error:
            raise HeadscanError(f"{path}, line {number} is not a word, a tab and a number: {line[:80]!r}") from error
    return lambda word: counts.get(word, 0.0)


def script_names(scripts: Collection[str]) -> tuple[str, ...]:
    """Return the scripts as Unicode names them, checked."""
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


def written_in(text: str, scripts: tuple[str, ...]) -> bool:
    """Say whether all letters of a text are of these scripts."""
    if text.isascii():
        return "LATIN" in scripts or not any(map(str.isalpha, text))
    return all(unicodedata.name(c, "").split(" ")[0] in scripts for c in text if c.isalpha())


def distinct(
    atoms: NDArray[np.float32], packed: PackedAtoms, keep: NDArray[np.bool_], *, similar: float, threads: int
) -> NDArray[np.bool_]:
    """Say which concepts have no earlier kept one at a cosine of `similar` or more."""
    if not 0 < similar <= 1:
        raise HeadscanError(f"similar must be a cosine above 0, at most 1, not {similar!r}")
    kept: NDArray[np.bool_] = keep.copy()
    candidates = np.flatnonzero(keep)
    for first in range(0, len(candidates), _QUERIES):
        some = candidates[first : first + _QUERIES]
        for row, near in zip(
            some.tolist(), _neighbours(atoms, packed, some, similar=similar, threads=threads), strict=True
        ):
            kept[row] = not kept[near[near < row]].any()
    return kept


def _neighbours(
    atoms: NDArray[np.float32], packed: PackedAtoms, rows: NDArray[np.int64], *, similar: float, threads: int
) -> list[NDArray[np.int64]]:
    """Return for each row all atoms with a cosine of at least `similar`, itself among them."""
    near_rows: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)] * len(rows)
    left, k = np.arange(len(rows)), min(_NEIGHBOURS, len(atoms))
    while len(left):
        codes = comp(atoms[rows[left]], packed, method="nearest", k=k, threads=threads)
        near = codes.coefficients >= similar - _ROUNDING
        for position, indices, chosen in zip(left.tolist(), codes.indices, near, strict=True):
            near_rows[position] = indices[chosen]
        more = near[:, -1] & (k < len(atoms))  # the k-th is near too: there may be others
        left, k = left[more], min(4 * k, len(atoms))
    return near_rows
