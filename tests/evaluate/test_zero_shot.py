"""Zero-shot classification, groups, retrieval and head removal, against plain computations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import headscan as hs
from headscan.evaluate import (
    class_embeddings,
    embed_images,
    group_accuracy,
    read_image_folder,
    retrieval,
    without_heads,
    zero_shot,
)
from headscan.evaluate.intervals import paired_interval, wilson
from headscan.evaluate.retrieval import embedding_change


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)


def plain_embeddings(module, pictures):
    """Embeddings with open_clip's default mean and deviation, which an in-memory model has."""
    import open_clip

    mean, std = (np.array(v) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    pixels = torch.from_numpy(((pictures / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        rows = module.encode_image(pixels).double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_arrays_and_files_are_embedded_alike(model, pictures, tmp_path):
    expected = plain_embeddings(model.module, pictures)
    found = embed_images(model, pictures, batch_size=3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for place, picture in enumerate(pictures):
        folder = tmp_path / ("a_cat" if place % 2 else "dog")
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{place}.png")
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    paths, labels, names = read_image_folder(tmp_path)
    assert names == ("a cat", "dog") and labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    order = [int(path.stem) for path in paths]
    np.testing.assert_allclose(embed_images(model, paths), expected[order], atol=1e-5)


def test_pictures_that_cannot_be_read_are_left_out_and_named(pictures, tmp_path, caplog):
    for place, picture in enumerate(pictures[:4]):
        folder = tmp_path / ("cat", "dog")[place % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{place}.png")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "8.jpg").write_bytes(b"")
    (tmp_path / "dog" / "9.jpg").write_text("<html>")
    paths, labels, names = read_image_folder(tmp_path)
    assert ([path.name for path in paths], labels.tolist()) == (["0.png", "2.png", "1.png", "3.png"], [0, 0, 1, 1])
    assert names == ("cat", "dog")
    assert "2 of 6 pictures left out: " in caplog.text and "8.jpg" in caplog.text and "9.jpg" in caplog.text
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(hs.HeadscanError, match="none of the 6 pictures in"):
        read_image_folder(tmp_path)


def test_other_sizes_are_resized_as_open_clip_does(model):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    large = np.random.default_rng(1).integers(0, 256, (2, 40, 30, 3), dtype=np.uint8)
    transform = image_transform_v2(PreprocessCfg(size=16), is_train=False)
    with torch.no_grad():
        rows = model.module.encode_image(torch.stack([transform(Image.fromarray(p)) for p in large])).double().numpy()
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_images(model, large), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((2, 16, 16, 3)), "uint8 of shape"),
        (np.zeros((2, 3, 16, 16), np.uint8), "uint8 of shape"),
        ([], "no pictures"),
        (["absent.png"], "there is no picture absent.png"),
    ],
)
def test_other_pictures_are_refused(model, images, says):
    with pytest.raises(hs.HeadscanError, match=says):
        embed_images(model, images)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(hs.HeadscanError, match="holds no pictures"):
        read_image_folder(tmp_path)
    with pytest.raises(hs.HeadscanError, match="no image folder"):
        read_image_folder(tmp_path / "none")


def test_zero_shot_is_the_largest_cosine(model, pictures):
    classes, templates = ["cat", "dog", "fish"], ["a {}", "a red {}"]
    prompts = [template.format(name) for name in classes for template in templates]
    rows = model.encode_text(prompts).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    texts = rows.reshape(3, 2, -1).mean(axis=1)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(class_embeddings(model, classes, templates=templates), texts, atol=1e-6)
    scores = plain_embeddings(model.module, pictures) @ texts.T
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    result = zero_shot(model, pictures, labels, classes, templates=templates)
    np.testing.assert_allclose(result.scores, scores, atol=1e-5)
    assert result.accuracy == (scores.argmax(axis=1) == labels).mean()
    ranks = [int((row > row[label]).sum()) for row, label in zip(result.scores, labels, strict=True)]
    assert result.top(2) == np.mean([rank < 2 for rank in ranks]) and result.top(3) == 1.0
    assert result.interval[0] < result.accuracy < result.interval[1] or result.accuracy in (0, 1)
    again = zero_shot(model, embed_images(model, pictures), labels, classes, templates=templates)
    np.testing.assert_array_equal(again.predictions, result.predictions)


@pytest.mark.parametrize(
    ("labels", "templates", "says"),
    [
        ([0] * 6, ("{}",), "6 labels for 7 pictures"),
        ([0, 1, 2, 3, 0, 0, 0], ("{}",), "labels must be whole numbers from 0 to 1"),
        ([0] * 7, ("photo",), "a template needs"),
    ],
)
def test_bad_tasks_are_refused(model, pictures, labels, templates, says):
    with pytest.raises(hs.HeadscanError, match=says):
        zero_shot(model, pictures, labels, ["cat", "dog"], templates=templates)


def test_intervals():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))  # Wilson 1927
    before, after = np.array([0, 0, 1, 1], bool), np.array([1, 0, 1, 1], bool)
    mean, low, high = paired_interval(before, after)
    half = 1.959964 * 0.5 / 2  # standard deviation 0.5, four pictures
    assert (mean, low, high) == (0.25, pytest.approx(0.25 - half), pytest.approx(0.25 + half))


def test_groups():
    result = group_accuracy(np.array([True, False, True, True, False]), ["b", "a", "b", "a", "a"])
    assert result.table[["group", "pictures", "accuracy"]].values.tolist() == [["a", 3, 1 / 3], ["b", 2, 1.0]]
    assert (result.worst, result.mean) == (1 / 3, 0.6)
    with pytest.raises(hs.HeadscanError, match="one group a picture"):
        group_accuracy(np.array([True]), ["a", "b"])


def test_retrieval_by_hand():
    images = np.eye(3)
    texts = np.array([[1.0, 0, 0], [0, 0.6, 0.8]])
    relevant = np.array([[True, False], [False, True], [False, False]])
    found = retrieval(images, texts, relevant, k=2)
    assert found.text_hits.tolist() == [True, True, False]
    assert found.text_hits_k.tolist() == [True, True, False]
    assert found.image_hits.tolist() == [True, False]
    assert found.image_precision.tolist() == [0.5, 0.5]
    with pytest.raises(hs.HeadscanError, match="relevance of shape"):
        retrieval(images, texts, relevant.T)


def test_embedding_change_is_a_cosine():
    before = np.array([[1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(embedding_change(before, np.array([[0.0, 1.0], [0.0, 1.0]])), [0.0, 1.0])


def test_removed_heads_write_nothing_or_their_mean(model, pictures):
    columns = slice(2 * model.rank, 3 * model.rank)
    zero = without_heads(model, [(1, 2)])
    expected = copy.deepcopy(model.module)
    expected.visual.transformer.resblocks[1].attn.out_proj.weight.data[:, columns] = 0
    np.testing.assert_allclose(embed_images(zero, pictures), plain_embeddings(expected, pictures), atol=1e-6)

    alone = without_heads(model, [(0, 1), (2, 3), (1, 0)], pictures=pictures[:1])
    # Over a single picture the mean is what the head wrote: nothing changes for that picture.
    np.testing.assert_allclose(embed_images(alone, pictures[:1]), embed_images(model, pictures[:1]), atol=1e-5)
    assert np.abs(embed_images(alone, pictures[1:]) - embed_images(model, pictures[1:])).max() > 1e-3
    several = without_heads(model, [(1, 2)], pictures=pictures)
    assert np.abs(embed_images(several, pictures) - embed_images(zero, pictures)).max() > 1e-4
    with pytest.raises(hs.HeadscanError, match="no head 9 in layer 0"):
        without_heads(model, [(0, 9)])
