"""transformers' FLAVA: two towers of ViT layers, each with a projection into the joint space."""

from __future__ import annotations

from typing import Any

from headscan.models.towers.block import Block
from headscan.models.towers.checks import final_weights, layer_norm, linear
from headscan.models.towers.layer_weights import FinalWeights
from headscan.models.towers.tower import Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_flava"]


def read_flava(model: Any, weights: Weights, *, kind: str) -> Tower:
    """Read one tower of ``FlavaModel``: its class token, normalised and projected, is the embedding."""
    name = "vision" if kind == "image" else "text"
    part, projection = getattr(model, f"{kind}_model"), getattr(model, f"{kind}_projection")
    blocks = [_block(layer, f"layer {number} of the {name} tower") for number, layer in enumerate(part.encoder.layer)]
    norm, into = layer_norm(part.layernorm, f"the end of the {name} tower"), linear(projection, "the projection")

    def read_final() -> FinalWeights:
        return final_weights(weights, norm, width=int(norm.normalized_shape[0]), projection=into)

    return make_tower(
        blocks,
        family="flava",
        kind=kind,
        joint_dim=int(projection.out_features),
        weights=weights,
        read_final=read_final,
    )


def _block(layer: Any, where: str) -> Block:
    attention = layer.attention.attention
    return Block(
        norm=layer_norm(layer.layernorm_before, where),
        heads=int(attention.num_attention_heads),
        query=linear(attention.query, where),
        key=linear(attention.key, where),
        value=linear(attention.value, where),
        output=linear(layer.attention.output.dense, where),
        mlp_input_norm=layer_norm(layer.layernorm_after, where),
        mlp_input=linear(layer.intermediate.dense, where),
        mlp_output=linear(layer.output.dense, where),
    )
