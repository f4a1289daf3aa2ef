"""``headscan circuits``: what it saves, shows and refuses."""

from __future__ import annotations

import json

import pytest

import headscan as hs
from conftest import CONCEPTS
from headscan.cli import main


@pytest.fixture
def run(bundle, tmp_path, capsys):
    (tmp_path / "concepts.txt").write_text("\n".join(CONCEPTS))

    def run(*options):
        given = ["circuits", f"local-dir:{bundle}", "--dictionary", str(tmp_path / "concepts.txt"), "-k", "2"]
        status = main.main([*given, "--significance", "20", "--level", "1", "--pairs", "9", *map(str, options)])
        return status, *capsys.readouterr()

    return run


def test_circuits_are_saved_and_shown(run, tmp_path):
    status, shown, wrong = run("--out", tmp_path / "out", "--paths", "2", "--show", "4")
    assert status == 0, wrong
    made = hs.load_circuits(tmp_path / "out")
    assert made.info.explained == 9 and len(made) == 9 * 2 * 3
    assert "The strongest channels" in shown and "The strongest paths" in shown
    assert f"54 rows saved in {tmp_path / 'out'}" in shown
    first = made.table().iloc[0]
    assert f"L{first['writer_layer']}." in shown and first["written_concept_0"] in shown


def test_filters_narrow_what_is_shown(run, tmp_path):
    chosen = ("--about", "snow", "--to", "L2", "--side", "value", "--show", "99", "--json")
    status, shown, wrong = run("--out", tmp_path / "out", *chosen)
    assert status == 0, wrong
    answer = json.loads(shown)
    rows = answer["tables"].get("channels", [])
    assert all(row["reader_layer"] == 2 and row["side"] == "value" and row["score"] > 0 for row in rows)
    assert answer["channels"] == 54 and answer["pairs"] == 3 * 5 * 13


def test_bad_input_is_one_line(run, tmp_path):
    out = ("--out", tmp_path / "out")
    for options, says in (
        (("--to", "7"), "a node is written L3"), (("--parts", "qk"), "which writes nothing"),
        (("--layers", "9"), "there is no layer 9"), (("--layers", "1"), "at least two layers"),
        (("--level", "0"), "level is a q-value"),
    ):  # fmt: skip
        status, shown, wrong = run(*out, *options)
        assert (status, shown) == (2, "") and says in wrong and wrong.count("\n") == 1
