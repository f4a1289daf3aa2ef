"""Loading models, refusing what cannot be explained, and hashes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

import headscan as hs
from conftest import TINY, build_module, write_bundle
from headscan.models.model import _state_hash

# ---- names and files


def test_sizes(model):
    assert (model.layers, model.heads, model.width, model.rank, model.joint_dim) == (3, 4, 32, 8, 24)


def test_the_packaged_demo_loads_with_its_image_mean():
    model = hs.load_model("demo")
    assert model.name == "demo"
    assert model.image_mean is not None
    assert model.image_mean.shape == (model.joint_dim,)


def test_a_folder_is_the_module_that_was_written(bundle, model):
    loaded = hs.load_model(f"local-dir:{bundle}")
    assert loaded.weights_hash == model.weights_hash
    assert loaded.text_hash == model.text_hash
    np.testing.assert_array_equal(loaded.image_mean, model.image_mean)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_an_architecture_with_a_checkpoint_file(tmp_path, module, tiny_architecture, suffix):
    path = tmp_path / f"weights{suffix}"
    state = module.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = hs.load_model(tiny_architecture, pretrained=path)
    assert loaded.weights_hash == hs.load_model(module).weights_hash
    assert loaded.pretrained == str(path)
    assert loaded.image_mean is None


def test_random_weights_must_be_asked_for_and_are_always_the_same(tiny_architecture):
    with pytest.raises(hs.HeadscanError, match="say which weights with pretrained: a checkpoint file, or 'random'"):
        hs.load_model(tiny_architecture)
    before = torch.random.get_rng_state()
    first = hs.load_model(tiny_architecture, pretrained="random")
    torch.manual_seed(99)
    assert hs.load_model(tiny_architecture, pretrained="random").weights_hash == first.weights_hash
    torch.random.set_rng_state(before)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("ViT-L-41", {}, "there is no model 'ViT-L-41': did you mean .*ViT-L-14"),
        ("vit-b-32", {}, "did you mean .*ViT-B-32"),
        ("xyzzy", {}, "hf-hub:org/repo and local-dir:path also name models"),
        ("", {}, "there is no model ''"),
        ("ViT-B-32", {}, r"say which weights with pretrained: one of .*laion2b_s34b_b79k.* \(\d+ in all\)"),
        (
            "ViT-B-32",
            {"pretrained": "laion2b_s34b"},
            "no weights 'laion2b_s34b'.*its tags include laion2b_s34b_b79k",
        ),
        (
            "ViT-B-32-quickgelu",
            {"pretrained": "laion2b_e16"},
            "neither a file nor a tag|without QuickGELU: use ViT-B-32",
        ),
        ("demo", {"pretrained": "openai"}, "demo brings its own weights"),
        ("local-dir:/no/such/folder", {}, "there is no model folder /no/such/folder"),
        ("hf-hub:", {}, "not of the form hf-hub:organisation/repository"),
        ("hf-hub:nobody/nothing", {}, "cannot be loaded from the Hugging Face hub .HF_HUB_OFFLINE is set"),
        ("ViT-B-32", {"pretrained": "laion2b_s34b_b79k"}, "cannot be loaded .HF_HUB_OFFLINE is set"),
        ("ViT-B-32", {"pretrained": "random", "device": "warp"}, "device 'warp' cannot be used"),
        ("demo", {"dtype": "int8"}, "dtype must be one of float32, float16, bfloat16, not 'int8'"),
    ],
)
def test_names_refused_in_one_line(name, options, says, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # no cached download of this machine's
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(hs.HeadscanError, match=says) as caught:
        hs.load_model(name, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_named_without_its_prefix_is_recognised(bundle):
    with pytest.raises(hs.HeadscanError, match="write local-dir:"):
        hs.load_model(str(bundle))


def test_quick_gelu_follows_the_weights(tiny_architecture, tmp_path, module, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_file(module.state_dict(), path)
    config = {"quick_gelu": True, "file": str(path)}
    monkeypatch.setattr(open_clip.pretrained, "get_pretrained_cfg", lambda model, tag: config)
    monkeypatch.setattr(open_clip.factory, "get_pretrained_cfg", lambda model, tag: config)
    loaded = hs.load_model(tiny_architecture, pretrained="tag")
    assert "QuickGELU" in repr(loaded.module.transformer)


def test_weights_behind_a_plain_url_are_not_fetched_offline(tiny_architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = {"url": "https://example.invalid/weights.pt"}
    monkeypatch.setattr(open_clip.pretrained, "get_pretrained_cfg", lambda model, tag: config)
    with pytest.raises(hs.HeadscanError, match=r"HF_HUB_OFFLINE is set and .*weights\.pt is absent"):
        hs.load_model(tiny_architecture, pretrained="tag")


# ---- damaged input


def test_a_pickle_is_never_executed(tmp_path, tiny_architecture):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "weights.pt"
    torch.save({"state_dict": Trap()}, path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("weights.pt", "plain.pt", "empty.pt"):
        with pytest.raises(hs.HeadscanError, match=r"cannot be loaded|headscan never unpickles"):
            hs.load_model(tiny_architecture, pretrained=tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_bad_checkpoint_is_named_and_what_was_expected(tmp_path, module, tiny_architecture):
    torch.save(module, tmp_path / "module.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(module.state_dict(), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-5000])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello \x1b[31mred")
    damaged = "expected a .safetensors file, or a state dict that torch.load reads with weights_only=True"
    says = {
        "module.pt": "holds a open_clip.model.CLIP, which only unpickling would",
        "list.pt": "it holds list, and tensors",
    }
    for name in ("module.pt", "list.pt", "cut.pt", "empty.pt", "text.pt"):
        with pytest.raises(hs.HeadscanError) as caught:
            hs.load_model(tiny_architecture, pretrained=tmp_path / name)
        assert name in str(caught.value)
        assert says.get(name, damaged) in str(caught.value)
    folder = write_bundle(tmp_path / "bundle", module)
    (folder / "open_clip_model.safetensors").unlink()
    (folder / "weights.bin").write_bytes((tmp_path / "module.pt").read_bytes())
    with pytest.raises(hs.HeadscanError, match=r"weights\.bin holds a open_clip\.model\.CLIP"):
        hs.load_model(f"local-dir:{folder}")


def test_damaged_folders(tmp_path, module):
    folder = write_bundle(tmp_path / "cut", module)
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    cases = {"cut": "cannot be loaded"}
    write_bundle(tmp_path / "other", module, config={**TINY, "embed_dim": 16})
    cases["other"] = r"holds text_projection of shape \(32, 24\), and .* has \(32, 16\) there"
    (write_bundle(tmp_path / "weightless", module) / "open_clip_model.safetensors").unlink()
    cases["weightless"] = "has no weights"
    (write_bundle(tmp_path / "nameless", module) / "open_clip_config.json").unlink()
    cases["nameless"] = "has no open_clip_config.json"
    (write_bundle(tmp_path / "garbled", module) / "open_clip_config.json").write_text("{")
    cases["garbled"] = "is damaged: it is not JSON"
    for name, says in cases.items():
        with pytest.raises(hs.HeadscanError, match=says) as caught:
            hs.load_model(f"local-dir:{tmp_path / name}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite values")])
def test_weights_that_are_not_finite_are_named(module, value, kind):
    module.visual.transformer.resblocks[1].attn.in_proj_weight.data[3, 4] = value
    says = rf"the weights hold {kind}: tensor visual\.transformer\.resblocks\.1\.attn\.in_proj_weight, "
    with pytest.raises(hs.HeadscanError, match=says):
        hs.load_model(module)


# ---- modules in memory


def test_a_module_in_memory_is_left_as_it_was(module):
    module.train()
    model = hs.load_model(module)
    model.encode_text(["cat"])
    assert module.training
    assert all(part.training for part in module.modules())
    assert model.module is module


def test_what_is_not_a_clip_model_is_named():
    with pytest.raises(hs.HeadscanError, match=r"not a torch\.nn\.modules\.linear\.Linear"):
        hs.load_model(torch.nn.Linear(2, 2))
    with pytest.raises(hs.HeadscanError, match=r"not a builtins\.int"):
        hs.load_model(3)  # type: ignore[arg-type]


def test_a_module_without_memory_is_refused():
    with pytest.raises(hs.HeadscanError, match="no weights"):
        hs.load_model(build_module().to("meta"))


def test_a_module_in_memory_is_not_moved(module):
    with pytest.raises(hs.HeadscanError, match="pretrained belongs to an architecture name"):
        hs.load_model(module, pretrained="openai")
    with pytest.raises(hs.HeadscanError, match="is on cpu: move it to meta yourself"):
        hs.load_model(module, device="meta")


def test_a_foreign_vocabulary_needs_its_tokenizer():
    module = build_module(text={"vocab_size": 100})
    with pytest.raises(hs.HeadscanError, match="does not say its tokenizer"):
        hs.load_model(module).encode_text(["cat"])
    with pytest.raises(hs.HeadscanError, match="the model's vocabulary has 100"):
        hs.load_model(module, tokenizer=open_clip.SimpleTokenizer(context_length=16)).encode_text(["cat"])
    own = hs.load_model(module, tokenizer=lambda texts: torch.full((len(texts), 16), 3))
    assert own.encode_text(["cat"]).shape == (1, 24)


# ---- hashes


def test_the_weights_hash_is_of_names_shapes_dtypes_and_bytes(module):
    reference = hs.load_model(module).weights_hash
    assert hs.load_model(copy.deepcopy(module)).weights_hash == reference
    changed = copy.deepcopy(module)
    changed.visual.proj.data[0, 0] += 1e-6
    assert hs.load_model(changed).weights_hash != reference
    assert hs.load_model(copy.deepcopy(module).half()).weights_hash != reference


def test_the_text_hash_is_of_what_decides_text_embeddings(module):
    reference = hs.load_model(module).text_hash
    seen = copy.deepcopy(module)
    seen.visual.proj.data.mul_(2.0)
    assert hs.load_model(seen).text_hash == reference
    read = copy.deepcopy(module)
    read.text_projection.data[0, 0] += 1e-6
    assert hs.load_model(read).text_hash != reference
    quick = open_clip.CLIP(**TINY, quick_gelu=True)
    quick.load_state_dict(module.state_dict())
    assert hs.load_model(quick).weights_hash == hs.load_model(module).weights_hash
    assert hs.load_model(quick).text_hash != reference
    fewer = copy.deepcopy(module)
    for block in fewer.transformer.resblocks:
        block.attn.num_heads, block.attn.head_dim = 2, 16
    assert hs.load_model(fewer).text_hash != reference
    later = copy.deepcopy(module)
    later.text_pool_type = "first"
    assert hs.load_model(later).text_hash != reference
    assert hs.load_model(module, dtype="bfloat16").text_hash != reference
    other = open_clip.SimpleTokenizer(context_length=16, clean="canonicalize")
    assert hs.load_model(module, tokenizer=other).text_hash != reference


def test_hashing_handles_scalars_and_every_dtype():
    state = {
        "scale": torch.tensor(1.5),
        "half": torch.zeros(2, dtype=torch.bfloat16),
        "index": torch.arange(3),
    }
    assert len(_state_hash(state.items())) == 64
