"""What the measures refuse, by name and in words, rather than answer wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import headscan as hs
from headscan.evaluate import class_embeddings, embed_images, group_accuracy, retrieval, without_heads, zero_shot
from headscan.evaluate.intervals import paired_interval, wilson
from headscan.evaluate.retrieval import embedding_change

CLASSES = ["cat", "dog"]
TWO = np.array([True, False])


def refused(says):
    return pytest.raises(hs.HeadscanError, match=says)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def rows(model):
    return np.random.default_rng(1).standard_normal((2, model.joint_dim))


@pytest.mark.parametrize(
    "labels",
    [[0.9, 1.2], [0.0, np.nan], ["cat", "dog"], [[0], [1]], [0, -1], [0, 2], [0, 2**64 - 1], [], 0, [[0], [0, 1]]],
)
def test_labels_are_places_in_the_classes(model, rows, labels):
    with refused("labels must be whole numbers from 0 to 1, one a picture; got"):
        zero_shot(model, rows, labels, CLASSES)


@pytest.mark.parametrize("classes", ["duck", [], ["cat", None], 3])
def test_classes_and_templates_are_lists_of_texts(model, rows, classes):
    with refused("classes must be a list of texts, at least one; got"):
        zero_shot(model, rows, [0, 0], classes)
    with refused("templates must be a list of texts, at least one; got"):
        class_embeddings(model, CLASSES, templates=classes)


def test_embeddings_of_any_length_and_kind_score_by_cosine(model, rows):
    expected = zero_shot(model, rows / np.linalg.norm(rows, axis=1, keepdims=True), [0, 1], CLASSES).scores
    for same in (rows, rows * [[1e3], [1e-3]], torch.from_numpy(rows), pd.DataFrame(rows)):
        found = zero_shot(model, same, pd.Series([0, 1], dtype=object), np.array(CLASSES))  # type: ignore[arg-type]
        np.testing.assert_allclose(found.scores, expected, atol=1e-12)
        assert found.labels.dtype == np.int64 and found.classes == ("cat", "dog")
    relevant = np.eye(2, dtype=bool)
    close = np.array([[1.0, 0.0], [0.8, 0.6]])
    short = retrieval(close * [[1e-3], [1]], close * [[1], [1e3]], relevant)  # by dot products the second wins all
    assert short.text_hits.all() and short.image_hits.all() and short.image_hits.dtype == bool


def test_bad_embeddings_are_refused(model, rows):
    absent, relevant = np.full_like(rows, np.nan), np.eye(2)
    with refused(r"images must be finite embeddings of shape \(n, \d+\); got .* 2 rows hold NaN"):
        zero_shot(model, absent, [0, 0], CLASSES)
    with refused(r"images must be finite embeddings of shape \(n, \d+\); got \(2, 3\)"):
        zero_shot(model, rows[:, :3], [0, 1], CLASSES)
    with refused("images must be finite"):
        retrieval(absent, rows, relevant)  # type: ignore[arg-type]
    with refused("texts must be finite"):
        retrieval(rows, rows[:, :3], relevant)  # type: ignore[arg-type]
    with refused("after must be finite"):
        embedding_change(rows, absent)
    with refused("relevant must be a 2-D array"):
        retrieval(rows, rows, [True, False])  # type: ignore[arg-type]
    as_lists = retrieval(rows.tolist(), rows.tolist(), relevant.tolist(), k=1)  # type: ignore[arg-type]
    assert as_lists.text_hits.all()


def test_a_model_that_embeds_nan_is_refused(model, pictures, monkeypatch):
    monkeypatch.setattr(type(model.module), "encode_image", lambda self, batch: torch.full((len(batch), 4), np.nan))
    with refused("embeds pictures as NaN or infinity"):
        embed_images(model, pictures)


@pytest.mark.parametrize("hits", [[1, 2], [0.5, 1], [np.nan, 1], ["yes", "no"], [[1, 0]], [None, 1]])
def test_hits_are_true_or_false(hits):
    with refused("hits must be a 1-D array of true and false"):
        group_accuracy(hits, ["a", "b"])
    with refused("after must be a 1-D array of true and false"):
        paired_interval(TWO, hits)


@pytest.mark.parametrize(
    "groups",
    [[np.nan, 1.0], ["a", None], ["a", np.nan], ("a", np.nan), pd.Series(["a", None]), "ab", [[0], [1]], None],
)
def test_every_picture_has_a_group(groups):
    with refused("groups must be texts or numbers, one a picture"):
        group_accuracy(TWO, groups)


def test_groups_come_from_lists_and_data_frames():
    for groups in (["a", "b"], pd.Series(["a", "b"]), pd.Series(["a", "b"], dtype="category")):
        table = group_accuracy([1, 0], groups).table  # type: ignore[arg-type]
        assert table["group"].tolist() == ["a", "b"] and table["accuracy"].tolist() == [1.0, 0.0]


def test_intervals_need_hits_on_the_same_pictures():
    assert paired_interval([0, 0, 1, 1], [1, 0, 1, 1])[0] == 0.25  # type: ignore[arg-type]
    for before, after in ((TWO, TWO[:1]), (TWO[:1], TWO[:1]), ([], [])):
        with refused(f"same pictures, at least 2; got {len(before)} and {len(after)}"):
            paired_interval(before, after)  # type: ignore[arg-type]
    with refused("hits must be from 0 to the count, 10; got 12"):
        wilson(12, 10)


def test_pictures_may_be_a_tensor(model, pictures):
    expected = embed_images(model, pictures)
    np.testing.assert_array_equal(embed_images(model, torch.from_numpy(pictures)), expected)
    for other in (torch.zeros(2, 16, 16, 3), torch.zeros(2, 3, 16, 16, dtype=torch.uint8), np.zeros(())):
        with refused(r"pictures must be uint8 of shape \(n, height, width, 3\) or paths, got"):
            embed_images(model, other)


def test_other_kinds_of_pictures_are_refused(model, pictures, tmp_path):
    for other in ("folder", tmp_path, iter(["a.png"]), None):
        with refused(r"an array or a list of paths, not .*read_folder\(folder\)"):
            embed_images(model, other)
    with refused("a picture is read from a path, not ndarray"):
        embed_images(model, list(pictures))
    for batch_size in (0, -1):
        with refused(f"batch_size must be at least 1, not {batch_size}"):
            embed_images(model, pictures, batch_size=batch_size)


def test_heads_are_pairs(model, pictures):
    for heads in ([7, 0], 7, [(0, 1, 2)], [(0.5, 1)], ["01"]):
        with refused(r"heads must be a list of pairs \(layer, head\); got"):
            without_heads(model, heads)  # type: ignore[arg-type]
    expected = embed_images(without_heads(model, [(0, 1)]), pictures)
    given: Any = iter([(0, 1)])
    np.testing.assert_array_equal(embed_images(without_heads(model, given), pictures), expected)
    assert not np.allclose(embed_images(without_heads(model, []), pictures), expected)
    with refused("an array or a list of paths"):
        without_heads(model, [(0, 1)], pictures="folder")
