"""A dictionary's folder: texts, mean and principal axes, shards of atoms with their packed form, a manifest.

    manifest.json          what it is, how it was made, hashes
    texts.txt              one concept a line, UTF-8
    mean.npy, rotation.npy float64 (width), float32 (width, width)
    shards/00000/          65,536 atoms: atoms.f32 (rows, width), codes.u8, scale.f32, error.f32, beyond.f32 as in
                           `PackedAtoms`, little-endian; shard.json with their hashes

A shard is written aside and renamed as a whole, so it is there or it is not. The files of all shards are mapped one
after another, so that every array reads as one; atoms are read from their files row by row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.reading import read_array, read_json, regular, unreadable
from headscan.core import _core
from headscan.core.pack import PackedAtoms, RowFiles
from headscan.errors import HeadscanError, UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SHARD_ROWS",
    "check_written",
    "content_hash",
    "damaged",
    "open_shards",
    "seal",
    "shard_folders",
    "write_head",
    "write_shard",
]

SHARD_ROWS = 65_536  # whole blocks of 64 atoms, and every file but those of the last shard fills whole pages
_BLOCK, _SEGMENT_BOUNDS = 64, 3
_FILES = {"atoms": "f32", "codes": "u8", "scale": "f32", "error": "f32", "beyond": "f32"}
_SHARD = "shard.json"


def shard_folders(folder: Path, rows: int, shard_rows: int) -> Iterator[tuple[Path, slice]]:
    """Yield the folder of each shard and the rows that belong there."""
    for number, first in enumerate(range(0, rows, shard_rows)):
        yield folder / "shards" / f"{number:05d}", slice(first, min(first + shard_rows, rows))


def write_shard(folder: Path, arrays: Mapping[str, NDArray[Any]], *, largest_norm: float) -> None:
    """Write one shard aside, flush it to the disk and rename it; `arrays` are those of the packed form."""
    with files.folder_aside(folder) as aside:
        hashes = {}
        for name, kind in _FILES.items():
            data = np.ascontiguousarray(arrays[name], dtype="u1" if kind == "u8" else "<f4").reshape(-1).view("u1")
            hashes[name] = hashlib.sha256(data.data).hexdigest()
            with (aside / f"{name}.{kind}").open("wb") as file:
                file.write(data.data)
                os.fsync(file.fileno())
        record = {"rows": len(arrays["atoms"]), "largest_norm": largest_norm, "sha256": hashes}
        files.write_sealed(aside / _SHARD, record)


def write_head(folder: Path, *, mean: NDArray[np.float64], rotation: NDArray[np.float32]) -> dict[str, str]:
    """Write mean and principal axes; return their files' hashes by name."""
    named: dict[str, NDArray[Any]] = {"mean.npy": mean, "rotation.npy": rotation}
    for name, array in named.items():
        with files.write_aside(folder / name) as aside, aside.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    return {name: files.file_sha256(folder / name) for name in named}


def content_hash(texts: bytes, mean: NDArray[np.float64], atoms: Sequence[str]) -> str:
    """Return the SHA-256 over the hashes of texts, mean and each shard's atoms."""
    head = (texts, np.ascontiguousarray(mean, dtype="<f8").data)
    parts = [*(hashlib.sha256(part).hexdigest() for part in head), *atoms]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def seal(folder: Path, *, rows: int, width: int, shard_rows: int, shift: int) -> dict[str, Any]:
    """Return what the manifest says of the written files."""
    shards = [path for path, _ in shard_folders(folder, rows, shard_rows)]
    records = [json.loads((shard / _SHARD).read_text(encoding="utf-8")) for shard in shards]
    texts, mean = (folder / "texts.txt").read_bytes(), np.load(folder / "mean.npy", allow_pickle=False)
    layout = {
        "rows": rows, "width": width, "fit_width": width, "shift": shift,
        "largest_norm": max(record["largest_norm"] for record in records),
    }  # fmt: skip
    named = {name: folder / name for name in ("texts.txt", "mean.npy", "rotation.npy")}
    named |= {f"shards/{shard.name}/{_SHARD}": shard / _SHARD for shard in shards}
    return {
        "concepts": rows,
        "hash": content_hash(texts, mean, [record["sha256"]["atoms"] for record in records]),
        "shard_rows": shard_rows,
        "layout": layout,
        "sha256": {name: files.file_sha256(path) for name, path in named.items()},
    }


@contextmanager
def damaged(folder: Path) -> Iterator[None]:
    """Say of whatever is not as it was written that the folder is damaged; what the system refuses is no damage."""
    try:
        yield
    except HeadscanError:
        raise
    except OSError as error:
        raise unreadable(folder if error.filename is None else Path(os.fsdecode(error.filename)), error) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadscanError(f"{folder} is damaged: {type(error).__name__}: {error}") from error


def check_written(folder: Path, rows: int, shard_rows: int) -> None:
    """Raise unless the shards that an interrupted build has finished are as they were written.

    Raises
    ------
    HeadscanError
        Naming the file that is damaged.
    """
    for shard, part in shard_folders(folder, rows, shard_rows):
        if shard.is_dir():
            with damaged(shard):
                record = files.read_sealed(shard / _SHARD)
                _check_rows(shard, record, part)
                for name, kind in _FILES.items():
                    _check_hash(shard / f"{name}.{kind}", record["sha256"][name])


def open_shards(
    folder: Path, manifest: Mapping[str, Any], *, verify: bool
) -> tuple[tuple[str, ...], NDArray[np.float64], PackedAtoms]:
    """Return texts, mean and the packed atoms of a folder, mapped; `verify` hashes every file of the shards.

    Raises
    ------
    HeadscanError
        If files are missing, damaged, or do not fit together.
    """
    with damaged(folder):
        layout, shard_rows = dict(manifest["layout"]), int(manifest["shard_rows"])
        shards = list(shard_folders(folder, int(layout["rows"]), shard_rows))
        for name in ("texts.txt", "mean.npy", "rotation.npy"):
            _check_hash(folder / name, manifest["sha256"][name])
        records = [_read_record(shard, rows, folder, manifest) for shard, rows in shards]
        data = (folder / "texts.txt").read_bytes()
        texts, mean = tuple(data.decode("utf-8").split("\n")), read_array(folder / "mean.npy", ndim=1)
        hashes = [record["sha256"] for record in records]
        if content_hash(data, mean, [each["atoms"] for each in hashes]) != manifest["hash"]:
            raise HeadscanError(f"{folder} is damaged: its content does not match its hash")
        rotation = read_array(folder / "rotation.npy", ndim=2)
        packed = _map([shard for shard, _ in shards], layout, shard_rows, rotation, hashes if verify else None)
        expected = ((layout["rows"], layout["width"]), (layout["width"],), layout["rows"])
        if (packed.atoms.shape, mean.shape, len(texts)) != expected:
            raise HeadscanError(f"{folder} is damaged: its arrays do not fit its layout")
        return texts, mean, packed


def _read_record(shard: Path, rows: slice, folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    _check_hash(shard / _SHARD, manifest["sha256"][str((shard / _SHARD).relative_to(folder))])
    record: dict[str, Any] = read_json(shard / _SHARD)
    _check_rows(shard, record, rows)
    return record


def _check_rows(shard: Path, record: Mapping[str, Any], rows: slice) -> None:
    """Raise a HeadscanError unless a shard holds as many rows as it should."""
    if record["rows"] != rows.stop - rows.start:
        raise HeadscanError(f"{shard} is damaged: it holds {record['rows']} rows, not {rows.stop - rows.start}")


def _check_hash(path: Path, expected: str) -> None:
    if files.file_sha256(path) != expected:
        raise HeadscanError(f"{path} is damaged: its content does not match its hash")


def _map(
    shards: list[Path],
    layout: dict[str, Any],
    shard_rows: int,
    rotation: NDArray[np.float32],
    hashes: list[dict[str, str]] | None,
) -> PackedAtoms:
    """Map the arrays of all shards; with `hashes`, the same open files are hashed first."""
    rows, width = layout["rows"], layout["width"]
    blocks, steps = -(-rows // _BLOCK), -(-width // 4)
    values = {"atoms": width, "codes": steps * 4, "scale": 1, "error": 1, "beyond": _SEGMENT_BOUNDS}  # of an atom
    arrays: dict[str, Any] = {}
    seen: dict[Path, tuple[int, ...]] = {}
    for name, kind in _FILES.items():
        opened = RowFiles([regular(shard / f"{name}.{kind}") for shard in shards], rows=shard_rows)
        seen |= opened.seen
        size = values[name] * (1 if kind == "u8" else 4)
        count = rows if name == "atoms" else blocks * _BLOCK
        sizes = [size * min(shard_rows, count - first) for first in range(0, count, shard_rows)]
        if [os.fstat(file).st_size for file in opened.descriptors] != sizes:
            raise HeadscanError(f"{shards[0].parent} is damaged: its {name} are not of the size in its manifest")
        if hashes is not None:
            _check_hashes(opened, [each[name] for each in hashes])
        mapped = _mapped(opened.descriptors, sizes, shards[0].parent)
        arrays[name] = mapped if kind == "u8" else mapped.view("<f4")
        if name == "atoms":
            arrays |= {"atoms": arrays["atoms"].reshape(rows, width), "row_files": opened}
    arrays["row_files"].seen = seen
    arrays["codes"] = arrays["codes"].reshape(blocks, steps, _BLOCK, 4)
    arrays |= {"shift": int(layout["shift"]), "largest_norm": float(layout["largest_norm"])}
    try:
        return PackedAtoms(rotation=rotation, fit_width=int(layout["fit_width"]), **arrays)
    except HeadscanError as error:
        raise HeadscanError(f"{shards[0].parents[1]} is damaged: {error}") from error


def _mapped(descriptors: list[int], sizes: list[int], folder: Path) -> NDArray[np.uint8]:
    try:
        return _core.map_files(descriptors, sizes)
    except HeadscanError as error:
        raise UnreadableError(f"cannot read {folder}: {error}") from error


def _check_hashes(opened: RowFiles, expected: list[str]) -> None:
    """Raise unless the open files are of these hashes; one by one, as a thread that finds no memory starts never."""
    for descriptor, path, wanted in zip(opened.descriptors, opened.seen, expected, strict=True):
        if files.descriptor_sha256(descriptor) != wanted:
            raise HeadscanError(f"{path} is damaged: its content does not match its hash")
