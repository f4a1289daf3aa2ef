"""timm's transformers as open_clip's vision towers: SigLIP, SigLIP 2, EVA, PE-Core, MobileCLIP's ViTs."""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block, Linear
from headscan.models.towers.checks import (
    final_weights,
    is_identity,
    layer_norm,
    layer_scale,
    linear,
    pooled,
    type_name,
)
from headscan.models.towers.tower import FinalWeights, Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_timm"]


def read_timm(visual: Any, weights: Weights) -> Tower:
    """Read open_clip's ``TimmModel`` around timm's ``VisionTransformer`` or ``Eva``."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    trunk = visual.trunk
    if type(trunk) not in (VisionTransformer, Eva):
        raise HeadscanError(
            f"the vision tower is timm's {type(trunk).__name__}: of timm's models only VisionTransformer and Eva "
            "are supported"
        )
    rotary = getattr(trunk, "rope", None) is not None
    blocks = [
        _block(block, f"layer {number} of the vision tower", rotary=rotary)
        for number, block in enumerate(trunk.blocks)
    ]
    head = _head(visual)
    norm = _final_norm(trunk)
    joint_dim = trunk.num_features if head is None else head.out_features

    def read_final() -> FinalWeights:
        if trunk.attn_pool is not None:
            return _read_pool(trunk.attn_pool, norm, head, weights)
        projection = None if head is None else linear(head, "the head")
        return final_weights(weights, norm, width=int(trunk.num_features), projection=projection)

    return make_tower(
        blocks, family="timm", kind="image", joint_dim=int(joint_dim), weights=weights, read_final=read_final
    )


def _block(block: Any, where: str, *, rotary: bool) -> Block:
    from timm.models.eva import EvaBlock, EvaBlockPostNorm
    from timm.models.vision_transformer import Block as TimmBlock

    if type(block) is EvaBlockPostNorm:
        raise HeadscanError(f"{where} normalises the attention's output (post-norm): a head's output is not linear")
    if type(block) not in (TimmBlock, EvaBlock):
        raise HeadscanError(f"{where} is a {type_name(block)}: only timm's Block and EvaBlock are supported")
    eva = type(block) is EvaBlock
    query, key, value = _in_projection(block.attn, where)
    mlp_norm = getattr(block.mlp, "norm", None)
    return Block(
        norm=layer_norm(block.norm1, where),
        heads=int(block.attn.num_heads),
        query=query,
        key=key,
        value=value,
        output=linear(block.attn.proj, where),
        head_scale=None,
        layer_scale=block.gamma_1 if eva else layer_scale(block.ls1, where),
        qk_refusal=_qk_refusal(block.attn, rotary=rotary),
        mlp_input_norm=layer_norm(block.norm2, where),
        mlp_input=_mlp_input(block.mlp, where),
        mlp_output=_mlp_output(block.mlp, where),
        mlp_norm=None if is_identity(mlp_norm) else layer_norm(mlp_norm, where),
        mlp_scale=block.gamma_2 if eva else layer_scale(block.ls2, where),
    )


def _in_projection(attention: Any, where: str) -> tuple[Linear, Linear, Linear]:
    """Return queries, keys and values: thirds of one matrix, or a matrix each; biases may be missing."""
    from timm.layers.attention import Attention, AttentionRope
    from timm.models.eva import EvaAttention

    if type(attention) not in (Attention, AttentionRope, EvaAttention):
        raise HeadscanError(
            f"{where} attends with {type_name(attention)}: of timm's attentions this is not supported"
        )
    if not is_identity(getattr(attention, "norm", None)):
        raise HeadscanError(
            f"{where} normalises inside the attention, between values and output (scale_norm): V to O is not linear"
        )
    if getattr(attention, "gate", None) is not None:
        raise HeadscanError(f"{where} gates the attention's output by its input: V to O is not linear")
    if getattr(attention, "num_kv_groups", 1) != 1:
        raise HeadscanError(f"{where} shares keys and values between heads (grouped-query attention): not supported")
    if getattr(attention, "qkv", None) is None:
        names = ("q_proj", "k_proj", "v_proj")
        query, key, value = (linear(getattr(attention, name), where) for name in names)
        return query, key, value
    size = attention.qkv.out_features // 3
    thirds = [slice(part * size, (part + 1) * size) for part in range(3)]
    query, key, value = (linear(attention.qkv, where, rows=rows) for rows in thirds)
    if type(attention) is EvaAttention:  # its biases are parameters of their own, and keys have none
        query = Linear(query.weight, attention.q_bias, query.rows)
        value = Linear(value.weight, attention.v_bias, value.rows)
    return query, key, value


def _qk_refusal(attention: Any, *, rotary: bool) -> str | None:
    if not is_identity(attention.q_norm):
        return "normalises its queries and keys (qk_norm)"
    if rotary:
        return "rotates its queries and keys by their places in the image (rotary position embedding)"
    return None


def _mlp_input(mlp: Any, where: str) -> Linear | None:
    """Return the one matrix into the hidden units, with that into their gates where they have some."""
    from timm.layers.mlp import GluMlp, Mlp

    return linear(mlp.fc1, where) if type(mlp) in (Mlp, GluMlp) else None


def _mlp_output(mlp: Any, where: str) -> Linear | None:
    """Return the output matrix; a gate only decides how much a hidden unit writes, not what."""
    from timm.layers.mlp import GluMlp, Mlp, SwiGLU

    return linear(mlp.fc2, where) if type(mlp) in (Mlp, GluMlp, SwiGLU) else None


def _final_norm(trunk: Any) -> Any:
    """Return the one layer norm after the last layer, before or after the pool."""
    if trunk.attn_pool is None and trunk.global_pool not in ("token", "avg"):
        raise HeadscanError(
            f"the vision tower pools its tokens by {trunk.global_pool!r}: only token and avg are linear"
        )
    norms = [norm for norm in (trunk.norm, trunk.fc_norm) if not is_identity(norm)]
    if len(norms) != 1 or (trunk.attn_pool is not None and norms[0] is trunk.fc_norm):
        raise HeadscanError("the vision tower does not end in one layer norm before its projection: not supported")
    return layer_norm(norms[0], "the end of the vision tower")


def _head(visual: Any) -> Any:
    """Return the one linear layer into the joint space, None where there is none."""
    from torch import nn

    parts = [part for part in (visual.trunk.head, *visual.head) if not isinstance(part, (nn.Dropout, nn.Identity))]
    if len(parts) > 1 or not all(isinstance(part, nn.Linear) for part in parts):
        names = ", ".join(type(part).__name__ for part in parts)
        raise HeadscanError(f"the vision tower ends in {names}: only one linear projection can be read")
    return parts[0] if parts else None


def _read_pool(pool: Any, norm: Any, head: Any, weights: Weights) -> FinalWeights:
    from timm.layers.attention_pool import AttentionPoolLatent

    if type(pool) is not AttentionPoolLatent or pool.mlp is None or pool.pos_embed is not None:
        raise HeadscanError(
            f"the vision tower ends in an attention pool of another kind than SigLIP's ({type_name(pool)})"
        )
    width = pool.kv.out_features // 2
    value = linear(pool.kv, "the attention pool", rows=slice(width, 2 * width))
    return pooled(weights, norm, value=value, output=pool.proj, pool_norm=pool.norm, pool_mlp=pool.mlp, head=head)
