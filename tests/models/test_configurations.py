"""Break-ins: no configuration of a model folder runs its code, by whatever door, and nothing is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from PIL import Image
from tests.models.test_hugging_face import word_tokenizer

import headscan as hs
from architectures import transformers_model
from conftest import TINY, build_module, write_bundle
from headscan.models.configurations import never_asking
from headscan.models.hugging_face import folder_tokenizer, image_processor
from headscan.models.towers.weights import Weights


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Write code that leaves a mark when it runs into a folder; answer "y" to whoever asks, and note it."""
    mark, asked = tmp_path / "sprung", []

    def answer(*given):
        asked.append(given)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))

    def write(folder):
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
        return folder

    yield write
    assert not mark.exists()
    assert asked == []


def change(path, **keys):
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | keys))


DOORS: dict[Any, Any] = {
    "config.json": {"auto_map": {"AutoConfig": "evil.Evil"}},
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}},
    "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": "evil.Evil"}},
    "processor_config.json": {"auto_map": {"AutoProcessor": "evil.Evil"}},
    "generation_config.json": {"trust_remote_code": True},
}


@pytest.mark.parametrize("door", DOORS)
def test_a_transformers_folder_runs_nothing(door, tmp_path, trap):
    folder = tmp_path / "model"
    transformers_model("CLIPModel").save_pretrained(folder)
    word_tokenizer(folder)
    change(trap(folder) / door, **DOORS[door])
    with pytest.raises(hs.HeadscanError, match=rf"{door} asks for code of its own to be run \("):
        hs.load_model(f"local-dir:{folder}")


KWARGS = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}


def test_an_open_clip_configuration_cannot_ask_for_trust(tmp_path, trap):
    config = {**TINY, "text_cfg": {**TINY["text_cfg"], **KWARGS}}
    folder = trap(write_bundle(tmp_path / "model", build_module(), config=config))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    with pytest.raises(hs.HeadscanError, match=r"open_clip_config\.json asks for code of its own .*\(trust_"):
        hs.load_model(f"local-dir:{folder}").encode_text(["cat"])


def test_an_open_clip_folders_tokenizer_runs_nothing(tmp_path, trap):
    config = {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "x"}}
    folder = trap(write_bundle(tmp_path / "model", build_module(), config=config))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    change(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    with pytest.raises(hs.HeadscanError, match=r"tokenizer of .* cannot be loaded"):
        hs.load_model(f"local-dir:{folder}").encode_text(["cat"])


def test_a_text_tower_named_by_a_configuration_runs_nothing(tmp_path, trap):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    change(trap(elsewhere) / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    config = {**TINY, "text_cfg": {"hf_model_name": str(elsewhere), "hf_tokenizer_name": str(elsewhere)}}
    folder = write_bundle(tmp_path / "model", build_module(), config=config)
    with pytest.raises(hs.HeadscanError, match="cannot be loaded"):
        hs.load_model(f"local-dir:{folder}")


def test_a_module_in_memory_brings_no_code_by_its_folder(tmp_path, trap):
    folder = tmp_path / "model"
    transformers_model("CLIPModel").save_pretrained(folder)
    module = type(transformers_model("CLIPModel")).from_pretrained(folder)
    word_tokenizer(trap(folder))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"})
    assert len(folder_tokenizer(folder, Weights(module))(["cat"])) == 1  # transformers' own class
    assert type(image_processor(folder)).__module__.startswith("transformers.models.clip.")
    model = hs.load_model(module, tokenizer=lambda texts: torch.ones(len(texts), 8))
    assert hs.preprocess(model, Image.new("RGB", (32, 32))).shape[0] == 3


def test_the_question_is_asked_again_afterwards():
    from transformers import dynamic_module_utils

    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    with never_asking():
        assert dynamic_module_utils.TIME_OUT_REMOTE_CODE == 0
    assert before == dynamic_module_utils.TIME_OUT_REMOTE_CODE > 0
