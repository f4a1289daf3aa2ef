"""open_clip's own transformers: the vision towers of OpenAI, LAION, DataComp, MetaCLIP and DFN, and text towers."""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block, Linear
from headscan.models.towers.checks import final_weights, is_identity, layer_norm, layer_scale, linear, type_name
from headscan.models.towers.tower import FinalWeights, Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_open_clip_text", "read_open_clip_vision"]


def read_open_clip_vision(visual: Any, weights: Weights) -> Tower:
    """Read open_clip's ``VisionTransformer``."""
    if visual.attn_pool is not None:
        raise HeadscanError(
            "the vision tower ends in an attention pool (AttentionalPooler) with a layer norm after it: its output "
            "is not a linear map of the residual stream, so directions have no place in the joint space"
        )
    if visual.proj is None:
        raise HeadscanError("the vision tower has no projection into the joint space (visual.proj is absent)")
    return _tower(visual.transformer.resblocks, visual.ln_post, visual.proj, kind="image", weights=weights)


def read_open_clip_text(text: Any, weights: Weights) -> Tower:
    """Read open_clip's ``TextTransformer``, or the ``CLIP`` that holds the parts of one."""
    if text.text_projection is None:
        raise HeadscanError("the text tower has no projection into the joint space (text_projection is absent)")
    return _tower(text.transformer.resblocks, text.ln_final, text.text_projection, kind="text", weights=weights)


def _tower(layers: Any, norm: Any, projection: Any, *, kind: str, weights: Weights) -> Tower:
    from torch import nn

    name = "vision" if kind == "image" else "text"
    blocks = [_block(layer, f"layer {number} of the {name} tower") for number, layer in enumerate(layers)]
    layer_norm(norm, f"the end of the {name} tower")
    is_layer = isinstance(projection, nn.Linear)
    width, joint_dim = reversed(projection.weight.shape) if is_layer else projection.shape

    def read_final() -> FinalWeights:
        into = linear(projection, f"the end of the {name} tower") if is_layer else projection
        return final_weights(weights, norm, width=int(width), projection=into)

    return make_tower(
        blocks, family="open_clip", kind=kind, joint_dim=int(joint_dim), weights=weights, read_final=read_final
    )


def _block(block: Any, where: str) -> Block:
    from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock

    if type(block) not in (ResidualAttentionBlock, CustomResidualAttentionBlock):
        raise HeadscanError(f"{where} is a {type_name(block)}: only open_clip's own residual blocks are supported")
    if not is_identity(getattr(block, "ln_attn", None)):
        raise HeadscanError(f"{where} normalises the attention's output (scale_attn): a head's output is not linear")
    attention, mlp_norm = block.attn, getattr(block.mlp, "ln", None)
    query, key, value = _in_projection(attention, where)
    return Block(
        norm=layer_norm(block.ln_1, where),
        heads=int(attention.num_heads),
        query=query,
        key=key,
        value=value,
        output=linear(attention.out_proj, where),
        head_scale=getattr(attention, "head_scale", None),
        layer_scale=layer_scale(block.ls_1, where),
        qk_refusal=_qk_refusal(attention),
        mlp_input_norm=layer_norm(block.ln_2, where),
        mlp_input=linear(block.mlp.c_fc, where),
        mlp_output=linear(block.mlp.c_proj, where),
        mlp_norm=None if is_identity(mlp_norm) else layer_norm(mlp_norm, where),
        mlp_scale=layer_scale(block.ls_2, where),
    )


def _in_projection(attention: Any, where: str) -> list[Linear]:
    """Return queries, keys and values: thirds of one matrix."""
    from open_clip.transformer import Attention
    from torch import nn

    if type(attention) is Attention:
        if not is_identity(attention.ln_inner):
            raise HeadscanError(f"{where} normalises inside the attention (scale_attn_inner): V to O is not linear")
    elif type(attention) is nn.MultiheadAttention:
        if attention.in_proj_weight is None:
            raise HeadscanError(f"{where} has separate query, key and value widths: not supported")
        if attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn:
            raise HeadscanError(f"{where} adds a bias or zero token to its keys and values: not supported")
    else:
        raise HeadscanError(
            f"{where} attends with {type_name(attention)}: only open_clip's own attention is supported"
        )
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    if not weight.is_floating_point():
        raise HeadscanError(
            f"{where} has quantised or replaced projections: only plain floating-point weights are read"
        )
    size = weight.shape[0] // 3
    thirds = [slice(part * size, (part + 1) * size) for part in range(3)]
    return [Linear(weight, bias, rows, rows) for rows in thirds]


def _qk_refusal(attention: Any) -> str | None:
    if not is_identity(getattr(attention, "ln_q", None)):
        return "normalises its queries and keys (qk_norm)"
    if getattr(attention, "logit_scale", None) is not None:
        return "takes the cosine of queries and keys (scaled_cosine)"
    return None
