"""Directions of queries and keys, MLPs and text towers, up to the table of a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import build_module
from headscan.heads.parts import checked_parts
from headscan.models.towers import read_tower


@pytest.fixture(scope="module")
def whole(model, dictionary):
    """A scan of every part of one layer."""
    return hs.scan(model, dictionary, parts=("mlp", "qk", "vo"), layers=[1], sides=("write", "read"), poles="+", k=2)


def test_a_head_is_shown_one_part_at_a_time(whole):
    for part in ("vo", "qk"):
        shown = whole.head(1, 0, part=part).explanations
        assert len(shown) and set(shown["part"]) == {part}
    assert whole.head(1, 0).explanations.equals(whole.head(1, 0, part="vo").explanations)


def test_a_scan_has_the_parts_asked_for_in_order(whole, model):
    table = whole.table()
    assert whole.info.tower == "image"
    assert whole.info.parts == ("vo", "qk", "mlp_svd", "mlp_neuron")
    assert set(table["tower"]) == {"image"}
    per_head = model.heads * model.rank
    counts = {"vo": 2 * per_head, "qk": 2 * per_head, "mlp_svd": 32, "mlp_neuron": 128}  # the MLP is 128 x 32
    assert table["part"].value_counts(sort=False).to_dict() == counts
    assert list(dict.fromkeys(table["part"])) == list(counts)
    sides = {part: set(rows["side"]) for part, rows in table.groupby("part")}
    assert sides == {
        "vo": {"write", "read"},
        "qk": {"query", "key"},
        "mlp_svd": {"write"},
        "mlp_neuron": {"write"},
    }
    assert (table.loc[table["part"].str.startswith("mlp"), "head"] == -1).all()


def test_sigmas_are_those_of_the_products_and_the_matrix(whole, model):
    table = whole.table()
    left, right = hs.qk_factors(model, layers=[1])
    of_head = table[(table["part"] == "qk") & (table["head"] == 2) & (table["side"] == "key")]
    exact = np.linalg.svd(left[0, 2] @ right[0, 2], compute_uv=False)[: model.rank]
    np.testing.assert_allclose(of_head["sigma"], exact, rtol=1e-10)
    output = model.tower.read_mlp(1).output
    centred = output - output.mean(axis=1, keepdims=True)
    found = table[table["part"] == "mlp_svd"]["sigma"]
    # Rank 32 of a matrix of rank 31 (it is centred): the randomized SVD is exact, and the last value is rounding.
    np.testing.assert_allclose(found, np.linalg.svd(centred, compute_uv=False), rtol=1e-8, atol=1e-8)
    neurons = table[table["part"] == "mlp_neuron"]
    np.testing.assert_allclose(neurons["sigma"], np.linalg.norm(centred, axis=1), rtol=1e-12)
    assert list(neurons["index"]) == list(range(128))


def test_value_output_rows_are_what_they_were_without_other_parts(whole, model, dictionary):
    alone = hs.scan(model, dictionary, layers=[1], sides=("write", "read"), poles="+", k=2).table()
    among = whole.table()
    among = among[among["part"] == "vo"].reset_index(drop=True)
    counted = ["q_value", "joint_q_value"]  # these allow for how many explanations the scan holds
    assert among.drop(columns=counted).equals(alone.drop(columns=counted))


def test_the_strongest_of_a_part(whole):
    shown = whole.strongest(3, part="mlp_neuron")
    assert set(shown["part"]) == {"mlp_neuron"}
    assert shown["sigma"].is_monotonic_decreasing


def test_a_text_tower_is_scanned_about_the_dictionarys_mean(model, dictionary):
    table = hs.scan(model, dictionary, tower="text", parts=("vo", "mlp_svd"), layers=[0], poles="both", k=2).table()
    assert set(table["tower"]) == {"text"}
    left, right = hs.vo_factors(model, layers=[0], tower="text")
    _, _, vh = hs.svd_factored(left[0], right[0])
    text = model.module.double()
    with torch.no_grad():
        direction = -torch.from_numpy(vh[1, 3])
        joint = (text.ln_final(direction) @ text.text_projection).numpy()
    model.module.float()
    joint = joint / np.linalg.norm(joint) - dictionary.mean
    code = hs.comp((joint / np.linalg.norm(joint)).astype(np.float32)[None], dictionary.atoms, k=2)
    wanted = (table["part"] == "vo") & (table["head"] == 1) & (table["index"] == 3) & (table["pole"] == "-")
    row = table[wanted].iloc[0]
    assert [row["atom_0"], row["atom_1"]] == code.indices[0].tolist()


def test_a_scan_of_parts_is_saved_and_loaded(whole, tmp_path):
    loaded = hs.load_scan(whole.save(tmp_path / "scan"))
    assert loaded.info == whole.info
    assert loaded.table().equals(whole.table())


def test_scans_saved_before_there_were_parts_are_of_the_image_towers_heads(model, dictionary, tmp_path):
    import hashlib
    import json

    scan = hs.scan(model, dictionary, layers=[0], poles="+", k=2)
    folder = scan.save(tmp_path / "old")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["tower"], manifest["parts"], manifest["seal"]
    data = folder / "explanations.parquet"
    scan.table().drop(columns=["tower", "part"]).to_parquet(data, index=False)
    manifest["explanations"]["sha256"] = hashlib.sha256(data.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    loaded = hs.load_scan(folder)
    assert (loaded.info.tower, loaded.info.parts) == ("image", ("vo",))
    assert loaded.table().equals(scan.table())


def test_parts_and_towers_refused(model, dictionary):
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"parts": "ov"}, "parts are vo, qk, mlp_svd, mlp_neuron, mlp, not 'ov'"),
        ({"parts": ()}, r"not \[\]"),
        ({"tower": "audio"}, "a tower is 'image' or 'text', not 'audio'"),
        ({"tower": "text", "layers": [2]}, "no layer 2: the text tower has layers 0 to 1"),
    ]
    for options, says in refusals:
        with pytest.raises(hs.HeadscanError, match=says):
            hs.scan(model, dictionary, **options)
    assert checked_parts(["mlp_neuron", "vo"]) == ("vo", "mlp_neuron")
    normed = hs.load_model(build_module(block_type="custom", qk_norm=True))
    with pytest.raises(
        hs.HeadscanError, match=r"layer 0 of the image tower normalises its queries and keys \(qk_norm\)"
    ):
        hs.qk_factors(normed)


def test_a_norm_inside_the_mlp_is_folded_into_what_its_units_write():
    module = build_module(block_type="custom", scale_fc=True, ls_init_value=0.5).double()
    weights, block = read_tower(module).read_mlp(1), module.visual.transformer.resblocks[1]
    hidden = torch.randn(3, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        written = block.ls_2(block.mlp.c_proj(block.mlp.ln(hidden))).numpy()
    units = torch.nn.functional.layer_norm(hidden, (128,), eps=block.mlp.ln.eps).numpy()
    np.testing.assert_allclose(units @ weights.output + weights.output_bias, written, atol=1e-12)
