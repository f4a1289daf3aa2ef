"""Image means: measured on pictures, estimated without, asked for by name."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import headscan as hs
from conftest import build_module
from headscan.models.image_mean import estimate_image_mean, image_mean_of_folder, noise_pictures
from headscan.models.pictures import embed_images


@pytest.fixture
def pictures(tmp_path):
    """Five pictures of several kinds in a folder of folders, and something else."""
    rng = np.random.default_rng(0)
    place = tmp_path / "pictures" / "more"
    place.mkdir(parents=True)
    for number, mode in enumerate(("RGB", "L", "RGBA", "P", "CMYK")):
        picture = Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).convert(mode)
        picture.save(place / f"{number}.{'tif' if mode == 'CMYK' else 'png'}")
    (place / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def test_a_folder_is_embedded_by_the_model_itself(model, pictures):
    transform = open_clip.image_transform(16, is_train=False)
    paths = sorted(path for path in pictures.rglob("*") if path.suffix in (".png", ".tif"))
    images = []
    for path in paths:
        images.append(Image.open(path).convert("RGB"))
    with torch.inference_mode():
        raw = model.module.encode_image(torch.stack([transform(image) for image in images])).double().numpy()
    expected = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(image_mean_of_folder(model, pictures, batch_size=2), expected, atol=1e-6)
    loaded = hs.load_model(model.module, image_mean=f"folder:{pictures}")
    assert loaded.image_mean is not None
    np.testing.assert_allclose(loaded.image_mean, expected, atol=1e-6)


def test_folders_refused(model, tmp_path, pictures):
    with pytest.raises(hs.HeadscanError, match="there is no folder of pictures"):
        image_mean_of_folder(model, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(hs.HeadscanError, match="holds no pictures"):
        image_mean_of_folder(model, tmp_path / "empty")
    for path in (*pictures.rglob("*.*"), pictures / "broken.png"):
        path.write_bytes(b"\x89PNG")
    with pytest.raises(hs.HeadscanError, match=r"none of the \d+ pictures .* can be read: cannot read the picture"):
        image_mean_of_folder(model, pictures)


def test_the_estimate_is_repeatable_and_as_long_as_asked(model):
    found = estimate_image_mean(model)
    assert found.shape == (24,) and found.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(found), 0.2)
    np.testing.assert_array_equal(found, estimate_image_mean(model))
    whole = estimate_image_mean(model, length=None)
    assert np.linalg.norm(whole) <= 1 + 1e-9
    np.testing.assert_allclose(whole / np.linalg.norm(whole), found / 0.2, atol=1e-12)


def test_the_estimate_is_the_mean_embedding_of_noise(model):
    expected = embed_images(model, noise_pictures()).mean(axis=0)
    np.testing.assert_allclose(estimate_image_mean(model, length=None), expected, atol=1e-7)


def test_asked_for_by_name(bundle, module):
    assert hs.load_model(f"local-dir:{bundle}").image_mean is not None
    assert hs.load_model(f"local-dir:{bundle}", image_mean="none").image_mean is None
    model = hs.load_model(module, image_mean="estimate:noise")
    np.testing.assert_array_equal(model.image_mean, estimate_image_mean(model))
    for bad in ("estimate:flat", "estimate:bias", "estimate:text", "estimate:", "none of it"):
        with pytest.raises(
            hs.HeadscanError, match="an image mean is a file, none, folder:PATH or estimate:noise, not"
        ):
            hs.load_model(module, image_mean=bad)


def test_the_module_is_left_as_it_was(pictures):
    module = build_module().train()
    model = hs.load_model(module)
    image_mean_of_folder(model, pictures)
    assert module.training
