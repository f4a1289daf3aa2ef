"""Models of open_clip's and transformers' own making, shrunk to a few small layers, every weight drawn."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any
from unittest import mock

import open_clip
import timm
import torch
import transformers

SMALL_TIMM: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 4}
SMALL_SWIN: dict[str, Any] = {
    "depths": (1, 1, 1, 2),
    "embed_dim": 8,
    "num_heads": (1, 1, 2, 4),
    "img_size": 64,
    "window_size": 2,
}
OPEN_CLIP = (  # one of each kind in open_clip's list
    "ViT-B-32",
    "ViT-B-32-quickgelu",
    "ViT-L-14",
    "ViT-H-14",
    "ViT-g-14",
    "ViT-bigG-14",
    "ViT-B-16-plus-240",
    "ViT-M-16-alt",
    "ViT-L-14-CLIPA",
    "ViT-H-14-worldwide",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "ViT-SO400M-14-SigLIP",
    "ViT-gopt-16-SigLIP2-256",
    "PE-Core-B-16",
    "PE-Core-L-14-336",
    "EVA01-g-14",
    "MobileCLIP2-L-14",
    "vit_medium_patch16_gap_256",
    "vit_relpos_medium_patch16_cls_224",
    "ViTamin-S",
    "coca_ViT-B-32",
)
TRANSFORMERS = (
    "CLIPModel",
    "SiglipModel",
    "Siglip2Model",
    "MetaClip2Model",
    "AltCLIPModel",
    "BlipForImageTextRetrieval",
    "ChineseCLIPModel",
    "CLIPSegModel",
    "FlavaModel",
    "Owlv2Model",
    "OwlViTModel",
    "VisionTextDualEncoderModel",
    "XCLIPModel",
)
BERT_TEXTS = ("AltCLIPModel", "BlipForImageTextRetrieval", "ChineseCLIPModel", "VisionTextDualEncoderModel")
HF_TEXTS = {  # what open_clip's list names, by its sizes
    "roberta-base": (transformers.RobertaConfig, {}),
    "xlm-roberta-base": (transformers.XLMRobertaConfig, {}),
    "xlm-roberta-large": (
        transformers.XLMRobertaConfig,
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "google/mt5-base": (transformers.MT5Config, {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12}),
    "google/mt5-xl": (transformers.MT5Config, {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32}),
    "facebook/nllb-200-distilled-600M": (transformers.M2M100Config, {}),
    "facebook/nllb-200-distilled-1.3B": (transformers.M2M100Config, {"encoder_layers": 24}),
}


def shrunk(name: str, **vision: object) -> torch.nn.Module:
    """Build an architecture of open_clip's list with few, narrow layers."""
    config, small = copy.deepcopy(open_clip.get_model_config(name)), dict(SMALL_TIMM)
    vision_config, text_config = config["vision_cfg"], config["text_cfg"]
    if isinstance(vision_config.get("layers"), list):  # a ResNet
        vision_config |= {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 64}
    elif "timm_model_name" not in vision_config:
        vision_config |= {"layers": 2, "width": 48, "head_width": 12, "image_size": 4 * vision_config["patch_size"]}
        if vision_config.get("attentional_pool"):
            vision_config |= {"attn_pooler_heads": 4, "attn_pooler_queries": 3}
    elif vision_config["timm_model_name"].startswith("swin"):
        small, vision_config["image_size"] = dict(SMALL_SWIN), SMALL_SWIN["img_size"]
    elif vision_config["timm_model_name"].startswith("vitamin"):  # its convolutions fix the width
        small, vision_config["image_size"] = {"depth": 2, "img_size": 64}, 64
    else:
        patch = int(re.findall(r"patch(\d+)", vision_config["timm_model_name"])[0])
        vision_config["image_size"] = small["img_size"] = 4 * patch
    vision_config |= vision
    if "hf_model_name" in text_config:
        text_config["hf_model_pretrained"] = False
    text_config |= {"layers": 2, "width": 48, "heads": 4, "vocab_size": 64, "context_length": 8}
    create = functools.partial(timm.create_model, **small)
    more: dict[str, Any] = {}
    if "multimodal_cfg" in config:
        more["multimodal_cfg"] = config["multimodal_cfg"] | {"layers": 1, "width": 48, "heads": 4}
    with (
        mock.patch.object(timm, "create_model", create),
        mock.patch.object(transformers.AutoConfig, "from_pretrained", lambda name: hf_text_config(name)),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(11)
        module = open_clip.create_model(
            name,
            pretrained_text=False,
            embed_dim=48 if vision_config.get("timm_proj") == "none" else 40,
            vision_cfg=vision_config,
            text_cfg=text_config,
            **more,
        )
    return draw(module)


def hf_text_config(name: str, *, small: bool = True) -> transformers.PretrainedConfig:
    """Return what the hub has under a name that open_clip builds a text tower from, shrunk or in its real sizes."""
    kind, sizes = HF_TEXTS[name]
    cut = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 63}
    if kind is transformers.MT5Config:
        cut |= {"num_layers": 2, "d_model": 48, "d_kv": 12, "d_ff": 80, "num_heads": 4}
    elif kind is transformers.M2M100Config:
        cut |= {"encoder_layers": 2, "decoder_layers": 1, "d_model": 48, "encoder_ffn_dim": 80}
        cut |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 80}
    else:
        cut |= {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4}
        cut |= {"max_position_embeddings": 16}
    return kind(**(sizes | cut if small else sizes), attn_implementation="eager")


def transformers_model(name: str) -> torch.nn.Module:
    """Build a two-tower model of transformers with few, narrow layers."""
    layer: dict[str, Any] = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text = {"vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 63, "pad_token_id": 0}
    vision = {"patch_size": 8} | ({"num_patches": 16} if name == "Siglip2Model" else {"image_size": 32})
    projection = {"projection_size": 48} if "Siglip" in name else {}
    options: dict[str, Any] = {"text_config": layer | text | projection, "vision_config": layer | vision}
    options |= {} if projection else {"projection_dim": 40}
    kind = name.replace("Model", "Config")
    if name == "AltCLIPModel":
        options["text_config"] |= {"project_dim": 44, "max_position_embeddings": 16}
    elif name == "XCLIPModel":
        options["vision_config"] |= {"num_frames": 2, "mit_hidden_size": 40, "mit_num_attention_heads": 4}
        options["vision_config"] |= {"mit_num_hidden_layers": 1, "mit_intermediate_size": 48}
    elif name == "BlipForImageTextRetrieval":
        kind = "BlipConfig"
        options["text_config"] |= {"encoder_hidden_size": 48, "projection_dim": 40, "sep_token_id": 62}
        options |= {"image_text_hidden_size": 40}
    elif name == "FlavaModel":
        options |= {"image_config": options.pop("vision_config"), "multimodal_config": layer, "hidden_size": 48}
    elif name == "VisionTextDualEncoderModel":
        options["text_config"] |= {"model_type": "bert"}
        options["vision_config"] |= {"model_type": "clip_vision_model"}
    config = getattr(transformers, kind)(attn_implementation="eager", **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return draw(getattr(transformers, name)(config))


def draw(module: torch.nn.Module) -> torch.nn.Module:
    """Draw every gain, shift, bias and scale too: nothing cancels, nothing is the identity."""
    generator = torch.Generator().manual_seed(7)
    for name, weight in module.named_parameters():
        if weight.ndim == 1 or name.endswith(("head_scale", "gamma")):
            around = 0.0 if "bias" in name else 1.0
            weight.data.copy_(around + 0.2 * torch.randn(weight.shape, generator=generator))
        elif weight.ndim == 2:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)
    return module.eval()
