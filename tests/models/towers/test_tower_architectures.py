"""Every family of towers against the forward pass of the models that the libraries themselves build.

The float32 forward pass is the reference; 1e-5 is about a hundred roundings of values of order 1.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import headscan as hs
from architectures import BERT_TEXTS, OPEN_CLIP, TRANSFORMERS, draw, shrunk, transformers_model

_PARTS = (
    ("attn", "self_attn", "attention"),
    ("ln_1", "norm1", "layer_norm1", "layernorm_before", "self_attn_layer_norm"),
    ("ln_2", "norm2", "layer_norm2", "layernorm_after", "final_layer_norm"),
)


class _Layer(NamedTuple):
    attention: torch.nn.Module
    first_norm: torch.nn.Module
    second_norm: torch.nn.Module
    whole: torch.nn.Module


@functools.lru_cache(maxsize=1)
def build(name):
    return transformers_model(name) if name in TRANSFORMERS else shrunk(name)


def run(module, kind):
    """Run the model's own encoder of images or texts on random ones."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        if kind == "text":
            ids = torch.randint(2, 60, (2, 8), generator=generator)
            ids[:, -2] = 63  # the end token: the largest
            ids[:, -1] = 0
            return module.encode_text(ids) if hasattr(module, "encode_text") else module.get_text_features(ids)
        if type(module).__name__ == "XCLIPModel":
            return module.vision_model(torch.randn(4, 3, 32, 32, generator=generator))
        if type(module).__name__ == "BlipForImageTextRetrieval":
            return module.vision_model(torch.randn(2, 3, 32, 32, generator=generator))
        if type(module).__name__ == "Siglip2Model":
            patches = torch.randn(2, 16, 3 * 8 * 8, generator=generator)
            sizes = torch.full((2, 2), 4)
            return module.get_image_features(patches, torch.ones(2, 16), sizes)
        if hasattr(module, "get_image_features"):
            return module.get_image_features(torch.randn(2, 3, 32, 32, generator=generator))
        size = module.visual.image_size
        height, width = size if isinstance(size, tuple) else (size, size)
        return module.encode_image(torch.randn(2, 3, height, width, generator=generator))


def layers_of(module, kind):
    """Return the layers: their attention and their two layer norms, as the module has them."""
    for path in (
        (
            "visual.transformer.resblocks",
            "visual.trunk.blocks",
            "vision_model.encoder.layers",
            "image_model.encoder.layer",
        )
        if kind == "image"
        else (
            "text.transformer.resblocks",
            "transformer.resblocks",
            "text_model.encoder.layers",
            "text_model.encoder.layer",
            "text.transformer.layers",
        )
    ):
        try:
            found = module.get_submodule(path)
        except AttributeError:
            continue
        return [
            _Layer._make([*(next(getattr(layer, n) for n in names if hasattr(layer, n)) for names in _PARTS), layer])
            for layer in found
        ]
    raise AssertionError(f"no layers in {type(module)}")


def watch(module, kind):
    """Run the model and return, for every layer, its input, attention weights, and what attention and MLP added."""
    seen: dict[Any, Any] = defaultdict(dict)
    handles = []
    for number, (attention, first, second, layer) in enumerate(layers_of(module, kind)):
        keep = seen[number]

        def put(part, inputs, name="", keep=keep):
            keep[name] = inputs[0]

        handles.append(first.register_forward_pre_hook(functools.partial(put, name="x")))
        handles.append(second.register_forward_pre_hook(functools.partial(put, name="mid")))
        handles.append(layer.register_forward_hook(lambda part, inputs, output, keep=keep: keep.update(end=output)))
        handles += watch_weights(attention, keep)
    try:
        run(module, kind)
    finally:
        for handle in handles:
            handle.remove()
    return [
        {name: value.numpy() for name, value in ({**keep, "end": last(keep["end"])}).items()}
        for keep in seen.values()
    ]


def mlp_part(layer, names):
    """Return a linear layer of a layer's MLP by the one of the names that it goes by."""
    mlp = getattr(layer, "mlp", layer)
    part = next(getattr(mlp, name) for name in names if hasattr(mlp, name))
    return getattr(part, "dense", part)


def last(output):
    return output[0] if isinstance(output, tuple) else output


def watch_weights(attention, keep):
    """Have the attention weights (batch, heads, n, n) kept, wherever this attention shows them."""
    if isinstance(attention, torch.nn.MultiheadAttention):

        def ask(part, inputs, options):
            return inputs, {**options, "need_weights": True, "average_attn_weights": False}

        show = attention.register_forward_hook(lambda part, inputs, output: keep.update(weights=output[1]))
        return [attention.register_forward_pre_hook(ask, with_kwargs=True), show]
    if type(attention).__name__ == "FlavaAttention":
        drop = attention.attention.dropout
        return [drop.register_forward_hook(lambda part, inputs, output: keep.update(weights=output))]
    if hasattr(attention, "attn_drop"):
        attention.fused_attn = attention.use_fsdpa = False
        return [attention.attn_drop.register_forward_hook(lambda part, inputs, output: keep.update(weights=output))]
    return [attention.register_forward_hook(lambda part, inputs, output: keep.update(weights=output[1]))]


def normalised(x, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


CASES = [
    *((name, kind) for name in (*OPEN_CLIP, *TRANSFORMERS) for kind in ("image", "text") if name not in BERT_TEXTS),
    *((name, "image") for name in BERT_TEXTS),
    ("nllb-clip-base", "text"),
]


def added(seen):
    """Return what the attention added to the tokens that go on: X-CLIP's message token ends with it."""
    return seen["mid"] - written(seen["x"], seen)


def written(rows, seen):
    return rows[:, : seen["mid"].shape[1]]


@pytest.fixture(params=CASES, scope="module", ids="-".join)
def case(request):
    name, kind = request.param
    module = build(name)
    return hs.load_model(module), kind, watch(module, kind)


def test_heads_and_bias_add_up_to_the_attention(case):
    model, kind, layers = case
    tower = model.get_tower(kind)
    assert len(layers) == tower.layers
    for layer, seen in enumerate(layers):
        factors = hs.vo_factors(model, layers=[layer], fold=False, tower=kind)
        weights = tower.read_attention(layer)
        normed = normalised(seen["x"], tower.blocks[layer].norm.eps) * weights.gain + weights.shift
        heads = [
            seen["weights"][:, head]
            @ (normed @ factors.left[0, head] @ factors.right[0, head] + factors.bias[0, head])
            for head in range(tower.heads)
        ]
        np.testing.assert_allclose(written(sum(heads), seen) + weights.output_bias, added(seen), atol=1e-5)


def test_each_head_alone_writes_what_its_folded_factors_say(case):
    model, kind, before = case
    tower, layer = model.get_tower(kind), model.get_tower(kind).layers - 1
    factors = hs.vo_factors(model, layers=[layer], tower=kind)
    whole = tower.read_attention(layer)
    xhat = normalised(before[layer]["x"], tower.blocks[layer].norm.eps)
    try:
        for head in (0, tower.heads - 1):
            rows = slice(head * tower.rank, (head + 1) * tower.rank)
            output = np.zeros_like(whole.output)
            output[rows] = whole.output[rows]
            bias = whole.output_bias if tower.blocks[layer].output.bias is None else np.zeros(tower.width)
            tower.write_attention_output(layer, output, bias)
            seen = watch(model.module, kind)[layer]
            expected = seen["weights"][:, head] @ (
                xhat @ factors.left[0, head] @ factors.right[0, head] + factors.bias[0, head]
            )
            whole_output = added(seen)
            centred = whole_output - whole_output.mean(axis=-1, keepdims=True)
            np.testing.assert_allclose(written(expected, seen), centred, atol=1e-5)
    finally:
        tower.write_attention_output(layer, whole.output, whole.output_bias)
    np.testing.assert_allclose(watch(model.module, kind)[layer]["mid"], before[layer]["mid"], atol=1e-6)


def test_queries_and_keys_give_the_scores_of_the_attention(case):
    model, kind, layers = case
    tower = model.get_tower(kind)
    if tower.blocks[0].qk_refusal is not None:
        with pytest.raises(
            hs.HeadscanError, match=r"layer 0 of the image tower (rotates|normalises) its queries and"
        ):
            hs.qk_factors(model, layers=[0])
        return
    left, right = hs.qk_factors(model, tower=kind)
    for layer, seen in enumerate(layers):
        attention = layers_of(model.module, kind)[layer].attention
        relative = getattr(attention, "rel_pos", None)  # what relative positions add to the scores
        positions = None if relative is None else relative.get_bias()[0].detach().numpy()
        xhat = normalised(seen["x"], tower.blocks[layer].norm.eps)
        read = tower.read_query_key(layer)
        shifts = [
            read.shift @ matrix + bias for matrix, bias in ((read.query, read.query_bias), (read.key, read.key_bias))
        ]
        for head in range(tower.heads):
            rows = slice(head * tower.rank, (head + 1) * tower.rank)
            query_shift, key_shift = (shift[rows] for shift in shifts)
            queries, keys = xhat @ left[layer, head] + query_shift, xhat @ right[layer, head].T + key_shift
            scores = queries @ keys.transpose(0, 2, 1) / np.sqrt(tower.rank)
            scores = scores if positions is None else scores + positions[head]
            # Up to a number a row, which the softmax removes; compared where no mask hides the score.
            weights = seen["weights"][:, head].astype(np.float64)
            shown = weights > 1e-6
            share = np.where(shown, np.exp(scores), 0.0)
            np.testing.assert_allclose(share / share.sum(axis=-1, keepdims=True), weights, atol=1e-5)


def test_hidden_units_write_the_rows_of_the_output_matrix(case):
    model, kind, layers = case
    tower = model.get_tower(kind)
    units = []
    for *_, layer in layers_of(model.module, kind):
        mlp = getattr(layer, "mlp", layer)
        out = mlp_part(layer, ("c_proj", "fc2", "w2", "output"))
        norm = None if hasattr(mlp, "w2") else getattr(mlp, "ln", None) or getattr(mlp, "norm", None)
        watched = out if norm is None or isinstance(norm, torch.nn.Identity) else norm
        units.append((watched, isinstance(watched, torch.nn.LayerNorm)))
    caught = []
    handles = [
        part.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].numpy())) for part, _ in units
    ]
    run(model.module, kind)
    for handle in handles:
        handle.remove()
    for layer, (hidden, (part, scaled), seen) in enumerate(zip(caught, units, layers, strict=True)):
        weights = tower.read_mlp(layer)
        hidden = normalised(hidden, part.eps) if scaled else hidden
        np.testing.assert_allclose(
            hidden @ weights.output + weights.output_bias, seen["end"] - seen["mid"], atol=2e-5
        )


def test_mlps_read_the_stream_by_their_input_matrix(case):
    model, kind, layers = case
    tower, into, got = model.get_tower(kind), [], []
    if tower.blocks[0].mlp_input is None:
        with pytest.raises(hs.HeadscanError, match="layer 0 of the image tower has no MLP of a known kind"):
            tower.read_mlp_input(0)
        return
    for *_, layer in layers_of(model.module, kind):
        first = mlp_part(layer, ("c_fc", "fc1", "intermediate"))
        into.append(first.register_forward_hook(lambda part, inputs, output: got.append(output)))
    run(model.module, kind)
    for handle in into:
        handle.remove()
    for layer, seen in enumerate(layers):
        weights = tower.read_mlp_input(layer)
        normed = normalised(seen["mid"], tower.blocks[layer].mlp_input_norm.eps) * weights.gain + weights.shift
        np.testing.assert_allclose(normed @ weights.input + weights.input_bias, got[layer].numpy(), atol=2e-5)


def test_the_way_into_joint_space_is_the_modules_own(case):
    model, kind, _ = case
    vectors = np.random.default_rng(2).standard_normal((3, model.get_tower(kind).width)).astype(np.float32)
    found = model.get_tower(kind).read_final().apply(vectors.astype(np.float64))
    with torch.no_grad():
        expected = finish(model.module, kind, torch.from_numpy(vectors)[:, None]).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def finish(module, kind, stream):
    """Take streams (n, 1, width) of a lone token from the last layer to the joint space by the module's own parts."""
    if type(module).__name__ == "FlavaModel":
        return getattr(module, f"{kind}_projection")(getattr(module, f"{kind}_model").layernorm(stream[:, 0]))
    if kind == "image" and hasattr(module, "vision_model"):
        tower = module.vision_model
        normed = tower.post_layernorm(stream)
        projection = getattr(module, "visual_projection", getattr(module, "vision_proj", None))
        return tower.head(normed) if projection is None else projection(normed[:, 0])
    if kind == "image" and hasattr(module.visual, "trunk"):
        trunk = module.visual.trunk
        normed, pool = trunk.norm(stream), getattr(trunk, "attn_pool", None)
        pooled = normed[:, 0] if pool is None else pool(normed)
        return module.visual.head(trunk.head(trunk.fc_norm(pooled)))
    if kind == "image":
        visual = module.visual
        pooled = visual.ln_post(stream[:, 0]) if visual.attn_pool is None else visual._pool(stream)[0]
        return pooled @ visual.proj
    if hasattr(module, "text_model"):
        normed = module.text_model.final_layer_norm(stream[:, 0])
        project: Any = getattr(module, "text_projection", getattr(module.text_model, "head", None))
        return project(normed)
    text = getattr(module, "text", module)
    if hasattr(text, "proj"):
        return text.proj(text.transformer.layer_norm(stream[:, 0]))
    normed = text.ln_final(stream[:, 0])
    projection = text.text_projection
    return projection(normed) if isinstance(projection, torch.nn.Module) else normed @ projection


def test_gated_mlps_and_split_projections_are_read():
    """EVA's other choices: no open_clip architecture without a norm between V and O has them together."""
    from timm.models.eva import Eva

    sizes: dict[Any, Any] = {
        "img_size": 16,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 4,
        "num_classes": 40,
    }
    for choice in (
        {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "init_values": 0.5},
        {"qkv_fused": True, "swiglu_mlp": True, "qkv_bias": False},
        {"attn_type": "rope", "qkv_fused": False, "use_rot_pos_emb": True},
    ):
        module = shrunk("ViT-B-16-SigLIP")
        module.visual.trunk, module.visual.image_size = draw(Eva(**sizes, global_pool="avg", **choice)), (16, 16)
        case = (hs.load_model(module), "image", watch(module, "image"))
        test_heads_and_bias_add_up_to_the_attention(case)
        test_each_head_alone_writes_what_its_folded_factors_say(case)
        test_hidden_units_write_the_rows_of_the_output_matrix(case)
        test_the_way_into_joint_space_is_the_modules_own(case)
        if choice.get("scale_mlp"):
            with pytest.raises(hs.HeadscanError, match="layer 0 of the image tower has no MLP of a known kind"):
                case[0].tower.read_mlp_input(0)
