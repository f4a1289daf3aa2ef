"""Atoms packed for the certified int8 search."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headscan.core import _core
from headscan.core.arrays import as_floating
from headscan.errors import HeadscanError

__all__ = ["AXES_SAMPLE", "PackedAtoms", "RowFiles", "pack", "principal_axes"]

FloatArray = npt.NDArray[np.float32]
AXES_SAMPLE = 50_000


class RowFiles:
    """The files that a mapped dictionary's rows are read from: opened once, closed when nothing maps them any more.

    Every file holds `rows` rows of float32, the last one what is left. They are locked (shared, advisory) while
    they are open; `seen` is what these files, and others of the dictionary, were at that time.
    """

    def __init__(self, paths: Sequence[Path], *, rows: int) -> None:
        self.descriptors: list[int] = []
        self.seen: dict[Path, tuple[int, ...]] = {}
        weakref.finalize(self, _close, self.descriptors)
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            self.descriptors.append(descriptor)
            self.seen[path.absolute()] = _state(os.fstat(descriptor))
            _lock(descriptor, path)
        self.rows = rows

    def read(self, rows: npt.NDArray[np.int64], width: int) -> FloatArray:
        """Return the chosen rows, (n, width), read and not mapped: a page fault may fetch megabytes.

        Raises
        ------
        HeadscanError
            If a file ends before them.
        """
        out = np.empty((len(rows), width), dtype=np.float32)
        for position, row in enumerate(rows.tolist()):
            file, within = divmod(row, self.rows)
            data = os.pread(self.descriptors[file], 4 * width, 4 * width * within)
            if len(data) < 4 * width:
                raise HeadscanError(f"its file of rows ends before row {row}: build the dictionary again")
            out[position] = np.frombuffer(data, dtype="<f4")
        return out

    def check(self) -> None:
        """Raise if a file that was opened has been written to since, unless another has taken its name.

        Raises
        ------
        HeadscanError
            Naming the file.
        """
        for path, seen in self.seen.items():
            try:
                state = _state(path.stat())
            except OSError:  # it was removed: what is mapped stays as it was
                continue
            if state[:2] == seen[:2] and state != seen:
                raise HeadscanError(
                    f"{path} was changed while it was in use: what was computed from it may be wrong, build the "
                    "dictionary again"
                )

    def __deepcopy__(self, memo: dict[int, Any]) -> RowFiles:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # in another process the rows come from the unpickled array


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Return which file it is, and what changes when it is written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _lock(descriptor: int, path: Path) -> None:
    """Hold a shared advisory lock, as long as the file is open, where the file system has locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise HeadscanError(
            f"{path} is being changed by another process, which holds its lock: wait for it"
        ) from error
    except OSError:
        return


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@dataclass(frozen=True, eq=False)
class PackedAtoms:
    """A dictionary in int8, rotated into its principal axes, with rigorous bounds on what that lost.

    Attributes
    ----------
    atoms : array, shape (M, d), float32
        The full-precision rows, which decide every pick. Those of a dictionary's folder are read row by row from
        their files and never become resident.
    rotation : array, shape (d, d), float32
        Orthonormal; its columns are the principal axes, strongest first.
    codes : array, shape (blocks, steps, 64, 4), uint8
        Rotated rows, quantised, 64 atoms a block, stored as value + 128.
    scale, error : array, shape (blocks * 64,), float32
        For each atom: the quantisation step and a bound on the distance between the row and its codes.
    beyond : array, shape (blocks * 3 * 64,), float32
        For each atom: bounds on the norm of what lies past the first three of four segments of axes.
    shift : int
        The quantisation step of the leading segments is 2^shift coarser.
    largest_norm : float
        A bound on the norms of the rows.
    fit_width : int
        Values past it serve coherence alone.
    row_files : RowFiles or None
        The open files behind `atoms` where they were mapped.
    """

    atoms: FloatArray
    rotation: FloatArray
    codes: npt.NDArray[np.uint8]
    scale: FloatArray
    error: FloatArray
    beyond: FloatArray
    shift: int
    largest_norm: float
    fit_width: int
    row_files: RowFiles | None = None

    def __post_init__(self) -> None:
        _ = self.compiled  # which refuses arrays that do not fit

    @cached_property
    def compiled(self) -> _core.PackedDictionary:
        """The same for the compiled core, which has checked it."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "row_files"}
        opened = self.row_files
        files: dict[str, Any] = (
            {} if opened is None else {"descriptors": opened.descriptors, "file_rows": opened.rows}
        )
        return _core.PackedDictionary(**values, **files)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "compiled"}

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def width(self) -> int:
        """Values an atom."""
        return int(self.atoms.shape[1])

    def take(self, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Return full-precision rows (n, d) by their numbers (n,), from their files where there are such."""
        chosen, inverse = np.unique(rows, return_inverse=True)
        taken = self.atoms[chosen] if self.row_files is None else self.row_files.read(chosen, self.width)
        self.check()
        return np.asarray(taken[inverse])

    def check(self) -> None:
        """Raise if files behind the arrays were changed or cut short while they are mapped.

        Raises
        ------
        HeadscanError
            Saying which.
        """
        if self.row_files is None:
            return
        self.row_files.check()
        mapped = (self.atoms, self.codes, self.scale, self.error, self.beyond)
        if not all(_core.is_intact(array) for array in mapped):
            raise HeadscanError(
                "a file of the dictionary was cut short while it was in use, or can no longer be read: build the "
                "dictionary again"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form, the full-precision rows not counted."""
        return sum(a.nbytes for a in (self.rotation, self.codes, self.scale, self.error, self.beyond))


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
    packed = _core.pack(rows, rotation, threads=int(threads))
    return PackedAtoms(atoms=rows, rotation=rotation, fit_width=fit_width, **packed)
