"""Heads as wholes: Simes' p-value, uniform by chance; the demo's eight trained heads, and no other, are clear."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

import headscan as hs
from headscan.explanations.significance import LEVEL
from headscan.explanations.verdicts import head_verdicts, simes


def test_simes_by_hand():
    assert simes(np.array([0.04, 0.5, 0.01])) == pytest.approx(0.03)  # 3 * 0.01 / 1 and 3 * 0.04 / 2 = 0.06
    assert simes(np.array([0.9, 0.8])) == pytest.approx(0.9)


def test_simes_is_uniform_by_chance():
    draws = np.random.default_rng(0).random((4000, 64))
    assert kstest([simes(row) for row in draws], "uniform").pvalue > 0.01


def test_one_clear_row_does_for_its_head_alone():
    p = np.random.default_rng(1).uniform(0.2, 1.0, 80)
    p[17] = 1e-6
    table = pd.DataFrame({"layer": 0, "head": np.arange(80) // 10, "p_value": p, "q_value": hs.q_values(p)})
    heads = head_verdicts(table)
    assert heads.loc[0, ["part", "layer", "head", "rows", "above"]].tolist() == ["vo", 0, 1, 10, 1]
    assert heads["p_value"][0] == pytest.approx(1e-5) and heads["q_value"][0] == pytest.approx(8e-5)
    assert (heads["q_value"][1:] > 0.5).all()


def test_the_demos_trained_heads_are_clear_and_no_other():
    model = hs.load_model("demo")
    dictionary = hs.load_dictionary("demo", model=model)
    scan = hs.scan(model, dictionary, sides=("write", "read"))
    heads = scan.heads()
    clear = heads[heads["q_value"] < LEVEL]
    planted = [(layer, head) for layer in (6, 7) for head in range(4)]
    assert sorted(zip(clear["layer"], clear["head"], strict=True)) == planted
    assert len(heads) == 32 and heads["rows"].eq(128).all()


def test_a_scan_without_significance_is_refused(model, dictionary):
    scan = hs.scan(model, dictionary, layers=[0], significance=0)
    with pytest.raises(hs.HeadscanError, match="has no p-values"):
        scan.heads()
