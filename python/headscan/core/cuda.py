"""The CUDA engine: loaded on demand, handed the pointers of torch's memory on torch's current stream.

It is a module of its own (``headscan.core._cuda``), built where nvcc is found. Importing headscan neither needs nor
loads it, a driver or torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from headscan.core import devices
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import numpy.typing as npt

    from headscan.core import _core, _cuda
    from headscan.core.pack import PackedAtoms

__all__ = ["groups", "run_comp", "run_svd_factored", "upload"]

_BLOCK = 64  # atoms a block of the packed form: parts hold whole ones
_uploads: WeakKeyDictionary[PackedAtoms, dict[tuple[int, ...], list[Any]]] = WeakKeyDictionary()


def _torch_device(index: int) -> Any:
    import torch

    return torch.device("cuda", index)


def _stream(index: int) -> int:
    import torch

    return int(torch.cuda.current_stream(index).cuda_stream)


def tensor_on(value: Any, index: int) -> Any:
    """Bring an array to a device as a contiguous float32 or float64 tensor; one that is there stays as it is."""
    import torch

    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.require(value, requirements=["C", "W"]))  # torch warns of what it might not write
    tensor = value.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected float32 or float64, got {tensor.dtype}")
    return tensor.to(_torch_device(index)).contiguous()


def groups(packed: PackedAtoms, indices: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Group devices so that each group holds the whole dictionary: each device alone where that fits them all.

    Else all are one group, and each of them holds a part; a part that does not fit either is streamed.
    """
    alone: list[tuple[int, ...]] = [(index,) for index in indices]
    uploaded = _uploads.setdefault(packed, {})
    if len(indices) == 1 or indices in uploaded:
        return [indices]
    fits = devices.engine().fits
    return alone if all(one in uploaded or fits(packed.compiled, device=one[0]) for one in alone) else [indices]


def upload(packed: PackedAtoms, group: tuple[int, ...], *, memory_bytes: int = 0) -> list[Any]:
    """Return the dictionary's parts, one a device: copied there once, freed with `packed`.

    Parameters
    ----------
    packed : PackedAtoms
    group : tuple of int
        CUDA devices.
    memory_bytes : int
        Device memory that the part may take on each; what does not fit is kept in pinned host memory and streamed.
        0 takes what is free, less what a call needs.
    """
    uploaded = _uploads.setdefault(packed, {})
    if group not in uploaded:
        step = -(-len(packed) // (_BLOCK * len(group))) * _BLOCK
        starts = range(0, len(packed), step)
        uploaded[group] = [
            devices.engine().Dictionary(
                packed.compiled,
                device=index,
                first=first,
                rows=min(step, len(packed) - first),
                memory_bytes=memory_bytes,
            )
            for index, first in zip(group, starts, strict=False)  # few blocks: few devices
        ]
    return uploaded[group]


def run_comp(x: Any, packed: PackedAtoms, placed: devices.Placed, options: _core.CompOptions) -> tuple[Any, ...]:
    """COMP on CUDA: indices, coefficients, certified, and the atoms rescored a query.

    Raises
    ------
    HeadscanError
        If shapes do not fit; for data copied there, also where a row of x holds NaN or infinity.
    """
    if x.ndim != 2:
        raise HeadscanError(f"x must have 2 dimensions, got {x.ndim}")
    if placed.resident:
        return _launch_comp(tensor_on(x, placed.indices[0]), packed, placed.indices, options)
    _check_rows(x)
    sharing = groups(packed, placed.indices)
    # All devices are started before the first is waited for.
    running = [
        _launch_comp(tensor_on(part, group[0]), packed, group, options)
        for part, group in zip(np.array_split(x, len(sharing)), sharing, strict=True)
    ]
    return tuple(np.concatenate([array.cpu().numpy() for array in arrays]) for arrays in zip(*running, strict=True))


def _device_array(tensor: Any) -> _cuda.DeviceArray:
    dtype = str(tensor.dtype).removeprefix("torch.")
    array: _cuda.DeviceArray = devices.engine().DeviceArray(
        address=tensor.data_ptr(), shape=tuple(tensor.shape), dtype=dtype
    )
    return array


def _launch_comp(x: Any, packed: PackedAtoms, group: tuple[int, ...], options: _core.CompOptions) -> tuple[Any, ...]:
    """Enqueue COMP on the first device's current stream; x and the results are there."""
    import torch

    parts = upload(packed, group)
    n, k = len(x), options.k
    outputs = {
        "indices": torch.empty((n, k), dtype=torch.int64, device=x.device),
        "coefficients": torch.empty((n, k), dtype=torch.float64, device=x.device),
        "certified": torch.empty(n, dtype=torch.bool, device=x.device),
        "rescored": torch.empty(n, dtype=torch.int64, device=x.device),
    }
    arrays = {name: _device_array(output) for name, output in outputs.items()}
    devices.engine().comp(_device_array(x), parts, options=options, **arrays, stream=_stream(group[0]))
    return tuple(outputs.values())


def _check_rows(x: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore"):
        squares = np.square(x, dtype=np.float64).sum(axis=1)
    bad = np.flatnonzero(~(squares < 1e30))
    if not bad.size:
        return
    row = int(bad[0])
    if not np.isfinite(x[row]).all():
        raise HeadscanError(f"x must be finite; row {row} holds NaN or infinity")
    raise HeadscanError(f"x is far too long in row {row}: its norm must be below 1e15")


def run_svd_factored(left: Any, right: Any, placed: devices.Placed) -> tuple[Any, Any, Any]:
    """Decompose factored matrices on the first of the devices.

    Raises
    ------
    HeadscanError
        If shapes do not fit; for data copied there, also where a factor holds NaN or infinity.
    """
    import torch

    for name, factors in (("left", left), ("right", right)):
        if factors.ndim != 3:
            raise HeadscanError(f"{name} must have 3 dimensions, got {factors.ndim}")
        if not placed.resident and not np.isfinite(factors).all():
            item = int(np.flatnonzero(~np.isfinite(factors).all(axis=(1, 2)))[0])
            raise HeadscanError(f"the {name} factor of matrix {item} holds NaN or infinity")
    n, d, r = left.shape
    if len(right) != n or right.shape[1] != r:  # before results of these shapes are allocated
        raise HeadscanError(
            "expected left (n, d, r) and right (n, r, d') with 1 <= r <= d and r <= d', "
            f"got {tuple(left.shape)} and {tuple(right.shape)}"
        )
    index, e = placed.indices[0], right.shape[2]
    factors = tensor_on(left, index), tensor_on(right, index)
    shapes = {"u": (n, d, r), "s": (n, r), "vh": (n, r, e)}
    outputs = {
        name: torch.empty(shape, dtype=factors[0].dtype, device=factors[0].device) for name, shape in shapes.items()
    }
    arrays = {name: _device_array(output) for name, output in outputs.items()}
    devices.engine().svd_factored(*map(_device_array, factors), **arrays, device=index, stream=_stream(index))
    u, s, vh = outputs.values() if placed.resident else [array.cpu().numpy() for array in outputs.values()]
    return u, s, vh
