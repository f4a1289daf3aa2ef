"""Adapters: what is read with one on top equals what peft merges, on every kind of base."""

from __future__ import annotations

import copy
import time
import warnings

import numpy as np
import open_clip
import pytest
import torch

import headscan as hs
from conftest import build_module, write_adapter
from headscan.models.adapters import is_adapter


def pair(module, *, outputs=32, inputs=32, rank=2):
    generator = torch.Generator().manual_seed(len(module))
    name = f"base_model.model.{module}"
    return {
        f"{name}.lora_A.weight": torch.randn(rank, inputs, generator=generator),
        f"{name}.lora_B.weight": torch.randn(outputs, rank, generator=generator),
    }


def clip():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 100, "max_position_embeddings": 16},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    return transformers.CLIPModel(config).eval()


def siglip():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = transformers.SiglipConfig(
        text_config={**sizes, "vocab_size": 100, "max_position_embeddings": 16, "projection_size": 32},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
    )
    return transformers.SiglipModel(config).eval()


def timm_tower():
    torch.manual_seed(0)
    vision = {
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_pool": "token",
        "timm_proj": "linear",
        "image_size": 224,
    }
    text = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 4, "layers": 1}
    return open_clip.model.CustomTextCLIP(embed_dim=24, vision_cfg=vision, text_cfg=text).eval()


PROJECTIONS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
BASES = {
    "open_clip": (build_module, r"visual.*\.(attn|c_fc|c_proj)"),
    "transformers CLIP": (clip, PROJECTIONS),
    "transformers SigLIP": (siglip, PROJECTIONS),
    "timm": (timm_tower, r"visual\.trunk.*(attn\.(qkv|proj)|fc1)"),
}
VARIANTS = [
    {},
    {"use_rslora": True},
    {"rank_pattern": {"1.*": 5}, "alpha_pattern": {"1.*": 16}},
    {"bias": "lora_only"},
]


def tuned(base, folder, *, targets, name="default", **config):
    """Save an adapter of random values, and return the module with it merged by peft."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(1)
    options = {"target_modules": targets, "r": 3, "lora_alpha": 4, "init_lora_weights": False, **config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for what it renamed
        wrapped = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**options), adapter_name=name)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        wrapped.save_pretrained(folder)
        return wrapped.merge_and_unload().eval()


def same(model, module):
    """Whether a model's tensors are the module's, rounded to float32."""
    for (name, one), (other_name, other) in zip(
        model.weights.state(), sorted(module.state_dict().items()), strict=True
    ):
        assert name == other_name
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-6, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("base", BASES)
def test_an_adapted_model_is_what_peft_merges(base, variant, tmp_path):
    build, targets = BASES[base]
    module = build()
    merged = tuned(module, tmp_path, targets=targets, **variant)
    before = copy.deepcopy(module.state_dict())
    model = hs.load_model(module, tokenizer=len)
    adapted = hs.load_adapter(tmp_path).apply(model)
    expected = hs.vo_factors(hs.load_model(merged, tokenizer=len))
    factors = hs.vo_factors(adapted)
    np.testing.assert_allclose(factors.left, expected.left, atol=1e-5)
    np.testing.assert_allclose(factors.right, expected.right, atol=1e-5)
    np.testing.assert_allclose(factors.bias, expected.bias, atol=1e-5)
    assert not np.allclose(factors.left, hs.vo_factors(model).left, atol=1e-3)
    same(adapted, merged)
    assert adapted.module is not module  # all at once, too
    same(adapted, merged)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_dora_is_read_as_a_dense_change(tmp_path):
    module = clip()
    merged = tuned(module, tmp_path, targets=PROJECTIONS, use_dora=True)
    same(hs.load_adapter(tmp_path).apply(hs.load_model(module, tokenizer=len)), merged)


def test_modules_to_save_replace_and_what_the_base_lacks_is_left_out(tmp_path, caplog):
    module = clip()
    merged = tuned(module, tmp_path, targets=["v_proj"], modules_to_save=["visual_projection"])
    same(hs.load_adapter(tmp_path).apply(hs.load_model(module, tokenizer=len)), merged)
    tensors = pair("vision_model.encoder.layers.0.self_attn.v_proj")
    write_adapter(tmp_path / "head", tensors | {"base_model.model.classifier.weight": torch.ones(3, 32)})
    with caplog.at_level("WARNING", logger="headscan"):
        hs.load_adapter(tmp_path / "head").apply(hs.load_model(module, tokenizer=len))
    assert "brings classifier.weight, which" in caplog.text


def test_a_model_in_files_is_read_lazily_with_an_adapter(bundle, model, tmp_path):
    merged = tuned(model.module, tmp_path, targets=r"visual.*\.attn")
    adapted = hs.load_adapter(tmp_path).apply(hs.load_model(f"local-dir:{bundle}"))
    np.testing.assert_allclose(hs.vo_factors(adapted).left, hs.vo_factors(hs.load_model(merged)).left, atol=1e-5)
    assert next(adapted.weights.skeleton.parameters()).is_meta  # nothing was loaded as a whole
    same(adapted, merged)
    assert adapted.weights_hash != model.weights_hash


def test_a_text_tower_s_adapter_changes_the_dictionary_s_key(tmp_path):
    module = clip()
    tuned(module, tmp_path, targets=r"text_model.*q_proj")
    model = hs.load_model(module, tokenizer=lambda texts: torch.ones(len(texts), 16, dtype=torch.long))
    assert hs.load_adapter(tmp_path).apply(model).text_hash != model.text_hash


def test_named_adapters_are_named(tmp_path):
    tuned(clip(), tmp_path, targets=["v_proj"], name="birds")
    assert is_adapter(tmp_path) and is_adapter(f"local-dir:{tmp_path}")
    with pytest.raises(hs.HeadscanError, match=rf"holds adapters by name: give {tmp_path}/birds"):
        hs.load_adapter(tmp_path)
    assert hs.load_adapter(tmp_path / "birds").modules


def test_transformers_names_fit_open_clip_s_own_towers(model, tmp_path):
    names = [f"vision_model.encoder.layers.1.self_attn.{part}" for part in ("q_proj", "v_proj", "out_proj")]
    tensors = {key: value for name in names for key, value in pair(name).items()}
    adapted = hs.load_adapter(write_adapter(tmp_path / "adapter", tensors)).apply(model)
    module = build_module()
    attention = module.visual.transformer.resblocks[1].attn
    weights = (attention.in_proj_weight.data[:32], attention.in_proj_weight.data[64:], attention.out_proj.weight.data)
    for name, weight in zip(names, weights, strict=True):
        a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        weight += 6 / 2 * b @ a
    same(adapted, module)


def test_the_output_projection_counts_as_often_as_the_version_of_peft_adds_it(model, tmp_path):
    name = "visual.transformer.resblocks.0.attn.base_layer.out_proj"
    tensors = pair(name)
    a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"].double().numpy() for part in "AB")
    before = model.tower.read_attention(0).output
    for version, times in (({}, 2), ({"peft_version": "0.21.2"}, 2), ({"peft_version": "0.22.0.dev0"}, 1)):
        adapted = hs.load_adapter(write_adapter(tmp_path / "adapter", tensors, **version)).apply(model)
        change = adapted.tower.read_attention(0).output - before
        np.testing.assert_allclose(change.T, times * 6 / 2 * b @ a, atol=1e-12)


def test_a_crafted_pattern_takes_no_time(model, tmp_path):
    tensors = pair("visual.transformer.resblocks.0.attn", outputs=96)
    started = time.monotonic()
    folder = write_adapter(tmp_path / "bomb", tensors, alpha_pattern={"(([a-z.0-9]+)+)+!": 3})
    hs.load_adapter(folder).apply(model)
    assert time.monotonic() - started < 30  # backtracking would take until the end of the world
    with pytest.raises(hs.HeadscanError, match=r"is not a regular expression that can be used: missing \)"):
        hs.load_adapter(write_adapter(tmp_path / "half", tensors, alpha_pattern={"(": 3})).apply(model)


def test_adapters_refused(model, tmp_path):
    value = pair("visual.transformer.resblocks.0.attn", outputs=96)
    half = {key: tensor for key, tensor in value.items() if "lora_A" in key}
    whole = {key: tensor.to(torch.int8) for key, tensor in value.items()}
    cases = [
        ({"use_qalora": True}, value, "uses use_qalora, so its change is not B A alone"),
        ({"init_lora_weights": "pissa_niter_4"}, value, "uses init_lora_weights=pissa_niter_4"),
        ({"peft_type": "IA3"}, value, "is an adapter of type 'IA3'"),
        ({"lora_alpha": None}, value, "lora_alpha must be a number, not None"),
        ({"alpha_pattern": [1]}, value, "alpha_pattern must be an object of numbers"),
        ({}, half, "has .* as its lora_A, nothing as its lora_B"),
        ({}, whole, "quantised adapters are not read"),
        ({}, pair("blocks.0.attn.qkv", outputs=96), "there is no blocks.0.attn.qkv in the model"),
        ({}, pair("visual.transformer.resblocks.7.attn", outputs=96), "there is no visual.*7.attn in the model"),
        ({}, pair("visual.transformer.resblocks.0.attn", outputs=48), r"is \(48, 32\), expected \(96, 32\)"),
        ({}, pair("resblocks.0.attn", outputs=96), "may be .* or .*: load the model it was tuned on"),
    ]
    for number, (config, tensors, says) in enumerate(cases):
        folder = write_adapter(tmp_path / str(number), tensors, **config)  # type: ignore[arg-type]
        with pytest.raises(hs.HeadscanError, match=says):
            hs.load_adapter(folder).apply(model)
    with pytest.raises(hs.HeadscanError, match="it is not an adapter folder"):
        hs.load_adapter(tmp_path / "none")
    (tmp_path / "0" / "adapter_config.json").write_text("{")
    with pytest.raises(hs.HeadscanError, match="it is not JSON"):
        hs.load_adapter(tmp_path / "0")
    (tmp_path / "3" / "adapter_model.safetensors").write_bytes(b"{")
    with pytest.raises(hs.HeadscanError, match="cannot read"):
        hs.load_adapter(tmp_path / "3")
    applied = hs.load_adapter(write_adapter(tmp_path / "one", value)).apply(model)
    with pytest.raises(hs.HeadscanError, match="carry an adapter already"):
        hs.load_adapter(tmp_path / "one").apply(applied)
