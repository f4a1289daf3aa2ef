"""Contributions: the parts against a plain float64 forward pass, and their sum against the model's embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import build_module

# float32 forward passes of tiny towers: a few rounding errors of 1e-7 relative to embeddings of length about 10.
CLOSE: dict[str, Any] = {"atol": 5e-6, "rtol": 0}
TOWERS = [
    {},
    {"pool_type": "avg"},
    {"pool_type": "avg", "final_ln_after_pool": True},
    {"final_ln_after_pool": True},
    {"ls_init_value": 0.3},
    {"output_tokens": True},
    {"head_width": 32},
]


def picture(size=16, seed=0):
    return torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("options", TOWERS)
def test_the_parts_sum_to_the_embedding(options):
    module = build_module(**options)
    model = hs.load_model(module)
    parts = hs.contributions(model, picture())
    with torch.inference_mode():
        made = module.visual(picture()[None])
    embedding = (made[0] if isinstance(made, tuple) else made)[0].double().numpy()
    np.testing.assert_allclose(parts.embedding, embedding, **CLOSE)
    np.testing.assert_allclose(parts.total(), embedding, **CLOSE)


def test_the_demo_model_to_1e_4():
    parts = hs.contributions(hs.load_model("demo"), picture(48))
    np.testing.assert_allclose(parts.total(), parts.embedding, atol=1e-4)


def test_each_head_is_what_switching_it_off_takes_away():
    """With the last layer norm's statistics held, a last-layer head's part is the difference that its loss makes."""
    module = build_module()
    model = hs.load_model(module)
    parts = hs.contributions(model, picture())
    block = module.visual.transformer.resblocks[-1]
    for head in range(model.heads):
        mine = slice(head * model.rank, (head + 1) * model.rank)
        kept = block.attn.out_proj.weight.data[:, mine].clone()
        before = stream(module, block.ls_1)
        block.attn.out_proj.weight.data[:, mine] = 0
        lost = before - stream(module, block.ls_1)  # what the head adds to the class token
        block.attn.out_proj.weight.data[:, mine] = kept
        last = stream(module, module.visual.transformer)
        scaled = (lost - lost.mean()) / np.sqrt(last.var() + module.visual.ln_post.eps)
        gain, proj = (w.detach().double().numpy() for w in (module.visual.ln_post.weight, module.visual.proj))
        np.testing.assert_allclose(parts.heads[-1, head], (scaled * gain) @ proj, **CLOSE)


def stream(module, part):
    """Return what a part gives for the class token."""
    seen = []
    hook = part.register_forward_hook(lambda module, given, made: seen.append(made[0, 0].double().numpy()))
    with torch.inference_mode():
        module.encode_image(picture()[None])
    hook.remove()
    return seen[0]


def test_directions_are_those_of_the_scan_with_signed_coefficients(model):
    parts = hs.contributions(model, picture())
    factors = hs.vo_factors(model, layers=[1])
    vh = hs.svd_factored(factors.left[0], factors.right[0])[2]
    final = hs.joint_map(model).final
    written = (vh[2, 3] * final.gain) @ final.projection
    np.testing.assert_allclose(parts.directions[1, 2, 3], parts.coefficients[1, 2, 3] * written, atol=1e-12)


def test_shares_sum_to_one_and_turn_to_any_vector(model, dictionary):
    parts = hs.contributions(model, picture())
    table = parts.table()
    assert len(table) == 3 * 4 * 8 + 3 * 4 + 3 + 3 + 2
    assert table.share.sum() == pytest.approx(1.0)
    assert table.share.is_monotonic_decreasing
    atom = dictionary.atoms[3].astype(float)
    row = parts.table(towards=atom).query("part == 'direction' and layer == 2 and head == 1 and index == 0").iloc[0]
    assert row.share == pytest.approx(parts.directions[2, 1, 0] @ atom / (parts.total() @ atom))
    assert row.pole == ("+" if parts.coefficients[2, 1, 0] >= 0 else "-")


def test_the_model_is_left_as_it_was():
    module = build_module().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    hs.contributions(hs.load_model(module), picture())
    assert module.training and module.visual.transformer.resblocks[0].training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_what_cannot_be_split_is_refused(model):
    images: tuple[Any, ...] = (
        np.zeros((3, 16, 16)),
        torch.zeros(1, 3, 16, 16),
        torch.zeros(3, 16, 16, dtype=torch.uint8),
    )
    for image in images:
        with pytest.raises(hs.HeadscanError, match="an image must be a preprocessed floating-point tensor"):
            hs.contributions(model, image)
    with pytest.raises(hs.HeadscanError, match="no class token or averaged tokens to read, but the pooling 'none'"):
        hs.contributions(hs.load_model(build_module(pool_type="none")), picture())


def test_a_part_that_is_not_accounted_for_is_noticed():
    module = build_module()
    module.visual.transformer.resblocks[1].register_forward_hook(lambda module, given, made: made + 1.0)
    module.visual.ln_post.register_forward_hook(lambda module, given, made: made * 1.5)
    with pytest.raises(hs.HeadscanError, match="adds to its embedding what is not accounted for"):
        hs.contributions(hs.load_model(module), picture())
