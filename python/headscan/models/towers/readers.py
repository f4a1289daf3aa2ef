"""Which reader takes which architecture: the one list that a new architecture is added to.

A reader is a function from a module and its `Weights` to a `Tower`. It says where each layer keeps its parameters, a
`Block` a layer, and how the stream ends in the joint space, and refuses by name what it does not know.
"""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.towers.checks import type_name
from headscan.models.towers.flava import read_flava
from headscan.models.towers.hf_text import read_hf_text
from headscan.models.towers.open_clip import read_open_clip_text, read_open_clip_vision
from headscan.models.towers.resnet import read_resnet
from headscan.models.towers.timm import read_swin, read_timm
from headscan.models.towers.tower import Tower
from headscan.models.towers.transformers import MODEL_TYPES, is_transformers, read_transformers
from headscan.models.towers.weights import Weights

__all__ = ["IMAGE_READERS", "NO_HEADS", "TEXT_READERS", "TWO_TOWER_READERS", "read_tower"]

# By "library.Class". A timm trunk inside open_clip's TimmModel goes by its own name; its reader gets the TimmModel.
IMAGE_READERS = {
    "open_clip.VisionTransformer": read_open_clip_vision,
    "open_clip.ModifiedResNet": read_resnet,
    "timm.Eva": read_timm,
    "timm.SwinTransformer": read_swin,
    "timm.VisionTransformer": read_timm,
    "timm.VisionTransformerRelPos": read_timm,
}
TEXT_READERS = {
    "open_clip.CLIP": read_open_clip_text,
    "open_clip.TextTransformer": read_open_clip_text,
    "open_clip.HFTextEncoder": read_hf_text,
}
# Both towers of one of transformers' classes, which `MODEL_TYPES` lists; these readers take ``kind`` too.
TWO_TOWER_READERS = {f"transformers.{name}": read_transformers for name in MODEL_TYPES.values()} | {
    "transformers.FlavaModel": read_flava,
}
NO_HEADS = {
    "timm.ConvNeXt": "it is made of convolutions and has no attention heads",
    "timm.FastVit": "what its few heads write passes convolutions and a gate before it is pooled, so directions have "
    "no place in the joint space",
}


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
    weights = Weights(module) if weights is None else weights
    if kind not in ("image", "text"):
        raise HeadscanError(f"a tower is 'image' or 'text', not {kind!r}")
    if is_transformers(module):
        return TWO_TOWER_READERS[f"transformers.{type(module).__name__}"](module, weights, kind=kind)
    readers = IMAGE_READERS if kind == "image" else TEXT_READERS
    part = getattr(module, "visual", module) if kind == "image" else getattr(module, "text", module)
    named = getattr(part, "trunk", part)
    for name in _names(named):
        if name in readers:
            return readers[name](part, weights)
        if name in NO_HEADS:
            raise HeadscanError(f"the vision tower is a {type_name(named)}: {NO_HEADS[name]}")
    tower = "vision" if kind == "image" else "text"
    raise HeadscanError(f"the {tower} tower is a {type_name(named)}: supported are {', '.join(readers)}")


def _names(part: object) -> list[str]:
    """Return "library.Class" of a module; of open_clip's also of the classes that it refines."""
    kinds = [kind for kind in type(part).__mro__ if kind.__module__.startswith("open_clip.")] or [type(part)]
    return [f"{kind.__module__.split('.')[0]}.{kind.__qualname__}" for kind in (type(part), *kinds)]
