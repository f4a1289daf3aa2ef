"""transformers' two-tower models: CLIPModel, SiglipModel, Siglip2Model, MetaClip2Model."""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block, Linear
from headscan.models.towers.checks import final_weights, layer_norm, linear, pooled, type_name
from headscan.models.towers.tower import FinalWeights, Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["MODEL_TYPES", "is_transformers", "read_transformers"]

MODEL_TYPES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "metaclip_2": "MetaClip2Model",
}
_LAYERS = ("CLIPEncoderLayer", "SiglipEncoderLayer", "Siglip2EncoderLayer", "MetaClip2EncoderLayer")


def is_transformers(module: object) -> bool:
    """Say whether a module is one of the models read here, without importing transformers for it."""
    return type(module).__module__.startswith("transformers.") and type(module).__name__ in MODEL_TYPES.values()


def read_transformers(model: Any, weights: Weights, *, kind: str) -> Tower:
    """Read one tower of a two-tower model of transformers."""
    part = model.vision_model if kind == "image" else model.text_model
    name = "vision" if kind == "image" else "text"
    layers = enumerate(part.encoder.layers)
    blocks = [_block(layer, f"layer {number} of the {name} tower") for number, layer in layers]
    norm = layer_norm(part.post_layernorm if kind == "image" else part.final_layer_norm, f"the {name} tower's end")
    head, pool = _head(model, part, kind)
    width = int(norm.normalized_shape[0])
    joint_dim = width if head is None else int(head.out_features)

    def read_final() -> FinalWeights:
        if pool is None:
            return final_weights(weights, norm, width=width, projection=linear(head, "the projection"))
        rows = slice(2 * width, 3 * width)
        value = Linear(pool.attention.in_proj_weight, pool.attention.in_proj_bias, rows, rows)
        parts = {"output": pool.attention.out_proj, "pool_norm": pool.layernorm, "pool_mlp": pool.mlp}
        return pooled(weights, norm, value=value, head=None, **parts)

    return make_tower(
        blocks, family="transformers", kind=kind, joint_dim=joint_dim, weights=weights, read_final=read_final
    )


def _head(model: Any, part: Any, kind: str) -> tuple[Any, Any]:
    """Return the linear layer into the joint space, or the attention pool that ends there."""
    if kind == "text":
        return getattr(model, "text_projection", None) or part.head, None
    if hasattr(model, "visual_projection"):
        return model.visual_projection, None
    if not getattr(part, "use_head", True):
        raise HeadscanError("the vision tower has no pooling head (vision_use_head is false): it has no joint space")
    return None, part.head


def _block(layer: Any, where: str) -> Block:
    if type(layer).__name__ not in _LAYERS:
        raise HeadscanError(f"{where} is a {type_name(layer)}: only {', '.join(_LAYERS)} are supported")
    attention = layer.self_attn
    return Block(
        norm=layer_norm(layer.layer_norm1, where),
        heads=int(attention.num_heads),
        query=linear(attention.q_proj, where),
        key=linear(attention.k_proj, where),
        value=linear(attention.v_proj, where),
        output=linear(attention.out_proj, where),
        head_scale=None,
        layer_scale=None,
        qk_refusal=None,
        mlp_input_norm=layer_norm(layer.layer_norm2, where),
        mlp_input=linear(layer.mlp.fc1, where),
        mlp_output=linear(layer.mlp.fc2, where),
        mlp_norm=None,
        mlp_scale=None,
    )
