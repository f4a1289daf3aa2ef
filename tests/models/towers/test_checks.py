"""Towers whose heads are not linear, or not known, are refused by name."""

from __future__ import annotations

import copy

import pytest
import torch

import headscan as hs
from architectures import shrunk
from conftest import build_module
from headscan.models.towers import read_tower


@pytest.mark.parametrize(
    ("vision", "says"),
    [
        ({"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}, "ResNet"),
        ({"attentional_pool": True, "attn_pooler_heads": 4}, "attention pool"),
        ({"scale_attn": True}, "layer 0 .*scale_attn.*not linear"),
        ({"scale_attn_inner": True}, "layer 0 .*scale_attn_inner.*not linear"),
    ],
)
def test_architectures_refused_by_name(vision, says):
    with pytest.raises(hs.HeadscanError, match=says):
        hs.load_model(build_module(**vision))


def test_replaced_parts_are_refused_by_name(module):
    class Mine(torch.nn.MultiheadAttention):
        pass

    def refused(change, says):
        other = copy.deepcopy(module)
        change(other.visual, other.visual.transformer.resblocks[2])
        with pytest.raises(hs.HeadscanError, match=says):
            hs.load_model(other)

    def attend(**options):
        return lambda visual, block: setattr(block, "attn", torch.nn.MultiheadAttention(32, 4, **options))

    refused(lambda visual, block: setattr(block, "attn", Mine(32, 4)), "layer 2 .*Mine: only open_clip's own")
    refused(attend(add_bias_kv=True), "adds a bias or zero token")
    refused(attend(kdim=16, vdim=16), "separate query, key and value widths")
    refused(lambda visual, block: setattr(block, "ln_1", torch.nn.RMSNorm(32)), "RMSNorm: only LayerNorm")
    refused(lambda visual, block: setattr(block, "ls_1", torch.nn.Dropout()), "Dropout: only LayerScale")
    refused(lambda visual, block: setattr(visual, "proj", None), "no projection into the joint space")
    refused(
        lambda visual, block: setattr(visual.transformer, "resblocks", torch.nn.ModuleList()),
        "no transformer layers",
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("EVA02-B-16", "layer 0 .*normalises inside the attention, between values and output"),
        ("EVA02-E-14", r"layer 0 .*normalises the attention's output \(post-norm\)"),
        ("coca_ViT-B-32", "attention pool"),
    ],
)
def test_architectures_that_are_not_linear_are_refused_by_name(name, says):
    with pytest.raises(hs.HeadscanError, match=says):
        hs.load_model(shrunk(name))


def test_gates_and_shared_keys_are_refused_by_name():
    from timm.models.eva import Eva
    from timm.models.vision_transformer import Block, VisionTransformer

    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 4, "num_classes": 40}
    gated = Eva(**sizes)
    gated.blocks[0].attn.gate = torch.nn.Linear(48, 48)
    shared = Eva(**sizes, attn_type="rope", qkv_fused=False, num_kv_heads=2)
    pooled = VisionTransformer(**sizes, global_pool="max")

    class Other(Block):
        pass

    module = shrunk("ViT-B-16-SigLIP")
    for trunk, says in [
        (gated, "layer 0 .*gates the attention's output"),
        (shared, "layer 0 .*grouped-query attention"),
        (pooled, "pools its tokens by 'max'"),
        (VisionTransformer(**sizes, block_fn=Other), "layer 0 .*Other: only timm's Block and EvaBlock"),
    ]:
        module.visual.trunk = trunk
        with pytest.raises(hs.HeadscanError, match=says):
            read_tower(module)
