"""Towers: where an architecture keeps the weights that headscan reads, an adapter a family.

A `Tower` says, for one architecture, where each layer's value-output path, queries and keys and MLP are, and the
final map into the joint space. Supporting another architecture means writing one more function from a module to a
`Tower` and naming it in `read_tower`.
"""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.checks import type_name
from headscan.models.towers.tower import (
    AttentionWeights,
    FinalWeights,
    MLPInputWeights,
    MLPWeights,
    QueryKeyWeights,
    Tower,
)
from headscan.models.towers.weights import Weights

__all__ = [
    "AttentionWeights",
    "FinalWeights",
    "MLPInputWeights",
    "MLPWeights",
    "QueryKeyWeights",
    "Tower",
    "Weights",
    "read_tower",
]


def read_tower(module: Any, *, kind: str = "image", weights: Weights | None = None) -> Tower:
    """Return one of the two towers of a model.

    Parameters
    ----------
    module : torch.nn.Module
        A model of open_clip or transformers, or open_clip's vision module alone.
    kind : {"image", "text"}
        Which tower.
    weights : Weights, optional
        Where the module's tensors are; by default in the module.

    Raises
    ------
    HeadscanError
        If the architecture is not supported, naming it and saying why.
    """
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    from headscan.models.towers.open_clip import read_open_clip_text
    from headscan.models.towers.transformers import is_transformers, read_transformers

    weights = Weights(module) if weights is None else weights
    if kind not in ("image", "text"):
        raise HeadscanError(f"a tower is 'image' or 'text', not {kind!r}")
    if is_transformers(module):
        return read_transformers(module, weights, kind=kind)
    if kind == "image":
        return _read_vision(getattr(module, "visual", module), weights)
    if isinstance(module, CLIP):
        return read_open_clip_text(module, weights)
    text = getattr(module, "text", None)
    if isinstance(text, TextTransformer):
        return read_open_clip_text(text, weights)
    raise HeadscanError(f"the text tower is a {type_name(text)}: only open_clip's TextTransformer is supported")


def _read_vision(visual: Any, weights: Weights) -> Tower:
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    from headscan.models.towers.open_clip import read_open_clip_vision
    from headscan.models.towers.timm import read_timm

    if isinstance(visual, VisionTransformer):
        return read_open_clip_vision(visual, weights)
    if isinstance(visual, TimmModel):
        return read_timm(visual, weights)
    if isinstance(visual, ModifiedResNet):
        raise HeadscanError(
            "the vision tower is a ResNet (ModifiedResNet): only vision transformers have heads to explain"
        )
    raise HeadscanError(
        f"the vision tower is a {type_name(visual)}: only those of open_clip and transformers are supported"
    )
