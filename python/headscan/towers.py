"""Vision towers: where an architecture keeps the weights that headscan reads.

A `VisionTower` says, for one architecture, how to read each layer's value-output path and the final map into
the joint space, as float64 arrays in the row-vector convention (``x @ W``). Supporting another architecture
means writing one more function from a module to a `VisionTower` and naming it in `read_tower`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["AttentionWeights", "FinalWeights", "VisionTower", "read_tower"]


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """One layer's path from the residual stream through values to the attention's output, in float64.

    With ``xhat`` the layer norm's output before gain and shift, head h (columns or rows ``h * rank`` to
    ``(h + 1) * rank``) and attention weights ``A`` whose rows sum to one, the layer adds to the stream
    ``sum_h A_h @ ((xhat * gain + shift) @ value[:, h] + value_bias[h]) @ output[h] + output_bias``.
    A layer scale or head scale is already multiplied into `output` and `output_bias`.
    """

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    value: NDArray[np.float64]  # (width, heads * rank)
    value_bias: NDArray[np.float64]  # (heads * rank,)
    output: NDArray[np.float64]  # (heads * rank, width)
    output_bias: NDArray[np.float64]  # (width,)


@dataclass(frozen=True, eq=False)
class FinalWeights:
    """The last layer norm and the projection into the joint space, in float64."""

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    eps: float
    projection: NDArray[np.float64]  # (width, joint_dim)


@dataclass(frozen=True, eq=False)
class VisionTower:
    """The sizes of a vision tower and how its weights are read and written, one layer at a time.

    ``write_attention_output(layer, output, output_bias)`` sets a layer's output projection so that reading it
    again gives these `output` (heads * rank, width) and `output_bias` (width,), up to rounding to the module's
    own dtype: a layer scale or head scale is divided out again. It raises HeadscanError, changing nothing, where
    the module cannot hold them: no bias to write to, a scale of zero, a value beyond its dtype.
    """

    layers: int
    heads: int
    width: int
    rank: int
    joint_dim: int
    read_attention: Callable[[int], AttentionWeights]
    read_final: Callable[[], FinalWeights]
    write_attention_output: Callable[[int, NDArray[np.float64], NDArray[np.float64]], None]


def read_tower(visual: torch.nn.Module) -> VisionTower:
    """Return the `VisionTower` of a model's vision module.

    Raises
    ------
    HeadscanError
        If the architecture is not supported, naming it and saying why.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        return _open_clip_tower(visual)
    if isinstance(visual, TimmModel):
        trunk = type(visual.trunk).__name__
        raise HeadscanError(f"the vision tower is timm's {trunk}: towers built by timm are not supported yet")
    if isinstance(visual, ModifiedResNet):
        raise HeadscanError(
            "the vision tower is a ResNet (ModifiedResNet): only vision transformers have heads to explain"
        )
    raise HeadscanError(f"the vision tower is a {_name(visual)}: only open_clip's VisionTransformer is supported")


def _open_clip_tower(visual: Any) -> VisionTower:
    """Read open_clip's own ``VisionTransformer``."""
    from torch import nn

    if visual.attn_pool is not None:
        raise HeadscanError(
            "the vision tower ends in an attention pool (AttentionalPooler): its output is not a linear map "
            "of the residual stream after the last layer norm, so directions have no place in the joint space"
        )
    if not isinstance(visual.proj, nn.Parameter):
        raise HeadscanError("the vision tower has no projection into the joint space (visual.proj is absent)")
    blocks = visual.transformer.resblocks
    if len(blocks) == 0:
        raise HeadscanError("the vision tower has no transformer layers")
    for number, block in enumerate(blocks):
        _check_block(block, f"layer {number} of the vision tower")
    heads = {int(block.attn.num_heads) for block in blocks}
    if len(heads) != 1:
        raise HeadscanError(f"the layers of the vision tower differ in their number of heads: {sorted(heads)}")
    width, joint_dim = visual.proj.shape
    count = heads.pop()
    return VisionTower(
        layers=len(blocks),
        heads=count,
        width=int(width),
        rank=int(width) // count,
        joint_dim=int(joint_dim),
        read_attention=lambda layer: _read_block(blocks[layer]),
        read_final=lambda: _read_final(visual),
        write_attention_output=lambda layer, output, bias: _write_output(blocks[layer], output, bias),
    )


def _check_block(block: Any, where: str) -> None:
    """Raise unless the block's path from values to output is linear and read here in full."""
    from open_clip.transformer import CustomResidualAttentionBlock, LayerScale, ResidualAttentionBlock
    from torch import nn

    if type(block) not in (ResidualAttentionBlock, CustomResidualAttentionBlock):
        raise HeadscanError(f"{where} is a {_name(block)}: only open_clip's own residual blocks are supported")
    if not isinstance(block.ln_1, nn.LayerNorm):
        raise HeadscanError(f"{where} normalises with {_name(block.ln_1)}: only LayerNorm can be folded")
    if not isinstance(block.ls_1, (LayerScale, nn.Identity)):
        raise HeadscanError(f"{where} scales its attention with {_name(block.ls_1)}: only LayerScale is supported")
    if not isinstance(getattr(block, "ln_attn", nn.Identity()), nn.Identity):
        raise HeadscanError(f"{where} normalises the attention's output (scale_attn): a head's output is not linear")
    _check_attention(block.attn, where)


def _check_attention(attention: Any, where: str) -> None:
    from open_clip.transformer import Attention
    from torch import nn

    if type(attention) is Attention:
        if not isinstance(attention.ln_inner, nn.Identity):
            raise HeadscanError(f"{where} normalises inside the attention (scale_attn_inner): V to O is not linear")
    elif type(attention) is nn.MultiheadAttention:
        if attention.in_proj_weight is None:
            raise HeadscanError(f"{where} has separate query, key and value widths: not supported")
        if attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn:
            raise HeadscanError(f"{where} adds a bias or zero token to its keys and values: not supported")
    else:
        raise HeadscanError(f"{where} attends with {_name(attention)}: only open_clip's own attention is supported")
    if not isinstance(attention.out_proj, nn.Linear) or not attention.in_proj_weight.is_floating_point():
        raise HeadscanError(
            f"{where} has quantised or replaced projections: only plain floating-point weights are read"
        )


def _read_block(block: Any) -> AttentionWeights:
    attention = block.attn
    width = int(attention.out_proj.out_features)
    weight, bias = attention.in_proj_weight[-width:], attention.in_proj_bias  # rows: queries, keys, values
    by_row, by_column = _output_scales(block)
    return AttentionWeights(
        gain=_array_or(block.ln_1.weight, 1.0, width),
        shift=_array_or(block.ln_1.bias, 0.0, width),
        value=_array(weight).T,
        value_bias=_array_or(None if bias is None else bias[-width:], 0.0, width),
        output=_array(attention.out_proj.weight).T * by_row[:, None] * by_column,
        output_bias=_array_or(attention.out_proj.bias, 0.0, width) * by_column,
    )


def _output_scales(block: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what multiplies the rows (heads * rank,) and the columns (width,) of a block's output projection."""
    attention = block.attn
    width = int(attention.out_proj.out_features)
    head_scale = getattr(attention, "head_scale", None)  # (heads, 1, 1), multiplies each head's mixed values
    heads = np.ones(int(attention.num_heads)) if head_scale is None else _array(head_scale).ravel()
    return np.repeat(heads, width // len(heads)), _array_or(getattr(block.ls_1, "gamma", None), 1.0, width)


def _write_output(block: Any, output: NDArray[np.float64], output_bias: NDArray[np.float64]) -> None:
    """Set a block's output projection to what, scaled as the block scales it, is `output` and `output_bias`."""
    projection = block.attn.out_proj
    by_row, by_column = _output_scales(block)
    if output.shape != (len(by_row), len(by_column)) or output_bias.shape != by_column.shape:
        raise HeadscanError(
            f"expected an output projection of shape {(len(by_row), len(by_column))} and a bias of shape "
            f"{by_column.shape}, got {output.shape} and {output_bias.shape}"
        )
    weight = _for(projection.weight, _divide(output, by_row[:, None] * by_column).T)
    bias = None if projection.bias is None else _for(projection.bias, _divide(output_bias, by_column))
    if bias is None and output_bias.any():
        raise HeadscanError("the output projection has no bias: what is written must have a bias of zero")
    projection.weight.data.copy_(weight)
    if bias is not None:
        projection.bias.data.copy_(bias)


def _divide(values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide out a scale; where it is zero the module writes zero, whatever its weight."""
    if np.any((scale == 0) & (values != 0)):
        raise HeadscanError("a layer scale or head scale of zero makes part of the output projection unwritable")
    return np.divide(values, scale, out=np.zeros(values.shape), where=scale != 0)


def _for(parameter: torch.Tensor, values: NDArray[np.float64]) -> torch.Tensor:
    """Return values in a parameter's dtype."""
    import torch

    cast = torch.from_numpy(np.ascontiguousarray(values)).to(parameter.dtype)
    if not bool(cast.isfinite().all()):
        raise HeadscanError(f"the changed output projection does not fit the module's {parameter.dtype}")
    return cast


def _read_final(visual: Any) -> FinalWeights:
    projection = _array(visual.proj)
    width = projection.shape[0]
    return FinalWeights(
        gain=_array_or(visual.ln_post.weight, 1.0, width),
        shift=_array_or(visual.ln_post.bias, 0.0, width),
        eps=float(visual.ln_post.eps),
        projection=projection,
    )


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    values: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return values


def _array_or(tensor: torch.Tensor | None, default: float, size: int) -> NDArray[np.float64]:
    return np.full(size, default) if tensor is None else _array(tensor)


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
