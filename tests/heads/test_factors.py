"""Value-output factors against the model's own forward pass, in float64 and float32."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import headscan as hs
from conftest import build_module
from headscan.heads.layers import parse_layers, select_layers

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "layer scale": {"ls_init_value": 0.5},
    "custom block": {"block_type": "custom"},
    "head scale, query-key norm": {"scale_heads": True, "qk_norm": True},
    "layer scale, scaled MLP": {"ls_init_value": 0.5, "scale_fc": True},
    "average pool": {"pool_type": "avg", "final_ln_after_pool": True},
}


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request):
    return hs.load_model(build_module(**VARIANTS[request.param]).double())


def run_attention(model, *, layer, head=None, seed=0):
    """Run one layer's attention on random tokens.

    Returns the normalised input, the attention weights, the output without its bias, and what was read.

    With `head` given, the other heads' columns of the output projection are zeroed, so that it alone writes.
    """
    block = copy.deepcopy(model.module.visual.transformer.resblocks[layer])
    attention = block.attn
    dtype = attention.out_proj.weight.dtype
    x = torch.randn(2, 5, model.width, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    with torch.no_grad():
        attention.out_proj.bias.zero_()
        if head is not None:
            mine = torch.zeros(model.width, dtype=dtype)
            mine[head * model.rank : (head + 1) * model.rank] = 1.0
            attention.out_proj.weight.mul_(mine)
        normed = block.ln_1(x)
        mixed = attention(normed, normed, normed)[0] if is_torch(attention) else attention(normed)
        output = block.ls_1(mixed)
        xhat = torch.nn.functional.layer_norm(x, (model.width,), eps=block.ln_1.eps)
    return (
        xhat.numpy(),
        attention_weights(attention, normed, heads=model.heads),
        output.numpy(),
        normed.numpy(),
    )


def is_torch(attention):
    return isinstance(attention, torch.nn.MultiheadAttention)


def attention_weights(attention, normed, *, heads):
    with torch.no_grad():
        q, k, _ = torch.nn.functional.linear(normed, attention.in_proj_weight, attention.in_proj_bias).chunk(
            3, dim=-1
        )
        q, k = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k))
        if not is_torch(attention):
            q, k = attention.ln_q(q), attention.ln_k(k)
        return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1).numpy()  # (2, heads, 5, 5)


def centred(rows):
    return rows - rows.mean(axis=-1, keepdims=True)


def test_each_head_writes_what_its_factors_say(variant):
    factors = hs.vo_factors(variant)
    for layer in range(variant.layers):
        for head in range(variant.heads):
            xhat, weights, output, _ = run_attention(variant, layer=layer, head=head)
            left, right, bias = (
                factors.left[layer, head],
                factors.right[layer, head],
                factors.bias[layer, head],
            )
            written = weights[:, head] @ (xhat @ left @ right + bias)
            # Both sides are float64; the next layer norm removes the mean, and so did the centring.
            np.testing.assert_allclose(written, centred(output), atol=1e-12)


def test_unfolded_factors_need_no_centring(variant):
    factors = hs.vo_factors(variant, fold=False)
    _, weights, output, normed = run_attention(variant, layer=1)
    heads = [
        weights[:, h] @ (normed @ factors.left[1, h] @ factors.right[1, h] + factors.bias[1, h])
        for h in range(variant.heads)
    ]
    np.testing.assert_allclose(sum(heads), output, atol=1e-12)


def test_float32_model_agrees_to_float32():
    model = hs.load_model(build_module())
    factors = hs.vo_factors(model)
    xhat, weights, output, _ = run_attention(model, layer=2)
    heads = [
        weights[:, h] @ (xhat @ factors.left[2, h] @ factors.right[2, h] + factors.bias[2, h])
        for h in range(model.heads)
    ]
    # The module itself rounds to float32: about 1e-7 of values of order 1, summed over 32 columns.
    np.testing.assert_allclose(sum(heads), centred(output), atol=1e-5)


def test_the_folded_network_is_the_same_network():
    module = build_module().double()
    model = hs.load_model(module)
    folded = copy.deepcopy(module)
    factors = hs.vo_factors(model)
    for layer, block in enumerate(folded.visual.transformer.resblocks):
        _fold_in_place(block, factors, layer=layer, model=model)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(folded.encode_image(images), module.encode_image(images), atol=1e-11)


def _fold_in_place(block, factors, *, layer, model):
    """Write folded factors into a block, and fold its layer norm into queries and keys too."""
    attention, norm, width = block.attn, block.ln_1, model.width
    with torch.no_grad():
        for part in range(2):
            rows = slice(part * width, (part + 1) * width)
            attention.in_proj_bias[rows] += attention.in_proj_weight[rows] @ norm.bias
            attention.in_proj_weight[rows] *= norm.weight
        left = factors.left[layer].transpose(1, 0, 2).reshape(width, width)  # (width, heads * rank)
        attention.in_proj_weight[2 * width :] = torch.from_numpy(left.T.copy())
        attention.in_proj_bias[2 * width :] = 0.0
        bias = attention.out_proj.bias - attention.out_proj.bias.mean()
        attention.out_proj.bias.copy_(bias + torch.from_numpy(factors.bias[layer].sum(axis=0)))
        right = factors.right[layer].reshape(width, width)  # (heads * rank, width)
        attention.out_proj.weight.copy_(torch.from_numpy(right.T.copy()))
        norm.weight.fill_(1.0)
        norm.bias.zero_()


def test_shapes_dtypes_and_unpacking(model):
    factors = hs.vo_factors(model, layers=[0, -1])
    left, right = factors
    assert factors.layers == (0, 2)
    assert left.shape == (2, 4, 32, 8)
    assert right.shape == (2, 4, 8, 32)
    assert factors.bias.shape == (2, 4, 32)
    assert left.dtype == right.dtype == factors.bias.dtype == np.float64


def test_folded_factors_neither_read_nor_write_the_mean(model):
    left, right = hs.vo_factors(model)
    np.testing.assert_allclose(left.sum(axis=2), 0.0, atol=1e-12)
    np.testing.assert_allclose(right.sum(axis=3), 0.0, atol=1e-12)


def test_half_precision_weights_are_read_as_they_are(module):
    model = hs.load_model(module.half())
    weight = module.visual.transformer.resblocks[0].attn.out_proj.weight.detach().double().numpy()
    _, right = hs.vo_factors(model, layers=[0], fold=False)
    np.testing.assert_array_equal(right[0].reshape(32, 32), weight.T)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", (0, 1, 2, 3)),
        ("1-2", (1, 2)),
        (" 3 , 0-1 ", (0, 1, 3)),
        ("-1", (3,)),
        ("0,-1", (0, 3)),
        (2, (2,)),
        (np.int64(2), (2,)),
        (-4, (0,)),
        ([3, 1, 1], (1, 3)),
        (range(2), (0, 1)),
        (np.array([2]), (2,)),
    ],
)
def test_layers_chosen(layers, expected):
    assert select_layers(layers, count=4) == expected


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (4, "no layer 4: the vision tower has layers 0 to 3"),
        ("2-9", "no layer 9"),
        (-5, "no layer -5"),
        ("3-2", "lower layer first"),
        ("", "layers must be"),
        ("1-", "layers must be"),
        ("last", "layers must be"),
        ("1;2", "layers must be"),
        ([], "no layers"),
        (1.5, "layers must be"),
        ([0.0], "layers must be"),
        (True, "layers must be"),
        (None, "layers must be"),
    ],
)
def test_layers_refused(layers, says):
    with pytest.raises(hs.HeadscanError, match=says):
        select_layers(layers, count=4)


@given(st.text(alphabet="0123456789-, al", max_size=12))
def test_a_layer_text_is_read_or_refused_with_one_line(text):
    try:
        ranges = parse_layers(text)
    except hs.HeadscanError as error:
        assert "\n" not in str(error)
    else:
        assert ranges is None or all(isinstance(layer, int) for pair in ranges for layer in pair)
