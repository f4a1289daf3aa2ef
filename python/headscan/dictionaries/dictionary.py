"""Dictionaries: concepts as centred unit vectors of a model's joint space; in memory, or a folder that is mapped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from re import Pattern
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.patterns import compiled
from headscan.core.pack import PackedAtoms, pack
from headscan.dictionaries.build import build, select_into
from headscan.dictionaries.choices import Counts, distinct, script_names, word_counter, written_in
from headscan.dictionaries.folder import HEAD, KIND, MANIFEST, RECORDED, VERSION, check_target
from headscan.dictionaries.rows import PartRows, centre, embeddings_of
from headscan.dictionaries.shards import (
    SHARD_ROWS,
    content_hash,
    open_shards,
    seal,
    shard_folders,
    write_head,
    write_shard,
)
from headscan.errors import HeadscanError, UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dictionary", "filter_dictionary", "is_whole", "made_of", "open_dictionary", "record_of"]

_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Concepts as unit vectors of a model's joint space, centred on their mean; made by `load_dictionary`.

    Attributes
    ----------
    texts : tuple of str
        The concepts, without the template.
    atoms : ndarray of float32, shape (concepts, joint_dim)
        Text embeddings: normalised, less their mean, normalised. Mapped where the dictionary is a folder.
    mean : ndarray of float64, shape (joint_dim,)
        Mean of the normalised embeddings.
    source : str
        Packaged name or file name of the list.
    templates : tuple of str
        What each concept was put into, ``"{}"`` standing for it; of several, the embeddings were averaged.
    text_hash : str
        `Model.text_hash` of the model that encoded it.
    blank, repeated, same_tokens : int
        Lines dropped: empty, the same text as an earlier one, or the same tokens (by case or spacing, say).
    truncated : int
        Concepts kept though they fill the model's context and may have been cut.
    history : tuple of str
        How the list was read from its file, and what was done since the encoding, oldest first: filters and mergers.
    """

    texts: tuple[str, ...]
    atoms: NDArray[np.float32]
    mean: NDArray[np.float64]
    source: str
    templates: tuple[str, ...]
    text_hash: str
    blank: int = 0
    repeated: int = 0
    same_tokens: int = 0
    truncated: int = 0
    history: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of concepts."""
        return len(self.texts)

    @property
    def template(self) -> str:
        """The templates as one text."""
        return " | ".join(self.templates)

    @cached_property
    def packed(self) -> PackedAtoms:
        """The atoms packed for `comp`: as saved with the dictionary, else packed now."""
        return pack(np.ascontiguousarray(self.atoms))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the hashes of texts, mean and atoms, these in shards of 65,536."""
        parts = range(0, len(self), SHARD_ROWS)
        shards = (np.ascontiguousarray(self.atoms[first : first + SHARD_ROWS], dtype="<f4") for first in parts)
        return content_hash(
            _joined(self.texts), self.mean, [hashlib.sha256(part.data).hexdigest() for part in shards]
        )

    def embeddings(self, rows: Sequence[int] | NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """Return unit text embeddings (n, joint_dim) of the chosen concepts, to float32 rounding.

        They are recovered from atoms and mean: an embedding is the only point of the unit sphere that lies from the
        mean in its atom's direction.
        """
        chosen = embeddings_of(np.asarray(self.atoms[rows]), self.mean)
        if "packed" in vars(self):
            self.packed.check()
        return chosen

    def filter(
        self,
        *,
        drop: str | Pattern[str] | None = None,
        drop_texts: Collection[str] | None = None,
        counts: Mapping[str, float] | Callable[[str], float] | str | Path | None = None,
        at_least: float = 1.0,
        scripts: Collection[str] | None = None,
        similar: float | None = None,
        folder: str | Path | None = None,
        threads: int = 0,
    ) -> Dictionary:
        """Return the dictionary without some of its concepts, centred anew; `made_of` says how.

        Parameters
        ----------
        drop : str or pattern, optional
            A regular expression: texts in which it is found are dropped.
        drop_texts : collection of str, optional
            Texts to drop.
        counts : mapping, callable or path, optional
            How often a word occurs, lower-cased: a mapping, a function (such as a package's), or a UTF-8 file of
            ``word<TAB>count`` lines. A concept counts as often as its rarest word; words not listed count 0.
        at_least : float, default 1
            Drop concepts that count less.
        scripts : collection of str, optional
            Keep concepts all of whose letters belong to these scripts, by their Unicode names: "latin", "greek",
            "cyrillic", "hebrew", "arabic", "cjk", "hiragana", ... This tells alphabets apart, not languages.
        similar : float, optional
            Drop a concept whose atom has at least this cosine with that of an earlier one that is kept. The
            neighbours are found by the certified search: no concept is missed.
        folder : str or path, optional
            Build the result there, in bounded memory, and map it; by default it is made in memory.
        threads : int, default 0
            Worker threads; 0 takes all that the process may use.

        Returns
        -------
        Dictionary

        Raises
        ------
        HeadscanError
            If a choice cannot be read, or fewer than two concepts are left.
        """
        return filter_dictionary(
            self, drop=drop, drop_texts=drop_texts, counts=counts, at_least=at_least, scripts=scripts,
            similar=similar, folder=folder, threads=threads,
        )  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write the dictionary as a folder of texts, atoms, their packed form and a manifest; return its path.

        A dictionary already there is replaced; the folder is written aside and then renamed.

        Raises
        ------
        HeadscanError
            If `folder` holds something else, or cannot be written.
        """
        target = check_target(folder)
        try:
            with files.folder_aside(target) as aside:
                self._write(aside)
            files.sweep(target)
        except OSError as error:
            raise HeadscanError(f"cannot write the dictionary to {target}: {error}") from error
        return target

    def _write(self, folder: Path) -> None:
        packed = self.packed
        (folder / "texts.txt").write_bytes(_joined(self.texts))
        write_head(folder, mean=self.mean, rotation=packed.rotation)
        beyond = packed.beyond.reshape(-1, 3 * _BLOCK)
        for shard, rows in shard_folders(folder, len(self), SHARD_ROWS):
            blocks = slice(rows.start // _BLOCK, -(-rows.stop // _BLOCK))
            padded = slice(blocks.start * _BLOCK, blocks.stop * _BLOCK)
            arrays: dict[str, NDArray[Any]] = {
                "atoms": self.atoms[rows],
                "codes": packed.codes[blocks],
                "beyond": beyond[blocks],
            }
            arrays |= {"scale": packed.scale[padded], "error": packed.error[padded]}
            write_shard(shard, arrays, largest_norm=packed.largest_norm)
        sealed = seal(folder, rows=len(self), width=packed.width, shard_rows=SHARD_ROWS, shift=packed.shift)
        recorded = {name: getattr(self, name) for name in RECORDED}
        files.write_sealed(folder / MANIFEST, {**HEAD, "key": None, **recorded, **sealed})


def open_dictionary(folder: Path, *, verify: bool = True) -> Dictionary:
    """Map a saved dictionary, checked against its hashes; `verify` as in `headscan.load_dictionary`.

    Raises
    ------
    HeadscanError
        If it is damaged or of another format.
    """
    for last in (False, False, True):
        manifest = _read_manifest(folder)
        try:
            texts, mean, packed = open_shards(folder, manifest, verify=verify)
            break
        except HeadscanError:
            if last or _read_manifest(folder) == manifest:  # else another has taken its place meanwhile
                raise
    recorded: dict[str, Any] = {
        name: tuple(value) if isinstance(value := manifest[name], list) else value for name in RECORDED
    }
    dictionary = Dictionary(texts=texts, atoms=packed.atoms, mean=mean, **recorded)
    vars(dictionary).update(packed=packed, hash=manifest["hash"])
    return dictionary


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest = files.read_manifest(folder / MANIFEST, kind=KIND, format_version=VERSION)
    types = {field.name: field.type for field in fields(Dictionary) if field.name in RECORDED}
    files.check_types(manifest, {**types, "hash": "str", "seal": "str"}, where=folder / MANIFEST)
    files.check_seal(manifest, where=folder / MANIFEST)
    return manifest


def is_whole(folder: Path) -> bool:
    """Say whether a folder holds a dictionary just as it was written.

    Raises
    ------
    UnreadableError
        If that cannot be seen now.
    """
    try:
        open_dictionary(folder, verify=True)
    except UnreadableError:
        raise
    except HeadscanError:
        return False
    return True


def _joined(texts: Iterable[str]) -> bytes:
    return "\n".join(texts).encode("utf-8")


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
        pattern = compiled(drop)
        apply(np.array([not pattern.search(text) for text in dictionary.texts]), f"matching {pattern.pattern}")
    if drop_texts is not None:
        listed = frozenset([drop_texts] if isinstance(drop_texts, str) else drop_texts)
        apply(np.array([text not in listed for text in dictionary.texts]), f"on a list of {len(listed):,}")
    if counts is not None:
        count, why = word_counter(counts)
        often = (min((count(word.lower()) for word in text.split()), default=0.0) for text in dictionary.texts)
        apply(np.array([value >= at_least for value in often]), f"{why} count less than {at_least:g}")
    if scripts is not None:
        names = script_names(scripts)
        apply(np.array([written_in(text, names) for text in dictionary.texts]), f"not in {', '.join(scripts)}")
    if similar is not None:
        apply(
            distinct(dictionary.atoms, dictionary.packed, keep, similar=similar, threads=threads),
            f"cosine {similar:g} or more with an earlier one",
        )
    if len(history) == len(dictionary.history):
        raise HeadscanError("nothing to filter by: give texts or patterns to drop, counts, scripts or a similarity")
    chosen = np.flatnonzero(keep)
    if len(chosen) < 2:
        raise HeadscanError(f"the filter leaves {len(chosen)} of {len(dictionary):,} concepts: two are needed")
    record = record_of(dictionary, history)
    return made_of([(dictionary, chosen)], record, folder=folder, threads=threads)


def record_of(dictionary: Dictionary, history: list[str]) -> dict[str, Any]:
    """Return what is recorded of a dictionary made from another."""
    names = ("source", "templates", "text_hash", "blank", "repeated", "same_tokens", "truncated")
    return {**{name: getattr(dictionary, name) for name in names}, "history": history}


def made_of(
    parts: Sequence[tuple[Dictionary, NDArray[np.int64]]],
    record: dict[str, Any],
    *,
    folder: str | Path | None,
    threads: int,
) -> Dictionary:
    """Return a dictionary of chosen concepts of others, centred anew: in memory, or built in a folder and mapped."""
    rows = PartRows(parts)
    texts = tuple(dictionary.texts[row] for dictionary, chosen in parts for row in chosen.tolist())
    if folder is None:
        atoms = rows.take(slice(0, len(rows)))
        record = {**record, "history": tuple(record["history"])}
        return Dictionary(texts=texts, mean=centre(atoms), atoms=atoms, **record)
    target = check_target(folder)
    digest = hashlib.sha256(json.dumps([HEAD, record], sort_keys=True).encode())
    for dictionary, chosen in parts:
        digest.update(dictionary.hash.encode() + chosen.astype("<i8").tobytes())
    make = select_into(rows, texts, record)
    build(target, key=digest.hexdigest(), make=make, is_whole=is_whole, threads=threads)
    return open_dictionary(target, verify=False)
