"""Coherent orthogonal matching pursuit (COMP): sparse, non-negative, coherent codes over a dictionary."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headscan import _core
from headscan._arrays import as_floating, like
from headscan.pack import PackedAtoms


@dataclass(frozen=True)
class Counters:
    """How the picks of a call were reached.

    Attributes
    ----------
    multiply_adds : int
        Multiply-adds of all searches, padding included; one full pass is n * M * d of them.
    rescored : int
        Atoms scored in float64 because a bound let them through.
    fallbacks : int
        (Query, round) pairs that no certificate could narrow down and that took a plain exact scan.
    """

    multiply_adds: int = 0
    rescored: int = 0
    fallbacks: int = 0


@dataclass(frozen=True)
class SparseCodes:
    """Codes of n queries, in the order of picking.

    Attributes
    ----------
    indices : array, shape (n, k), int64
        Rows of the dictionary. No atom comes twice in a code.
    coefficients : array, shape (n, k), float64
        Non-negative; zero where the refit no longer needs an atom.
    certified : array, shape (n,), bool
        True where every pick is proven to be the exact float64 arg-max.

    counters : Counters
        How the picks were reached.
    """

    indices: Any
    coefficients: Any
    certified: Any
    counters: Counters = field(default_factory=Counters)


def comp(x: Any, atoms: Any, *, k: int = 5, coherence: float = 0.3, threads: int = 0) -> SparseCodes:
    """Explain each row of x as a non-negative mix of k atoms (COMP, arXiv 2603.24653, section 3).

    Each round picks ``argmax_i <g_i, residual> + coherence / |S| * sum_{j in S} <g_i, g_j>`` over the atoms not
    picked yet (signed maximum, ties to the lowest index) and refits all coefficients by non-negative least
    squares. ``coherence=0`` is NNOMP. Picks are exact: scores come from a float32 pass with a rigorous rounding
    bound, and whatever the bound cannot rule out is rescored in float64.

    Parameters
    ----------
    x : array, shape (n, d), float32 or float64
        Queries; NumPy array or torch CPU tensor.
    atoms : array, shape (M, d), float32
        The dictionary: unit rows (zero rows are allowed).
    k : int
        Atoms a code, 1 to M.
    coherence : float
        Weight lambda of the mean similarity to the atoms already picked.
    threads : int
        Worker threads; 0 takes all that the process may use. Results do not depend on it.

    Returns
    -------
    SparseCodes
        Arrays of the same kind as x.

    Raises
    ------
    ValueError
        If shapes do not fit, k is out of range, or a row holds NaN or infinity.
    TypeError
        If a dtype is not supported.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    queries = np.ascontiguousarray(as_floating(x, "x"))
    if isinstance(atoms, PackedAtoms):
        found = _comp_packed(queries, atoms, k, coherence, threads)
    else:
        dictionary = as_floating(atoms, "atoms")
        if dictionary.dtype != np.float32:
            raise TypeError(f"atoms must be float32, got {dictionary.dtype}")
        found = _core.comp(queries, np.ascontiguousarray(dictionary), int(k), float(coherence), int(threads))
    indices, coefficients, certified, *counters = found
    return SparseCodes(
        like(indices, x), like(coefficients, x), like(certified.astype(bool), x), Counters(*counters)
    )


def _comp_packed(queries: Any, packed: PackedAtoms, k: int, coherence: float, threads: int) -> Any:
    arrays = (packed.rotation, packed.codes, packed.scale, packed.error, packed.beyond)
    with _row_file(packed.atoms) as (descriptor, offset):
        return _core.comp_packed(
            queries, packed.atoms, packed.layout, *arrays, descriptor, offset, int(k), float(coherence), int(threads)
        )


@contextmanager
def _row_file(atoms: Any) -> Iterator[tuple[int, int]]:
    """File descriptor and offset of a memory map's first row; -1 and 0 for an array in memory."""
    base = atoms.base if isinstance(atoms, np.memmap) else None
    if not isinstance(base, mmap.mmap):  # a slice of a map does not know where in the file it starts
        yield -1, 0
        return
    with Path(atoms.filename).open("rb") as file:
        yield file.fileno(), atoms.offset
