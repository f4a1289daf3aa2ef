"""Checkpoints as people save them: the right weights, or one line with the cause and what to do."""

from __future__ import annotations

import argparse
import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

import headscan as hs
from architectures import transformers_model
from conftest import TINY, build_module, write_bundle

TEXTS = ["dog", "a boat on the sea", "snow"]


def embeddings(module):
    """The module's own text embeddings."""
    with torch.no_grad():
        return module.encode_text(open_clip.SimpleTokenizer(context_length=module.context_length)(TEXTS)).numpy()


def renamed(state, name):
    return {name(key): tensor for key, tensor in state.items()}


FSDP = "_fsdp_wrapped_module."
SAVED = {
    "model_state_dict": lambda state: {"epoch": 1, "model_state_dict": state, "loss": 0.1},
    "model": lambda state: {"model": state, "epoch": 1},
    "module": lambda state: {"module": state, "dp_world_size": 8},
    "nested": lambda state: {"model": {"state_dict": state}},
    "a key of its own": lambda state: {"vit": state, "epoch": 3},
    "NumPy's scalar": lambda state: {"state_dict": state, "best": np.float64(0.3), "step": np.int32(3)},
    "options": lambda state: {"state_dict": state, "args": argparse.Namespace(lr=1.0, name="x")},
    "compiled": lambda state: {"state_dict": renamed(state, "_orig_mod.{}".format)},
    "ddp, compiled": lambda state: renamed(state, "module._orig_mod.{}".format),
    "fsdp": lambda state: renamed(
        state, lambda key: "_fsdp_wrapped_module." + key.replace(".", "._fsdp_wrapped_module.", 1)
    ),
    "lightning": lambda state: {"state_dict": renamed(state, "clipmodel.{}".format), "optimizer_states": []},
    "an optimizer beside": lambda state: {
        "state_dict": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
    },
    "no logit_scale": lambda state: {key: tensor for key, tensor in state.items() if key != "logit_scale"},
}


@pytest.mark.parametrize("way", SAVED)
def test_the_model_is_found_however_it_was_saved(way, tmp_path, module, tiny_architecture):
    torch.save(SAVED[way](module.state_dict()), tmp_path / "weights.pt")
    model = hs.load_model(tiny_architecture, pretrained=tmp_path / "weights.pt")
    for layer in range(3):
        expected = hs.load_model(module).tower.read_attention(layer)
        np.testing.assert_array_equal(model.tower.read_attention(layer).output, expected.output)
    np.testing.assert_allclose(model.encode_text(TEXTS), embeddings(module), atol=1e-5)


def test_what_is_passed_over_is_logged(tmp_path, module, tiny_architecture, caplog):
    torch.save({**module.state_dict(), "classifier.weight": torch.zeros(10, 24)}, tmp_path / "head.pt")
    assert hs.load_model(tiny_architecture, pretrained=tmp_path / "head.pt").layers == 3
    assert "1 tensors that headscan-tiny has not are passed over, classifier.weight first" in caplog.text


def test_which_of_two_models_is_read_is_logged(tmp_path, module, tiny_architecture, caplog):
    state = module.state_dict()
    blank = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"model_ema": blank, "model": state}, tmp_path / "both.pt")
    read = hs.load_model(tiny_architecture, pretrained=tmp_path / "both.pt")
    assert read.weights_hash == hs.load_model(module).weights_hash
    assert "what is under model is read, not what is under model_ema" in caplog.text


def test_a_file_is_read_as_what_it_is_whatever_its_name(tmp_path, module, tiny_architecture):
    save_file(module.state_dict(), tmp_path / "safe.pt")
    read = hs.load_model(tiny_architecture, pretrained=tmp_path / "safe.pt")
    assert read.weights_hash == hs.load_model(module).weights_hash
    torch.save(module.state_dict(), tmp_path / "torch.safetensors")
    says = "is a file of torch's under another name: rename it to torch.pt"
    assert says in refusal(tiny_architecture, tmp_path / "torch.safetensors")
    for name in ("lfs.pt", "lfs.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
        assert "is a pointer of Git LFS in the place of the weights" in refusal(tiny_architecture, tmp_path / name)


def refusal(tiny_architecture, path):
    with pytest.raises(hs.HeadscanError) as caught:
        hs.load_model(tiny_architecture, pretrained=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_would_be_read_wrongly_is_refused(tmp_path, module, tiny_architecture):
    state = module.state_dict()
    extra = {key.replace("resblocks.2", "resblocks.3"): value for key, value in state.items() if "resblocks.2" in key}
    cases = {
        "deeper": (state | extra, "has no part for: it is of another architecture"),
        "longclip": (state | {"positional_embedding_res": state["positional_embedding"]}, "positional_embedding_res"),
        "twice": (state | renamed(state, "ema.{}".format), "more than once"),
        "narrower": (state | {"visual.proj": torch.zeros(32, 16)}, r"of shape (32, 16)"),
        "another": ({"encoder.weight": torch.zeros(3)}, "it has no tensor"),
        "sparse": (
            state | {"visual.proj": state["visual.proj"].to_sparse()},
            "holds visual.proj as a sparse_coo tensor",
        ),
        "nothing": ({"epoch": 3, "lr": 0.1}, "holds no state dict that is known: it holds epoch, lr"),
    }
    for name, (saved, says) in cases.items():
        torch.save(saved, tmp_path / f"{name}.pt")
        assert says in refusal(tiny_architecture, tmp_path / f"{name}.pt"), name


WEIGHT = "visual.transformer.resblocks.1.attn.out_proj.weight"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.int32])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_no_narrow_or_whole_number_is_taken_for_a_weight(dtype, suffix, tmp_path, module, tiny_architecture):
    state = module.state_dict() | {WEIGHT: module.state_dict()[WEIGHT].to(dtype)}
    path = tmp_path / f"weights.{suffix}"
    (torch.save if suffix == "pt" else save_file)(state, path)
    assert f"are quantised ({WEIGHT} is {str(dtype).removeprefix('torch.')})" in refusal(tiny_architecture, path)


MARKS = ["SCB", "scales", "qzeros", "weight_scale", "weight_scale_inv", "weight_packed", "weight.absmax"]
MARKS += ["weight.quant_state.bitsandbytes__nf4"]


@pytest.mark.parametrize("mark", MARKS)
def test_scales_beside_a_weight_are_refused_by_name(mark, tmp_path, module, tiny_architecture):
    name = WEIGHT.replace("weight", mark)
    save_file(module.state_dict() | {name: torch.ones(32)}, tmp_path / "weights.safetensors")
    assert f"are quantised ({name} beside them)" in refusal(tiny_architecture, tmp_path / "weights.safetensors")


def test_a_configuration_that_says_quantised_is_refused(tmp_path):
    transformers_model("CLIPModel").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(hs.HeadscanError, match=r"are quantised \(quantization_config: gptq\)"):
        hs.load_model(f"local-dir:{tmp_path}")


def test_the_checkpoints_own_context_length_counts(tmp_path, tiny_architecture):
    long = build_module(text={"context_length": 24})
    torch.save({"state_dict": renamed(long.state_dict(), "module.{}".format)}, tmp_path / "epoch_1.pt")
    model = hs.load_model(tiny_architecture, pretrained=tmp_path / "epoch_1.pt")
    np.testing.assert_allclose(model.encode_text(TEXTS), embeddings(long), atol=1e-5)
    assert model.module.context_length == 24


def test_the_checkpoints_own_image_size_counts(tmp_path, tiny_architecture):
    big = build_module(image_size=32)
    torch.save({"epoch": 1, "state_dict": big.state_dict()}, tmp_path / "epoch_1.pt")
    model = hs.load_model(tiny_architecture, pretrained=tmp_path / "epoch_1.pt")
    assert model.module.visual.image_size in (32, (32, 32))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_array_equal(model.module.encode_image(pixels), big.encode_image(pixels))


def test_a_grid_that_is_not_square_is_refused(tmp_path, tiny_architecture):
    state = build_module().state_dict()
    state["visual.positional_embedding"] = torch.zeros(8, 32)
    torch.save(state, tmp_path / "wide.pt")
    assert "7 patches make no square picture, and the model takes 2 x 2" in refusal(
        tiny_architecture, tmp_path / "wide.pt"
    )


class QuickGELU(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


def archive(path, module, *, quick=False):
    """Write a TorchScript archive of a module, as OpenAI's are."""
    if quick:
        for part in module.modules():
            if isinstance(getattr(part, "gelu", None), torch.nn.GELU):
                part.gelu = QuickGELU()
    inputs = torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, dtype=torch.long)
    torch.jit.trace(module, inputs, check_trace=False).save(path)


@pytest.mark.filterwarnings("ignore")
def test_an_archive_is_read_as_tensors_alone_with_its_activation(tmp_path, module, tiny_architecture):
    archive(tmp_path / "plain.pt", module)
    plain = hs.load_model(tiny_architecture, pretrained=tmp_path / "plain.pt")
    assert plain.weights_hash == hs.load_model(module).weights_hash
    np.testing.assert_allclose(plain.encode_text(TEXTS), embeddings(module), atol=1e-5)
    archive(tmp_path / "quick.pt", module, quick=True)
    quick = hs.load_model(tiny_architecture, pretrained=tmp_path / "quick.pt")
    np.testing.assert_allclose(quick.encode_text(TEXTS), embeddings(module), atol=1e-5)
    assert np.abs(quick.encode_text(TEXTS) - plain.encode_text(TEXTS)).max() > 1e-4


@pytest.mark.filterwarnings("ignore")
def test_an_archives_pickle_can_name_nothing_else(tmp_path, module, tiny_architecture):
    import zipfile

    archive(tmp_path / "good.pt", module)
    trap = b"\x80\x02cposix\nsystem\nX\x08\x00\x00\x00touch xy\x85R."
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, trap if name.endswith("/data.pkl") else good.read(name))
    assert "cannot be read without running its code" in refusal(tiny_architecture, tmp_path / "bad.pt")


def test_shards_that_torch_saved_are_read(tmp_path):
    module = transformers_model("CLIPModel")
    module.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    expected = hs.load_model(f"local-dir:{tmp_path}").weights_hash
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in halves.items():
        torch.save({name: state[name] for name in part}, tmp_path / file)
    listed = {name: file for file, part in halves.items() for name in part}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    assert hs.load_model(f"local-dir:{tmp_path}").weights_hash == expected


ALONE = {
    "CLIPForImageClassification": "it has no text tower",
    "SiglipForImageClassification": "it has no text tower",
    "CLIPVisionModelWithProjection": "it has no text tower",
    "CLIPTextModelWithProjection": "it has no vision tower",
    "LlavaForConditionalGeneration": "it has no joint space",
    "PaliGemmaForConditionalGeneration": "it has no joint space",
}


@pytest.mark.parametrize("name", ALONE)
def test_towers_alone_and_in_language_models_are_refused_by_name(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [name], "model_type": "clip"}))
    with pytest.raises(hs.HeadscanError, match=f"holds a {name}, .*{ALONE[name]}.*; load the two-tower model"):
        hs.load_model(f"local-dir:{tmp_path}")


def test_a_folder_without_a_tokenizer_is_refused_when_texts_are_asked_for(tmp_path):
    transformers_model("CLIPModel").save_pretrained(tmp_path)
    with pytest.raises(hs.HeadscanError, match=r"holds no tokenizer .*save the base model's beside it"):
        hs.load_model(f"local-dir:{tmp_path}").encode_text(TEXTS)


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path, module, monkeypatch):
    folder = write_bundle(tmp_path / "tiny", module, config=TINY)
    monkeypatch.setattr(
        open_clip, "get_tokenizer", lambda *given, **options: lambda texts: torch.ones(len(texts), 16)
    )
    with pytest.raises(hs.HeadscanError, match="gives every text the same tokens: its vocabulary is missing"):
        hs.load_model(f"local-dir:{folder}").encode_text(TEXTS)
