"""open_clip's towers with a layer norm inside the attention or after it, and CoCa's, against their forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headscan as hs
from architectures import shrunk
from conftest import build_module
from headscan.heads.writes import head_writes
from traces import Trace, attended, deviation, traced

NORMS = {
    "inside": {"scale_attn_inner": True, "scale_heads": True},
    "after": {"scale_attn": True, "ls_init_value": 0.5},
}


@pytest.mark.parametrize("vision", NORMS.values(), ids=NORMS)
def test_heads_add_up_to_the_attention_up_to_each_tokens_scale(vision):
    module = build_module(block_type="custom", **vision).double()
    model, traces = hs.load_model(module), []
    for block in module.visual.transformer.resblocks:
        block.attn.use_fsdpa = False
        norm = block.attn.ln_inner if "scale_attn_inner" in vision else block.ln_attn
        traces.append(Trace(x=block, weights=_softmax_of(block.attn), added=block.ls_1, norm=norm))
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for layer, seen in enumerate(traced(traces, lambda: module.encode_image(image))):
        weights = model.tower.read_attention(layer)
        scale = 1 / deviation(seen["norm"], model.tower.blocks[layer])
        expected = scale * (attended(model.tower, layer, seen).sum(axis=0) + weights.scaled_bias)
        np.testing.assert_allclose(expected + weights.output_bias, seen["added"], atol=1e-10)


def _softmax_of(attention):
    """Have the attention run by its plain path, for heads side by side, and show its weights in `attn_drop`."""

    def forward(x, attn_mask=None):
        q, k, v = (
            part.reshape(*x.shape[:2], attention.num_heads, -1).transpose(1, 2)
            for part in torch.nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
        )
        weights = attention.attn_drop((q @ k.transpose(-1, -2) * attention.scale).softmax(-1))
        mixed = weights @ v if attention.head_scale is None else weights @ v * attention.head_scale
        return attention.out_proj(attention.ln_inner(mixed.transpose(1, 2).reshape(x.shape)))

    own = attention.forward
    x = torch.randn(2, 5, attention.in_proj_weight.shape[1], dtype=torch.float64)
    attention.use_fsdpa = True
    torch.testing.assert_close(forward(x), own(x))  # what is watched is what open_clip computes
    attention.forward = forward
    return attention.attn_drop


@pytest.mark.parametrize("vision", NORMS.values(), ids=NORMS)
def test_contributions_and_edits_of_such_towers_are_refused_by_name(vision):
    model = hs.load_model(build_module(block_type="custom", **vision))
    with pytest.raises(hs.HeadscanError, match=r"layer 0 .* a layer norm inside its attention or after it"):
        hs.contributions(model, torch.randn(3, 16, 16))
    weights = model.tower.read_attention(1)
    with pytest.raises(hs.HeadscanError, match=r"layer 1 .* can be read but not edited"):
        model.tower.write_attention_output(1, weights.output, weights.output_bias)


def test_cocas_pool_of_equal_tokens_is_the_map_into_joint_space():
    module = shrunk("coca_ViT-B-32").double()
    model = hs.load_model(module)
    rows = np.random.default_rng(3).standard_normal((4, model.width))
    with torch.no_grad():
        tokens = torch.from_numpy(rows)[:, None].expand(-1, 7, -1)
        expected = module.visual._pool(tokens)[0] @ module.visual.proj
    final = model.tower.read_final()
    np.testing.assert_allclose(final.apply(rows), expected.numpy(), atol=1e-10)
    # Its linear part differs by the layer norm's positive scale alone: less their shifts, both are parallel.
    normed = (rows - rows.mean(axis=1, keepdims=True)) / np.sqrt(rows.var(axis=1, keepdims=True) + final.eps)
    own = module.visual.ln_post.bias.detach().numpy() @ module.visual.proj.detach().numpy()
    linear = (normed * final.gain + final.shift) @ final.projection + final.bias - own
    curved = final.apply(rows) - own
    cosines = (linear * curved).sum(axis=1) / np.linalg.norm(linear, axis=1) / np.linalg.norm(curved, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-12)


def test_cocas_class_token_is_not_taken_for_what_is_pooled():
    model = hs.load_model(build_module(attentional_pool=True, attn_pooler_heads=4))
    with pytest.raises(hs.HeadscanError, match="no class token to read, but the pooling 'attention'"):
        head_writes(model, torch.randn(1, 3, 16, 16))
    with pytest.raises(hs.HeadscanError, match="or averaged tokens to read, but the pooling 'attention'"):
        hs.contributions(model, torch.randn(3, 16, 16))


def test_two_attention_pools_are_refused_by_name():
    with pytest.raises(hs.HeadscanError, match=r"two attention pools \(cascade\)"):
        hs.load_model(build_module(attentional_pool="cascade", attn_pooler_heads=4))
