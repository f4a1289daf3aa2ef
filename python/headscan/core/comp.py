"""Coherent orthogonal matching pursuit (COMP): sparse, non-negative, coherent codes over a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headscan.common.checks import check_code_options
from headscan.core import _core, cuda, devices
from headscan.core.arrays import as_floating, like
from headscan.core.pack import PackedAtoms, pack
from headscan.errors import HeadscanError


@dataclass(frozen=True)
class Counters:
    """How the picks of a call were reached.

    Attributes
    ----------
    multiply_adds : int
        Multiply-adds of all searches, padding included; one full pass is n * M * d of them.
    rescored : int
        Atoms scored in float64 because a bound let them through. For CUDA tensors a tensor: reading it waits.
    fallbacks : int
        (Query, round) pairs that no certificate could narrow down and that took a plain exact scan.
    """

    multiply_adds: int = 0
    rescored: Any = 0
    fallbacks: int = 0


@dataclass(frozen=True)
class SparseCodes:
    """Codes of n queries, in the order of picking.

    Attributes
    ----------
    indices : array, shape (n, k), int64
        Rows of the dictionary. No atom comes twice in a code.
    coefficients : array, shape (n, k), float64
        Non-negative, but for "omp"; zero where the refit no longer needs an atom.
    certified : array, shape (n,), bool
        True where every pick is proven to be the exact float64 arg-max.

    counters : Counters
        How the picks were reached.
    """

    indices: Any
    coefficients: Any
    certified: Any
    counters: Counters = field(default_factory=Counters)


METHODS = ("comp", "nnomp", "top_k", "mp", "omp", "lasso", "nearest")


def comp(
    x: Any,
    atoms: Any,
    *,
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    penalty: float = 0.25,
    coherence_atoms: Any = None,
    threads: int = 0,
    device: devices.Device = None,
) -> SparseCodes:
    """Explain each row of x as a mix of k atoms (COMP, arXiv 2603.24653, section 3, and its rivals).

    COMP picks ``argmax_i <g_i, residual> + coherence / |S| * sum_{j in S} <g_i, g_j>`` over the atoms not picked
    yet (signed maximum, ties to the lowest index) in each round, and refits all coefficients by non-negative least
    squares. Picks are exact: int8 scores with rigorous error bounds narrow a packed dictionary down, float32 scores
    with a rounding bound a plain array, and float64 decides among what is left.

    Parameters
    ----------
    x : array, shape (n, d), float32 or float64
        Queries; NumPy array or torch tensor. A CUDA tensor is explained where it lives, on the current stream,
        without waiting: a row with NaN or infinity then gets indices of -1 and is not certified.
    atoms : PackedAtoms, or array, shape (M, d), float32
        The dictionary from `pack`, or its unit rows (zero rows are allowed), which are packed in passing where
        there are queries enough for that to pay (on CUDA always).
    k : int
        Atoms a code, 1 to M.
    coherence : float
        Weight lambda of the mean similarity to the atoms already picked; for "comp" alone.
    method : str
        - "comp": as above.
        - "nnomp": the same without coherence.
        - "top_k": the k highest inner products with x, refitted by non-negative least squares.
        - "mp": matching pursuit, non-negative: the highest inner product with the residual, never refitted.
        - "omp": orthogonal matching pursuit: the largest magnitude, unconstrained least squares (Pati et al. 1993),
          so coefficients may be negative. What arXiv 2603.24653 and its code call OMP is non-negative: "nnomp" here.
        - "lasso": ``min 1/2 |x - sum c g|^2 + penalty * sum c`` over ``c >= 0``, SpLiCE's objective
          (arXiv 2402.10376), solved by active set. Where fewer than k atoms are needed, the rest have index -1;
          where k are not enough, `certified` is False.
        - "nearest": the atoms of "top_k" with their inner products, at least 0: a search, not a code.
    penalty : float
        Weight of the 1-norm; for "lasso" alone.
    coherence_atoms : array, shape (M, e), float32, optional
        Other embeddings of the same concepts, between which coherence is measured (a packed dictionary has them
        from `pack`).
    threads : int
        Worker threads; 0 takes all that the process may use. Results do not depend on it.
    device : str or sequence of str, optional
        "cpu", "cuda", "cuda:N", or several CUDA devices that share out the queries, or the dictionary where it does
        not fit each of them; by default where x lives. A dictionary larger than the memory there is kept in pinned
        host memory and streamed. Picks and coefficients are the same, bit for bit. "comp" and "nnomp" alone run on
        CUDA.

    Returns
    -------
    SparseCodes
        Arrays of the same kind as x.

    Raises
    ------
    HeadscanError
        If shapes do not fit, k or a weight is out of range, a row holds NaN or infinity, or a device is asked for
        that is not there.
    TypeError
        If a dtype is not supported.
    """
    if method not in METHODS:
        raise HeadscanError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    placed = devices.devices_for(x, device, "x")
    if placed and method not in ("comp", "nnomp"):
        raise HeadscanError(f"method {method!r} runs on the CPU alone: use device='cpu'")
    check_code_options(k=k, coherence=coherence, concepts=len(atoms), threads=threads)
    k = int(k)
    queries = x if placed and placed.resident else np.ascontiguousarray(as_floating(x, "x"))
    dictionary = atoms
    if not isinstance(atoms, PackedAtoms):
        rows = as_floating(atoms, "atoms")
        if rows.dtype != np.float32:
            raise TypeError(f"atoms must be float32, got {rows.dtype}")
        enough = rows.ndim == queries.ndim == 2 and _worth_packing(len(queries) * k, *rows.shape)
        dictionary = rows
        if enough or placed or coherence_atoms is not None:
            dictionary = pack(rows, coherence_atoms=coherence_atoms, threads=threads)
    elif coherence_atoms is not None:
        raise HeadscanError("coherence_atoms go into pack() where the dictionary is packed")
    options = _core.CompOptions(
        k=k,
        coherence=float(coherence) if method == "comp" else 0.0,
        method=_core.Method.__members__["comp" if method == "nnomp" else method],
        penalty=float(penalty),
        threads=threads,
    )
    if placed:
        return _codes_on_cuda(queries, dictionary, placed, options, x)
    if isinstance(dictionary, PackedAtoms):
        codes = _core.comp(queries, dictionary.compiled, options=options)
        dictionary.check()
    else:
        codes = _core.comp(queries, np.ascontiguousarray(dictionary), options=options)
    indices, coefficients, certified, counts = codes
    return SparseCodes(like(indices, x), like(coefficients, x), like(certified, x), Counters(**counts))


def _codes_on_cuda(
    queries: Any, packed: PackedAtoms, placed: devices.Placed, options: _core.CompOptions, example: Any
) -> SparseCodes:
    indices, coefficients, certified, rescored = cuda.run_comp(queries, packed, placed, options)
    packed.check()
    total = rescored.sum()
    if not placed.resident:
        indices, coefficients, certified = (like(array, example) for array in (indices, coefficients, certified))
        total = int(total)
    # Every round takes a pass over all atoms; there is no list that could overflow.
    passes = options.k * len(queries) * len(packed) * packed.width
    return SparseCodes(indices, coefficients, certified, Counters(multiply_adds=passes, rescored=total))


def _worth_packing(searches: int, rows: int, width: int) -> bool:
    """Whether packing in passing pays: rotating rows costs `width` float32 passes, each search saves about one."""
    return rows >= 1024 and searches >= 2 * width
