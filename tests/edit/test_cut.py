"""Cuts: a reader no longer sees a direction, whatever is along it; all else it reads as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import headscan as hs
from architectures import shrunk, transformers_model
from conftest import build_module, write_bundle
from headscan.edit import ReadDirection
from headscan.heads.factors import mlp_input

SIDES = ("value", "query", "key", "input")


def read_factor(model, side, layer, head):
    """What a reader reads, folded and centred: (width, rank or hidden)."""
    if side == "input":
        return mlp_input(model, layer)
    left, right = hs.vo_factors(model, layers=layer) if side == "value" else hs.qk_factors(model, layers=layer)
    return right[0, head].T if side == "key" else left[0, head]


@pytest.mark.parametrize(
    "build", [build_module, lambda: shrunk("EVA01-g-14"), lambda: transformers_model("CLIPModel")]
)
@pytest.mark.parametrize("side", SIDES)
def test_a_reader_no_longer_sees_the_direction_and_nothing_else_changes(build, side):
    module = build().double()
    tokenizer = lambda texts: np.zeros((len(texts), 8), dtype=np.int64)  # noqa: E731
    model = hs.load_model(module, tokenizer=tokenizer)
    head = -1 if side == "input" else 2
    vector = np.random.default_rng(1).standard_normal(model.width)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    if side == "key" and model.tower.blocks[1].key.bias is None:
        with pytest.raises(hs.HeadscanError, match="no bias"):
            hs.Cut.of(model, [(side, 1, head, vector)]).apply(model)
        return
    cut = hs.Cut.of(model, [(side, 1, head, vector)]).apply(model)
    w = vector - vector.mean()
    w /= np.linalg.norm(w)
    old, new = read_factor(model, side, 1, head), read_factor(cut, side, 1, head)
    np.testing.assert_allclose(new, old - np.outer(w, w @ old), atol=1e-12)
    for other in SIDES:
        for place in range(model.heads) if other != "input" else (-1,):
            if (other, place) != (side, head) and {other, side} != {"query", "key"}:
                same = [read_factor(each, other, 1, place) for each in (model, cut)]
                np.testing.assert_allclose(*same, atol=1e-12)  # type: ignore[call-overload]
    changed = [name for name, value in cut.module.state_dict().items() if not torch.equal(value, before[name])]
    assert 1 <= len(changed) <= 2
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


@pytest.mark.parametrize("side", SIDES)
def test_inputs_without_the_direction_are_read_as_before(side):
    """The module's own layers: constants from the layer norm's shift and from biases stay."""
    model = hs.load_model(build_module().double())
    head, rng = (-1 if side == "input" else 2), np.random.default_rng(2)
    w = rng.standard_normal(model.width)
    w -= w.mean()
    w /= np.linalg.norm(w)
    cut = hs.Cut.of(model, [(side, 1, head, w)]).apply(model)
    x = rng.standard_normal((2, 5, model.width))
    x -= x.mean(axis=-1, keepdims=True)
    x -= (x @ w)[..., None] * w  # without a part along w, and the layer norm only scales it
    along = torch.from_numpy(x), torch.from_numpy(x + rng.standard_normal((2, 5, 1)) * w)

    def read(each, tokens):
        block = each.module.visual.transformer.resblocks[1]
        if side == "input":
            return block.mlp.c_fc(block.ln_2(tokens))
        part = SIDES.index(side)
        third = {0: 2, 1: 0, 2: 1}[part]
        rows = slice(third * model.width + head * model.rank, third * model.width + (head + 1) * model.rank)
        weight, bias = block.attn.in_proj_weight[rows], block.attn.in_proj_bias[rows]
        return torch.nn.functional.linear(block.ln_1(tokens), weight, bias)

    with torch.no_grad():
        torch.testing.assert_close(read(cut, along[0]), read(model, along[0]))
        assert (read(model, along[1]) - read(model, along[0])).abs().max() > 1e-3


def test_cutting_a_channel_leaves_the_pair_without_it(model, dictionary):
    made = hs.circuits(model, dictionary, parts=("vo", "qk"), level=1.0, pairs=4, significance=0, k=2)
    row = made.table().iloc[:1]
    written, read = hs.channel_directions(made, model, row)
    assert (written @ read.T)[0, 0] == pytest.approx(row["cosine"].iloc[0])
    first = row.iloc[0]
    cut = hs.Cut.of(model, [(first["side"], first["reader_layer"], first["reader_head"], written[0])]).apply(model)
    seen = written[0] @ read_factor(cut, first["side"], first["reader_layer"], first["reader_head"])
    assert np.abs(seen).max() < 1e-6
    minus = made.table().iloc[1:2]
    np.testing.assert_allclose(hs.channel_directions(made, model, minus)[0], -written)
    with pytest.raises(hs.HeadscanError, match="with other weights"):
        hs.channel_directions(made, cut, row)


def test_a_cut_model_is_an_ordinary_checkpoint(tmp_path):
    folder = write_bundle(tmp_path / "tiny", build_module())
    model = hs.load_model(f"local-dir:{folder}")
    cut = hs.Cut.of(model, [("value", 2, 1, np.arange(32.0)), ("input", 0, -1, np.arange(32.0) ** 2)], why="a test")
    saved = cut.apply(model).save(tmp_path / "cut")
    again = hs.load_model(f"local-dir:{saved}")
    assert again.weights_hash == cut.apply(model).weights_hash != model.weights_hash
    files = [load_file(path / "open_clip_model.safetensors") for path in (folder, saved)]
    differing = {name for name, value in files[0].items() if not torch.equal(value, files[1][name])}
    layers = "visual.transformer.resblocks."
    assert differing == {
        f"{layers}2.attn.in_proj_weight", f"{layers}2.attn.in_proj_bias",
        f"{layers}0.mlp.c_fc.weight", f"{layers}0.mlp.c_fc.bias",
    }  # fmt: skip
    card = (saved / "README.md").read_text()
    assert "| value | 2 | 1 |" in card and "a test" in card
    loaded = hs.load_cut(saved / "edit.json")
    assert loaded.info == cut.info
    np.testing.assert_allclose(loaded.reads[0].vector, cut.reads[0].vector, atol=1e-15)
    with pytest.raises(hs.HeadscanError, match="the cut is for"):
        loaded.apply(again)


def test_refusals(model):
    vector = np.arange(32.0)
    for read, says in (
        (("output", 0, 0, vector), "side is one of"), (("value", 9, 0, vector), "there is no layer 9"),
        (("value", 0, -1, vector), "head must be"), (("input", 0, 2, vector), "head must be"),
        (("value", 0, 7, vector), "there is no head 7"), (("value", 0, 0, vector[:5]), "has 5 entries"),
        (("key", 0, 0, np.ones(32)), "all-ones"), (("key", 0, 0, vector * np.nan), "finite"),
    ):  # fmt: skip
        with pytest.raises(hs.HeadscanError, match=says):
            hs.Cut.of(model, [read]).apply(model)
    assert ReadDirection("value", 0, 0, vector).vector.sum() == pytest.approx(0, abs=1e-12)


def test_damaged_cuts_are_refused(model, tmp_path):
    path = hs.Cut.of(model, [("key", 0, 0, np.arange(32.0))]).save(tmp_path / "cut.json")
    path.write_text(path.read_text().replace('"side": "key"', '"side": "lock"'))
    with pytest.raises(hs.HeadscanError, match="is damaged"):
        hs.load_cut(path)
