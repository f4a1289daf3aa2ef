"""Text towers of transformers inside open_clip: NLLB's encoder, the one whose heads are read."""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block
from headscan.models.towers.checks import final_weights, is_identity, layer_norm, linear, type_name
from headscan.models.towers.layer_weights import FinalWeights
from headscan.models.towers.tower import Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_hf_text"]


def read_hf_text(text: Any, weights: Weights) -> Tower:
    """Read open_clip's ``HFTextEncoder`` around the encoder of M2M100 (NLLB).

    Raises
    ------
    HeadscanError
        If it holds another encoder, or ends in a projection that is not linear: its texts can be embedded, its heads
        not explained.
    """
    encoder, projection = text.transformer, text.proj
    if type(encoder).__name__ != "M2M100Encoder":
        raise HeadscanError(
            f"the text tower is a {type_name(encoder)}, whose layers normalise after each part or end in an MLP: its "
            "texts make dictionaries, its heads cannot be read"
        )
    where = "the end of the text tower"
    norm = layer_norm(encoder.layer_norm, where)
    into = None if is_identity(projection) else linear(projection, where)
    width = int(norm.normalized_shape[0])
    blocks = [_block(layer, f"layer {number} of the text tower") for number, layer in enumerate(encoder.layers)]

    def read_final() -> FinalWeights:
        return final_weights(weights, norm, width=width, projection=into)

    joint_dim = width if into is None else int(into.weight.shape[0])
    return make_tower(
        blocks, family="hf_text", kind="text", joint_dim=joint_dim, weights=weights, read_final=read_final
    )


def _block(layer: Any, where: str) -> Block:
    attention = layer.self_attn
    return Block(
        norm=layer_norm(layer.self_attn_layer_norm, where),
        heads=int(attention.num_heads),
        query=linear(attention.q_proj, where),
        key=linear(attention.k_proj, where),
        value=linear(attention.v_proj, where),
        output=linear(attention.out_proj, where),
        mlp_input_norm=layer_norm(layer.final_layer_norm, where),
        mlp_input=linear(layer.fc1, where),
        mlp_output=linear(layer.fc2, where),
    )
