"""Merged adapters: what is saved is what peft merges, in the base's own layout."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import headscan as hs
from conftest import TINY, build_module, write_adapter, write_bundle
from headscan.cli import main
from headscan.edit.merge import merge_adapter

NAME = "visual.transformer.resblocks.1.attn.out_proj"


@pytest.fixture
def adapter(tmp_path):
    """A folder as peft writes it, and the change that it makes: a rank of 2 and an alpha of 6."""
    generator = torch.Generator().manual_seed(5)
    a, b = torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator)
    tensors = {f"base_model.model.{NAME}.lora_A.weight": a, f"base_model.model.{NAME}.lora_B.weight": b}
    return write_adapter(tmp_path / "adapter", tensors), 3 * b.double() @ a.double()


def changed(state, change):
    """What the file must hold: the change added to one weight, in the file's own dtype."""
    weight = state[f"{NAME}.weight"]
    return state | {f"{NAME}.weight": (weight.double() + change).float().to(weight.dtype)}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0 if name != f"{NAME}.weight" else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folder_keeps_its_layout_and_dtypes(adapter, dtype, tmp_path, capsys):
    folder, change = adapter
    module = build_module().to(dtype)
    base = write_bundle(tmp_path / "base", module, config=TINY)
    line = ["merge", f"local-dir:{base}", str(folder), "--out", str(tmp_path / "out")]
    assert main.main(line) == 0
    assert f"1 modules change; model saved in {tmp_path / 'out'}" in capsys.readouterr().out
    weights = "open_clip_model.safetensors"
    same(load_file(tmp_path / "out" / weights), changed(load_file(base / weights), change))
    merged = hs.load_model(f"local-dir:{tmp_path / 'out'}")
    applied = hs.load_adapter(folder).apply(hs.load_model(f"local-dir:{base}"))
    rounded = 1e-6 if dtype == torch.float32 else 1e-3  # of the file's dtype
    np.testing.assert_allclose(hs.vo_factors(merged).right, hs.vo_factors(applied).right, rtol=rounded, atol=rounded)
    noted = json.loads((tmp_path / "out" / "edit.json").read_text())
    assert (noted["format"], noted["modules"]) == ("headscan-merge", [NAME])
    assert noted["weights_hash"] == hs.load_model(f"local-dir:{base}").weights_hash
    assert main.main(line) == 0  # the same again
    assert main.main(["merge", f"local-dir:{base}", str(folder), "--out", str(base)]) == 2
    assert main.main(["edit", "demo", "--edit", str(tmp_path / "out" / "edit.json"), "--dry-run"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "will not write over the original" in errors[0]


def test_another_adapter_is_not_written_over_the_first(adapter, tmp_path, capsys):
    folder, _ = adapter
    base = write_bundle(tmp_path / "base", build_module(), config=TINY)
    line = ["merge", f"local-dir:{base}", str(folder), "--out", str(tmp_path / "out.safetensors")]
    assert main.main(line) == 0
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8}))
    assert main.main(line) == 2
    assert "holds another edit (adapter_hash differ)" in capsys.readouterr().err
    assert main.main([*line, "--force"]) == 0


def test_a_checkpoint_file_and_a_model_in_memory(adapter, tmp_path, module, tiny_architecture):
    folder, change = adapter
    expected = changed(module.state_dict(), change)
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "epoch_3.pt")
    from_file = hs.load_model(tiny_architecture, pretrained=tmp_path / "epoch_3.pt")
    for number, model in enumerate((from_file, hs.load_model(module))):
        path = merge_adapter(model, hs.load_adapter(folder)).save(tmp_path / f"{number}.safetensors")
        same(load_file(path), expected)
    assert from_file.weights_hash == hs.load_model(module).weights_hash


def test_transformers_layout_is_what_peft_merges(tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from architectures import transformers_model

    module = transformers_model("CLIPModel")
    module.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=3, target_modules=["q_proj", "out_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for what it renamed
        tuned = peft.get_peft_model(module, config)
        tuned.save_pretrained(tmp_path / "adapter")
        tuned.merge_and_unload().save_pretrained(tmp_path / "expected")
    assert (
        main.main(
            ["merge", f"local-dir:{tmp_path / 'base'}", str(tmp_path / "adapter"), "--out", str(tmp_path / "m")]
        )
        == 0
    )
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("m", "expected"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-6)


def test_an_edit_of_an_adapted_model_is_saved_with_the_adapter(adapter, tmp_path, module):
    folder, _ = adapter
    base = write_bundle(tmp_path / "base", module, config=TINY)
    adapted = hs.load_adapter(folder).apply(hs.load_model(f"local-dir:{base}"))
    dictionary = hs.load_dictionary(["cat", "dog", "snow"], model=adapted, cache=False)
    scan = hs.scan(adapted, dictionary, k=2, significance=0)
    edited = hs.Edit.suppress(scan, adapted, like="cat", threshold=-1.0, dictionary=dictionary).apply(adapted)
    saved = hs.load_model(f"local-dir:{edited.save(tmp_path / 'edited')}")
    for layer in range(saved.layers):
        np.testing.assert_array_equal(
            saved.tower.read_attention(layer).output, edited.tower.read_attention(layer).output
        )
    assert saved.weights_hash == edited.weights_hash


def test_what_does_not_fit_is_refused(adapter, module):
    folder, _ = adapter
    with pytest.raises(hs.HeadscanError, match="an adapter comes from load_adapter, not a str"):
        merge_adapter(hs.load_model(module), "adapter")  # type: ignore[arg-type]
    with pytest.raises(hs.HeadscanError, match="model must be one from load_model"):
        merge_adapter(module, hs.load_adapter(folder))
