"""Pictures as people have them: every mode in its range, turned, bad ones left out and named."""

from __future__ import annotations

import json
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import headscan as hs
from headscan.models.image_mean import image_mean_of_folder
from headscan.models.picture_modes import as_rgb
from headscan.models.pictures import embed_images, preprocess, read_folder, read_picture

RAMP = np.tile(np.arange(96, dtype=np.uint8) * 2 + 20, (96, 1))


def saved(tmp_path, name, picture, **options):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("8.png", RAMP),
        ("16.png", RAMP.astype("<u2") * 257),
        ("16.tif", RAMP.astype("<u2") * 257),
        ("16_big_endian.tif", RAMP.astype(">u2") * 257),
        ("32_of_8.tif", RAMP.astype("i4")),
        ("32_of_16.tif", RAMP.astype("i4") * 257),
        ("float_1.tif", RAMP.astype("f4") / 255),
        ("float_255.tif", RAMP.astype("f4")),
        ("float_255_fractions.tif", RAMP.astype("f4") + 0.25),
        ("float_65535.tif", RAMP.astype("f4") * 257),
    ],
)
def test_grey_of_any_depth_is_the_8_bit_picture(tmp_path, name, values):
    found = np.asarray(read_picture(saved(tmp_path, name, values)))
    np.testing.assert_array_equal(found, np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_keep_white_black_and_colours(mode, tmp_path):
    colours = (
        [(255, 255, 255), (0, 0, 0)] if mode in ("1", "L", "LA") else [(255, 255, 255), (0, 0, 0), (204, 51, 51)]
    )
    for colour in colours:
        picture = Image.new("RGB", (32, 32), colour).convert("P" if mode == "PA" else mode)
        kind = {"CMYK": "jpg", "YCbCr": "jpg", "PA": "tif"}.get(mode, "png")
        if mode == "PA":
            found = as_rgb(picture.convert("PA"))
        else:
            found = read_picture(saved(tmp_path, f"{mode}.{kind}", picture))
        np.testing.assert_allclose(np.asarray(found).reshape(-1, 3).astype(int), [colour] * 1024, atol=6)


def test_pictures_in_memory_are_converted_alike(model):
    grey = Image.fromarray(RAMP)
    deep = Image.fromarray(RAMP.astype("<u2") * 257)
    np.testing.assert_array_equal(preprocess(model, deep), preprocess(model, grey))


def test_exif_turns_and_first_frames_are_logged(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(saved(tmp_path, "turned.jpg", Image.new("RGB", (40, 20)), exif=exif)).size == (20, 40)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    with caplog.at_level(logging.INFO, logger="headscan"):
        path = saved(tmp_path, "two.gif", frames[0], save_all=True, append_images=frames[1:])
        assert read_picture(path).getpixel((0, 0)) == (255, 255, 255)
    assert "the first of 2 frames is read" in caplog.text


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (RAMP.astype("f4") / 20, "high dynamic range"),
        (RAMP.astype("f4") - 100, "negative or not finite"),
        (RAMP.astype("f4") * np.nan, "negative or not finite"),
        (RAMP.astype("i4") * 70_000, "no known range"),
    ],
)
def test_what_has_no_range_is_refused(tmp_path, values, says):
    path = saved(tmp_path, "odd.tif", values)
    with pytest.raises(hs.HeadscanError, match=f"cannot read the picture .*odd.tif: .*{says}"):
        read_picture(path)


def test_png_that_says_it_is_hdr_is_refused(tmp_path):
    path = saved(tmp_path, "pq.png", RAMP)
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk(b"cICP", bytes((9, 16, 0, 1))) + data[33:])
    with pytest.raises(hs.HeadscanError, match=r"high dynamic range .PQ or HLG."):
        read_picture(path)


def test_one_bad_picture_does_not_end_a_run(model, tmp_path, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        saved(folder, f"{number}.png", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    expected = image_mean_of_folder(model, folder)
    (folder / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "pic.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "9.jpg").write_text("<html>403</html>")
    with caplog.at_level(logging.WARNING, logger="headscan"):
        np.testing.assert_array_equal(image_mean_of_folder(model, folder), expected)
    assert "1 of 5 pictures left out, and 1 of kinds that are not read (pic.heic)" in caplog.text
    assert "9.jpg" in caplog.text and "._0" not in caplog.text
    meant = hs.load_model(model.module, image_mean=f"folder:{folder}")
    dictionary = hs.load_dictionary(["cat", "dog"], model=meant, cache=False)
    hs.scan(meant, dictionary, layers=[0], k=1, significance=0).save(tmp_path / "scan")
    noted = json.loads((tmp_path / "scan" / "manifest.json").read_text())["image_mean_of"]
    assert noted.startswith(f"4 pictures of {folder}; left out: cannot read the picture {folder / '9.jpg'}: ")
    assert noted.endswith("; 1 of kinds that are not read (pic.heic)")
    assert hs.load_scan(tmp_path / "scan").info.image_mean_of == noted
    paths = [folder / "0.png", folder / "9.jpg", folder / "1.png", folder / "none.png"]
    with pytest.raises(
        hs.HeadscanError, match=r"2 of 4 pictures cannot be read: .*9\.jpg.*; there is no picture"
    ) as caught:
        embed_images(model, paths)
    assert "\n" not in str(caught.value)
    for path in read_folder(folder).paths:
        path.write_bytes(b"x")
    with pytest.raises(hs.HeadscanError, match=r"none of the 5 pictures in .* can be read") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)
