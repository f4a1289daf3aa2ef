"""Files of the published code of SITH (arXiv 2603.24653): what torch saved, read without unpickling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headscan.common.reading import reading, regular
from headscan.errors import HeadscanError

__all__ = ["read_saved", "read_tensor"]


def read_saved(path: Path, what: str) -> Any:
    """Return what ``torch.save`` wrote, read with ``weights_only``; tensors stay tensors, on the CPU.

    Raises
    ------
    HeadscanError
        If it cannot be read so, naming the file.
    """
    import torch

    regular(path, what)
    with reading(path, what):
        return torch.load(path, map_location="cpu", weights_only=True)


def read_tensor(path: Path, what: str, *, ndim: int) -> np.ndarray[Any, Any]:
    """Return a floating-point tensor of so many axes that ``torch.save`` wrote, as float32 or float64.

    Raises
    ------
    HeadscanError
        If the file holds something else.
    """
    import torch

    value = read_saved(path, what)
    if not isinstance(value, torch.Tensor) or value.ndim != ndim or not value.is_floating_point():
        came = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise HeadscanError(f"{what} {path} must be one floating-point tensor of {ndim} axes, it holds {came}")
    return value.float().numpy() if value.element_size() < 4 else value.numpy()
