"""NumPy arrays and torch tensors alike: in, and back out as the same kind, without importing torch here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from headscan.errors import HeadscanError


def _is_torch(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_floating(value: Any, name: str) -> npt.NDArray[Any]:
    """View an array or CPU tensor as NumPy, float32 or float64.

    Raises
    ------
    TypeError
        If the value is neither, lives on another device, or has another dtype.
    """
    if _is_torch(value):
        if value.device.type != "cpu":
            raise TypeError(f"{name} must be on the CPU, got a tensor on {value.device}; call .cpu() first")
        value = value.detach()
        array = value.float().numpy() if value.element_size() < 4 and value.is_floating_point() else value.numpy()
    elif isinstance(value, np.ndarray):
        array = value  # a memory map stays one
    else:
        raise TypeError(f"{name} must be a NumPy array or a torch tensor, got {type(value).__name__}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
    result: npt.NDArray[Any] = array
    return result


def like(result: npt.NDArray[Any], example: Any) -> Any:
    """Give a result back as the kind of array that the example is."""
    if _is_torch(example):
        return sys.modules["torch"].from_numpy(result)
    return result


def first_of(a: Any) -> Any:
    """Return the array that says of which kind the results are."""
    while isinstance(a, (tuple, list)):
        a = a[0]
    return a


def batched(array: Any, name: str) -> tuple[Any, bool]:
    """View one matrix as a batch of one, and say whether it was one."""
    if array.ndim not in (2, 3):
        raise HeadscanError(f"{name} must have shape (m, n) or (b, m, n), got {tuple(array.shape)}")
    return (array[None], True) if array.ndim == 2 else (array, False)


def side_by_side(a: Any, read: Callable[[Any, str], Any]) -> tuple[list[Any], list[Any], bool]:
    """Return the left and the right factors of a sum of products; laid side by side they have the same product."""
    pairs = [a] if isinstance(a, tuple) else a
    if not pairs or any(not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in pairs):
        raise HeadscanError("factored input must be a pair (left, right) or a list of at least one such pair")
    factors = [
        [batched(read(value, f"the {side} factor"), f"the {side} factor") for value in values]
        for side, values in zip(("left", "right"), zip(*pairs, strict=True), strict=True)
    ]
    arrays = [[array for array, _ in side] for side in factors]
    dtypes = {array.dtype for side in arrays for array in side}
    if len(dtypes) > 1:
        raise TypeError(f"factors must share a dtype, got {', '.join(sorted(map(str, dtypes)))}")
    kinds = {single for side in factors for _, single in side}
    outer = {(left.shape[:2], right.shape[::2]) for left, right in zip(*arrays, strict=True)}
    inner = all(left.shape[2] == right.shape[1] for left, right in zip(*arrays, strict=True))
    if len(kinds) > 1 or len(outer) > 1 or not inner:
        shapes = ", ".join(f"{tuple(left.shape)} @ {tuple(right.shape)}" for left, right in pairs)
        raise HeadscanError(f"expected factors (b, m, r) @ (b, r, n) with one b, m and n, got {shapes}")
    lefts, rights = arrays
    return lefts, rights, kinds.pop()
