"""Circuits: planted channels, the table, its filters, saving and loading."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import headscan as hs
from conftest import CONCEPTS, build_module
from headscan.heads.parts import node_name
from headscan.wiring.result import PAIR, parse_node

WORD = "snow"


@pytest.fixture(scope="module")
def planted(image_mean):
    """A tiny model whose head L0.H1 writes, and whose head L2.H3 reads as values, one direction: that of a concept.

    The direction is the one that the joint map takes nearest to the concept's atom, found by least squares.
    """
    module = build_module()
    plain = hs.load_model(module, image_mean=image_mean)
    dictionary = hs.load_dictionary(CONCEPTS, model=plain, cache=False)
    joint = hs.joint_map(plain)
    row = dictionary.texts.index(WORD)
    wanted = joint.to_width(dictionary.atoms[row : row + 1].astype(np.float64))[0]
    direction = wanted - wanted.mean()
    direction /= np.linalg.norm(direction)
    rng = np.random.default_rng(4)
    with torch.no_grad():
        writer, reader = module.visual.transformer.resblocks[0], module.visual.transformer.resblocks[2]
        mine = slice(8, 16)  # head 1
        outward = torch.from_numpy(6 * np.outer(direction, rng.standard_normal(8) / np.sqrt(8))).float()
        writer.attn.out_proj.weight[:, mine] += outward
        rows = slice(2 * 32 + 24, 2 * 32 + 32)  # values of head 3
        inward = np.outer(rng.standard_normal(8) / np.sqrt(8), direction / reader.ln_1.weight.numpy())
        reader.attn.in_proj_weight[rows] += torch.from_numpy(6 * inward).float()
    model = hs.load_model(module, image_mean=image_mean)
    return model, hs.load_dictionary(CONCEPTS, model=model, cache=False), direction


@pytest.fixture(scope="module")
def found(planted):
    return hs.circuits(planted[0], planted[1], k=3, pairs=5, channels=2, significance=50)


def test_a_planted_channel_is_found_first_with_its_words(found):
    strongest = found.pairs.sort_values("strength", ascending=False).iloc[0]
    assert tuple(strongest[list(PAIR)]) == ("vo", 0, 1, "vo", "value", 2, 3)
    assert strongest["q_value"] < 1e-3
    first = found.table().iloc[:2]  # both poles of the strongest channel
    assert (first[list(PAIR)].apply(tuple, axis=1) == ("vo", 0, 1, "vo", "value", 2, 3)).all()
    assert set(first["pole"]) == {"+", "-"} and set(first["channel"]) == {0}
    named = first[(first["written_concept_0"] == WORD) & (first["read_concept_0"] == WORD)]
    assert len(named) == 1
    assert (named["cosine"] > 0.9).all()


def test_pairs_are_every_writer_and_later_reader(found, model):
    pairs = found.pairs
    heads, steps = model.heads, 3  # pairs of layers of three
    assert len(pairs) == steps * (heads + 1) * (3 * heads + 1)
    assert (pairs["writer_layer"] < pairs["reader_layer"]).all()
    assert not pairs.duplicated(list(PAIR)).any()
    family = pairs[(pairs["writer_part"] == "vo") & (pairs["side"] == "key")]
    np.testing.assert_allclose(family["q_value"], hs.q_values(family["p_value"]))


def test_a_pair_s_strength_is_that_of_its_channels(planted):
    whole = hs.circuits(planted[0], planted[1], parts="vo", pairs=2, channels=99, significance=0, k=2)
    table = whole.table().query("pole == '+'")
    assert "written_p_value" not in table
    for _, channels in table.groupby(list(PAIR)):
        assert len(channels) == planted[0].rank
        np.testing.assert_allclose(np.square(channels["strength"]).sum(), channels["pair_strength"].iloc[0] ** 2)
        assert channels.sort_values("channel")["amplitude"].is_monotonic_decreasing


def test_only_pairs_above_chance_have_channels(found, planted):
    table = found.table()
    assert (table["q_value"] < found.info.level).all()
    assert found.info.explained == len(table.drop_duplicates(list(PAIR))) <= 5
    none = hs.circuits(planted[0], planted[1], parts="vo", level=1e-300, significance=0)
    assert len(none) == 0 and len(none.pairs) == 48


def test_filters(found, planted):
    model, dictionary, _ = planted
    table = found.table()
    assert len(found.table(writer="L0.H1")) == (table["writer_head"].eq(1) & table["writer_layer"].eq(0)).sum() > 0
    assert len(found.table(reader="L2", side="value")) > 0
    assert found.table(writer="L2.MLP").empty
    by_words = found.table(about=WORD)
    used = table[[f"{end}_concept_{i}" for end in ("written", "read") for i in range(3)]].eq(WORD).any(axis=1)
    assert 0 < len(by_words) <= used.sum()
    by_meaning = found.table(about=WORD, model=model, dictionary=dictionary)
    for rows in (by_words, by_meaning):
        assert rows["score"].is_monotonic_decreasing
        assert tuple(rows.loc[0, list(PAIR)]) == ("vo", 0, 1, "vo", "value", 2, 3)
        assert rows.loc[0, "read_concept_0"] == WORD


def test_saved_circuits_are_the_same(found, tmp_path):
    again = hs.load_circuits(found.save(tmp_path / "out"))
    assert again.info == found.info
    pd.testing.assert_frame_equal(again.pairs, found.pairs)
    pd.testing.assert_frame_equal(again.channels, found.channels)


def test_damaged_or_other_folders_are_refused(found, tmp_path, planted):
    folder = found.save(tmp_path / "out")
    data = (folder / "pairs.parquet").read_bytes()
    (folder / "pairs.parquet").write_bytes(data[:-9])
    with pytest.raises(hs.HeadscanError, match=r"pairs\.parquet is damaged or cut short"):
        hs.load_circuits(folder)
    (folder / "pairs.parquet").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"per_pair": "two"}))
    with pytest.raises(hs.HeadscanError, match="per_pair cannot be 'two'"):
        hs.load_circuits(folder)
    with pytest.raises(hs.HeadscanError, match="not written as a headscan-scan manifest"):
        hs.load_scan(folder)
    scanned = hs.scan(planted[0], planted[1], layers=2, significance=0).save(tmp_path / "scan")
    with pytest.raises(hs.HeadscanError, match="will not write"):
        found.save(scanned)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": 1}, "at least two layers"), ({"parts": "qk"}, "which writes nothing"),
        ({"parts": ("vo", "neurons")}, "'neurons'"), ({"level": 0}, "level is a q-value"),
        ({"pairs": 0}, "pairs must be"), ({"channels": 0}, "channels must be"), ({"layers": "9"}, "no layer 9"),
        ({"k": 99}, "k must be from 1"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(planted, options, says):
    with pytest.raises(hs.HeadscanError, match=says):
        hs.circuits(planted[0], planted[1], **options)


def test_places_are_named():
    for layer, head in ((0, 3), (11, -1)):
        assert parse_node(node_name(layer, head)) == (layer, head)
    assert parse_node("L7") == (7, None)
    for wrong in ("7.2", "L7.H", "L7.mlp", ""):
        with pytest.raises(hs.HeadscanError, match="a node is written L3"):
            parse_node(wrong)
