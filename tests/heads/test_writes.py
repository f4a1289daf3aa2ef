"""What heads write at the class token: the same through either attention module, in the batches asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import build_module
from headscan.heads.writes import head_writes, mean_writes

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)


def batches_of(model, call):
    """Return how many pictures each forward pass of the vision tower took, and what `call` returned."""
    sizes = []
    hook = model.module.visual.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    try:
        return sizes, call()
    finally:
        hook.remove()


def test_pictures_pass_in_batches_of_the_size_asked_for(model):
    sizes, few = batches_of(model, lambda: mean_writes(model, PICTURES, (0, 2), batch_size=3))
    assert sizes == [3, 3, 1]
    sizes, whole = batches_of(model, lambda: mean_writes(model, PICTURES, (0, 2), batch_size=7))
    assert sizes == [7]
    np.testing.assert_allclose(few, whole, atol=1e-6)  # float32 sums in another order
    pixels = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sizes, _ = batches_of(model, lambda: head_writes(model, pixels, batch_size=2))
    assert sizes == [2, 2, 1]


OPTIONS = [{}, {"ls_init_value": 0.3}, {"head_width": 32}, {"block_type": "custom"}, {"scale_heads": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_heads_and_the_bias_make_up_what_the_attention_adds(options):
    module = build_module(**options)
    model = hs.load_model(module)
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    written = head_writes(model, pixels)  # (n, layers, heads, width)
    for layer, block in enumerate(module.visual.transformer.resblocks):
        added: list[Any] = []
        hook = block.ls_1.register_forward_hook(lambda part, given, made, added=added: added.append(made[:, 0]))
        with torch.inference_mode():
            module.visual(pixels)
        hook.remove()
        total = written[:, layer].sum(axis=1) + model.tower.read_attention(layer).output_bias
        np.testing.assert_allclose(total, added[0].numpy(), atol=5e-6)  # float32


def test_towers_that_cannot_be_traced_are_refused():
    pixels = torch.zeros(1, 3, 16, 16)
    with pytest.raises(hs.HeadscanError, match="has no class token to read, but the pooling 'avg'"):
        head_writes(hs.load_model(build_module(pool_type="avg")), pixels)
    with pytest.raises(hs.HeadscanError, match="layer 0 of the vision tower normalises its queries and keys"):
        head_writes(hs.load_model(build_module(block_type="custom", qk_norm=True)), pixels)
