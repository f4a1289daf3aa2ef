"""Embeddings by a model's own forward pass, whatever its class: of padded token ids, of preprocessed pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError
from headscan.models.towers.transformers import is_transformers

if TYPE_CHECKING:
    import torch

__all__ = ["embed_ids", "embed_preprocessed", "masked_padding"]

_MASKED = (
    "AltCLIPModel",
    "BlipForImageTextRetrieval",
    "ChineseCLIPModel",
    "FlavaModel",
    "VisionTextDualEncoderModel",
)
_BERT_TYPES = ("bert", "roberta", "xlm-roberta")


def embed_ids(module: Any, ids: torch.Tensor) -> Any:
    """Return the text embeddings (n, joint_dim) of padded ids (n, context), for any model that headscan loads."""
    if not is_transformers(module):
        return module.encode_text(ids)
    padding = masked_padding(module)
    mask = None if padding is None else (ids != padding).long()
    if hasattr(module, "text_encoder"):  # BLIP's retrieval model, which has no method for it
        return module.text_proj(module.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])
    made = module.get_text_features(input_ids=ids, **({} if mask is None else {"attention_mask": mask})).pooler_output
    return made if made.ndim == 2 else made[:, 0]  # FLAVA projects every token


def embed_preprocessed(module: Any, pixels: torch.Tensor) -> Any:
    """Return the image embeddings (n, joint_dim) of preprocessed pictures, for any model that headscan loads.

    Raises
    ------
    HeadscanError
        If the model embeds videos.
    """
    if not is_transformers(module):
        return module.encode_image(pixels)
    if hasattr(module, "get_video_features"):
        raise HeadscanError(f"{type(module).__name__} embeds videos: its heads are read, pictures are not embedded")
    if hasattr(module, "vision_proj"):  # BLIP's retrieval model, which has no method for it
        return module.vision_proj(module.vision_model(pixel_values=pixels).last_hidden_state[:, 0])
    made = module.get_image_features(pixel_values=pixels).pooler_output
    return made if made.ndim == 2 else made[:, 0]  # FLAVA projects every token


def masked_padding(module: Any) -> int | None:
    """Return the padding's id in text towers that mask it, as BERT's kind does; None where nothing is masked.

    Raises
    ------
    HeadscanError
        If it is not known whether the tower masks its padding.
    """
    from open_clip.hf_model import HFTextEncoder

    if not is_transformers(module):
        text: Any = getattr(module, "text", None)
        return int(text.config.pad_token_id) if type(text) is HFTextEncoder else None
    name, config = type(module).__name__, module.config.text_config
    if name == "VisionTextDualEncoderModel" and config.model_type not in _BERT_TYPES:
        kinds = ", ".join(_BERT_TYPES)
        raise HeadscanError(f"the text tower is of type {config.model_type!r}: a {name} is read with one of {kinds}")
    return int(config.pad_token_id) if name in _MASKED else None
