"""Every prefix of a causal tower's texts is computed once, to the values of the module's own forward pass."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from architectures import transformers_model
from conftest import build_module
from headscan.models import prefixes
from headscan.models.prefixes import encode_prefixes, sorted_by_tokens
from headscan.models.text import Tokens, encode_tokens
from headscan.models.towers.causal import read_causal_tower

CONTEXT, END = 16, 63
TOWERS: dict[Any, Any] = {
    "CLIP": lambda: build_module(text={"vocab_size": 64}),
    "layer scale": lambda: build_module(text={"vocab_size": 64, "ls_init_value": 0.5}),
    "custom text": lambda: build_module(custom_text=True, text={"vocab_size": 64, "proj_bias": True}),
    "no projection": lambda: build_module(custom_text=True, text={"vocab_size": 64, "proj_type": "none"}),
    "pooled at the end token": lambda: build_module(text={"vocab_size": 64, "pool_type": "eos", "eos_id": END}),
    "pooled at the first token": lambda: build_module(text={"vocab_size": 64, "pool_type": "first"}),
    **{
        name: functools.partial(transformers_model, name)
        for name in ("CLIPModel", "CLIPSegModel", "MetaClip2Model", "Owlv2Model", "OwlViTModel", "XCLIPModel")
    },
}


def texts(count, context, seed=0):
    """Rows of few different tokens up to an end token, which some lack, a few of them twice."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 4, size=(count, context))
    lengths = rng.integers(1, context + 1, size=count)
    ids[np.arange(count), lengths - 1] = END
    ids[::7, :] = rng.integers(1, 4, size=context)
    ids[1::11] = ids[0]
    return np.where(np.arange(context) < lengths[:, None], ids, 0)


def own(module, ids):
    with torch.no_grad():
        if hasattr(module, "encode_text"):
            return module.encode_text(torch.from_numpy(ids)).numpy()
        return module.get_text_features(input_ids=torch.from_numpy(ids)).pooler_output.numpy()


def tokens_of(module, ids):
    lengths = read_causal_tower(module).pooled_at(torch.from_numpy(ids)).numpy() + 1  # type: ignore[union-attr]
    return Tokens(ids=ids, lengths=lengths, own_lengths=True)


def encoded(module, ids, batch_size, **options):
    batches = list(encode_tokens(module, tokens_of(module, ids), batch_size=batch_size, **options))
    rows = np.concatenate([rows for rows, _ in batches])
    assert sorted(rows) == list(range(len(ids)))
    return np.concatenate([part for _, part in batches])[np.argsort(rows)]


def close(found, expected):
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-5  # the same sums in float32, blocked otherwise


@pytest.mark.parametrize("piece", [1, 7, 8, 64])
@pytest.mark.parametrize("name", TOWERS)
def test_embeddings_are_those_of_the_module_itself(name, piece, monkeypatch):
    monkeypatch.setattr(prefixes, "_PIECE", piece)
    module = TOWERS[name]()
    assert read_causal_tower(module).blocks  # type: ignore[union-attr]
    ids = texts(60, 8 if name.endswith("Model") else CONTEXT)
    for batch_size in (1, 9, 100):
        close(encoded(module, ids, batch_size), own(module, ids))


def test_texts_that_share_nothing_and_texts_of_one_token():
    module = TOWERS["CLIP"]()
    ids = np.zeros((40, CONTEXT), dtype=np.int64)
    ids[:, 0] = np.arange(1, 41)
    ids[:20, 1] = END  # those of one token end in what others begin with
    ids[20:, 0] = np.arange(1, 21)
    close(encoded(module, ids, 100), own(module, ids))


def test_every_prefix_is_computed_once_and_the_last_layer_where_a_text_ends():
    module, ids = TOWERS["CLIP"](), texts(60, CONTEXT)
    counts: dict[Any, Any] = {}
    first, last = module.transformer.resblocks[0].mlp, module.transformer.resblocks[-1].mlp
    first.register_forward_pre_hook(lambda part, inputs: counts.update(first=len(inputs[0])))
    last.register_forward_pre_hook(lambda part, inputs: counts.update(last=len(inputs[0])))
    encoded(module, ids, 60)
    tokens = tokens_of(module, ids)
    nodes = {tuple(row[: place + 1]) for row, end in zip(ids, tokens.lengths, strict=True) for place in range(end)}
    assert counts == {"first": len(nodes), "last": 60}
    assert len(nodes) < tokens.lengths.sum()


@pytest.mark.parametrize("place", ["transformer", "transformer.resblocks.0", "transformer.resblocks.1.attn"])
def test_layers_that_somebody_listens_to_are_run_as_they_are(place):
    module, ids, heard = TOWERS["CLIP"](), texts(10, CONTEXT), []
    module.get_submodule(place).register_forward_pre_hook(lambda *_: heard.append(place))
    assert not read_causal_tower(module).blocks  # type: ignore[union-attr]
    close(encoded(module, ids, 100), own(module, ids))
    assert heard == [place, place]


def test_other_masks_are_not_taken_for_causal():
    module, ids = TOWERS["CLIP"](), texts(10, CONTEXT)
    module.attn_mask = module.attn_mask.tril(-2) + module.attn_mask
    module.attn_mask[5, 1] = -1.0
    assert read_causal_tower(module) is None
    whole = Tokens(ids=ids, lengths=np.full(10, CONTEXT), own_lengths=False)
    [(rows, found)] = encode_tokens(module, whole, batch_size=10)
    close(found, own(module, ids)[rows])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_lower_precision_runs_under_autocast(dtype):
    module, ids = TOWERS["CLIP"](), texts(30, CONTEXT)
    expected = own(module, ids)
    found = encoded(module, ids, 8, dtype=dtype)
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=0.1)  # bfloat16 has 8 bits


def test_modules_in_bfloat16_compute_in_it():
    module, ids = TOWERS["CLIP"](), texts(30, CONTEXT)
    expected = own(module, ids)
    module.to(torch.bfloat16)
    np.testing.assert_allclose(encoded(module, ids, 8), expected, atol=0.1)


def test_neighbours_share_prefixes():
    ids = np.array([[1, 2, 9], [1, 9, 0], [1, 2, 3], [0, 9, 7]])
    assert sorted_by_tokens(ids, np.array([3, 2, 3, 2])).tolist() == [3, 2, 0, 1]
    assert sorted_by_tokens(ids, np.array([1, 1, 1, 1])).tolist() == [3, 0, 1, 2]
    assert sorted_by_tokens(ids[:0], np.array([], dtype=np.int64)).tolist() == []


def test_a_text_longer_than_a_piece_is_a_piece(monkeypatch):
    monkeypatch.setattr(prefixes, "_PIECE", 3)
    module, ids = TOWERS["CLIP"](), texts(12, CONTEXT, seed=1)
    tokens = tokens_of(module, ids)
    order = sorted_by_tokens(ids, tokens.lengths)
    with torch.no_grad():
        found = encode_prefixes(
            read_causal_tower(module),  # type: ignore[arg-type]
            ids[order],
            tokens.lengths[order],
            device=torch.device("cpu"),
        ).numpy()
    close(found, own(module, ids)[order])
