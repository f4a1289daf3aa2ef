"""Models of transformers: folders, tokenizers, texts, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import headscan as hs
from architectures import BERT_TEXTS, TRANSFORMERS, transformers_model
from headscan.evaluate import embed_images, zero_shot
from headscan.models.towers.embedding import embed_preprocessed

TEXTS = ["cat", "red boat", "dog"]


def word_tokenizer(folder):
    """Write a tokenizer of whole words with an end token."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "cat": 2, "dog": 3, "red": 4, "boat": 5, "<unk>": 6, "</s>": 63}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 63)])
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def letter_tokenizer(folder):
    """Write a tokenizer of letters, of the class that transformers takes for SigLIP 2 whatever the folder says."""
    from transformers import Siglip2Tokenizer

    special = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4, "▁": 31}
    letters = {chr(ord("a") + place): 5 + place for place in range(26)}
    Siglip2Tokenizer(vocab=special | letters, padding_side="right").save_pretrained(folder)


def ids_of(name):
    """The tokens of TEXTS, padded."""
    if name != "Siglip2Model":
        return torch.tensor([[1, 2, 63, 0, 0, 0, 0, 0], [1, 4, 5, 63, 0, 0, 0, 0], [1, 3, 63, 0, 0, 0, 0, 0]])
    rows = [[31 if letter == " " else 5 + ord(letter) - ord("a") for letter in text] for text in TEXTS]
    return torch.tensor([row + [0] * (8 - len(row)) for row in rows])


@pytest.fixture(params=TRANSFORMERS)
def saved(request, tmp_path):
    """A model and the folder it was saved in, in one file or in shards."""
    module = transformers_model(request.param)
    shard = "40KB" if request.param == "SiglipModel" else "5GB"
    module.save_pretrained(tmp_path / "model", max_shard_size=shard)
    (letter_tokenizer if request.param == "Siglip2Model" else word_tokenizer)(tmp_path / "model")
    return module, tmp_path / "model"


def embedded(module, ids):
    """Return the model's own embeddings of padded texts, each alone where the tower would look at the padding."""
    name = type(module).__name__
    if name not in (*BERT_TEXTS, "FlavaModel"):
        return module.get_text_features(input_ids=ids).pooler_output
    rows = [row[None, : int((row != 0).sum())] for row in ids]
    if name == "BlipForImageTextRetrieval":
        made = [module.text_proj(module.text_encoder(input_ids=row).last_hidden_state[:, 0]) for row in rows]
    else:
        made = [module.get_text_features(input_ids=row).pooler_output for row in rows]
    return torch.cat([row[:, 0] if row.ndim == 3 else row for row in made])


def test_a_folder_is_read_without_building_the_module_and_embeds_texts_like_it(saved):
    module, folder = saved
    model = hs.load_model(f"local-dir:{folder}")
    assert model.weights_hash == hs.load_model(module).weights_hash
    renamed = type(module).__name__ == "AltCLIPModel"  # transformers saves it under other names than its own
    assert model.tower.blocks[0].value.weight.is_meta != renamed
    with torch.no_grad():
        expected = embedded(module, ids_of(type(module).__name__)).numpy()
    found = model.encode_text(TEXTS, batch_size=2)
    assert not model.tower.blocks[0].value.weight.is_meta
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert hs.load_model(module, tokenizer=model.tokenizer).text_hash == model.text_hash


def test_texts_of_towers_that_do_not_see_padding_are_cut_to_the_longest_of_their_batch(saved):
    module, folder = saved
    lengths = []
    text = getattr(module, "text_encoder", None) or module.text_model
    text = getattr(text, "roberta", text)
    layers = text.encoder.layers if hasattr(text.encoder, "layers") else text.encoder.layer
    layers[0].register_forward_hook(
        lambda _, __, output: lengths.append((output[0] if isinstance(output, tuple) else output).shape[1])
    )
    model = hs.load_model(module, tokenizer=hs.load_model(f"local-dir:{folder}").tokenizer)
    model.encode_text(TEXTS, batch_size=2)
    whole = type(module).__name__ in ("SiglipModel", "Siglip2Model")  # which look at the padding
    assert lengths == ([8, 8] if whole else [3, 4])  # a word or two between the start and the end token


def test_a_scan_from_end_to_end(saved):
    _, folder = saved
    model = hs.load_model(f"local-dir:{folder}")
    dictionary = hs.load_dictionary(["cat", "dog", "red", "boat", "red cat"], model=model, cache=False)
    for tower in ("image",) if type(saved[0]).__name__ in BERT_TEXTS else ("image", "text"):
        table = hs.scan(model, dictionary, tower=tower, parts=("vo", "qk", "mlp"), layers=[1], poles="+", k=2).table()
        assert set(table["part"]) == {"vo", "qk", "mlp_svd", "mlp_neuron"}
        assert table["certified"].all()
        assert np.isfinite(table["fidelity"]).all()


PLAIN = """
import sys, numpy, torch, transformers
module = getattr(transformers, sys.argv[1]).from_pretrained(sys.argv[2]).eval()
with torch.no_grad():
    rows = module.get_image_features(pixel_values=torch.from_numpy(numpy.load(sys.argv[3])))
numpy.save(sys.argv[4], getattr(rows, "pooler_output", rows).numpy())
assert not any(name.split(".")[0] == "headscan" for name in sys.modules)
"""


def pickle_in_shards(folder):
    """Put a folder's weights into two of torch's own files, with an index."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    files = {name: f"pytorch_model-{number % 2 + 1:05}-of-00002.bin" for number, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: whole[name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.mark.parametrize(("name", "pickled"), [("CLIPModel", False), ("SiglipModel", False), ("CLIPModel", True)])
def test_an_edited_folder_loads_in_plain_transformers(name, pickled, tmp_path):
    module = transformers_model(name).eval()
    module.save_pretrained(tmp_path / "model")
    word_tokenizer(tmp_path / "model")
    names = load_file(tmp_path / "model/model.safetensors").keys()
    if pickled:
        pickle_in_shards(tmp_path / "model")
    model = hs.load_model(f"local-dir:{tmp_path / 'model'}")
    dictionary = hs.load_dictionary(["cat", "dog", "red", "boat"], model=model, cache=False)
    scan = hs.scan(model, dictionary, k=2)
    edit = hs.Edit.suppress(scan, model, like="cat", strength=-1.0, threshold=-1.0, dictionary=dictionary)
    edited = edit.apply(model)
    saved = edited.save(tmp_path / "edited")
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "in.npy", pictures.numpy())
    (tmp_path / "plain.py").write_text(PLAIN)
    command = [sys.executable, "plain.py", name, "edited", "in.npy", "out.npy"]
    subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=tmp_path)
    with torch.no_grad():
        before, after = (
            each.get_image_features(pixel_values=pictures).pooler_output for each in (module, edited.module)
        )
    # The weights are the same bits; another process may add in another order, float32 of order 1.
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), after.numpy(), atol=1e-5)
    assert (after - before).abs().max() > 1e-3
    assert load_file(saved / "model.safetensors").keys() == names
    assert not list(saved.glob("*.bin*"))
    assert hs.load_model(f"local-dir:{saved}").weights_hash == edited.weights_hash


def test_pictures_go_through_the_folders_own_preprocessing(tmp_path):
    from transformers import CLIPImageProcessor

    module = transformers_model("CLIPModel").eval()
    module.save_pretrained(tmp_path)
    word_tokenizer(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    model = hs.load_model(f"local-dir:{tmp_path}")
    with pytest.raises(hs.HeadscanError, match="does not say how it preprocesses images"):
        embed_images(model, pictures)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = module.get_image_features(pixel_values=pixels).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1)
    np.testing.assert_allclose(embed_images(model, pictures, batch_size=2), expected.numpy(), atol=1e-5)
    assert zero_shot(model, pictures, [0, 1, 0], ["cat", "dog"], templates=["{}"]).scores.shape == (3, 2)


def test_a_module_in_memory_says_its_tokenizer_or_is_asked_for_it(saved):
    import transformers

    module, folder = saved
    with pytest.raises(hs.HeadscanError, match="does not say its tokenizer"):
        hs.load_model(module).encode_text(TEXTS)
    loaded = getattr(transformers, type(module).__name__).from_pretrained(folder)
    found = hs.load_model(loaded).encode_text(TEXTS)
    np.testing.assert_array_equal(found, hs.load_model(f"local-dir:{folder}").encode_text(TEXTS))


def test_folders_refused(tmp_path):
    module = transformers_model("CLIPModel")
    module.save_pretrained(tmp_path / "lacking")
    weights = tmp_path / "lacking" / "model.safetensors"
    state = load_file(weights)
    del state["visual_projection.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    module.save_pretrained(tmp_path / "weightless")
    (tmp_path / "weightless" / "model.safetensors").unlink()
    module.save_pretrained(tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    module.save_pretrained(tmp_path / "cut")
    cut = tmp_path / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    for name, says in {
        "lacking": r"is not of the CLIPModel of its config\.json: it has no tensor visual_projection\.weight \(1 of",
        "weightless": r"has no weights that are read \(model.safetensors or pytorch_model.bin",
        "other": "of type 'bert': supported are altclip, blip, chinese_clip, clip, ",
        "cut": "cannot be loaded",
        "empty": r"has no open_clip_config.json and no config\.json",
    }.items():
        with pytest.raises(hs.HeadscanError, match=says) as caught:
            hs.load_model(f"local-dir:{tmp_path / name}")
        assert "\n" not in str(caught.value)


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    transformers_model("CLIPModel").save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(hs.HeadscanError, match=r"pip install 'headscan\[hf\]'"):
        hs.load_model(f"local-dir:{tmp_path}")


def test_a_vision_tower_without_a_head_has_no_joint_space():
    module = transformers_model("SiglipModel")
    module.vision_model.use_head = False
    with pytest.raises(hs.HeadscanError, match="no pooling head"):
        hs.load_model(module)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("CLIPSegForImageSegmentation", "CLIPSegModel"),
        ("OwlViTForObjectDetection", "OwlViTModel"),
        ("Owlv2ForObjectDetection", "Owlv2Model"),
    ],
)
def test_a_model_with_a_tasks_head_is_read_as_the_one_inside(name, inside, tmp_path):
    base = transformers_model(inside)
    whole = getattr(transformers, name)(base.config).eval()
    getattr(whole, whole.base_model_prefix).load_state_dict(base.state_dict())
    whole.save_pretrained(tmp_path / "saved")
    expected = hs.vo_factors(hs.load_model(base))
    for source in (whole, f"local-dir:{tmp_path / 'saved'}"):
        factors = hs.vo_factors(hs.load_model(source))
        np.testing.assert_array_equal(factors.left, expected.left)
        np.testing.assert_array_equal(factors.right, expected.right)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_pictures_are_embedded_as_the_class_does(name):
    module = transformers_model(name).eval()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    if name == "XCLIPModel":
        with pytest.raises(hs.HeadscanError, match="embeds videos"):
            embed_preprocessed(module, pixels)
        return
    if name == "Siglip2Model":
        return  # takes patches, see its own preprocessing
    with torch.no_grad():
        found = embed_preprocessed(module, pixels)
        if name == "BlipForImageTextRetrieval":  # its own scores: cosines of unit embeddings
            ids = ids_of(name)[:2]
            scores = module(input_ids=ids, pixel_values=pixels, use_itm_head=False, attention_mask=(ids != 0).long())
            texts = torch.nn.functional.normalize(embedded(module, ids), dim=-1)
            expected, found = scores.itm_score, torch.nn.functional.normalize(found, dim=-1) @ texts.T
        elif name == "FlavaModel":
            expected = module.image_projection(module.image_model(pixels).last_hidden_state[:, 0])
        else:
            expected = module.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(found, expected)
