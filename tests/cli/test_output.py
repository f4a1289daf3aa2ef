"""What a command shows: text, one JSON document, CSV or nothing; the same answers in each."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import torch

import headscan as hs
from conftest import CONCEPTS, write_adapter
from headscan.cli import main
from headscan.cli.tables import print_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a list of concepts, a scan of the demo model and an edit of it."""
    folder = tmp_path_factory.mktemp("shown")
    (folder / "concepts.txt").write_text("\n".join(CONCEPTS))
    made = ["--dictionary", str(folder / "concepts.txt"), "--layers", "-1", "-k", "3", "--significance", "0"]
    assert main.main(["scan", "demo", "--out", str(folder / "scan"), *made, "--quiet"]) == 0
    edit = ["edit", "demo", "--scan", str(folder / "scan"), "--suppress", "dog", "--threshold", "0"]
    assert main.main([*edit, "--save-edit", str(folder / "edit.json"), "--quiet"]) == 0
    attention = {"attn.out_proj.lora_A": torch.ones(1, 128), "attn.out_proj.lora_B": torch.ones(128, 1)}
    name = "base_model.model.visual.transformer.resblocks.0"
    write_adapter(folder / "adapter", {f"{name}.{part}.weight": value for part, value in attention.items()})
    return folder


def commands(folder, out):
    """Return a line of every command, and the tables it has."""
    words = ["--dictionary", str(folder / "concepts.txt")]
    scan = ["--layers", "-1", "-k", "3", "--significance", "0", "--show", "2"]
    return {
        "models": (["models"], {"families"}),
        "encode": (["encode", str(folder / "concepts.txt"), "--model", "demo", "--out", str(out / "words")], set()),
        "vocab": (["vocab", str(out / "words"), "--drop", "^d", "--out", str(out / "fewer")], set()),
        "scan": (["scan", "demo", *words, *scan, "--out", str(out / "scan")], {"strongest"}),
        "report": (["report", str(folder / "scan"), "--out", str(out / "page.html")], set()),
        "find": (["find", "dog", str(folder / "scan"), "--words"], {"directions"}),
        "explain": (["explain", "demo", *words, "--text", "a dog"], {"concepts"}),
        "edit": (["edit", "demo", "--edit", str(folder / "edit.json"), "--dry-run"], {"changes", "directions"}),
        "merge": (["merge", "demo", str(folder / "adapter"), "--out", str(out / "merged")], set()),
        "compare": (["compare", "demo", "demo", *words, "--layers", "0"], {"heads", "changes", "reweighted"}),
        "circuits": (
            ["circuits", "demo", *words, "--layers", "6-7", "-k", "3", "--out", str(out / "circuits")],
            {"channels"},
        ),
        "doctor": (["doctor"], {"installation"}),
    }


def test_every_command_answers_as_one_json_document(folder, tmp_path, capsys):
    lines = commands(folder, tmp_path)
    commands_of = main.parser()._subparsers
    assert commands_of is not None and set(lines) == set(commands_of._group_actions[0].choices or ())
    for name, (arguments, tables) in lines.items():
        assert main.main([*arguments, "--json"]) == 0, name
        out, err = capsys.readouterr()
        assert err == "" and out.isascii() and out.count("\n") == 1, name
        answer = json.loads(out, parse_constant=pytest.fail)  # NaN and infinity are no JSON
        assert answer["command"] == name and answer["headscan"] == hs.__version__
        assert set(answer["tables"]) == tables, name
        assert all(isinstance(rows, list) for rows in answer["tables"].values())


def test_csv_and_json_hold_the_table_of_the_library(folder, capsys):
    rows = hs.load_scan(folder / "scan").find("dog", count=3).to_dict("records")
    line = ["find", "dog", str(folder / "scan"), "--words", "--count", "3"]
    assert main.main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"]["directions"] == rows
    assert main.main([*line, "--csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]


def test_quiet_shows_nothing_but_errors(folder, tmp_path, capsys):
    for name, (arguments, _) in commands(folder, tmp_path).items():
        assert (main.main([*arguments, "--quiet"]), *capsys.readouterr()) == (0, "", ""), name
    assert main.main(["report", str(tmp_path / "none"), "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("headscan: error: there is no scan folder")


@pytest.mark.parametrize("pair", [["--json", "--csv"], ["--json", "--quiet"], ["--csv", "--quiet"]])
def test_there_is_one_form(pair, capsys):
    assert main.main(["doctor", *pair]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_nothing_found_is_an_empty_table(folder, capsys):
    line = ["find", "xyzzy", str(folder / "scan"), "--words"]
    assert main.main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"] == {"directions": []}
    assert main.main(line) == 0
    assert capsys.readouterr().out == "no direction is about 'xyzzy' by words\n"


def test_a_narrow_terminal_gets_rows_of_whole_words():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    words = "thunderstorm, lighthouse, hippopotamus, windmill, caterpillar, snowflake"
    rows = [{"layer": 3, "head": 11, "index": 1, "sigma": 1.23456, "concepts": words}] * 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "60")
        patch.setenv("TERM", "xterm")
        print_rows(rows, title="Directions", file=file)
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()]
    assert max(map(len, lines)) <= 60
    assert "layer 3  head 11  index 1  sigma 1.235" in lines
    for word in words.split(", "):
        assert sum(word in line for line in lines) == 2  # none is broken over two lines


def test_swapped_arguments_are_named(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main.main(["find", "scan", "dog"]) == 2
    assert "the text comes first, then the scan" in capsys.readouterr().err
    assert main.main(["edit", "scan", "--scan", "demo", "--suppress", "dog", "--dry-run"]) == 2
    assert "name the model first, and its scan with --scan scan" in capsys.readouterr().err
