"""open_clip's own transformers: the vision towers of OpenAI, LAION, DataComp, MetaCLIP, DFN, CoCa; text towers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block, Linear
from headscan.models.towers.checks import (
    final_weights,
    is_identity,
    layer_norm,
    layer_norm_or_none,
    layer_scale,
    linear,
    norm_note,
    pooled,
    thirds,
    type_name,
)
from headscan.models.towers.layer_weights import FinalWeights
from headscan.models.towers.tower import Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_open_clip_text", "read_open_clip_vision"]


def read_open_clip_vision(visual: Any, weights: Weights) -> Tower:
    """Read open_clip's ``VisionTransformer``."""
    if visual.proj is None:
        raise HeadscanError("the vision tower has no projection into the joint space (visual.proj is absent)")
    end = _plain_end(visual.ln_post, visual.proj, weights, "the end of the vision tower")
    if visual.attn_pool is not None:
        end = _pool_end(visual, weights)
    return _tower(visual.transformer.resblocks, end, int(visual.proj.shape[1]), kind="image", weights=weights)


def read_open_clip_text(text: Any, weights: Weights) -> Tower:
    """Read open_clip's ``TextTransformer``, or the ``CLIP`` that holds the parts of one."""
    where = "the end of the text tower"
    projection, width = text.text_projection, int(layer_norm(text.ln_final, where).normalized_shape[0])
    joint_dim = width
    if projection is not None:
        joint_dim = projection.weight.shape[0] if hasattr(projection, "weight") else projection.shape[1]
    end = _plain_end(text.ln_final, projection, weights, where)
    return _tower(text.transformer.resblocks, end, int(joint_dim), kind="text", weights=weights)


def _tower(layers: Any, end: Callable[[], FinalWeights], joint_dim: int, *, kind: str, weights: Weights) -> Tower:
    name = "vision" if kind == "image" else "text"
    blocks = [_block(layer, f"layer {number} of the {name} tower") for number, layer in enumerate(layers)]
    note = norm_note(blocks)
    return make_tower(
        blocks, family="open_clip", kind=kind, joint_dim=joint_dim, weights=weights, read_final=end, note=note
    )


def _plain_end(norm: Any, projection: Any, weights: Weights, where: str) -> Callable[[], FinalWeights]:
    """Return what reads a last layer norm and a projection: a linear layer, a matrix (width, joint_dim), or None."""
    from torch import nn

    layer_norm(norm, where)

    def read() -> FinalWeights:
        into = linear(projection, where) if isinstance(projection, nn.Module) else projection
        return final_weights(weights, norm, width=int(norm.normalized_shape[0]), projection=into)

    return read


def _pool_end(visual: Any, weights: Weights) -> Callable[[], FinalWeights]:
    """Return what reads CoCa's end: a layer norm, an attention pool of many queries, a layer norm, a projection.

    The layer norm behind the pool is linear up to a positive scale; its centring and gain are in the linear part.
    """
    import torch

    pool, where = visual.attn_pool, "the attention pool"
    if visual.attn_pool_contrastive is not None:
        raise HeadscanError(
            f"the vision tower ends in two attention pools ({visual.attn_pool_type}): only one, as in CoCa, is read"
        )
    before, last = layer_norm(pool.ln_k, where), layer_norm(visual.ln_post, "the end of the vision tower")

    def read() -> FinalWeights:
        *_, value = in_projection(pool.attn, where)
        projection = weights.array(visual.proj)
        after = final_weights(weights, last, width=len(projection), projection=visual.proj)
        centred = (np.eye(len(projection)) - 1 / len(projection)) * after.gain
        return pooled(
            weights,
            before,
            value=value,
            output=pool.attn.out_proj,
            after=lambda attended: torch.from_numpy(after.apply(attended.numpy())),
            projection=(centred @ projection, after.shift @ projection),
        )

    return read


def _block(block: Any, where: str) -> Block:
    from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock

    if type(block) not in (ResidualAttentionBlock, CustomResidualAttentionBlock):
        raise HeadscanError(f"{where} is a {type_name(block)}: only open_clip's own residual blocks are supported")
    attention = block.attn
    query, key, value = in_projection(attention, where)
    if attention.in_proj_weight is None:
        raise HeadscanError(f"{where} has separate query, key and value widths: not supported")
    return Block(
        norm=layer_norm(block.ln_1, where),
        heads=int(attention.num_heads),
        query=query,
        key=key,
        value=value,
        output=linear(attention.out_proj, where),
        qk_refusal=_qk_refusal(attention),
        head_scale=getattr(attention, "head_scale", None),
        value_norm=layer_norm_or_none(getattr(attention, "ln_inner", None), where),
        output_norm=layer_norm_or_none(getattr(block, "ln_attn", None), where),
        layer_scale=layer_scale(block.ls_1, where),
        mlp_input_norm=layer_norm(block.ln_2, where),
        mlp_input=linear(block.mlp.c_fc, where),
        mlp_output=linear(block.mlp.c_proj, where),
        mlp_norm=layer_norm_or_none(getattr(block.mlp, "ln", None), where),
        mlp_scale=layer_scale(block.ls_2, where),
    )


def in_projection(attention: Any, where: str) -> tuple[Linear, Linear, Linear]:
    """Return queries, keys and values of open_clip's or torch's attention: thirds of one matrix, or a matrix each."""
    from open_clip.transformer import Attention
    from torch import nn

    if type(attention) not in (Attention, nn.MultiheadAttention):
        raise HeadscanError(
            f"{where} attends with {type_name(attention)}: only open_clip's own attention is supported"
        )
    if type(attention) is nn.MultiheadAttention and (
        attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn
    ):
        raise HeadscanError(f"{where} adds a bias or zero token to its keys and values: not supported")
    bias = attention.in_proj_bias
    if attention.in_proj_weight is None:
        matrices = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    else:
        matrices = (attention.in_proj_weight,) * 3
    if not all(matrix.is_floating_point() for matrix in matrices):
        raise HeadscanError(
            f"{where} has quantised or replaced projections: only plain floating-point weights are read"
        )
    rows = thirds(matrices[0].shape[0] // 3 if attention.in_proj_weight is not None else matrices[0].shape[0])
    whole = (None,) * 3 if attention.in_proj_weight is None else rows
    query, key, value = (Linear(*three) for three in zip(matrices, (bias,) * 3, whole, rows, strict=True))
    return query, key, value


def _qk_refusal(attention: Any) -> str | None:
    if not is_identity(getattr(attention, "ln_q", None)):
        return "normalises its queries and keys (qk_norm)"
    if getattr(attention, "logit_scale", None) is not None:
        return "takes the cosine of queries and keys (scaled_cosine)"
    return None
