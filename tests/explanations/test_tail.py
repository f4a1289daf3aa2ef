"""Fitted tails: against SciPy's distribution, against tails that are known exactly, and where nothing fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest, genpareto

import headscan as hs
from headscan.explanations.tail import _anderson_darling, _fit, _survival, fit_tail


def cosines(rng, count, width=64):
    """|cosines| of random directions with a fixed one: their squares are Beta(1/2, (width - 1) / 2)."""
    return np.sort(np.sqrt(rng.beta(0.5, (width - 1) / 2, count)))


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_the_fit_finds_the_parameters(shape):
    drawn = np.sort(genpareto.rvs(shape, scale=3.0, size=(1, 40_000), random_state=0), axis=1)
    scale, found = _fit(drawn)
    assert scale[0] == pytest.approx(3.0, rel=0.05) and found[0] == pytest.approx(shape, abs=0.03)
    x = np.array([0.1, 3.0, 40.0])
    np.testing.assert_allclose(
        _survival(x, np.array(3.0), np.array(shape)), genpareto.sf(x, shape, scale=3.0), rtol=1e-6
    )


def test_the_distance_is_anderson_and_darlings():
    drawn = np.sort(genpareto.rvs(0.1, size=50, random_state=1))
    below, i = genpareto.cdf(drawn, 0.1), np.arange(1, 51)
    expected = -50 - np.mean((2 * i - 1) * (np.log(below) + np.log(1 - below[::-1])))
    assert _anderson_darling(drawn[None], np.array([[1.0, 0.1]]))[0] == pytest.approx(expected)


def test_p_values_go_on_below_the_floor_and_err_on_the_side_of_chance():
    depths = np.array([1e-4, 1e-5, 1e-6, 1e-8])
    values = np.sqrt(beta.isf(depths, 0.5, 31.5))
    rows = []
    for seed in range(40):
        tail = fit_tail(cosines(np.random.default_rng(seed), 10_000))
        assert tail is not None
        rows.append(tail.p_values(values) / depths)
    ratios = np.array(rows)
    # An upper 95 % limit: below the truth in one of twenty; of 40 no more than binomial chance lets.
    assert all(
        binomtest(int(column.sum()), 40, 0.05).pvalue > 0.01 or column.mean() < 0.05 for column in ratios.T < 1
    )
    assert (np.median(ratios, axis=0)[:3] < [4, 12, 40]).all()  # and not far above it
    assert tail is not None and (tail.p_values(np.array([0.999, 1.0])) > 0).all()


def test_p_values_fall_as_values_rise_and_agree_with_counting_above():
    null = cosines(np.random.default_rng(3), 10_000)
    tail, values = fit_tail(null), np.linspace(0, 1, 500)
    p = hs.p_values(values, null, tail=tail)
    assert (np.diff(p) <= 0).all() and (p <= hs.p_values(values, null)).all()
    counted = hs.p_values(values, null) > 11 / 10_001
    np.testing.assert_array_equal(p[counted], hs.p_values(values[counted], null))


def test_no_tail_is_made_up(caplog):
    assert fit_tail(np.linspace(0.1, 0.4, 500)) is None  # 60 are more than a tenth
    assert fit_tail(np.full(10_000, 0.5)) is None
    heap = np.sort(np.concatenate([np.linspace(0, 0.3, 9_800), np.repeat([0.4, 0.5, 0.6], 66), [0.6, 0.6]]))
    assert fit_tail(heap) is None
