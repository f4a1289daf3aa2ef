"""Weights that stay in their files: what is read when, and that it is what the module would hold."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

import headscan as hs
from conftest import TINY, build_module, write_bundle
from headscan.models import tensor_files
from headscan.models.towers.weights import empty_parameters


@pytest.fixture
def checkpoint(tmp_path, module):
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def read(monkeypatch):
    """The names of the tensors read, in order."""
    names = []
    real = tensor_files.TensorFiles.read

    def note(self, name, rows=None):
        names.append((name, rows))
        return real(self, name, rows)

    monkeypatch.setattr(tensor_files.TensorFiles, "read", note)
    return names


def test_only_what_a_part_needs_is_read_from_the_file(checkpoint, module, tiny_architecture, read):
    model = hs.load_model(tiny_architecture, pretrained=checkpoint)
    assert read == []
    factors = hs.vo_factors(model, layers=[1])
    block = "visual.transformer.resblocks.1."
    values = slice(64, 96)  # the last third of the fused projection's rows
    assert sorted(read, key=str) == sorted(
        [
            (f"{block}ln_1.weight", None),
            (f"{block}ln_1.bias", None),
            (f"{block}attn.in_proj_weight", values),
            (f"{block}attn.in_proj_bias", values),
            (f"{block}attn.out_proj.weight", None),
            (f"{block}attn.out_proj.bias", None),
        ],
        key=str,
    )
    in_memory = hs.vo_factors(hs.load_model(module), layers=[1])
    for name in ("left", "right", "bias"):
        np.testing.assert_array_equal(getattr(factors, name), getattr(in_memory, name))
    assert all(parameter.is_meta for parameter in model.weights.skeleton.parameters())


def test_a_scan_with_an_encoded_dictionary_never_builds_the_module(
    checkpoint, tiny_architecture, dictionary, image_mean
):
    model = hs.load_model(tiny_architecture, pretrained=checkpoint, image_mean=image_mean)
    scan = hs.scan(model, dictionary, layers=[0], k=2)
    assert len(scan) == 64
    assert all(parameter.is_meta for parameter in model.weights.skeleton.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", "wrapped.pt"])
def test_the_module_is_the_one_that_was_saved(tmp_path, module, tiny_architecture, suffix):
    path, state = tmp_path / f"weights{suffix}", module.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    elif suffix == ".pt":
        torch.save(state, path)
    else:
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, path)
    model = hs.load_model(tiny_architecture, pretrained=path)
    assert model.tower.blocks[0].value.weight.is_meta
    before = hs.vo_factors(model)
    hashed = model.weights_hash
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        np.testing.assert_array_equal(model.module.encode_image(images), module.encode_image(images))
    assert hashed == hs.load_model(module).weights_hash
    assert not model.tower.blocks[0].value.weight.is_meta
    np.testing.assert_array_equal(hs.vo_factors(model).left, before.left)
    np.testing.assert_array_equal(model.encode_text(["cat"]), hs.load_model(module).encode_text(["cat"]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_computed_in_float32(tmp_path, module, tiny_architecture, dtype):
    half = {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    model = hs.load_model(tiny_architecture, pretrained=tmp_path / "half.safetensors")
    rounded = build_module()
    rounded.load_state_dict(half)
    np.testing.assert_array_equal(hs.vo_factors(model).right, hs.vo_factors(hs.load_model(rounded)).right)
    assert model.weights_hash == hs.load_model(rounded).weights_hash
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}


def test_writing_brings_the_weights_into_the_module_and_leaves_the_file(checkpoint, tiny_architecture):
    model = hs.load_model(tiny_architecture, pretrained=checkpoint)
    before = checkpoint.read_bytes()
    whole = model.tower.read_attention(0)
    model.tower.write_attention_output(0, 2 * whole.output, whole.output_bias)
    np.testing.assert_array_equal(model.tower.read_attention(0).output, 2 * whole.output)
    assert checkpoint.read_bytes() == before
    assert hs.load_model(tiny_architecture, pretrained=checkpoint).weights_hash != model.weights_hash


def test_a_damaged_tensor_is_named_when_it_is_read(tmp_path, module, tiny_architecture):
    module.visual.transformer.resblocks[2].attn.out_proj.weight.data[0, 0] = float("nan")
    save_file(module.state_dict(), tmp_path / "nan.safetensors")
    model = hs.load_model(tiny_architecture, pretrained=tmp_path / "nan.safetensors")
    hs.vo_factors(model, layers=[0])
    with pytest.raises(hs.HeadscanError, match=r"NaN: tensor visual.transformer.resblocks.2.attn.out_proj.weight"):
        hs.vo_factors(model)
    with pytest.raises(hs.HeadscanError, match="NaN"):
        _ = model.weights_hash


def test_a_layout_that_is_not_known_is_named_by_what_it_lacks(tmp_path, module, tiny_architecture):
    state = module.state_dict()
    state["visual.projection.weight"] = state.pop("visual.proj")
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(
        hs.HeadscanError, match=r"it has no tensor visual\.proj \(1 of \d+ are missing\); it has visual\.projection"
    ):
        hs.load_model(tiny_architecture, pretrained=tmp_path / "other.safetensors")


def test_layouts_that_open_clip_converts_are_loaded_by_it(tmp_path):
    """A checkpoint of the old kind, with the text tower's parts at the top, for a model that keeps them in `text`."""
    module = build_module(custom_text=True)
    state = {name.removeprefix("text."): tensor for name, tensor in module.state_dict().items()}
    (tmp_path / "bundle").mkdir()
    config = {"model_cfg": {**TINY, "custom_text": True}, "preprocess_cfg": {}}
    folder = write_bundle(tmp_path / "bundle", module, config=config["model_cfg"])
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = hs.load_model(f"local-dir:{folder}")
    assert model.weights_hash == hs.load_model(module).weights_hash


def test_building_without_weights_leaves_torch_as_it_was():
    register, move = torch.nn.Module.register_parameter, torch.nn.Module.to
    with pytest.raises(ZeroDivisionError), empty_parameters():
        assert torch.nn.Linear(3, 2).weight.is_meta
        _ = 1 / 0
    assert torch.nn.Module.register_parameter is register
    assert torch.nn.Module.to is move
    assert open_clip.CLIP(**TINY).visual.proj.device.type == "cpu"
