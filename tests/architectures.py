"""Models of open_clip's and transformers' own making, shrunk to a few small layers, every weight drawn."""

from __future__ import annotations

import copy
import functools
import re
from unittest import mock

import open_clip
import timm
import torch

SMALL_TIMM = {"depth": 2, "embed_dim": 48, "num_heads": 4}
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
)
TRANSFORMERS = ("CLIPModel", "SiglipModel", "Siglip2Model", "MetaClip2Model")


def shrunk(name: str, **vision: object) -> torch.nn.Module:
    """Build an architecture of open_clip's list with few, narrow layers."""
    config, small = copy.deepcopy(open_clip.get_model_config(name)), dict(SMALL_TIMM)
    vision_config, text_config = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" not in vision_config:
        vision_config |= {"layers": 2, "width": 48, "head_width": 12, "image_size": 4 * vision_config["patch_size"]}
    else:
        patch = int(re.search(r"patch(\d+)", vision_config["timm_model_name"])[1])
        vision_config["image_size"] = small["img_size"] = 4 * patch
    vision_config |= vision
    text_config |= {"layers": 2, "width": 48, "heads": 4, "vocab_size": 64, "context_length": 8}
    create = functools.partial(timm.create_model, **small)
    with mock.patch.object(timm, "create_model", create), torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        module = open_clip.create_model(
            name,
            pretrained_text=False,
            embed_dim=48 if vision_config.get("timm_proj") == "none" else 40,
            vision_cfg=vision_config,
            text_cfg=text_config,
        )
    return draw(module)


def transformers_model(name: str) -> torch.nn.Module:
    """Build a two-tower model of transformers with few, narrow layers."""
    import transformers

    layer = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 63, "pad_token_id": 0}
    vision = {"patch_size": 8} | ({"num_patches": 16} if name == "Siglip2Model" else {"image_size": 32})
    projection = {"projection_size": 48} if "Siglip" in name else {}
    config = getattr(transformers, name.replace("Model", "Config"))(
        text_config=layer | text | projection,
        vision_config=layer | vision,
        attn_implementation="eager",
        **({} if projection else {"projection_dim": 40}),
    )
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
