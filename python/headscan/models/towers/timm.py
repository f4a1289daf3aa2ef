"""timm's transformers in open_clip: SigLIP, SigLIP 2, EVA, PE-Core, ViTamin, Swin, relative-position ViTs."""

from __future__ import annotations

from typing import Any

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
    pooled_with_mlp,
    thirds,
    type_name,
)
from headscan.models.towers.layer_weights import FinalWeights
from headscan.models.towers.tower import Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_swin", "read_timm"]


def read_timm(visual: Any, weights: Weights) -> Tower:
    """Read open_clip's ``TimmModel`` around timm's ``VisionTransformer``, ``Eva`` or ``VisionTransformerRelPos``."""
    trunk = visual.trunk
    rotary = getattr(trunk, "rope", None) is not None
    return _tower(visual, trunk.blocks, weights, rotary=rotary)


def read_swin(visual: Any, weights: Weights) -> Tower:
    """Read open_clip's ``TimmModel`` around timm's ``SwinTransformer``: the layers of its last stage.

    Earlier stages write into narrower streams, which patch merging mixes and normalises before the last one.
    """
    stages = visual.trunk.layers
    earlier = sum(len(stage.blocks) for stage in stages[:-1])
    note = f"the layers of the last stage: the {earlier} before it write into narrower streams, merged on the way"
    return _tower(visual, stages[-1].blocks, weights, rotary=False, note=note)


def _tower(visual: Any, layers: Any, weights: Weights, *, rotary: bool, note: str = "") -> Tower:
    trunk, pool = visual.trunk, getattr(visual.trunk, "attn_pool", None)
    blocks = [
        _block(block, f"layer {number} of the vision tower", rotary=rotary) for number, block in enumerate(layers)
    ]
    head = _head(visual)
    norm = _final_norm(trunk, pool)
    joint_dim = trunk.num_features if head is None else head.out_features

    def read_final() -> FinalWeights:
        if pool is not None:
            return _read_pool(pool, norm, head, weights)
        projection = None if head is None else linear(head, "the head")
        return final_weights(weights, norm, width=int(trunk.num_features), projection=projection)

    return make_tower(
        blocks,
        family="timm",
        kind="image",
        joint_dim=int(joint_dim),
        weights=weights,
        read_final=read_final,
        note=note or norm_note(blocks),
    )


def _block(block: Any, where: str, *, rotary: bool) -> Block:
    from timm.models.eva import EvaBlock, EvaBlockPostNorm
    from timm.models.swin_transformer import SwinTransformerBlock
    from timm.models.vision_transformer import Block as TimmBlock
    from timm.models.vision_transformer_relpos import RelPosBlock

    known = (TimmBlock, EvaBlock, EvaBlockPostNorm, RelPosBlock, SwinTransformerBlock)
    if type(block) not in known:
        names = ", ".join(kind.__name__ for kind in known)
        raise HeadscanError(f"{where} is a {type_name(block)}: of timm's layers only {names} are supported")
    eva, post = type(block) is EvaBlock, type(block) is EvaBlockPostNorm
    query, key, value = _in_projection(block.attn, where)
    first, second = layer_norm(block.norm1, where), layer_norm(block.norm2, where)
    return Block(
        norm=None if post else first,
        heads=int(block.attn.num_heads),
        query=query,
        key=key,
        value=value,
        output=linear(block.attn.proj, where),
        qk_refusal=_qk_refusal(block.attn, rotary=rotary),
        value_norm=layer_norm_or_none(getattr(block.attn, "norm", None), where),
        output_norm=first if post else None,
        layer_scale=block.gamma_1 if eva else layer_scale(getattr(block, "ls1", None), where),
        mlp_input_norm=None if post else second,
        mlp_input=_mlp_input(block.mlp, where),
        mlp_output=_mlp_output(block.mlp, where),
        mlp_norm=None if hasattr(block.mlp, "w2") else layer_norm_or_none(getattr(block.mlp, "norm", None), where),
        mlp_output_norm=second if post else None,
        mlp_scale=block.gamma_2 if eva else layer_scale(getattr(block, "ls2", None), where),
    )


def _in_projection(attention: Any, where: str) -> tuple[Linear, Linear, Linear]:
    """Return queries, keys and values: thirds of one matrix, or a matrix each; biases may be missing."""
    from timm.layers.attention import Attention, AttentionRope
    from timm.models.eva import EvaAttention
    from timm.models.swin_transformer import WindowAttention
    from timm.models.vision_transformer_relpos import RelPosAttention

    if type(attention) not in (Attention, AttentionRope, EvaAttention, RelPosAttention, WindowAttention):
        raise HeadscanError(
            f"{where} attends with {type_name(attention)}: of timm's attentions this is not supported"
        )
    if getattr(attention, "gate", None) is not None:
        raise HeadscanError(f"{where} gates the attention's output by its input: V to O is not linear")
    if getattr(attention, "num_kv_groups", 1) != 1:
        raise HeadscanError(f"{where} shares keys and values between heads (grouped-query attention): not supported")
    if getattr(attention, "qkv", None) is None:
        names = ("q_proj", "k_proj", "v_proj")
        query, key, value = (linear(getattr(attention, name), where) for name in names)
        return query, key, value
    parts = thirds(attention.qkv.out_features // 3)
    query, key, value = (linear(attention.qkv, where, rows=rows) for rows in parts)
    if type(attention) is EvaAttention:  # its biases are parameters of their own, and keys have none
        query = Linear(query.weight, attention.q_bias, query.rows)
        value = Linear(value.weight, attention.v_bias, value.rows)
    return query, key, value


def _qk_refusal(attention: Any, *, rotary: bool) -> str | None:
    if not is_identity(getattr(attention, "q_norm", None)):
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
    from timm.models.vitamin import GeGluMlp

    if type(mlp) is GeGluMlp:  # ViTamin's, whose own layer norm is in front of its units
        return linear(mlp.w2, where)
    return linear(mlp.fc2, where) if type(mlp) in (Mlp, GluMlp, SwiGLU) else None


def _final_norm(trunk: Any, pool: Any) -> Any:
    """Return the one layer norm after the last layer, before or after the pool."""
    if pool is None and trunk.global_pool not in ("token", "avg"):
        raise HeadscanError(
            f"the vision tower pools its tokens by {trunk.global_pool!r}: only token and avg are linear"
        )
    norms = [norm for norm in (trunk.norm, getattr(trunk, "fc_norm", None)) if not is_identity(norm)]
    if len(norms) != 1 or (pool is not None and norms[0] is not trunk.norm):
        raise HeadscanError("the vision tower does not end in one layer norm before its projection: not supported")
    return layer_norm(norms[0], "the end of the vision tower")


def _head(visual: Any) -> Any:
    """Return the one linear layer into the joint space, None where there is none."""
    from torch import nn

    end = visual.trunk.head
    parts = [getattr(end, "fc", end), *visual.head]  # Swin's head pools, and its last part projects
    parts = [part for part in parts if not isinstance(part, (nn.Dropout, nn.Identity))]
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
    parts = {"output": pool.proj, "pool_norm": pool.norm, "pool_mlp": pool.mlp, "head": head}
    return pooled_with_mlp(weights, norm, value=value, **parts)
