"""Building a dictionary's folder: in bounded memory, and resumed where it stopped, with the same bytes at the end.

A build lives in a hidden folder beside its target, named as only headscan does (`writing.resumable_folder`), which
says in `build.json` what is being built: another model, list, template or batch size begins anew. It writes, each
aside and then renamed, one file of embeddings a window; then texts and mean, principal axes and `layout.json`; then
the shards, dropping the windows that are used up; then the manifest, and is renamed as a whole. What is there and
matches its checksum is not made again; if anything does not, the build begins anew. What a build did not write it
does not remove. Two processes that want the same folder take turns: the second gets the first one's result.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files, writing
from headscan.common.reading import read_array
from headscan.common.terminal import progress_bar
from headscan.core import _core
from headscan.core.pack import AXES_SAMPLE, principal_axes
from headscan.dictionaries.folder import HEAD, MANIFEST, check_replaced, foreign
from headscan.dictionaries.rows import JoinedRows, Rows, centred, mean_of
from headscan.dictionaries.shards import (
    SHARD_ROWS,
    check_written,
    damaged,
    seal,
    shard_folders,
    write_head,
    write_shard,
)
from headscan.errors import HeadscanError, UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.encoding import Window

__all__ = ["build", "discard", "encode_into", "key_of", "select_into"]

_log = logging.getLogger(__name__)
_BUILD, _TEXTS, _RECORD, _LAYOUT, _WINDOWS = "build.json", "texts.txt", "record.json", "layout.json", "windows"
_WINDOW = re.compile(r"(?P<number>\d{5})-(?P<sha256>[0-9a-f]{64})\.npy")
_PARTS = (  # paths that a build's folder may hold beside a dictionary's, relative to it
    r"build\.json|record\.json|layout\.json|windows(/\d{5}-[0-9a-f]{64}\.npy)?"
    r"|(.*/)?\.[^/]+\.headscan-[0-9a-f]{12}\.(part|old)(/.*)?"
)
_SHIFT_SAMPLE = 1024  # rows, spread over the dictionary, on which the core chooses the shift

Make = Callable[[Path], tuple[Rows, dict[str, Any]]]


def build(
    target: Path,
    *,
    key: str,
    make: Make,
    is_whole: Callable[[Path], bool],
    threads: int = 0,
    progress: bool | None = None,
) -> None:
    """Build a dictionary's folder at `target`, or what is left of an interrupted build with the same key.

    Parameters
    ----------
    target : Path
        Where the folder goes; what is there is replaced at the end.
    key : str
        Says all that decides the content.
    make : callable
        From the build's folder to the embeddings and what the manifest records of them; writes `texts.txt` there.
    is_whole : callable
        Says whether a dictionary of the same key at `target` is as it was written, so that nothing is to be done.

    Raises
    ------
    HeadscanError
        If the embeddings cannot be used, something that headscan did not write is in the way, or the disk is full:
        what is built stays, to be resumed.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing.resumable_folder(target) as folder:
            _check_ours(folder)
            if key_of(target / MANIFEST) == key and is_whole(target):
                shutil.rmtree(folder)
            else:
                check_replaced(target)
                _begin(folder, key)
                if not (folder / MANIFEST).is_file():
                    rows, record = make(folder)
                    sealed = _write(folder, rows, threads=threads, progress=progress)
                    files.write_sealed(folder / MANIFEST, {**HEAD, "key": key, **record, **sealed})
                _finish(folder, target)
            files.sweep(target)
    except OSError as error:
        reason = error.strerror or error
        raise HeadscanError(f"cannot write the dictionary to {target}: {reason}; run again to resume") from error


def discard(target: Path) -> None:
    """Remove what killed builds left beside a dictionary that is whole, unless another process builds there."""
    if any(left.suffix == ".building" for left in writing.leftovers(target.parent, target.name)):
        with writing.resumable_folder(target) as folder:
            _check_ours(folder)
            shutil.rmtree(folder)
    files.sweep(target)


def _check_ours(folder: Path) -> None:
    other = foreign(folder, also=_PARTS)
    if other is not None:
        raise HeadscanError(f"{other} is no part of a build of headscan's, and will not be removed: move it away")


def _begin(folder: Path, key: str) -> None:
    """Keep what an interrupted build of the same left and is whole, drop what is of another."""
    if key in (key_of(folder / _BUILD), key_of(folder / MANIFEST)):
        try:
            with damaged(folder):
                _check_resumed(folder)
            return
        except UnreadableError:
            raise
        except HeadscanError as error:
            _log.warning("an interrupted build is damaged and begins anew: %s", error)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    files.write_manifest(folder / _BUILD, {"key": key})


def _check_resumed(folder: Path) -> None:
    """Raise unless everything that an interrupted build left is as it was written."""
    for path in (folder / _WINDOWS).glob("*.npy"):
        match = _WINDOW.fullmatch(path.name)
        if match is not None:
            _check_hash(path, match["sha256"])
    if (folder / MANIFEST).is_file():
        files.read_sealed(folder / MANIFEST)
    if (folder / _RECORD).is_file():
        _check_hash(folder / _TEXTS, files.read_sealed(folder / _RECORD)["texts"])
    if (folder / _LAYOUT).is_file():
        layout = files.read_sealed(folder / _LAYOUT)
        for name, digest in layout["sha256"].items():
            _check_hash(folder / name, digest)
        check_written(folder, layout["rows"], layout["shard_rows"])


def _check_hash(path: Path, expected: str) -> None:
    if files.file_sha256(path) != expected:
        raise HeadscanError(f"{path} is damaged: its content does not match its hash")


def encode_into(
    windows: Callable[[], Iterable[Window]], record: Callable[[int, int], dict[str, Any]], *, width: int
) -> Make:
    """Return the `make` of a build that encodes concepts window by window.

    Parameters
    ----------
    windows : callable
        Gives the windows; those whose embeddings are there are not encoded.
    record : callable
        From how many concepts are kept and how many may have been cut to what the manifest records.
    width : int
        Values an embedding.
    """

    def make(folder: Path) -> tuple[Rows, dict[str, Any]]:
        if not (folder / _RECORD).is_file():
            texts, counts, truncated = [], [], 0
            (folder / _WINDOWS).mkdir(exist_ok=True)
            written = _windows_in(folder)
            for number, window in enumerate(windows()):
                if number not in written:
                    _write_window(folder, number, window.encode())
                texts += window.texts
                counts.append(len(window.texts))
                truncated += window.truncated
            recorded = record(len(texts), truncated)
            digest = _write_texts(folder, texts)
            files.write_sealed(folder / _RECORD, {"counts": counts, "record": recorded, "texts": digest})
        saved = files.read_sealed(folder / _RECORD)
        return _WindowRows(folder, saved["counts"], width), saved["record"]

    return make


def select_into(rows: Rows, texts: Sequence[str], record: dict[str, Any]) -> Make:
    """Return the `make` of a build from embeddings that are somewhere already."""

    def make(folder: Path) -> tuple[Rows, dict[str, Any]]:
        _write_texts(folder, texts)
        return rows, record

    return make


def _write_texts(folder: Path, texts: Sequence[str]) -> str:
    """Write the concepts and return the file's hash."""
    with files.write_aside(folder / _TEXTS) as aside:
        aside.write_bytes("\n".join(texts).encode())
        return files.file_sha256(aside)


def _write_window(folder: Path, number: int, embeddings: NDArray[np.float32]) -> None:
    """Write a window's embeddings under a name that holds their hash."""
    with writing.held_aside(folder / _WINDOWS / f"{number:05d}") as aside:
        with aside.path.open("wb") as file:
            np.save(file, embeddings, allow_pickle=False)
        digest = aside.finish()
        aside.path.replace(folder / _WINDOWS / f"{number:05d}-{digest}.npy")


def _windows_in(folder: Path) -> dict[int, Path]:
    matches = ((path, _WINDOW.fullmatch(path.name)) for path in (folder / _WINDOWS).glob("*.npy"))
    return {int(match["number"]): path for path, match in matches if match}


class _WindowRows(JoinedRows):
    """The embeddings of a build's windows, mapped, as one matrix."""

    def __init__(self, folder: Path, counts: list[int], width: int) -> None:
        super().__init__(counts, width)
        self.paths = _windows_in(folder)

    def rows_of(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return rows of a window."""
        window: NDArray[np.float32] = np.load(self.paths[number], mmap_mode="r", allow_pickle=False)
        return window[rows]

    def release(self, count: int) -> None:
        """Delete the windows of the first `count` rows."""
        for number in range(bisect_right(self.starts, count) - 1):
            if number in self.paths:
                self.paths[number].unlink(missing_ok=True)


def _write(folder: Path, rows: Rows, *, threads: int, progress: bool | None) -> dict[str, Any]:
    """Write mean, axes and shards as far as they are not there; return what the manifest says of them."""
    if not (folder / _LAYOUT).is_file():
        mean = mean_of(rows)
        rotation, shift = _axes(rows, mean, threads)
        hashes = write_head(folder, mean=mean, rotation=rotation)
        chosen = {"rows": len(rows), "shift": shift, "shard_rows": SHARD_ROWS, "sha256": hashes}
        files.write_sealed(folder / _LAYOUT, chosen)
    mean, rotation = (read_array(folder / name) for name in ("mean.npy", "rotation.npy"))
    layout = files.read_sealed(folder / _LAYOUT)
    with progress_bar("packing", total=len(rows), unit="atoms", show=progress) as advance:
        for shard, part in shard_folders(folder, len(rows), layout["shard_rows"]):
            if not shard.is_dir():
                atoms = centred(rows.take(part), mean)
                packed = _core.pack(atoms, rotation, threads=threads, shift=layout["shift"])
                arrays = {"atoms": atoms, **{name: packed[name] for name in ("codes", "scale", "error", "beyond")}}
                write_shard(shard, arrays, largest_norm=packed["largest_norm"])
            rows.release(part.stop)
            advance(part.stop - part.start)
    return seal(folder, rows=len(rows), width=rows.width, shard_rows=layout["shard_rows"], shift=layout["shift"])


def _axes(rows: Rows, mean: NDArray[np.float64], threads: int) -> tuple[NDArray[np.float32], int]:
    """Return principal axes and shift, from the rows that `pack` would take of the whole dictionary."""
    rotation = principal_axes(centred(rows.take(_spread(len(rows), AXES_SAMPLE)), mean))
    sample = centred(rows.take(_spread(len(rows), _SHIFT_SAMPLE)), mean)
    return rotation, _core.pack(sample, rotation, threads=threads)["shift"]


def _spread(count: int, sample: int) -> NDArray[np.int64]:
    return np.arange(0, count, max(1, count // sample))


def key_of(path: Path) -> str | None:
    """Return the key in a manifest, None where there is none to read."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _finish(folder: Path, target: Path) -> None:
    """Drop what only the build needed, and put the folder in its place."""
    if (folder / _WINDOWS).is_dir():
        shutil.rmtree(folder / _WINDOWS)
    for left in writing.leftovers_below(folder):
        writing.remove(left)
    for name in (_RECORD, _LAYOUT, _BUILD):
        (folder / name).unlink(missing_ok=True)
    files.replace_folder(folder, target)
