"""What the adapters share: checks of a layer's parts, each refusing by name what is not linear or not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.towers.block import Linear
from headscan.models.towers.tower import FinalWeights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.towers.weights import Weights

__all__ = ["final_weights", "is_identity", "layer_norm", "layer_scale", "linear", "pooled", "type_name"]


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
    weights: Weights, norm: Any, *, value: Linear, output: Any, pool_norm: Any, pool_mlp: Any, head: Any
) -> FinalWeights:
    """Return the last layer norm and an attention pool, ``head(y + mlp(norm(y)))`` with y its attention's output."""
    import torch

    value_matrix, value_bias = value.read(weights)
    output_matrix, output_bias = linear(output, "the attention pool").read(weights)
    path, bias = value_matrix @ output_matrix, value_bias @ output_matrix + output_bias
    own_norm, own_mlp = weights.double(pool_norm), weights.double(pool_mlp)
    projection, offset = (
        (np.eye(len(output_matrix)), 0.0) if is_identity(head) else linear(head, "head").read(weights)
    )

    def pool(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            attended = torch.from_numpy(rows @ path + bias)
            joint: NDArray[np.float64] = (attended + own_mlp(own_norm(attended))).numpy() @ projection + offset
        return joint

    plain = final_weights(weights, norm, width=len(path), projection=None)
    return FinalWeights(plain.gain, plain.shift, plain.eps, path @ projection, bias @ projection + offset, pool=pool)
