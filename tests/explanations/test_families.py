"""Families against their own chance: uniform where weights say nothing, planted truth found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import headscan as hs
from headscan.explanations.families import family_profiles
from headscan.heads.parts import part_directions

FAMILY = ["part", "side"]
BOTH = ("", "joint_")


@pytest.mark.parametrize("tower", ["image", "text"])
def test_random_weights_give_uniform_p_values_in_every_family(model, dictionary, tower):
    scan = hs.scan(model, dictionary, tower=tower, parts=("vo", "qk", "mlp"), sides=("write", "read"), k=3)
    families = scan.table().groupby(FAMILY)
    assert len(families) == 6
    for family, rows in families:
        for prefix in BOTH:
            p = rows[f"{prefix}p_value"]
            for share in (0.1, 0.5):  # half the rows count: a direction's two poles are not independent
                reached = int((p <= share).sum()) // 2
                assert binomtest(reached, len(p) // 2, share).pvalue > 1e-4, (family, prefix, share)
            assert (rows[f"{prefix}q_value"] > 0.01).all(), family


def test_every_row_is_judged_within_its_part_and_side(model, dictionary, tmp_path):
    options: dict[str, Any] = {"k": 3, "significance": 400}
    whole = hs.scan(model, dictionary, parts=("vo", "qk", "mlp"), sides=("write", "read"), **options)
    alone = hs.scan(model, dictionary, **options).table()
    table = whole.table()
    mine = table[(table.part == "vo") & (table.side == "write")].reset_index(drop=True)
    for name in ("p_value", "q_value", "local_fdr"):
        for prefix in BOTH:
            np.testing.assert_array_equal(mine[prefix + name], alone[prefix + name])
    for _, rows in table.groupby(FAMILY):
        np.testing.assert_array_equal(rows.q_value, hs.q_values(rows.p_value))
        np.testing.assert_array_equal(rows.joint_local_fdr, hs.local_fdr(rows.joint_p_value))
    facts = {(fact["part"], fact["side"], fact["measure"]): fact for fact in whole.info.chance}
    assert len(facts) == 12
    fact = facts["vo", "write", "joint_fidelity"]
    assert fact["better"] == (mine.joint_q_value <= 0.05).sum() and fact["rows"] == len(mine)
    assert fact["random_directions"] == 400
    assert hs.load_scan(whole.save(tmp_path)).info == whole.info


def test_profiles_are_the_root_mean_squares_of_the_family(model):
    found = family_profiles(model, "vo", "read", tower="image", fold=True)
    assert found.shape == (model.layers, model.width)
    vectors = part_directions(model, "vo", layer=1, tower="image", sides=("read",), fold=True, threads=0).vectors
    expected = np.sqrt((vectors**2).mean(axis=0) / (vectors**2).mean())
    np.testing.assert_allclose(found[1], expected, atol=1e-4)
    gain = model.module.visual.transformer.resblocks[1].ln_1.weight.detach().double().numpy()
    assert np.corrcoef(found[1], np.abs(gain))[0, 1] > 0.5  # what a layer norm's gain makes uneven


def test_too_coarse_a_resolution_is_said(model, dictionary, caplog):
    hs.scan(model, dictionary, layers=0, k=3, significance=60)
    assert "vo write, fidelity: with 60 random directions no p-value is below 0.016" in caplog.text
    assert "one row of 64 needs 0.00078 to be better than chance: compare with more, 1280 or more" in caplog.text
    caplog.clear()
    hs.scan(model, dictionary, layers=0, k=3, significance=2000)
    assert not caplog.text


def test_the_demo_model_s_planted_heads_are_found_whatever_else_is_scanned():
    """Eight heads, those of the last two layers, were trained to write along words; nothing else was."""
    model = hs.load_model("demo")
    dictionary = hs.load_dictionary("demo", model=model)
    table = hs.scan(model, dictionary, parts=("vo", "mlp_svd"), sides=("write", "read")).table()
    better = table[table.q_value <= 0.05].groupby(["part", "side", "layer", "head"]).size()
    heads = better["vo"]["write"]
    planted = [(layer, head) for layer in (6, 7) for head in range(4)]
    assert (heads[planted] >= 20).all() and heads.sum() - heads[planted].sum() <= 0.05 * heads.sum()
    assert better.sum() == heads.sum()  # read and MLP directions: no loss drew them to words
    waves = table[table.concepts == "waves"]
    assert len(waves) == 2 and (waves.q_value < 1e-3).all() and (waves.local_fdr < 0.01).all()
