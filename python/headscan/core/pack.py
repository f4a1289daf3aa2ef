"""Dictionaries packed for the certified int8 search: once, then kept on disk and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headscan.common import files
from headscan.common.reading import reading, regular
from headscan.core import _core
from headscan.core.arrays import as_floating
from headscan.errors import HeadscanError

__all__ = ["AXES_SAMPLE", "PackedAtoms", "RowFiles", "load_packed", "pack", "principal_axes"]

FloatArray = npt.NDArray[np.float32]
_KIND, _FORMAT_VERSION = "headscan-packed-atoms", 2
_MANIFEST = "packed.json"
AXES_SAMPLE = 50_000
_ARRAYS = ("atoms", "rotation", "codes", "scale", "error", "beyond")


class RowFiles:
    """The files that a mapped dictionary's rows are read from: opened once, closed when nothing maps them any more.

    Every file holds `rows` rows of float32 from byte `offset` on, the last one what is left.
    """

    def __init__(self, paths: Sequence[Path], *, rows: int = 1 << 62) -> None:
        self.descriptors: list[int] = []
        weakref.finalize(self, _close, self.descriptors)
        for path in paths:
            self.descriptors.append(os.open(path, os.O_RDONLY))
        self.rows, self.offset = rows, 0

    def map_npy(self) -> FloatArray:
        """Map the .npy array in the only file, through the same open file, whatever has become of its name."""
        with open(self.descriptors[0], "rb", closefd=False) as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"expected .npy format 1.0, got {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if fortran or dtype != np.dtype("<f4"):
                raise ValueError(f"expected rows of little-endian float32, got {dtype}")
            self.offset = file.tell()
            return np.memmap(file, dtype=dtype, mode="r", offset=self.offset, shape=shape)

    def read(self, rows: npt.NDArray[np.int64], width: int) -> FloatArray:
        """Return the chosen rows, (n, width), read and not mapped: a page fault may fetch megabytes.

        Raises
        ------
        HeadscanError
            If a file ends before them.
        """
        found = np.empty((len(rows), width), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            file, within = divmod(row, self.rows)
            data = os.pread(self.descriptors[file], 4 * width, self.offset + 4 * width * within)
            if len(data) < 4 * width:
                raise HeadscanError(f"its file of rows ends before row {row}: build the dictionary again")
            found[place] = np.frombuffer(data, dtype="<f4")
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> RowFiles:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # in another process the rows come from the unpickled array


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@dataclass(frozen=True, eq=False)
class PackedAtoms:
    """A dictionary in int8, rotated into its principal axes, with rigorous bounds on what that lost.

    Attributes
    ----------
    atoms : array, shape (M, d), float32
        The full-precision rows, which decide every pick. Those of `load_packed` are read row by row from their file
        and never become resident.
    rotation : array, shape (d, d), float32
        Orthonormal; its columns are the principal axes, strongest first.
    codes : array, shape (blocks, steps, 64, 4), uint8
        Rotated rows, quantised, 64 atoms a block, stored as value + 128.
    scale, error : array, shape (blocks * 64,), float32
        For each atom: the quantisation step and a bound on the distance between the row and its codes.
    beyond : array, shape (blocks * 3 * 64,), float32
        For each atom: bounds on the norm of what lies past the first three of four segments of axes.
    layout : dict
        ``rows``, ``width``, ``fit_width`` (values past it serve coherence alone), ``shift`` (the step of the
        leading segments is 2^shift coarser), ``largest_norm``.
    row_files : RowFiles or None
        The open files behind `atoms` where they were mapped.
    """

    atoms: FloatArray
    rotation: FloatArray
    codes: npt.NDArray[np.uint8]
    scale: FloatArray
    error: FloatArray
    beyond: FloatArray
    layout: dict[str, Any]
    row_files: RowFiles | None = None

    def __len__(self) -> int:
        return int(self.layout["rows"])

    @property
    def width(self) -> int:
        """Values an atom."""
        return int(self.layout["width"])

    def take(self, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Return full-precision rows (n, d) of the places (n,), from their files where there are such."""
        chosen, places = np.unique(rows, return_inverse=True)
        found = self.atoms[chosen] if self.row_files is None else self.row_files.read(chosen, self.width)
        return np.asarray(found[places])

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form, the full-precision rows not counted."""
        return sum(a.nbytes for a in (self.rotation, self.codes, self.scale, self.error, self.beyond))

    def save(self, folder: str | Path) -> Path:
        """Write the arrays as .npy files and a manifest with their hashes; `load_packed` maps them into memory.

        The folder is written aside and then renamed; packed atoms already there are replaced.

        Raises
        ------
        HeadscanError
            If the folder holds something else, or cannot be written.
        """
        target = Path(folder).expanduser().resolve()
        if target.exists() and not (target / _MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
            raise HeadscanError(f"{target} exists and holds no packed atoms: choose another folder")
        files.check_writable(target.parent)
        try:
            with files.folder_aside(target) as aside:
                self.write_to(aside)
        except OSError as error:
            raise HeadscanError(f"cannot write packed atoms to {target}: {error}") from error
        return target

    def write_to(self, folder: Path) -> None:
        """Write the files into an existing folder, as they are: for folders that are written aside as a whole."""
        hashes = {"layout": _layout_hash(self.layout)}
        for name in _ARRAYS:
            path = folder / f"{name}.npy"
            np.save(path, getattr(self, name), allow_pickle=False)
            hashes[name] = files.file_sha256(path)
        manifest = {
            "format": _KIND,
            "format_version": _FORMAT_VERSION,
            "layout": self.layout,
            "sha256": hashes,
        }
        files.write_manifest(folder / _MANIFEST, manifest)


def load_packed(folder: str | Path, *, verify: bool = True) -> PackedAtoms:
    """Map saved packed atoms into memory.

    Parameters
    ----------
    folder : str or path
        Written by `PackedAtoms.save`.
    verify : bool, default True
        Check every file against its SHA-256, which reads them once.

    Raises
    ------
    HeadscanError
        If files are missing, damaged or do not fit together.
    """
    place = Path(folder).expanduser()
    manifest = files.read_manifest(place / _MANIFEST, kind=_KIND, format_version=_FORMAT_VERSION)
    try:
        layout = dict(manifest["layout"])
        if _layout_hash(layout) != manifest["sha256"]["layout"]:
            raise HeadscanError(f"{place / _MANIFEST} is damaged: its layout does not match its hash")
        row_files = RowFiles([regular(place / "atoms.npy")])
        with reading(place / "atoms.npy"):
            arrays: dict[str, Any] = {"atoms": row_files.map_npy()}
        for name in _ARRAYS:
            path = place / f"{name}.npy"
            if verify and files.file_sha256(path) != manifest["sha256"][name]:
                raise HeadscanError(f"{path} is damaged: its content does not match its hash")
            if name != "atoms":
                with reading(path):
                    arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        fits = arrays["atoms"].shape == (layout["rows"], layout["width"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, HeadscanError):
            raise
        raise HeadscanError(f"{place} is damaged: {type(error).__name__}: {error}") from error
    if not fits:
        raise HeadscanError(f"{place} is damaged: its arrays do not fit its layout")
    return PackedAtoms(**arrays, layout=layout, row_files=row_files)


def _layout_hash(layout: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()


def _joined(rows: FloatArray, coherence_atoms: Any) -> FloatArray:
    others = as_floating(coherence_atoms, "coherence_atoms")
    if others.ndim != 2 or len(others) != len(rows):
        raise HeadscanError(f"coherence_atoms must have shape ({len(rows)}, e), one row an atom, got {others.shape}")
    return np.concatenate([rows, others.astype(np.float32)], axis=1)


def principal_axes(atoms: FloatArray) -> FloatArray:
    """Orthonormal principal axes of the rows (columns of the result, strongest first).

    Taken from 50,000 to 100,000 rows spread evenly, or all: any rotation keeps the search exact, a fitting one makes
    it fast. Shape (d, d), float32.
    """
    stride = max(1, len(atoms) // AXES_SAMPLE)
    rows = np.asarray(atoms[::stride])
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0]) * stride
        raise HeadscanError(f"atoms must be finite unit rows; row {row} holds NaN or infinity")
    rows = rows / (np.abs(rows).max() or 1)
    _, axes = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def pack(atoms: Any, *, coherence_atoms: Any = None, threads: int = 0) -> PackedAtoms:
    """Pack a dictionary for `comp`: rotated, quantised to int8, with error norms.

    Parameters
    ----------
    atoms : array, shape (M, d), float32
        Unit rows (zero rows are allowed); NumPy array, memory map or torch CPU tensor. Kept by reference: do not
        change it afterwards.
    coherence_atoms : array, shape (M, e), float32, optional
        Other embeddings of the same concepts, between which `comp` then measures coherence; joined to the rows.
    threads : int
        Worker threads; 0 takes all that the process may use.

    Raises
    ------
    HeadscanError
        If the array is not two-dimensional and non-empty, or a row holds NaN or infinity.
    TypeError
        If it is not float32.
    """
    rows = as_floating(atoms, "atoms")
    if rows.dtype != np.float32:
        raise TypeError(f"atoms must be float32, got {rows.dtype}")
    if rows.ndim != 2 or rows.size == 0:
        raise HeadscanError(f"atoms must have shape (M, d) with M and d at least 1, got {rows.shape}")
    fit_width = rows.shape[1]
    if coherence_atoms is not None:
        rows = _joined(rows, coherence_atoms)
    if not rows.flags.c_contiguous:
        rows = np.ascontiguousarray(rows)
    rotation = principal_axes(rows)
    layout, codes, scale, error, beyond = _core.pack(rows, rotation, int(threads))
    layout["fit_width"] = fit_width
    return PackedAtoms(rows, rotation, codes, scale, error, beyond, layout)
