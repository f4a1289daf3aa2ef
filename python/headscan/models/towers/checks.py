"""What the readers share: checks of a layer's parts, each refusing by name what is not linear or not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block, Linear
from headscan.models.towers.layer_weights import FinalWeights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.towers.weights import Weights

__all__ = [
    "final_weights",
    "is_identity",
    "layer_norm",
    "layer_norm_or_none",
    "layer_scale",
    "linear",
    "norm_note",
    "pooled",
    "pooled_with_mlp",
    "thirds",
    "type_name",
]


def type_name(thing: object) -> str:
    """Return the full name of a thing's type."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def is_identity(part: Any) -> bool:
    """Say whether a part of a module does nothing: it is absent, or torch's Identity."""
    from torch import nn

    return part is None or isinstance(part, nn.Identity)


def linear(part: Any, where: str, *, rows: slice | None = None) -> Linear:
    """Return a plain linear layer's parameters, or some of its outputs.

    Raises
    ------
    HeadscanError
        If it is quantised, or was replaced by something else.
    """
    from torch import nn

    if not isinstance(part, nn.Linear) or not part.weight.is_floating_point():
        raise HeadscanError(
            f"{where} has quantised or replaced projections ({type_name(part)}): only plain floating-point weights "
            "are read"
        )
    return Linear(part.weight, part.bias, rows, rows)


def thirds(size: int) -> tuple[slice, slice, slice]:
    """Return the rows of queries, keys and values in one matrix (3 * size, width)."""
    return slice(0, size), slice(size, 2 * size), slice(2 * size, 3 * size)


def layer_norm(part: Any, where: str) -> Any:
    """Return a layer norm.

    Raises
    ------
    HeadscanError
        If it is another normalisation.
    """
    from torch import nn

    if not isinstance(part, nn.LayerNorm):
        raise HeadscanError(f"{where} normalises with {type_name(part)}: only LayerNorm can be folded")
    return part


def layer_norm_or_none(part: Any, where: str) -> Any:
    """Return a layer norm, or None where there is none."""
    return None if is_identity(part) else layer_norm(part, where)


def layer_scale(part: Any, where: str) -> Any:
    """Return the gain of a layer scale, or None where there is none.

    Raises
    ------
    HeadscanError
        If the attention's output is scaled by something else.
    """
    from open_clip.transformer import LayerScale
    from timm.layers.layer_scale import LayerScale as TimmLayerScale

    if is_identity(part):
        return None
    if not isinstance(part, (LayerScale, TimmLayerScale)):
        raise HeadscanError(f"{where} scales its attention with {type_name(part)}: only LayerScale is supported")
    return part.gamma


def norm_note(blocks: Sequence[Block]) -> str:
    """Return what to say of layers with a layer norm inside their attention or after it; nothing of others."""
    if all(block.value_norm is None and block.output_norm is None for block in blocks):
        return ""
    where = "inside" if blocks[0].output_norm is None else "after"
    return f"a layer norm {where} the attention: what heads write holds up to a positive scale of each token"


def final_weights(
    weights: Weights, norm: Any, *, width: int, projection: Linear | torch.Tensor | None
) -> FinalWeights:
    """Return the last layer norm and a projection: a linear layer, a matrix (width, joint_dim), or none at all."""
    gain, shift = weights.array_or(norm.weight, 1.0, width), weights.array_or(norm.bias, 0.0, width)
    if isinstance(projection, Linear):
        matrix, bias = projection.read(weights)
    else:  # without one the joint space is the stream itself
        matrix = np.eye(width) if projection is None else weights.array(projection)
        bias = np.zeros(matrix.shape[1])
    return FinalWeights(gain, shift, float(norm.eps), matrix, bias)


def pooled(
    weights: Weights,
    norm: Any,
    *,
    value: Linear,
    output: Any,
    after: Callable[[torch.Tensor], torch.Tensor],
    projection: tuple[NDArray[np.float64], NDArray[np.float64] | float],
) -> FinalWeights:
    """Return the last layer norm and an attention pool: what follows its output, and the linear part of that.

    Parameters
    ----------
    norm : torch.nn.LayerNorm
        The one before the pool.
    value : Linear
        The pool's values.
    output : torch.nn.Linear
        Its output projection.
    after : callable
        From float64 rows (n, width) that the pool's attention gives to the embeddings (n, joint_dim).
    projection : pair of ndarray, shape (width, joint_dim), and ndarray, shape (joint_dim,), or 0.0
        The linear part of `after`: matrix and bias.
    """
    import torch

    value_matrix, value_bias = value.read(weights)
    output_matrix, output_bias = linear(output, "the attention pool").read(weights)
    path, bias = value_matrix @ output_matrix, value_bias @ output_matrix + output_bias
    matrix, offset = projection

    def pool(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            joint: NDArray[np.float64] = after(torch.from_numpy(rows @ path + bias)).numpy()
        return joint

    plain = final_weights(weights, norm, width=len(path), projection=None)
    return FinalWeights(plain.gain, plain.shift, plain.eps, path @ matrix, bias @ matrix + offset, pool=pool)


def pooled_with_mlp(
    weights: Weights, norm: Any, *, value: Linear, output: Any, pool_norm: Any, pool_mlp: Any, head: Any
) -> FinalWeights:
    """Return the last layer norm and an attention pool, ``head(y + mlp(norm(y)))`` with y its attention's output."""
    import torch

    own_norm, own_mlp = weights.double(pool_norm), weights.double(pool_mlp)
    width = output.weight.shape[0]
    matrix, offset = (np.eye(width), np.zeros(width)) if is_identity(head) else linear(head, "head").read(weights)

    def after(attended: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = attended + own_mlp(own_norm(attended))
        return whole @ torch.from_numpy(np.ascontiguousarray(matrix)) + torch.from_numpy(offset)

    return pooled(weights, norm, value=value, output=output, after=after, projection=(matrix, offset))
