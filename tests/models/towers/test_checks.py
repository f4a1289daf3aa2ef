"""Towers whose heads are not linear, or not known, are refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import headscan as hs
from architectures import shrunk
from headscan.models.towers import read_tower


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


def test_gates_and_shared_keys_are_refused_by_name():
    from timm.models.eva import Eva
    from timm.models.vision_transformer import Block, VisionTransformer

    sizes: dict[Any, Any] = {
        "img_size": 16,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 1,
        "num_heads": 4,
        "num_classes": 40,
    }
    gated = Eva(**sizes)
    gated.blocks[0].attn.gate = torch.nn.Linear(48, 48)  # type: ignore[union-attr]
    shared = Eva(**sizes, attn_type="rope", qkv_fused=False, num_kv_heads=2)
    pooled = VisionTransformer(**sizes, global_pool="max")

    class Other(Block):
        pass

    module = shrunk("ViT-B-16-SigLIP")
    for trunk, says in [
        (gated, "layer 0 .*gates the attention's output"),
        (shared, "layer 0 .*grouped-query attention"),
        (pooled, "pools its tokens by 'max'"),
        (VisionTransformer(**sizes, block_fn=Other), "layer 0 .*Other: of timm's layers only Block, EvaBlock"),
    ]:
        module.visual.trunk = trunk
        with pytest.raises(hs.HeadscanError, match=says):
            read_tower(module)
