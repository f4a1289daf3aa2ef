"""Writing an output projection back: the module's own forward pass follows, in its own dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import build_module
from headscan.models.towers import read_tower

SCALED = {
    "plain": {},
    "layer scale": {"ls_init_value": 0.5},
    "head scale": {"block_type": "custom", "scale_heads": True, "ls_init_value": 0.5},
}


@pytest.mark.parametrize("vision", SCALED.values(), ids=SCALED)
def test_what_is_written_is_read_again_and_changes_nothing_else(vision):
    module = build_module(**vision).double()
    tower = read_tower(module.visual)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    random = np.random.default_rng(0)
    output, bias = random.standard_normal((32, 32)), random.standard_normal(32)
    tower.write_attention_output(1, output, bias)
    read = tower.read_attention(1)
    np.testing.assert_allclose(read.output, output, rtol=1e-14)
    np.testing.assert_allclose(read.output_bias, bias, rtol=1e-14)
    changed = {name for name, weight in module.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {f"visual.transformer.resblocks.1.attn.out_proj.{kind}" for kind in ("weight", "bias")}


def test_half_precision_stays_half_precision():
    module = build_module().half()
    tower = read_tower(module.visual)
    tower.write_attention_output(0, np.full((32, 32), 0.1), np.zeros(32))
    projection = module.visual.transformer.resblocks[0].attn.out_proj
    assert projection.weight.dtype == torch.float16
    assert projection.weight.requires_grad
    assert torch.equal(projection.weight, torch.full((32, 32), 0.1, dtype=torch.float16))


def test_what_cannot_be_written_is_refused_and_nothing_changes():
    module = build_module(ls_init_value=0.5).half()
    module.visual.transformer.resblocks[2].ls_1.gamma.data[3] = 0.0
    module.visual.transformer.resblocks[1].attn.out_proj.bias = None
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    write = read_tower(module.visual).write_attention_output
    ones, row = np.ones((32, 32)), np.ones(32)
    for arguments, says in [
        ((0, ones[:8], row), r"expected .* shape \(32, 32\) and a bias of shape \(32,\), got \(8, 32\)"),
        ((0, ones * 1e6, row), "does not fit the module's torch.float16"),
        ((1, ones, row), "has no bias"),
        ((2, ones, row), "scale of zero"),
    ]:
        with pytest.raises(hs.HeadscanError, match=says):
            write(*arguments)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
