"""The leading singular triplets of large or dense matrices, by random projections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np
import numpy.typing as npt

from headscan.common.checks import check_threads, whole_number
from headscan.core import _core, devices
from headscan.core.arrays import as_floating, batched, first_of, like, side_by_side
from headscan.core.svd import Array
from headscan.errors import HeadscanError


@dataclass(frozen=True, eq=False)
class RandomizedSVD(Generic[Array]):
    """The leading singular triplets of matrices, and how far they are from all of it.

    Unpacks as ``u, s, vh``.

    Attributes
    ----------
    u : array, shape (b, m, rank)
        Orthonormal columns; the largest-magnitude entry of each is positive.
    s : array, shape (b, rank)
        Descending.
    vh : array, shape (b, rank, n)
        Orthonormal rows.
    error : array, shape (b,)
        Estimate of the Frobenius norm of ``a[i] - u[i] * s[i] @ vh[i]``.
    """

    u: Array
    s: Array
    vh: Array
    error: Array

    def __iter__(self) -> Iterator[Array]:
        return iter((self.u, self.s, self.vh))


def randomized_svd(
    a: Any,
    *,
    rank: int = 64,
    oversample: int = 8,
    iterations: int = 2,
    seed: int = 0,
    method: Literal["power", "krylov"] = "power",
    block: int | None = None,
    threads: int = 0,
    device: devices.Device = None,
) -> RandomizedSVD[Any]:
    """Leading singular triplets of matrices that are dense, factored or sums of products.

    The range of each matrix A is found from products with thin matrices: a Gaussian Omega of ``rank +
    oversample`` columns, then ``iterations`` times A^T and A, orthonormalised in between; then the small
    Q^T A is decomposed. ``power`` keeps the last range (Halko, Martinsson and Tropp 2011, SIAM Review 53(2),
    algorithms 4.3, 4.4 and 5.1), ``krylov`` all of them (Musco and Musco 2015, algorithm 2), which is more
    exact for slowly decaying spectra and costs a larger core. Products with A run in the dtype of A, all
    else in float64.

    Parameters
    ----------
    a : array, shape (b, m, n) or (m, n); or a pair of arrays; or a list of pairs; float32 or float64
        NumPy arrays or torch tensors. CUDA tensors are decomposed where they live, all in float64; NaN or infinity
        then makes all results of its matrix NaN. A tuple ``(left, right)`` of shapes (b, m, r) and (b, r, n), or
        (m, r) and (r, n), stands for ``left @ right``; a list of such pairs for the sum of their products.
        Neither is ever formed.
    rank : int
        Triplets wanted, at most ``min(m, n)``.
    oversample : int
        Columns of Omega beyond the rank; as many as fit are taken.
    iterations : int
        0 or more; each costs two products with A.
    seed : int
        Of Omega, 0 to 2**64 - 1. Every matrix of a batch gets the same Omega: results depend neither on how
        a batch is split nor on the number of threads.
    method : {"power", "krylov"}
    block : int, optional
        For ``krylov``: columns of Omega, ``rank + oversample`` by default. Every product with A is that much
        narrower, and ``block * (iterations + 1)`` directions are kept, which must be at least `rank`. Small blocks
        with more iterations reach the same error with fewer multiplications: ``block=32, iterations=3`` at rank
        64 takes about half of those of the default.
    threads : int
        Worker threads; 0 takes all that the process may use.
    device : str or sequence of str, optional
        As in `comp`; of several the first takes all. On CUDA at most 256 directions are kept, and the results are
        those of the CPU to rounding.

    Returns
    -------
    RandomizedSVD
        ``u``, ``s``, ``vh`` and ``error``, of the same kind and dtype as the input, without the first axis
        where ``a`` has none. As u s vh is a projection of A, the squared error of a dense A is
        ``|A|_F**2 - sum(s**2)``. Where that is below 64 epsilon of ``|A|_F**2``, and for factored input, it is
        the mean of ``|(A - u s vh) w|**2`` over eight Gaussian w that are independent of Omega: unbiased,
        with a standard deviation of at most half its value (HMT section 4.3; rounding keeps it above about
        1e-7 of ``|A|_F`` in float32).

    Raises
    ------
    HeadscanError
        If shapes do not fit, an option is out of range, ``a`` holds NaN or infinity, or a device is asked for that
        is not there, or for more than it can do.
    TypeError
        If dtypes are not all float32 or all float64.
    """
    if method not in ("power", "krylov"):
        raise HeadscanError(f"method must be 'power' or 'krylov', got {method!r}")
    whole_number(rank, "rank", least=1, most=2**31 - 1)
    whole_number(oversample, "oversample", least=0, most=2**31 - 1)
    whole_number(iterations, "iterations", least=0, most=2**15 - 1)
    whole_number(1 if block is None else block, "block", least=1, most=2**31 - 1)
    whole_number(seed, "seed", least=0, most=2**64 - 1)
    check_threads(threads)
    options = _core.RandomizedSvdOptions(
        oversample=oversample,
        iterations=iterations,
        method=_core.RangeMethod.__members__[method],
        block=block or 0,
        seed=seed,
        threads=threads,
    )
    placed = _placed(a, device)
    if placed:
        from headscan.core.randomized_svd_cuda import on_cuda

        return RandomizedSVD(*on_cuda(a, placed, rank=rank, options=options))
    if isinstance(a, (tuple, list)):
        lefts, rights, single = side_by_side(a, as_floating)
        left, right = (_joined(side, axis) for side, axis in ((lefts, 2), (rights, 1)))
        example = first_of(a)
        results = _core.randomized_svd(left, right, rank=rank, options=options)
    else:
        array, single = batched(as_floating(a, "a"), "a")
        example = a
        results = _core.randomized_svd(np.ascontiguousarray(array), rank=rank, options=options)
    return RandomizedSVD(*(like(result[0, ...] if single else result, example) for result in results))


def _placed(a: Any, device: devices.Device) -> devices.Placed | None:
    pairs = [a] if isinstance(a, tuple) else a if isinstance(a, list) else [(a,)]
    arrays = [array for pair in pairs if isinstance(pair, (tuple, list)) for array in pair]
    chosen = {devices.devices_for(array, device, "a") for array in arrays}
    if len(chosen) > 1:
        raise HeadscanError("all of a must live on one device")
    return chosen.pop() if chosen else None


def _joined(arrays: list[npt.NDArray[Any]], axis: int) -> npt.NDArray[Any]:
    return np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.concatenate(arrays, axis=axis)
