"""Put a changed output projection back into open_clip's own vision transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["write_attention_output"]


def write_attention_output(
    visual: Any, layer: int, output: NDArray[np.float64], output_bias: NDArray[np.float64]
) -> None:
    """Set a layer's output projection so that `read_tower` reads these again, up to rounding to its own dtype.

    Parameters
    ----------
    visual : torch.nn.Module
        The vision tower.
    layer : int
        The layer.
    output : ndarray of float64, shape (heads * rank, width)
        As `AttentionWeights.output`: a layer scale or head scale is divided out again.
    output_bias : ndarray of float64, shape (width,)
        As `AttentionWeights.output_bias`.

    Raises
    ------
    HeadscanError
        Where the module cannot hold them, and nothing is changed: no bias to write to, a scale of zero, a value
        beyond its dtype.
    """
    block = visual.transformer.resblocks[layer]
    attention, projection = block.attn, block.attn.out_proj
    by_column = _scale(getattr(block.ls_1, "gamma", None), size=1)
    by_row = _scale(getattr(attention, "head_scale", None), size=1)
    by_row = np.repeat(by_row, len(output) // len(by_row))[:, None]
    weight = _cast(_divide(output, by_row * by_column).T, projection.weight)
    if projection.bias is not None:
        projection.bias.data.copy_(_cast(_divide(output_bias, by_column), projection.bias))
    elif output_bias.any():
        raise HeadscanError("the output projection has no bias: what is written must have a bias of zero")
    projection.weight.data.copy_(weight)


def _scale(tensor: torch.Tensor | None, *, size: int) -> NDArray[np.float64]:
    return np.ones(size) if tensor is None else np.asarray(tensor.detach().cpu().double().numpy().ravel())


def _divide(values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.any((scale == 0) & (values != 0)):
        raise HeadscanError("a layer scale or head scale of zero makes part of the output projection unwritable")
    return np.divide(values, scale, out=np.zeros(values.shape), where=scale != 0)


def _cast(values: NDArray[np.float64], parameter: torch.Tensor) -> torch.Tensor:
    import torch

    cast = torch.from_numpy(np.ascontiguousarray(values)).to(parameter.dtype)
    if not bool(cast.isfinite().all()):
        raise HeadscanError(f"the changed output projection does not fit the module's {parameter.dtype}")
    return cast
