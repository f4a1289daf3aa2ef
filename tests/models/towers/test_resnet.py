"""ResNets: the heads of the attention pool, against the pool's own forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import headscan as hs
from architectures import shrunk
from conftest import CONCEPTS, build_module


@pytest.fixture(scope="module")
def module():
    return shrunk("RN50").double()


@pytest.fixture(scope="module")
def model(module):
    return hs.load_model(module)


@pytest.fixture(scope="module")
def seen(module):
    """Return the pool's tokens (n, tokens, features) and its output (n, joint_dim)."""
    caught: dict[Any, Any] = {}
    pool = module.visual.attnpool
    enter = pool.register_forward_pre_hook(lambda part, given: caught.update(features=given[0]))
    with torch.no_grad():
        made = module.encode_image(torch.randn(2, 3, 64, 64, dtype=torch.float64))
    enter.remove()
    tokens = caught["features"].flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + pool.positional_embedding
    return tokens.detach().numpy(), made.numpy()


def heads_of(module, tower, tokens):
    """Return what each head writes of the pooled token, (heads, n, joint_dim), with the pool's own attention."""
    pool, weights = module.visual.attnpool, tower.read_attention(0)
    query, key = (
        (tokens @ part.weight.detach().numpy().T + part.bias.detach().numpy()).reshape(
            *tokens.shape[:2], tower.heads, -1
        )
        for part in (pool.q_proj, pool.k_proj)
    )
    scores = np.einsum("nhr,nthr->nht", query[:, 0], key) / np.sqrt(tower.rank)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    value = (tokens @ weights.value + weights.value_bias).reshape(*tokens.shape[:2], tower.heads, -1)
    output = weights.output.reshape(tower.heads, tower.rank, -1)
    return np.einsum("nht,nthr,hre->hne", shares, value, output)


def test_the_pool_is_one_layer_whose_heads_add_up_to_the_embedding(module, model, seen):
    tokens, embedding = seen
    assert (model.layers, model.heads, model.rank, model.width) == (1, 8, 32, model.joint_dim)
    assert model.tower.read_width == tokens.shape[2] == 256
    heads = heads_of(module, model.tower, tokens)
    np.testing.assert_allclose(heads.sum(axis=0) + model.tower.read_attention(0).output_bias, embedding, atol=1e-10)


def test_nothing_is_folded_or_centred(module, model, seen):
    left, right = hs.vo_factors(model)
    assert left.shape == (1, 8, 256, 32)
    assert right.shape == (1, 8, 32, model.joint_dim)
    pool = module.visual.attnpool
    np.testing.assert_array_equal(left[0, 1], pool.v_proj.weight.detach().numpy()[32:64].T)
    np.testing.assert_array_equal(right[0, 1], pool.c_proj.weight.detach().numpy()[:, 32:64].T)


def test_a_direction_is_its_own_image_in_joint_space(model):
    rows = np.random.default_rng(0).standard_normal((3, model.joint_dim))
    np.testing.assert_array_equal(model.tower.read_final().apply(rows), rows)


def test_heads_are_explained_on_the_write_side_and_refused_on_the_read_side():
    model = hs.load_model(build_module(layers=[1, 1, 1, 1], width=8, head_width=8, image_size=32))
    dictionary = hs.load_dictionary(CONCEPTS, model=model, cache=False)
    scan = hs.scan(model, dictionary, k=2, significance=20)
    assert len(scan.table()) == 32 * 8 * 2  # heads, directions, poles
    with pytest.raises(hs.HeadscanError, match=r"read 256 features of convolutions.*only their side 'write'"):
        hs.scan(model, dictionary, sides="read", k=2)
    with pytest.raises(hs.HeadscanError, match=r"layer 0 .*features of convolutions.*part 'qk' cannot be read"):
        hs.scan(model, dictionary, parts="qk", k=2)
    with pytest.raises(hs.HeadscanError, match="no MLP of a known kind"):
        hs.scan(model, dictionary, parts="mlp", k=2)


def test_an_edited_head_takes_its_part_out_of_the_embedding_and_no_other(module, model, seen):
    tokens, embedding = seen
    gone = heads_of(module, model.tower, tokens)[2]
    weights = model.tower.read_attention(0)
    output = weights.output.copy()
    output[2 * model.rank : 3 * model.rank] = 0
    try:
        model.tower.write_attention_output(0, output, weights.output_bias)
        heads = heads_of(module, model.tower, tokens)
    finally:
        model.tower.write_attention_output(0, weights.output, weights.output_bias)
    np.testing.assert_allclose(heads.sum(axis=0) + weights.output_bias, embedding - gone, atol=1e-10)
