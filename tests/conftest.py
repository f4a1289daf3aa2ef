"""Fixtures: tiny seeded open_clip models built in memory, and a cache of their own. Nothing goes online."""

from __future__ import annotations

import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is first imported

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

import headscan as hs
from headscan.cli import main
from headscan.core.devices import devices_for

torch.set_num_threads(2)

TINY: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 3, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2},
}
CONCEPTS = [
    "cat",
    "dog",
    "horse",
    "fish",
    "bird",
    "tree",
    "house",
    "car",
    "boat",
    "apple",
    "ball",
    "hat",
    "shoe",
    "star",
    "duck",
    "red",
    "blue",
    "green",
    "yellow",
    "pink",
    "night",
    "day",
    "snow",
    "sand",
    "water",
    "fire",
    "wood",
    "glass",
    "iron",
    "paper",
]


def build_module(*, custom_text: bool = False, text: dict | None = None, **vision: object) -> torch.nn.Module:
    """Build a tiny CLIP whose every weight is drawn, gains, shifts and biases too: nothing cancels."""
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = kind(
            embed_dim=TINY["embed_dim"],
            vision_cfg={**TINY["vision_cfg"], **vision},
            text_cfg={**TINY["text_cfg"], **(text or {})},
        )
    for name, weight in module.named_parameters():
        if weight.ndim == 1 or name.endswith(("head_scale", "gamma")):
            around = 0.0 if "bias" in name else 1.0
            noise = 0.2 * torch.randn(weight.shape, generator=generator)
            weight.data.copy_(around + noise)
    return module.eval()


def write_bundle(folder, module, *, config=None, image_mean=None):
    """Write a model as an open_clip ``local-dir`` folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": config or TINY, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "open_clip_model.safetensors")
    if image_mean is not None:
        save_numpy({"image_mean": image_mean}, folder / "image_mean.safetensors")
    return folder


def write_adapter(folder, tensors, **config):
    """Write a LoRA adapter as peft does, of rank 2 and alpha 6 where `config` does not say otherwise."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSCAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cuda_device():
    """The first CUDA device; skips, saying why, where none can be used."""
    try:
        devices_for(None, "cuda", "the test")
    except hs.HeadscanError as error:
        pytest.skip(str(error))
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def image_mean():
    mean = np.random.default_rng(3).standard_normal(TINY["embed_dim"])
    return 0.4 * mean / np.linalg.norm(mean)


@pytest.fixture
def module():
    """A tiny model of its own, free to be changed."""
    return build_module()


@pytest.fixture(scope="session")
def model(image_mean):
    return hs.load_model(build_module(), image_mean=image_mean)


@pytest.fixture(scope="session")
def dictionary(model):
    return hs.load_dictionary(CONCEPTS, model=model, cache=False)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, image_mean):
    """The tiny model as a folder, with its image mean."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", build_module(), image_mean=image_mean)


@pytest.fixture(scope="session")
def tiny_architecture(tmp_path_factory):
    """The tiny model as a named open_clip architecture."""
    path = tmp_path_factory.mktemp("configs") / "headscan-tiny.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    return path.stem


def edit_command(bundle, folder, capsys, *options):
    """Scan a model folder by the command and return what runs ``headscan edit`` on it: status, output, errors."""
    (folder / "concepts.txt").write_text("\n".join(CONCEPTS))
    made = ["--dictionary", str(folder / "concepts.txt"), "-k", "3", "--show", "0", *options]
    assert main.main(["scan", f"local-dir:{bundle}", "--out", str(folder / "scan"), *made]) == 0
    capsys.readouterr()

    def run(*arguments):
        status = main.main(["edit", f"local-dir:{bundle}", "--scan", str(folder / "scan"), *map(str, arguments)])
        return status, *capsys.readouterr()

    return run
