"""timm's towers with a layer norm inside the attention or after it, and Swin, against their own forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headscan as hs
from architectures import shrunk
from traces import Trace, attended, deviation, traced


def image(module):
    height, width = module.visual.image_size
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.fixture(scope="module", params=["EVA02-B-16", "EVA02-L-14", "EVA02-E-14"])
def eva(request):
    module = shrunk(request.param).double()
    post = request.param == "EVA02-E-14"
    traces = []
    for block in module.visual.trunk.blocks:
        block.attn.fused_attn = False
        parts = {"x": block, "weights": block.attn.attn_drop, "added": block.norm1 if post else block.attn}
        traces.append(Trace(**parts, norm=block.norm1 if post else block.attn.norm))
    return hs.load_model(module), traced(traces, lambda: module.encode_image(image(module)))


def test_heads_add_up_to_the_attention_up_to_each_tokens_scale(eva):
    model, layers = eva
    for layer, seen in enumerate(layers):
        scale = 1 / deviation(seen["norm"], model.tower.blocks[layer])
        weights = model.tower.read_attention(layer)
        expected = scale * (attended(model.tower, layer, seen).sum(axis=0) + weights.scaled_bias)
        np.testing.assert_allclose(expected + weights.output_bias, seen["added"], atol=1e-10)


def test_folded_factors_write_what_each_head_does_up_to_that_scale(eva):
    model, layers = eva
    for layer, seen in enumerate(layers):
        factors = hs.vo_factors(model, layers=[layer])
        block, x = model.tower.blocks[layer], seen["x"]
        if block.norm is not None:
            x = (x - x.mean(axis=-1, keepdims=True)) / deviation(x, block)
        for head, raw in enumerate(attended(model.tower, layer, seen)):
            read = x @ factors.left[0, head] @ factors.right[0, head] + factors.bias[0, head]
            centred = raw - raw.mean(axis=-1, keepdims=True)
            np.testing.assert_allclose(seen["weights"][:, head] @ read, centred, atol=1e-10)


def test_such_heads_are_explained_and_said_to_be_scaled_and_not_edited(eva):
    model, _ = eva
    assert "up to a positive scale of each token" in model.tower.note
    weights = model.tower.read_attention(0)
    with pytest.raises(hs.HeadscanError, match=r"layer 0 .* has a layer norm .* can be read but not edited"):
        model.tower.write_attention_output(0, weights.output, weights.output_bias)


def test_mlps_after_which_a_layer_norm_stands_are_folded():
    module = shrunk("EVA02-E-14").double()
    block = module.visual.trunk.blocks[1]
    seen = {}
    for name, part in {"hidden": block.mlp.fc2, "before": block.norm2}.items():
        part.register_forward_pre_hook(lambda part, given, name=name: seen.update({name: given[0].numpy()}))
    block.norm2.register_forward_hook(lambda part, given, made: seen.update(after=made.numpy()))
    with torch.no_grad():
        module.encode_image(image(module))
    weights = hs.load_model(module).tower.read_mlp(1)
    scale = 1 / np.sqrt(seen["before"].var(axis=-1, keepdims=True) + block.norm2.eps)
    expected = scale * (seen["hidden"] @ weights.output + weights.scaled_bias) + weights.output_bias
    np.testing.assert_allclose(expected, seen["after"], atol=1e-10)


def test_swins_last_stage_is_read_window_by_window():
    module = shrunk("swin_base_patch4_window7_224").double()
    model = hs.load_model(module)
    stage = module.visual.trunk.layers[-1].blocks
    assert model.layers == len(stage) == 2
    assert model.width == module.visual.trunk.num_features
    assert "the 3 before it" in model.tower.note
    for block in stage:
        block.attn.fused_attn = False
    traces = [Trace(x=block.attn, weights=block.attn.attn_drop, added=block.attn, norm=block.attn) for block in stage]
    for layer, seen in enumerate(traced(traces, lambda: module.encode_image(image(module)))):
        weights = model.tower.read_attention(layer)
        heads = [
            seen["weights"][:, head]
            @ (seen["x"] @ weights.value[:, rows] + weights.value_bias[rows])
            @ weights.output[rows]
            for head, rows in enumerate(np.arange(model.heads * model.rank).reshape(model.heads, -1))
        ]
        np.testing.assert_allclose(sum(heads) + weights.output_bias, seen["added"], atol=1e-10)


def test_swins_way_into_joint_space_is_its_own():
    module = shrunk("swin_base_patch4_window7_224").double()
    rows = np.random.default_rng(2).standard_normal((3, module.visual.trunk.num_features))
    with torch.no_grad():
        stream = torch.from_numpy(rows)[:, None, None]  # pictures of one token
        expected = module.visual.head(module.visual.trunk.head(module.visual.trunk.norm(stream)))
    np.testing.assert_allclose(hs.load_model(module).tower.read_final().apply(rows), expected.numpy(), atol=1e-12)


def test_an_edit_of_swin_changes_what_its_head_writes_and_no_other():
    module = shrunk("swin_base_patch4_window7_224").double()
    model = hs.load_model(module)
    weights = model.tower.read_attention(1)
    output = weights.output.copy()
    output[: model.rank] = 0
    model.tower.write_attention_output(1, output, weights.output_bias)
    again = model.tower.read_attention(1)
    np.testing.assert_allclose(again.output, output, atol=1e-12)
    np.testing.assert_array_equal(again.value, weights.value)
