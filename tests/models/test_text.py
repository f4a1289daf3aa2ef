"""Texts are embedded as the module embeds them, in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch

import headscan as hs
from conftest import CONCEPTS, build_module

TEXTS = [
    *CONCEPTS[:7],
    "a much longer text about a red boat on a lake at night with snow and two ducks in it",
    "é 🦆",
]
TOWERS: dict[Any, Any] = {
    "CLIP": {},
    "custom text": {"custom_text": True},
    "pooled at the end token": {"text": {"pool_type": "eos", "eos_id": 49407}},
    "pooled at the first token": {"text": {"pool_type": "first"}},
    "projection with bias": {"custom_text": True, "text": {"proj_bias": True}},
    "not causal": {"custom_text": True, "text": {"no_causal_mask": True}},
    "pooled at the last place": {"custom_text": True, "text": {"pool_type": "last"}},
    "class token": {"custom_text": True, "text": {"embed_cls": True}},
}


@pytest.mark.parametrize("tower", TOWERS)
def test_texts_are_embedded_as_the_module_does(tower):
    module = build_module(**TOWERS[tower])
    with torch.no_grad():
        expected = module.encode_text(open_clip.SimpleTokenizer(context_length=16)(TEXTS)).numpy()
    for batch_size in (1, 4, 256):
        found = hs.load_model(module).encode_text(TEXTS, batch_size=batch_size)
        assert found.dtype == np.float32
        # The same sums over shorter, differently blocked float32 products of order-1 values.
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_causal_texts_are_cut_to_the_longest_of_their_batch(module, monkeypatch):
    lengths = []
    module.transformer.register_forward_pre_hook(lambda part, inputs: lengths.append(inputs[0].shape[1]))
    hs.load_model(module).encode_text(["dog", "a red boat at night", "cat"], batch_size=2)
    assert lengths == [3, 7]  # the word between a start and an end token, both short ones first


def test_no_texts_give_no_embeddings(model):
    assert model.encode_text([]).shape == (0, 24)


def test_lower_precision_runs_under_autocast(module):
    exact = hs.load_model(module).encode_text(["red boat"])
    rough = hs.load_model(module, dtype="bfloat16").encode_text(["red boat"])
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, atol=0.1)  # bfloat16 has 8 bits
