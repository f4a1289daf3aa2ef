"""Building a dictionary's folder: in bounded memory, and resumed where it stopped, with the same bytes at the end.

A build lives in a hidden folder beside its place, `.NAME.building`, which says in `build.json` what is being built:
another model, list, template or batch size begins anew. It writes, each aside and then renamed, one file of
embeddings a window; then texts and mean, principal axes and `layout.json`; then the shards, dropping the windows
that are used up; then the manifest, and is renamed as a whole. Whatever is there is whole and not made again.
Two processes that want the same folder take turns: the second finds the first one's result.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.terminal import progress_bar
from headscan.core import _core
from headscan.core.pack import AXES_SAMPLE, principal_axes
from headscan.dictionaries.rows import Rows, centred, mean_of
from headscan.dictionaries.shards import SHARD_ROWS, seal, shard_folders, write_head, write_shard
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.encoding import Window

__all__ = ["MANIFEST", "build", "encode_into", "key_of", "manifest_seal", "select_into", "write_sealed"]

MANIFEST = "manifest.json"
_BUILD, _TEXTS, _RECORD, _LAYOUT, _WINDOWS, _LOCK = (
    "build.json", "texts.txt", "record.json", "layout.json", "windows", "lock",
)  # fmt: skip
_SHIFT_SAMPLE = 1024  # rows, spread over the dictionary, on which the core chooses the shift

Make = Callable[[Path], tuple[Rows, dict[str, Any]]]


def build(
    target: Path, *, key: str, make: Make, head: dict[str, Any], threads: int = 0, progress: bool | None = None
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
    head : dict
        First fields of the manifest.

    Raises
    ------
    HeadscanError
        If the embeddings cannot be used, or the disk is full: what is built stays, to be resumed.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target) as place:
            _begin(place, key)
            if not (place / MANIFEST).is_file():
                if key_of(target / MANIFEST) == key:
                    shutil.rmtree(place)
                    _drop_old(target)
                    return
                rows, record = make(place)
                sealed = _write(place, rows, threads=threads, progress=progress)
                write_sealed(place, {**head, "key": key, **record, **sealed})
            _finish(place, target)
    except OSError as error:
        reason = error.strerror or error
        raise HeadscanError(f"cannot write the dictionary to {target}: {reason}; run again to resume") from error


def write_sealed(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with the hash of its own content."""
    files.write_manifest(folder / MANIFEST, {**manifest, "seal": manifest_seal(manifest)})


def manifest_seal(manifest: dict[str, Any]) -> str:
    """Return the hash of a manifest's content, the hash itself left out."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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

    def make(place: Path) -> tuple[Rows, dict[str, Any]]:
        if not (place / _RECORD).is_file():
            texts, counts, truncated = [], [], 0
            (place / _WINDOWS).mkdir(exist_ok=True)
            for number, window in enumerate(windows()):
                path = _window_path(place, number)
                if not path.is_file():
                    with files.write_aside(path) as aside, aside.open("wb") as file:
                        np.save(file, window.encode(), allow_pickle=False)
                texts += window.texts
                counts.append(len(window.texts))
                truncated += window.truncated
            said = record(len(texts), truncated)
            _write_texts(place, texts)
            files.write_manifest(place / _RECORD, {"counts": counts, "record": said})
        saved = json.loads((place / _RECORD).read_text(encoding="utf-8"))
        return _WindowRows(place, saved["counts"], width), saved["record"]

    return make


def select_into(rows: Rows, texts: Sequence[str], record: dict[str, Any]) -> Make:
    """Return the `make` of a build from embeddings that are somewhere already."""

    def make(place: Path) -> tuple[Rows, dict[str, Any]]:
        _write_texts(place, texts)
        return rows, record

    return make


def _write_texts(place: Path, texts: Sequence[str]) -> None:
    with files.write_aside(place / _TEXTS) as aside:
        aside.write_bytes("\n".join(texts).encode())


class _WindowRows:
    """The embeddings of a build's windows, mapped, as one matrix."""

    def __init__(self, place: Path, counts: list[int], width: int) -> None:
        self.place, self.width = place, width
        self.starts = [0, *np.cumsum(counts).tolist()]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chosen rows."""
        wanted = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        out = np.empty((len(wanted), self.width), dtype=np.float32)
        edges = np.searchsorted(wanted, self.starts)
        for number in np.flatnonzero(np.diff(edges)).tolist():
            some = slice(edges[number], edges[number + 1])
            window = np.load(_window_path(self.place, number), mmap_mode="r", allow_pickle=False)
            out[some] = window[wanted[some] - self.starts[number]]
        return out

    def release(self, count: int) -> None:
        """Delete the windows of the first `count` rows."""
        for number in range(bisect_right(self.starts, count) - 1):
            _window_path(self.place, number).unlink(missing_ok=True)


def _window_path(place: Path, number: int) -> Path:
    return place / _WINDOWS / f"{number:05d}.npy"


def _write(place: Path, rows: Rows, *, threads: int, progress: bool | None) -> dict[str, Any]:
    """Write mean, axes and shards as far as they are not there; return what the manifest says of them."""
    if not (place / _LAYOUT).is_file():
        mean = mean_of(rows)
        rotation, shift = _axes(rows, mean, threads)
        write_head(place, mean=mean, rotation=rotation)
        files.write_manifest(place / _LAYOUT, {"shift": shift, "shard_rows": SHARD_ROWS})
    mean, rotation = (np.load(place / name, allow_pickle=False) for name in ("mean.npy", "rotation.npy"))
    layout = json.loads((place / _LAYOUT).read_text(encoding="utf-8"))
    with progress_bar("packing", total=len(rows), unit="atoms", show=progress) as advance:
        for shard, part in shard_folders(place, len(rows), layout["shard_rows"]):
            if not shard.is_dir():
                atoms = centred(rows.take(part), mean)
                packed, *arrays = _core.pack(atoms, rotation, threads, layout["shift"])
                named = dict(zip(("codes", "scale", "error", "beyond"), arrays, strict=True))
                write_shard(shard, {"atoms": atoms, **named}, largest_norm=packed["largest_norm"])
            rows.release(part.stop)
            advance(part.stop - part.start)
    return seal(place, rows=len(rows), width=rows.width, **layout)


def _axes(rows: Rows, mean: NDArray[np.float64], threads: int) -> tuple[NDArray[np.float32], int]:
    """Return principal axes and shift, from the rows that `pack` would take of the whole dictionary."""
    rotation = principal_axes(centred(rows.take(_spread(len(rows), AXES_SAMPLE)), mean))
    layout, *_ = _core.pack(centred(rows.take(_spread(len(rows), _SHIFT_SAMPLE)), mean), rotation, threads)
    return rotation, layout["shift"]


def _spread(count: int, sample: int) -> NDArray[np.int64]:
    return np.arange(0, count, max(1, count // sample))


@contextmanager
def _locked(target: Path) -> Iterator[Path]:
    """Give the build's folder, once no other process builds there."""
    place = target.with_name(f".{target.name}.building")
    while True:
        place.mkdir(exist_ok=True)
        try:
            file = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # the other has just finished
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(os.fstat(file), os.stat(place / _LOCK))  # noqa: PTH116
            except FileNotFoundError:
                same = False
            if same:
                yield place
                return
        finally:
            os.close(file)


def _begin(place: Path, key: str) -> None:
    """Keep what an interrupted build of the same left, drop what is of another."""
    if key not in (key_of(place / _BUILD), key_of(place / MANIFEST)):
        for path in place.iterdir():
            if path.name != _LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        files.write_manifest(place / _BUILD, {"key": key})


def key_of(path: Path) -> str | None:
    """Return the key in a manifest, None where there is none to read."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _finish(place: Path, target: Path) -> None:
    """Drop what only the build needed, and put the folder in its place."""
    shutil.rmtree(place / _WINDOWS, ignore_errors=True)
    for path in (*place.glob(".*.part"), *(place / "shards").glob(".*.part")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in (_RECORD, _LAYOUT, _BUILD, _LOCK):
        (place / name).unlink(missing_ok=True)
    files.replace_folder(place, target)
    _drop_old(target)


def _drop_old(target: Path) -> None:
    """Delete what a build killed while it took the place of another folder left of that."""
    for old in target.parent.glob(f".{glob.escape(target.name)}.*.old"):
        shutil.rmtree(old, ignore_errors=True)
