"""Edits: the algebra against explicit d x d matrices, identity, inverse, the table, JSON, provenance."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.heads.test_factors import VARIANTS, attention_weights, is_torch

import headscan as hs
from conftest import build_module
from headscan.edit import Direction, EditInfo
from headscan.edit.mean import average_writes
from headscan.heads.writes import head_writes, mean_writes
from headscan.models.image_mean import noise_pictures
from headscan.models.joint import joint_map
from headscan.models.pictures import prepared

LAYERS, HEADS, RANK = 3, 4, 8


def make_edit(model, multipliers, *, fold=True):
    info = EditInfo("0", "now", model.name, model.weights_hash, fold, ({"made_by": "test"},))
    return hs.Edit(multipliers, info)


def random_edit(model, *, seed=0, layers=(0, 1, 2), fold=True, low=-1.5, high=2.5):
    rng = np.random.default_rng(seed)
    keys = [Direction("vo", layer, head, i) for layer in layers for head in range(HEADS) for i in range(RANK)]
    values = {key: float(rng.uniform(low, high)) for key in keys if rng.random() < 0.6}
    return make_edit(model, values, fold=fold)


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, k=3)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return hs.load_model(build_module(**VARIANTS[request.param]).double())


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def embed(module, images):
    with torch.no_grad():
        return module.encode_image(images.to(next(module.parameters()).dtype)).numpy()


def replaced(model, edit, *, fold, compensate):
    """A copy whose every attention sums explicit d x d matrices U S M V^T over its heads."""
    module = copy.deepcopy(model.module)
    factors = hs.vo_factors(model, fold=fold)
    for layer, block in enumerate(module.visual.transformer.resblocks):
        u, s, vh = hs.svd_factored(factors.left[layer], factors.right[layer])
        m = np.ones((HEADS, RANK))
        for (_, where, head, index), value in edit.multipliers.items():
            if where == layer:
                m[head, index] = value
        products = [u[h] @ np.diag(s[h] * m[h]) @ vh[h] for h in range(HEADS)]  # (width, width) each
        scaled = [(factors.bias[layer, h] @ vh[h].T * (m[h] - 1)) @ vh[h] for h in range(HEADS)]
        constants = [factors.bias[layer, h] + (0 if compensate else scaled[h]) for h in range(HEADS)]
        output_bias = model.tower.read_attention(layer).output_bias
        block.attention = explicit(block, products, np.sum(constants, axis=0) + output_bias, fold=fold)
    return module


def explicit(block, products, constant, *, fold):
    attend, norm = block.attn, block.ln_1

    def attention(q_x, **_):
        x = q_x  # already through the layer norm
        weights = attention_weights(attend, x, heads=HEADS)
        read = (x.numpy() - norm.bias.detach().numpy()) / norm.weight.detach().numpy() if fold else x.numpy()
        written = sum(weights[:, h] @ read @ products[h] for h in range(HEADS)) + constant
        scale = getattr(block.ls_1, "gamma", None)
        written = torch.from_numpy(written)
        return written if scale is None else written / scale.detach()  # the products have it multiplied in

    return attention


def run_explicit(module, images):
    visual = copy.deepcopy(module.visual)
    for block, source in zip(visual.transformer.resblocks, module.visual.transformer.resblocks, strict=True):
        if is_torch(block.attn):
            block.attention = source.attention
        else:
            attention = source.attention
            block.attn.forward = lambda x, attention=attention, **_: attention(x)
    with torch.no_grad():
        return visual(images).numpy()


@pytest.mark.parametrize("fold", [True, False])
def test_what_heads_write_on_average_over_pictures_is_kept(model, fold):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    pixels = torch.cat(list(prepared(model, pictures, batch_size=4)))

    def added(edited):
        """What the attention of the last layer adds to the class token, (n, width)."""
        writes = head_writes(edited, pixels, layers=[-1])[:, 0].sum(axis=1)
        return writes + edited.tower.read_attention(model.layers - 1).output_bias

    edit = random_edit(model, layers=(model.layers - 1,), fold=fold)
    before, plain, kept = added(model), added(edit.apply(model)), added(edit.apply(model, pictures=pictures))
    # float32 sums of terms of order one
    np.testing.assert_allclose(kept.mean(axis=0), before.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(kept - kept.mean(axis=0), plain - plain.mean(axis=0), atol=1e-5)
    assert np.abs(plain.mean(axis=0) - before.mean(axis=0)).max() > 1e-2
    with pytest.raises(hs.HeadscanError, match="give one of them"):
        edit.apply(model, pictures=pictures, compensate=False)
    with pytest.raises(hs.HeadscanError, match="no pictures"):
        edit.apply(model, pictures=[])
    with pytest.raises(hs.HeadscanError, match="or 'estimate', not 'photos'"):
        edit.apply(model, pictures="photos")


def test_an_estimated_mean_is_kept(model):
    layer = model.layers - 1
    edit = random_edit(model, layers=(layer,))
    (guess,) = average_writes(model, "estimate", (layer,))
    factors = hs.vo_factors(model, layers=[layer])
    final = joint_map(model).final
    target = final.gain * (final.projection @ model.image_mean)
    products = np.einsum("hdr,hrw->hdw", factors.left[0], factors.right[0])
    expected = np.einsum("hdw,hdv,v->hw", products, products, target)
    np.testing.assert_allclose(guess / np.linalg.norm(guess), expected / np.linalg.norm(expected), atol=1e-12)
    noise = mean_writes(model, noise_pictures(), (layer,))
    np.testing.assert_allclose(np.linalg.norm(guess), np.linalg.norm(noise - noise.mean(axis=-1, keepdims=True)))
    before, after = (each.tower.read_attention(layer) for each in (model, edit.apply(model, pictures="estimate")))
    change = (after.output - before.output).reshape(model.heads, model.rank, -1)
    values = [
        np.linalg.lstsq(rows.T, write, rcond=None)[0] for rows, write in zip(factors.right[0], guess, strict=True)
    ]
    added = sum(value @ rows for value, rows in zip(values, change, strict=True))
    np.testing.assert_allclose(after.output_bias - before.output_bias, -added, atol=1e-6)
    with pytest.raises(hs.HeadscanError, match="has no image mean to estimate from"):
        edit.apply(replace(model, image_mean=None), pictures="estimate")


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("compensate", [True, False])
def test_an_edit_equals_explicit_matrices(variant, images, fold, compensate):
    edit = random_edit(variant, fold=fold)
    edited = edit.apply(variant, compensate=compensate)
    expected = run_explicit(replaced(variant, edit, fold=fold, compensate=compensate), images)
    found = embed(edited.module, images)
    # float64 throughout; folding drops what is written along all-ones, which the next layer norm removes.
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(found - embed(variant.module, images)).max() > 1e-3  # the edit did something


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    layers=st.sets(st.integers(0, LAYERS - 1), min_size=1),
    fold=st.booleans(),
    compensate=st.booleans(),
)
def test_any_layers_and_multipliers_in_float32(model, images, seed, layers, fold, compensate):
    edit = random_edit(model, seed=seed, layers=sorted(layers), fold=fold)
    wide = hs.load_model(copy.deepcopy(model.module).double())
    expected = run_explicit(replaced(wide, edit, fold=fold, compensate=compensate), images)
    # The edited module computes in float32: values of order 1, three layers.
    np.testing.assert_allclose(embed(edit.apply(model, compensate=compensate).module, images), expected, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_identity_edits_leave_every_bit(name):
    model = hs.load_model(build_module(**VARIANTS[name]))
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    edit = make_edit(model, {Direction("vo", layer, 1, 2): 1.0 for layer in range(LAYERS)})
    assert len(edit) == 0
    after = edit.apply(model).module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", VARIANTS)
def test_only_output_projections_of_edited_layers_change(name):
    model = hs.load_model(build_module(**VARIANTS[name]))
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    edited = make_edit(model, {Direction("vo", 1, 2, 0): 0.0}).apply(model)
    after = edited.module.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"visual.transformer.resblocks.1.attn.out_proj.{part}" for part in ("weight", "bias")}
    weight = "visual.transformer.resblocks.1.attn.out_proj.weight"
    columns = (before[weight] != after[weight]).any(dim=0)
    assert not columns[: 2 * RANK].any() and not columns[3 * RANK :].any()  # other heads, bit for bit
    assert edited.weights_hash != model.weights_hash == edited.original_hash
    assert edited.text_hash == model.text_hash


@pytest.mark.parametrize("compensate", [True, False])
def test_an_edit_and_its_inverse_return_the_weights(model, compensate):
    edit = random_edit(model, low=0.25, high=4.0)
    back = edit.apply(model, compensate=compensate)
    back = edit.invert().apply(back, in_place=True, compensate=compensate)
    for key, value in model.module.state_dict().items():
        np.testing.assert_allclose(back.module.state_dict()[key], value, atol=1e-6)


def test_two_edits_in_turn_equal_their_combination(model, images):
    first, second = random_edit(model, seed=1), random_edit(model, seed=2, layers=(1, 2))
    in_turn = second.apply(first.apply(model))
    at_once = first.combine(second).apply(model)
    np.testing.assert_allclose(embed(in_turn.module, images), embed(at_once.module, images), atol=1e-5)
    assert in_turn.edit.multipliers == at_once.edit.multipliers


def test_in_place_changes_the_module_and_a_copy_does_not(module):
    model = hs.load_model(module)
    weight = module.visual.transformer.resblocks[1].attn.out_proj.weight
    before, hashed = weight.clone(), model.weights_hash
    edit = make_edit(model, {Direction("vo", 1, 0, 0): 0.0})
    edit.apply(model)
    assert torch.equal(weight, before)
    edited = edit.apply(model, in_place=True)
    assert edited.module is module and not torch.equal(weight, before)
    assert model.weights_hash != hashed  # not remembered from before


def test_a_removed_direction_is_gone_from_a_scan_of_the_edited_model(model):
    factors = hs.vo_factors(model, layers=[1])
    _, _, vh = hs.svd_factored(factors.left[0], factors.right[0])
    edited = make_edit(model, {Direction("vo", 1, 3, 0): 0.0}).apply(model)
    after = hs.vo_factors(edited, layers=[1])
    np.testing.assert_allclose(after.right[0, 3] @ vh[3, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(hs.svd_factored(after.left[0], after.right[0])[1][3, -1], 0.0, atol=1e-6)


def test_half_precision_modules_stay_half():
    model = hs.load_model(build_module().half())
    edited = random_edit(model).apply(model)
    assert {tensor.dtype for tensor in edited.module.state_dict().values() if tensor.is_floating_point()} == {
        torch.float16, *(t.dtype for t in model.module.state_dict().values() if t.is_floating_point())
    }  # fmt: skip


def test_changes_are_told_before_they_are_made(model):
    edit = make_edit(model, {Direction("vo", 1, 3, i): 0.0 for i in range(RANK)} | {Direction("vo", 2, 0, 0): 2.0})
    table = edit.changes(model).set_index(["layer", "head"])
    assert table.loc[(1, 3), "vo_change"] == pytest.approx(1.0)
    assert table.loc[(1, 3), "directions"] == RANK
    before, after = model.tower.read_attention(2).output, edit.apply(model).tower.read_attention(2).output
    relative = np.linalg.norm((after - before)[:RANK]) / np.linalg.norm(before[:RANK])
    assert table.loc[(2, 0), "output_change"] == pytest.approx(relative, abs=1e-6)


# ---- the table


def test_edits_combine_invert_and_differ(model):
    a, b = Direction("vo", 0, 0, 0), Direction("vo", 1, 2, 3)
    first, second = make_edit(model, {a: 0.5, b: 2.0}), make_edit(model, {b: 3.0})
    assert first.combine(second).multipliers == {a: 0.5, b: 6.0}
    assert first.combine(first.invert()).multipliers == {}
    assert first.diff(second)[["multiplier", "other"]].values.tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert len(first.diff(first)) == 0
    assert [step["made_by"] for step in first.combine(second.invert()).info.steps] == ["test", "test", "invert"]
    with pytest.raises(hs.HeadscanError, match="layer 0, head 0, index 0 is scaled by 0"):
        make_edit(model, {a: 0.0}).invert()
    assert "2 directions of 2 heads in layers [0, 1], multipliers 0.5 to 2" in str(first)


def test_json_comes_back_as_it_went(model, tmp_path):
    edit = random_edit(model)
    again = hs.load_edit(edit.save(tmp_path / "deep" / "edit.json"))
    assert again.multipliers == edit.multipliers
    assert again.info == edit.info


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"vo"', '"mlp"', "only directions of the part 'vo'"),
        ('"folded": true', '"folded": 1', "folded cannot be 1"),
        ('"steps"', '"stops"', "steps cannot be None"),
        ('"multipliers": [', '"multipliers": [[1], ', "multipliers are not rows"),
        ('"format_version": 1', '"format_version": 2', "has format 2"),
        ('"headscan-edit"', '"headscan-scan"', "was not written as"),
    ],
)
def test_damaged_edits_are_refused(model, tmp_path, old, new, says):
    path = make_edit(model, {Direction("vo", 0, 0, 0): 0.5}).save(tmp_path / "edit.json")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(hs.HeadscanError, match=says):
        hs.load_edit(path)


@pytest.mark.parametrize(
    ("old", "new"), [("0.5", "0.25"), ('"made_by": "test"', '"made_by": "tess"'), ("0.5", "0.50")]
)
def test_an_edit_that_was_changed_is_refused_unless_its_seal_is_taken_out(model, tmp_path, old, new):
    path = make_edit(model, {Direction("vo", 0, 0, 0): 0.5}).save(tmp_path / "edit.json")
    text = path.read_text()
    path.write_text(text.replace(old, new))
    if new == "0.50":  # the same number
        assert set(hs.load_edit(path).multipliers.values()) == {0.5}
        return
    with pytest.raises(hs.HeadscanError, match="changed by hand: it does not match its hash"):
        hs.load_edit(path)
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_text(json.dumps(content))
    assert len(hs.load_edit(path)) == 1


def test_tables_become_edits(scan, model):
    frame = pd.DataFrame({"layer": [0, 1], "head": [1, 2], "index": [3, 4], "multiplier": [0.0, 2], "note": "x"})
    edit = hs.Edit.from_table(frame, scan)
    assert edit.multipliers == {Direction("vo", 0, 1, 3): 0.0, Direction("vo", 1, 2, 4): 2.0}
    assert hs.Edit.from_table(edit.table(scan), scan).multipliers == edit.multipliers
    described = edit.table(scan).iloc[0]
    rows = scan.table().query("layer == 0 and head == 1 and index == 3")
    assert [described["concepts +"], described["concepts -"]] == rows["concepts"].tolist()
    assert described["sigma"] == rows["sigma"].iloc[0]
    twice = pd.concat([frame, frame.assign(multiplier=0.5)])
    with pytest.raises(hs.HeadscanError, match="comes twice"):
        hs.Edit.from_table(twice, scan)
    with pytest.raises(hs.HeadscanError, match="multiplier is missing"):
        hs.Edit.from_table(frame.drop(columns="multiplier"), scan)
    with pytest.raises(hs.HeadscanError, match="a multiplier is a finite number, not nan"):
        hs.Edit.from_table(frame.assign(multiplier=np.nan), scan)


def test_edits_of_other_weights_are_refused(model, scan, module):
    edit = make_edit(model, {Direction("vo", 0, 0, 0): 0.5})
    module.visual.proj.data += 1
    with pytest.raises(hs.HeadscanError, match="scan this model and make it anew"):
        edit.apply(hs.load_model(module))
    with pytest.raises(hs.HeadscanError, match="there is no index 8"):
        make_edit(model, {Direction("vo", 0, 0, 8): 0.5}).apply(model)
    unfolded = make_edit(model, {Direction("vo", 0, 0, 0): 0.5}, fold=False)
    with pytest.raises(hs.HeadscanError, match="cannot be combined"):
        edit.combine(unfolded)
    with pytest.raises(hs.HeadscanError, match=r"one edit is for folded|cannot be combined"):
        unfolded.apply(edit.apply(model))


def test_without_an_output_bias_compensation_is_refused(module):
    for block in module.visual.transformer.resblocks:
        block.attn.out_proj.bias = None
    model = hs.load_model(module)
    edit = make_edit(model, {Direction("vo", 0, 0, 0): 0.0})
    with pytest.raises(hs.HeadscanError, match="has no bias"):
        edit.apply(model)
    edit.apply(model, compensate=False)


def test_shuffled_edits_have_the_same_size(model):
    edit = random_edit(model, layers=(0, 2))
    other = edit.shuffled(model, seed=3)
    assert other.multipliers != edit.multipliers
    for layer in range(LAYERS):
        sizes = [sorted(v for d, v in e.multipliers.items() if d.layer == layer) for e in (edit, other)]
        assert sizes[0] == sizes[1]
    assert other.multipliers == edit.shuffled(model, seed=3).multipliers
