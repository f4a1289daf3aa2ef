"""Images along directions, against each head's output computed plainly in float64 from the attention's definition."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from open_clip import get_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tests.report.test_page import chunks, decode

import headscan as hs
from conftest import build_module
from headscan.cli import main

COUNT = 70  # more than a batch


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    (folder / "deep").mkdir()
    for number in range(COUNT):
        colour = rng.integers(0, 256, (1, 1, 3))
        noise = rng.integers(-40, 40, (20, 24, 3))
        place = folder / ("deep" if number % 2 else "") / f"{number:02d}.png"
        Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(place)
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["folded", "raw"])
def scan(request, model, dictionary):
    return hs.scan(model, dictionary, layers=[0, 2], fold=request.param, k=2)


def reference_values(model, paths, *, layers, fold):
    """Return (n, layers, heads, rank): A @ (xhat @ left @ right) at the class token, along vh."""
    prepare = image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model.module)), is_train=False)
    module = build_module().double()
    visual, found = module.visual, []
    x = torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths]).double()
    with torch.no_grad():
        x = visual._embeds(x)
        for layer, block in enumerate(visual.transformer.resblocks):
            normal = block.ln_1(x)
            _, attention = block.attn(normal, normal, normal, need_weights=True, average_attn_weights=False)
            if layer in layers:
                gain, shift = block.ln_1.weight, block.ln_1.bias
                seen = ((normal - shift) / gain if fold else normal).numpy()
                left, right = hs.vo_factors(model, layers=[layer], fold=fold)
                _, _, vh = hs.svd_factored(left[0], right[0])
                mixed = np.einsum("nht,ntd->nhd", attention[:, :, 0].numpy(), seen)
                found.append(np.einsum("nhd,hdr,hre,hie->nhi", mixed, left[0], right[0], vh))
            x = block(x)
    return np.stack(found, axis=1)


def test_top_and_bottom_images_of_every_direction(scan, model, images):
    grounding = hs.ground(scan, model, images=images, count=4)
    paths = [images / name for name in grounding.names]
    assert len(paths) == COUNT
    assert paths == sorted(images.rglob("*.png"))
    values = reference_values(model, paths, layers=(0, 2), fold=scan.info.folded)
    signs = np.array([1.0, -1.0])
    both = np.moveaxis(values, 0, -1)[:, :, :, None] * signs[:, None]  # (layers, heads, rank, 2, n)
    best = -np.sort(-both, axis=-1)[..., :4] * signs[:, None]
    scale = np.abs(values).max()
    assert grounding.images.shape == grounding.values.shape == (2, 4, 8, 2, 4)
    np.testing.assert_allclose(grounding.values, best, atol=1e-5 * scale)  # float32 forward pass
    named = np.take_along_axis(np.moveaxis(values, 0, -1)[:, :, :, None].repeat(2, 3), grounding.images, axis=-1)
    np.testing.assert_allclose(named, grounding.values, atol=1e-5 * scale)


def test_the_report_holds_each_thumbnail_once(scan, model, images, tmp_path):
    grounding = hs.ground(scan, model, images=images, count=3)
    found = chunks(scan.report(tmp_path / "report.html", grounding=grounding))
    used = np.unique(grounding.images)
    assert [image["name"] for image in found["images"]] == [grounding.names[number] for number in used]
    data = found["images"][0]["data"].removeprefix("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        assert thumbnail.size == (24, 20)
    assert found["scan"]["grounded"] == [0, 2]
    for place, layer in enumerate((0, 2)):
        chunk = found[f"ground-{layer}"]
        assert (chunk["rank"], chunk["count"]) == (8, 3)
        np.testing.assert_array_equal(used[decode(chunk["images"])], grounding.images[place].ravel())
        np.testing.assert_array_equal(decode(chunk["values"]), grounding.values[place].ravel())


def test_the_command_grounds_with_the_scanned_model(bundle, images, dictionary, tmp_path, capsys):
    scan = hs.scan(hs.load_model(f"local-dir:{bundle}"), dictionary, layers=[1], k=2)
    folder = scan.save(tmp_path / "out")
    assert main.main(["report", str(folder), "--images", str(images), "--count", "2"]) == 0
    assert chunks(folder / "report.html")["scan"]["grounded"] == [1]
    arguments = ["report", str(folder), "--images", str(images), "--model", "demo"]
    assert main.main(arguments) == 2
    assert "the scan is of other weights than demo" in capsys.readouterr().err


def test_what_is_refused(scan, model, module, images, tmp_path):
    with pytest.raises(hs.HeadscanError, match="there is no folder of pictures"):
        hs.ground(scan, model, images=tmp_path / "nothing")
    with pytest.raises(hs.HeadscanError, match="holds no pictures"):
        hs.ground(scan, model, images=tmp_path)
    with pytest.raises(hs.HeadscanError, match="count must be at least 1"):
        hs.ground(scan, model, images=images, count=0)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(hs.HeadscanError, match=r"cannot read the picture .*broken\.png"):
        hs.ground(scan, model, images=tmp_path)
    module.visual.proj.data[0, 0] += 1.0
    with pytest.raises(hs.HeadscanError, match="the scan is of other weights"):
        hs.ground(scan, hs.load_model(module), images=images)


def test_images_of_other_weights_are_refused(scan, model, images, tmp_path, dictionary):
    grounding = hs.ground(scan, model, images=images, count=1)
    changed = build_module()
    changed.visual.proj.data[0, 0] += 1.0
    other = hs.scan(hs.load_model(changed), dictionary, layers=[0], k=2)
    with pytest.raises(hs.HeadscanError, match="found with other weights"):
        other.report(tmp_path / "report.html", grounding=grounding)


def test_towers_without_class_token_are_refused(dictionary, images):
    model = hs.load_model(build_module(pool_type="avg"))
    scan = hs.scan(model, dictionary, layers=[0], k=2)
    with pytest.raises(hs.HeadscanError, match="has no class token"):
        hs.ground(scan, model, images=images)
