"""Randomized SVD of torch tensors where they live: the scheme of csrc/cpu/svd/randomized_svd.cpp in float64.

torch's products and Householder QR, and `svd_factored` for the small end of it; the same Omega as on the CPU, so that
both engines find the same triplets to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.core import _core, cuda, devices
from headscan.core.arrays import as_floating, batched, first_of, like, side_by_side
from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["decompose", "gaussian", "on_cuda"]

_PANEL = 16  # rows of Omega are drawn in multiples of so many values
_PROBES = 8
_MOST_KEPT = 256  # directions that svd_factored takes on CUDA


def on_cuda(
    a: Any, placed: devices.Placed, *, rank: int, options: _core.RandomizedSvdOptions
) -> tuple[Any, Any, Any, Any]:
    """Run `randomized_svd` on the first of the devices; results are there where the data was.

    Raises
    ------
    ValueError, TypeError
        As `randomized_svd`; NaN and infinity are refused in data copied there alone.
    HeadscanError
        If more directions would be kept than fit a block of threads.
    """
    import torch

    def read(value: Any, name: str) -> Tensor:
        tensor: Tensor = cuda.tensor_on(value if placed.resident else as_floating(value, name), placed.indices[0])
        return tensor

    if isinstance(a, (tuple, list)):
        lefts, rights, single = side_by_side(a, read)
        factors = {"the left factor of ": torch.cat(lefts, dim=2), "the right factor of ": torch.cat(rights, dim=1)}
    else:
        dense, single = batched(read(a, "a"), "a")
        factors = {"": dense}
    if not placed.resident:
        for name, factor in factors.items():
            _check_finite(name, factor)
    krylov = options.method == _core.RangeMethod.krylov
    iterations, block = options.iterations, options.block
    given = list(factors.values())
    smaller = min(given[0].shape[1], given[-1].shape[2])
    if rank > smaller:
        raise HeadscanError(f"rank must be from 1 to {smaller}, the smaller side of the matrices, got {rank}")
    sample = min(block or rank + options.oversample, smaller)
    kept = min(sample * (iterations + 1), smaller) if krylov else sample
    if block and not krylov:
        raise HeadscanError("a block is for the method krylov alone")
    if kept < rank:
        products = f"{block * (iterations + 1)} directions in {iterations + 1} products"
        raise HeadscanError(f"a block of {block} gives {products}, below the rank {rank}")
    if kept > _MOST_KEPT:
        raise HeadscanError(f"on CUDA at most {_MOST_KEPT} directions are kept, this would keep {kept}: use the CPU")
    results = decompose(given, rank=rank, sample=sample, iterations=iterations, krylov=krylov, seed=options.seed)
    returned = [result[0] if single else result for result in results]
    if not placed.resident:
        returned = [like(result.cpu().numpy(), first_of(a)) for result in returned]
    u, s, vh, error = returned
    return u, s, vh, error


def _check_finite(name: str, factor: Tensor) -> None:
    finite = factor.isfinite().all(2).all(1).cpu().numpy()
    if not finite.all():
        raise HeadscanError(f"{name}matrix {int(np.flatnonzero(~finite)[0])} holds NaN or infinity")


def gaussian(seed: int, first: int, count: int) -> npt.NDArray[np.float64]:
    """Return entries `first` to ``first + count - 1`` of Omega's stream (csrc/cpu/svd/gaussian.hpp).

    SplitMix64 (Steele, Lea and Flood 2014) and Box and Muller's method; both numbers are even.
    """
    stream = _split_mix(np.uint64(seed), np.zeros(1, np.uint64))[0]
    bits = _split_mix(stream, np.arange(first, first + count, dtype=np.uint64)) >> np.uint64(11)
    radius = np.sqrt(-2 * np.log((bits[::2] + 0.5) * 2.0**-53))
    angle = 2 * np.pi * (bits[1::2] * 2.0**-53)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def _split_mix(seed: np.uint64, index: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = seed + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # arrays wrap around
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def decompose(
    factors: list[Tensor], *, rank: int, sample: int, iterations: int, krylov: bool, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decompose one matrix, or a product of two, a batch of each: (b, m, n), or (b, m, r) and (b, r, n).

    Returns
    -------
    u, s, vh, error : tensors, shapes (b, m, rank), (b, rank), (b, rank, n), (b,)
        As in `randomized_svd`; NaN where a factor holds NaN or infinity.
    """
    import torch

    dtype, device = factors[0].dtype, factors[0].device
    columns = factors[-1].shape[2]
    in_a_row = -(-sample // _PANEL) * _PANEL

    def drawn(first: int, width: int) -> Tensor:
        values = torch.from_numpy(gaussian(seed, first, columns * width).reshape(columns, width))
        return values.to(dtype).to(device, torch.float64)  # rounded as on the CPU

    unit, scale = _scaled(factors)
    q, z = _range(unit, drawn(0, in_a_row)[:, :sample], iterations=iterations, krylov=krylov)
    u, s, vh = svd_factored(q, z.mT.contiguous())
    u, s, vh = u[..., :rank], s[..., :rank], vh[..., :rank, :]

    probes = drawn(columns * in_a_row, _PANEL)[:, :_PROBES]
    missed = _times(unit, probes) - (u * s[:, None, :]) @ (vh @ probes)
    squared = missed.square().sum((1, 2)) / _PROBES
    if len(unit) == 1:  # Pythagoras, unless the difference is near the rounding of the sum
        norm = unit[0].square().sum((1, 2))
        left = norm - s.square().sum(1)
        squared = torch.where(left > 64 * torch.finfo(dtype).eps * norm, left, squared)
    results = u, s * scale[:, None], vh, squared.sqrt() * scale
    return tuple(result.to(dtype) for result in results)  # type: ignore[return-value]


def _scaled(factors: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return the factors in float64, divided by the largest magnitude in each matrix, and the products of those."""
    import torch

    unit, scale = [], torch.ones(len(factors[0]), dtype=torch.float64, device=factors[0].device)
    for factor in factors:
        wide = factor.double()
        largest = wide.abs().amax((1, 2)).clamp(min=1e-300)  # zeros stay zeros
        unit.append(wide / largest[:, None, None])
        scale = scale * largest
    return unit, scale


def _times(factors: list[Tensor], thin: Tensor) -> Tensor:
    for factor in reversed(factors):
        thin = factor @ thin
    return thin


def _times_transposed(factors: list[Tensor], thin: Tensor) -> Tensor:
    for factor in factors:
        thin = factor.mT @ thin
    return thin


def _range(factors: list[Tensor], omega: Tensor, *, iterations: int, krylov: bool) -> tuple[Tensor, Tensor]:
    """Return Q (b, m, columns), orthonormal, and Z (b, n, columns) = A^T Q.

    With `krylov` all ranges are kept, each orthogonal to those before: Householder QR of all of them and the new
    columns leaves the span of the first as it is and completes it orthonormally, whatever the rank.
    """
    import torch

    most = min(factors[0].shape[1], factors[-1].shape[2])
    q: list[Tensor] = []
    z: list[Tensor] = []
    kept = 0
    shown = _times(factors, omega)
    for left in range(iterations, -1, -1):
        basis = torch.linalg.qr(torch.cat([*q, shown], dim=2)).Q[..., kept:]
        products = _times_transposed(factors, basis)
        if krylov or left == 0:
            q.append(basis)
            z.append(products)
            kept += basis.shape[2]
        if left == 0 or kept == most:
            break
        shown = _times(factors, torch.linalg.qr(products).Q)[..., : most - kept]
    return torch.cat(q, dim=2), torch.cat(z, dim=2)
