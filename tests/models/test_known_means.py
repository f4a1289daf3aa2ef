"""Known image means: taken for the models that they are of, the user's own first, for no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import headscan as hs
from headscan.models.known_means import known_image_mean

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "real_clip" / "image_means.npz"


@pytest.mark.parametrize(
    ("published", "name", "tag"),
    [
        ("clip_ViT-B-32", "ViT-B-32", "openai"),
        ("clip_ViT-B-32", "hf-hub:openai/clip-vit-base-patch32@3d74acf", None),
        ("clip_ViT-B-16", "ViT-B-16-quickgelu", "openai"),
        ("open_clip_ViT-B-32", "ViT-B-32", "laion2b_s34b_b79k"),
    ],
)
def test_the_published_means_are_known_by_name(published, name, tag):
    if not PUBLISHED.is_file():
        pytest.skip(f"{PUBLISHED} is not there")
    np.testing.assert_array_equal(known_image_mean(name, tag), np.load(PUBLISHED)[published])


@pytest.mark.parametrize(("name", "tag"), [("ViT-B-32", "laion2b_e16"), ("ViT-B-32", "random"), ("demo", None)])
def test_others_have_none(name, tag):
    assert known_image_mean(name, tag) is None


def test_ones_own_file_comes_first(tmp_path, monkeypatch):
    mean = np.full(512, 0.01, np.float32)
    save_file({"ViT-B-32/openai": mean, "ViT-S-32-alt/random": mean[:256]}, tmp_path / "means.safetensors")
    monkeypatch.setenv("HEADSCAN_IMAGE_MEANS", str(tmp_path / "means.safetensors"))
    np.testing.assert_array_equal(known_image_mean("ViT-B-32", "openai"), mean)
    assert known_image_mean("ViT-B-32", "laion2b_s34b_b79k") is not None
    model = hs.load_model("ViT-S-32-alt", pretrained="random")
    np.testing.assert_array_equal(model.image_mean, mean[:256].astype(float))
    assert hs.load_model("ViT-S-32-alt", pretrained="random", image_mean="none").image_mean is None


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSCAN_IMAGE_MEANS", str(tmp_path / "means.safetensors"))
    with pytest.raises(hs.HeadscanError, match=r"HEADSCAN_IMAGE_MEANS.*means\.safetensors"):
        hs.load_model("ViT-S-32-alt", pretrained="random")
    (tmp_path / "means.safetensors").write_bytes(b"no tensors")
    with pytest.raises(hs.HeadscanError, match=r"means\.safetensors"):
        hs.load_model("ViT-S-32-alt", pretrained="random")
