"""Random directions and their explanations: what they are, and the cache with its checksum."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import headscan as hs
from headscan.common import files

NULL: dict[str, Any] = {"k": 3, "coherence": 0.3, "count": 60}


def null(model, dictionary, **options):
    return hs.null_fidelity(dictionary, joint=hs.joint_map(model), **{**NULL, **options})


def test_the_null_is_random_directions_through_the_same_map_and_dictionary(model, dictionary):
    drawn = np.random.default_rng(5).standard_normal((60, model.width))
    drawn -= drawn.mean(axis=1, keepdims=True)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    for method in ("comp", "top_k"):
        explained = hs.explain_directions(drawn, dictionary, joint=hs.joint_map(model), k=3, method=method)
        found = null(model, dictionary, seed=5, method=method)
        np.testing.assert_allclose(found.fidelity, np.sort(explained.fidelity), atol=1e-12)
        np.testing.assert_allclose(found.joint_fidelity, np.sort(explained.joint_fidelity), atol=1e-12)


def test_profiles_scale_the_coordinates(model, dictionary):
    rng = np.random.default_rng(5)
    profiles = np.abs(rng.standard_normal((2, model.width)))
    drawn = np.random.default_rng(0)
    layers = drawn.integers(2, size=60)
    vectors = drawn.standard_normal((60, model.width)) * profiles[layers]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    explained = hs.explain_directions(vectors, dictionary, joint=hs.joint_map(model), k=3)
    found = null(model, dictionary, profiles=profiles, centred=False)
    np.testing.assert_allclose(found.fidelity, np.sort(explained.fidelity), atol=1e-12)


def test_the_cache_answers_and_tells_parameters_apart(model, dictionary, monkeypatch):
    first = null(model, dictionary)
    flat = np.ones((1, model.width))
    changes: tuple[dict[str, Any], ...] = (
        {"k": 2},
        {"coherence": 0.0},
        {"count": 61},
        {"seed": 1},
        {"centred": False},
        {"method": "mp"},
    )
    for other in (*changes, {"profiles": flat * np.linspace(1, 2, model.width)}):
        assert not np.array_equal(null(model, dictionary, **other).fidelity, first.fidelity)
    unmeant = hs.JointMap(final=hs.joint_map(model).final, image_mean=None)
    assert not np.array_equal(hs.null_fidelity(dictionary, joint=unmeant, **NULL).fidelity, first.fidelity)
    monkeypatch.setattr(sys.modules["headscan.explanations.null"], "explain_directions", None)
    np.testing.assert_array_equal(null(model, dictionary).fidelity, first.fidelity)
    with pytest.raises(TypeError):
        null(model, dictionary, cache=False)


@pytest.mark.parametrize("damage", ["empty", "short", "one bit", "other numbers"])
def test_a_damaged_cache_is_made_anew(model, dictionary, damage, caplog):
    first = null(model, dictionary)
    (entry,) = (files.cache_folder() / "significance").iterdir()
    whole = entry.read_bytes()
    if damage == "one bit":
        entry.write_bytes(whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:])
    elif damage == "other numbers":
        np.savez(entry.with_suffix(".npz"), fidelity=np.zeros(60))
        entry.write_bytes(entry.with_suffix(".npz").read_bytes())
    else:
        entry.write_bytes(b"" if damage == "empty" else whole[:-7])
    np.testing.assert_array_equal(null(model, dictionary).fidelity, first.fidelity)
    assert "damaged" in caplog.text
    assert entry.read_bytes() == whole


def test_batches_change_nothing(model, dictionary, monkeypatch):
    profiles = np.linspace(0.5, 1.5, 2 * model.width).reshape(2, -1)
    whole = null(model, dictionary, cache=False, profiles=profiles)
    monkeypatch.setattr(sys.modules["headscan.explanations.null"], "_BATCH", 7)
    again = null(model, dictionary, cache=False, profiles=profiles)
    np.testing.assert_allclose(again.fidelity, whole.fidelity, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"count": 2.5}, "count must be a whole number"),
        ({"k": 31}, "k must be from 1 to the number of atoms, 30"),
    ],
)
def test_options_refused(model, dictionary, options, says):
    with pytest.raises(hs.HeadscanError, match=says):
        null(model, dictionary, **options)
