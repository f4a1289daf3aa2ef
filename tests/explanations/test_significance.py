"""Significance: exact p-values against counting, corrections against their definitions, planted rows at any size."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

import headscan as hs
from headscan.explanations.tail import fit_tail

P_VALUES = st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.1, 0.3, 0.31, 0.5, 0.9, 1.0]), max_size=12)


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


@given(P_VALUES)
def test_local_rates_are_one_over_grenanders_density(p):
    """The slope of the least concave majorant at a point: the least over starts of the steepest over ends."""
    knots = np.array([0.0, *np.unique(p)])
    below = np.array([np.mean(np.asarray(p) <= knot) if p else 0.0 for knot in knots])
    expected = []
    for value in p:
        at = int(np.searchsorted(knots, value))
        slopes = [
            max((below[end] - below[start]) / (knots[end] - knots[start]) for end in range(at, len(knots)))
            for start in range(at)
        ]
        expected.append(min(1 / min(slopes), 1.0))
    found = hs.local_fdr(p)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (found >= hs.q_values(p) - 1e-12).all()


def test_local_rates_of_a_known_mixture():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(50_000), rng.beta(0.1, 20, 5_000)])
    found = hs.local_fdr(p)
    near = (p > 0.0005) & (p < 0.0015)  # where the truth is this share of chance
    assert found[near].mean() == pytest.approx((np.flatnonzero(near) < 50_000).mean(), abs=0.05)
    assert found[p > 0.5].min() > 0.9


@pytest.mark.parametrize("rows", [100, 2_000, 100_000])
def test_a_planted_row_passes_among_any_number(rows):
    rng = np.random.default_rng(1)
    drawn = np.sort(np.sqrt(rng.beta(0.5, 63.5, 10_000)))
    values = np.append(np.sqrt(rng.beta(0.5, 63.5, rows - 1)), 0.75)
    q = hs.q_values(hs.p_values(values, drawn, tail=fit_tail(drawn)))
    assert q[-1] < 0.01 and (q[:-1] > 0.05).all()
    counted = hs.q_values(hs.p_values(values, drawn))
    assert (counted[-1] > 0.05) == (rows > 500)  # counting alone loses it


def test_without_significance_and_scans_of_before(model, dictionary, tmp_path, caplog):
    scan = hs.scan(model, dictionary, layers=0, significance=0)
    assert not {"p_value", "q_value", "local_fdr"} & set(scan.table().columns)
    path = scan.save(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("significance", "method", "penalty", "chance", "fidelity_version", "seal"):
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
