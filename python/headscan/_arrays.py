"""NumPy arrays and torch tensors alike: in, and back out as the same kind, without importing torch here."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt


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
