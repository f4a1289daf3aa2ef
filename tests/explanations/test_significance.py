"""Significance: exact p-values against counting, the correction against its definition, the null's cache."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

import headscan as hs
from headscan.common import files

NULL = {"k": 3, "coherence": 0.3, "count": 60}


def null(model, dictionary, **options):
    return hs.null_fidelity(dictionary, joint=hs.joint_map(model), **{**NULL, **options})


@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), max_size=6),
    drawn=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=1, max_size=6),
)
def test_p_values_count_what_is_at_least_as_high(values, drawn):
    expected = [(sum(other >= value for other in drawn) + 1) / (len(drawn) + 1) for value in values]
    np.testing.assert_array_equal(hs.p_values(values, np.sort(drawn)), expected)


@given(st.lists(st.floats(0.001, 1.0), max_size=12))
def test_q_values_are_those_of_benjamini_and_hochberg(p):
    np.testing.assert_allclose(hs.q_values(p), false_discovery_control(p) if p else [], rtol=1e-12)


def test_the_null_is_random_directions_through_the_same_map_and_dictionary(model, dictionary):
    drawn = np.random.default_rng(5).standard_normal((60, model.width))
    drawn -= drawn.mean(axis=1, keepdims=True)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    said = hs.explain_directions(drawn, dictionary, joint=hs.joint_map(model), k=3)
    found = null(model, dictionary, seed=5)
    np.testing.assert_allclose(found.fidelity, np.sort(said.fidelity), atol=1e-12)
    np.testing.assert_allclose(found.joint_fidelity, np.sort(said.joint_fidelity), atol=1e-12)


def test_random_directions_are_not_significant_and_a_planted_one_is(model, dictionary):
    joint = hs.joint_map(model)
    found = null(model, dictionary, count=2000)
    fresh = null(model, dictionary, count=1000, seed=1)
    p = hs.p_values(fresh.joint_fidelity, found.joint_fidelity)
    # Uniform: the share below 0.1 of 1000 has standard deviation 0.0095, and 0.007 from the 2000 of the null.
    assert abs((p <= 0.1).mean() - 0.1) < 0.05
    assert hs.q_values(p).min() > 0.05
    planted = joint.to_width(dictionary.atoms[[4]].astype(float))
    said = hs.explain_directions(planted, dictionary, joint=joint, k=3)
    assert hs.p_values(said.fidelity, found.fidelity)[0] <= 0.01


def test_every_explanation_carries_its_significance(model, dictionary, tmp_path):
    scan = hs.scan(model, dictionary, sides=("write", "read"), k=3, significance=60)
    table, expected = scan.table(), null(model, dictionary)
    for name, prefix in (("fidelity", ""), ("joint_fidelity", "joint_")):
        p = hs.p_values(table[name], getattr(expected, name))
        np.testing.assert_array_equal(table[f"{prefix}p_value"], p)
        np.testing.assert_array_equal(table[f"{prefix}q_value"], hs.q_values(p))
    assert hs.load_scan(scan.save(tmp_path)).info.significance == 60


def test_unfolded_directions_are_compared_with_uncentred_ones(model, dictionary):
    table = hs.scan(model, dictionary, layers=0, k=3, fold=False, significance=60).table()
    expected = null(model, dictionary, centred=False)
    assert not np.allclose(expected.fidelity, null(model, dictionary).fidelity)
    np.testing.assert_array_equal(table["p_value"], hs.p_values(table["fidelity"], expected.fidelity))


def test_without_significance_and_scans_of_before(model, dictionary, tmp_path, caplog):
    scan = hs.scan(model, dictionary, layers=0, significance=0)
    assert not {"p_value", "q_value"} & set(scan.table().columns)
    path = scan.save(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("significance", "method", "penalty", "fidelity_version"):
        del manifest[name]
    path.write_text(json.dumps(manifest))
    old = hs.load_scan(tmp_path)
    assert old.info == dataclasses.replace(scan.info, fidelity_version=1)
    assert "older definition" in old.info.fidelity_definition and "older definition" in caplog.text
    assert "older definition" in old._repr_html_()
    assert hs.load_scan(old.save(tmp_path / "again")).info == old.info
    path.write_text(json.dumps(manifest | {"image_mean_hash": None}))  # nothing to add back: one definition
    assert hs.load_scan(tmp_path).info.fidelity_version == 2
    path.write_text(json.dumps(manifest | {"fidelity_version": 3}))
    with pytest.raises(hs.HeadscanError, match="version 3, this headscan knows 1, 2"):
        hs.load_scan(tmp_path)


# ---- the cache


def test_the_cache_answers_and_tells_parameters_apart(model, dictionary, monkeypatch):
    import sys

    first = null(model, dictionary)
    for other in ({"k": 2}, {"coherence": 0.0}, {"count": 61}, {"seed": 1}, {"centred": False}):
        assert not np.array_equal(null(model, dictionary, **other).fidelity, first.fidelity)
    unmeant = hs.JointMap(final=hs.joint_map(model).final, image_mean=None)
    assert not np.array_equal(hs.null_fidelity(dictionary, joint=unmeant, **NULL).fidelity, first.fidelity)
    monkeypatch.setattr(sys.modules["headscan.explanations.significance"], "explain_directions", None)
    np.testing.assert_array_equal(null(model, dictionary).fidelity, first.fidelity)
    with pytest.raises(TypeError):
        null(model, dictionary, cache=False)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_a_damaged_cache_is_made_anew(model, dictionary, content, caplog):
    first = null(model, dictionary)
    (entry,) = (files.cache_folder() / "significance").iterdir()
    if content is None:
        np.save(entry, np.full((2, 3), np.nan))
    else:
        entry.write_bytes(content)
    np.testing.assert_array_equal(null(model, dictionary).fidelity, first.fidelity)
    assert "damaged" in caplog.text
    assert np.load(entry).shape == (2, 60)


def test_batches_change_nothing(model, dictionary, monkeypatch):
    import sys

    whole = null(model, dictionary, cache=False)
    monkeypatch.setattr(sys.modules["headscan.explanations.significance"], "_BATCH", 7)
    np.testing.assert_allclose(null(model, dictionary, cache=False).fidelity, whole.fidelity, atol=1e-12)


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
