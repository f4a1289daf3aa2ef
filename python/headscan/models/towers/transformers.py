"""transformers' two-tower models of the shape of CLIP and SigLIP."""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block, Linear
from headscan.models.towers.checks import final_weights, layer_norm, linear, pooled_with_mlp, thirds, type_name
from headscan.models.towers.layer_weights import FinalWeights
from headscan.models.towers.tower import Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["MODEL_TYPES", "is_transformers", "read_transformers"]

MODEL_TYPES = {  # from config.json's model_type to the class that has both towers and the joint space
    "altclip": "AltCLIPModel",
    "blip": "BlipForImageTextRetrieval",
    "chinese_clip": "ChineseCLIPModel",
    "clip": "CLIPModel",
    "clipseg": "CLIPSegModel",
    "flava": "FlavaModel",
    "metaclip_2": "MetaClip2Model",
    "owlv2": "Owlv2Model",
    "owlvit": "OwlViTModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "vision-text-dual-encoder": "VisionTextDualEncoderModel",
    "xclip": "XCLIPModel",
}
_LAYERS = (
    "AltCLIPEncoderLayer",
    "BlipEncoderLayer",
    "ChineseCLIPVisionLayer",
    "CLIPEncoderLayer",
    "CLIPSegEncoderLayer",
    "MetaClip2EncoderLayer",
    "Owlv2EncoderLayer",
    "OwlViTEncoderLayer",
    "SiglipEncoderLayer",
    "Siglip2EncoderLayer",
    "XCLIPEncoderLayer",
    "XCLIPVisionEncoderLayer",
)
_FRAMES = "each frame by itself, before X-CLIP's multiframe transformer adds to it what other frames show"


def is_transformers(module: object) -> bool:
    """Say whether a module is one of the models read here, without importing transformers for it."""
    return type(module).__module__.startswith("transformers.") and type(module).__name__ in MODEL_TYPES.values()


def read_transformers(model: Any, weights: Weights, *, kind: str) -> Tower:
    """Read one tower of a two-tower model of transformers."""
    name = "vision" if kind == "image" else "text"
    part: Any = model.vision_model if kind == "image" else getattr(model, "text_model", None)
    layers = getattr(getattr(part, "encoder", None), "layers", None)
    if layers is None:
        raise HeadscanError(
            f"the {name} tower is a {type_name(part or getattr(model, 'text_encoder', None))}: its layers normalise "
            "after each part, so what a head writes is no part of a sum; its texts make dictionaries"
        )
    blocks = [_block(layer, f"layer {number} of the {name} tower") for number, layer in enumerate(layers)]
    norm = layer_norm(part.post_layernorm if kind == "image" else part.final_layer_norm, f"the {name} tower's end")
    head, pool = _head(model, part, kind)
    width = int(norm.normalized_shape[0])
    joint_dim = width if head is None else int(head.out_features)

    def read_final() -> FinalWeights:
        if pool is None:
            return final_weights(weights, norm, width=width, projection=linear(head, "the projection"))
        *_, rows = thirds(width)
        value = Linear(pool.attention.in_proj_weight, pool.attention.in_proj_bias, rows, rows)
        parts = {"output": pool.attention.out_proj, "pool_norm": pool.layernorm, "pool_mlp": pool.mlp}
        return pooled_with_mlp(weights, norm, value=value, head=None, **parts)

    return make_tower(
        blocks,
        family="transformers",
        kind=kind,
        joint_dim=joint_dim,
        weights=weights,
        read_final=read_final,
        note=_FRAMES if kind == "image" and type(model).__name__ == "XCLIPModel" else "",
    )


def _head(model: Any, part: Any, kind: str) -> tuple[Any, Any]:
    """Return the linear layer into the joint space, or the attention pool that ends there."""
    if kind == "text":
        return getattr(model, "text_projection", None) or part.head, None
    for name in ("visual_projection", "vision_proj"):
        if hasattr(model, name):
            return getattr(model, name), None
    if not getattr(part, "use_head", True):
        raise HeadscanError("the vision tower has no pooling head (vision_use_head is false): it has no joint space")
    return None, part.head


def _block(layer: Any, where: str) -> Block:
    if type(layer).__name__ not in _LAYERS:
        raise HeadscanError(f"{where} is a {type_name(layer)}: only {', '.join(_LAYERS)} are supported")
    attention = layer.self_attn
    if hasattr(attention, "qkv"):  # BLIP
        parts = thirds(attention.qkv.out_features // 3)
        query, key, value = (linear(attention.qkv, where, rows=rows) for rows in parts)
        output = attention.projection
    else:
        query, key, value = (linear(getattr(attention, name), where) for name in ("q_proj", "k_proj", "v_proj"))
        output = attention.out_proj
    return Block(
        norm=layer_norm(layer.layer_norm1, where),
        heads=int(attention.num_heads),
        query=query,
        key=key,
        value=value,
        output=linear(output, where),
        mlp_input_norm=layer_norm(layer.layer_norm2, where),
        mlp_input=linear(layer.mlp.fc1, where),
        mlp_output=linear(layer.mlp.fc2, where),
    )
