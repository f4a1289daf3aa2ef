"""Dictionaries packed for the certified int8 search: once, then kept on disk and memory-mapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headscan import _core
from headscan._arrays import as_floating

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PackedAtoms:
    """A dictionary in int8, rotated into its principal axes, with rigorous bounds on what that lost.

    Attributes
    ----------
    atoms : array, shape (M, d), float32
        The full-precision rows, which decide every pick. A ``numpy.memmap`` is read row by row from its file and
        never becomes resident.
    rotation : array, shape (d, d), float32
        Orthonormal; its columns are the principal axes, strongest first.
    codes : array, shape (blocks, steps, 64, 4), uint8
        Rotated rows, quantised, 64 atoms a block, stored as value + 128.
    scale, error : array, shape (blocks * 64,), float32
        For each atom: the quantisation step and a bound on the distance between the row and its codes.
    beyond : array, shape (blocks * 3 * 64,), float32
        For each atom: bounds on the norm of what lies past the first three of four segments of axes.
    layout : dict
        ``rows``, ``width``, ``shift`` (the step of the leading segments is 2^shift coarser), ``largest_norm``.
    """

    atoms: FloatArray
    rotation: FloatArray
    codes: npt.NDArray[np.uint8]
    scale: FloatArray
    error: FloatArray
    beyond: FloatArray
    layout: dict[str, Any]

    def __len__(self) -> int:
        return int(self.layout["rows"])

    @property
    def width(self) -> int:
        """Values an atom."""
        return int(self.layout["width"])

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form, the full-precision rows not counted."""
        return sum(a.nbytes for a in (self.rotation, self.codes, self.scale, self.error, self.beyond))


def principal_axes(atoms: FloatArray, *, sample: int = 50_000) -> FloatArray:
    """Orthonormal principal axes of the rows (columns of the result, strongest first).

    Taken from at most ``sample`` rows spread evenly: any rotation keeps the search exact, a fitting one makes it
    fast. Shape (d, d), float32.
    """
    stride = max(1, len(atoms) // sample)
    rows = np.asarray(atoms[::stride])
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0]) * stride
        raise ValueError(f"atoms must be finite unit rows; row {row} holds NaN or infinity")
    _, axes = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def pack(atoms: Any, *, threads: int = 0) -> PackedAtoms:
    """Pack a dictionary for ``comp``: rotated, quantised to int8, with error norms.

    Parameters
    ----------
    atoms : array, shape (M, d), float32
        Unit rows (zero rows are allowed); NumPy array, memory map or torch CPU tensor. Kept by reference.
    threads : int
        Worker threads; 0 takes all that the process may use.

    Raises
    ------
    ValueError
        If the array is not two-dimensional and non-empty, or a row holds NaN or infinity.
    TypeError
        If it is not float32.
    """
    rows = as_floating(atoms, "atoms")
    if rows.dtype != np.float32:
        raise TypeError(f"atoms must be float32, got {rows.dtype}")
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"atoms must have shape (M, d) with M and d at least 1, got {rows.shape}")
    if not rows.flags.c_contiguous:
        rows = np.ascontiguousarray(rows)
    rotation = principal_axes(rows)
    layout, codes, scale, error, beyond = _core.pack(rows, rotation, int(threads))
    return PackedAtoms(rows, rotation, codes, scale, error, beyond, layout)
