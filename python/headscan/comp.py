"""Coherent orthogonal matching pursuit (COMP): sparse, non-negative, coherent codes over a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headscan import _core
from headscan._arrays import as_floating, like
from headscan.pack import PackedAtoms, pack


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
    squares. ``coherence=0`` is NNOMP. Picks are exact: int8 scores with rigorous error bounds narrow a packed
    dictionary down, float32 scores with a rounding bound a plain array, and float64 decides among what is left.

    Parameters
    ----------
    x : array, shape (n, d), float32 or float64
        Queries; NumPy array or torch CPU tensor.
    atoms : PackedAtoms, or array, shape (M, d), float32
        The dictionary from `pack`, or its unit rows (zero rows are allowed), which are packed in passing where
        there are queries enough for that to pay.
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
        if queries.ndim == dictionary.ndim == 2 and _worth_packing(len(queries) * k, *dictionary.shape):
            return comp(x, pack(dictionary, threads=threads), k=k, coherence=coherence, threads=threads)
        found = _core.comp(queries, np.ascontiguousarray(dictionary), int(k), float(coherence), int(threads))
    indices, coefficients, certified, *counters = found
    return SparseCodes(like(indices, x), like(coefficients, x), like(certified.astype(bool), x), Counters(*counters))


def _worth_packing(searches: int, rows: int, width: int) -> bool:
    """Whether packing in passing pays: rotating rows costs `width` float32 passes, each search saves about one."""
    return rows >= 1024 and searches >= 2 * width


def _comp_packed(queries: Any, packed: PackedAtoms, k: int, coherence: float, threads: int) -> Any:
    arrays = (packed.rotation, packed.codes, packed.scale, packed.error, packed.beyond)
    return _core.comp_packed(
        queries, packed.atoms, packed.layout, *arrays, *packed.row_source, int(k), float(coherence), int(threads)
    )
