"""Every command that takes a list takes its column, and with --strict refuses rows that it would mend."""

from __future__ import annotations

import pytest

import headscan as hs
from headscan.cli import main

TEXTS = ["cat", "dog", "red boat", "snow", "car", "bird", "tree", "house", "apple", "ball", "hat", "shoe", "fish"]


@pytest.fixture
def table(tmp_path):
    """A table whose second column holds concepts, one with a line break."""
    path = tmp_path / "table.csv"
    path.write_text("count,concept\n" + "".join(f"{row},{text}\n" for row, text in enumerate(TEXTS)))
    return path


def lines(table, folder):
    """A command line of each command that takes a list, without its column."""
    scan = ["--layers", "-1", "-k", "3"]
    words = ["demo", "--dictionary", str(table)]
    return {
        "scan": ["scan", *words, *scan, "--significance", "0", "--out", str(folder / "scan")],
        "explain": ["explain", *words, "-k", "3", "--text", "a dog"],
        "compare": ["compare", "demo", *words, "--layers", "0", "-k", "3"],
        "circuits": ["circuits", *words, "--layers", "6-7", "-k", "3", "--out", str(folder / "circuits")],
        "encode": ["encode", str(table), "--model", "demo", "--out", str(folder / "words")],
        "vocab": ["vocab", str(folder / "words"), "--drop-list", str(table), "--out", str(folder / "fewer")],
        "edit": ["edit", "demo", "--scan", str(folder / "scan"), "--classes", str(table), "--dry-run"],
    }


def test_the_column_is_read_and_strict_is_strict(table, tmp_path, capsys):
    for name, line in lines(table, tmp_path).items():
        if name == "vocab":
            table.write_text("count,concept\n1,cat\n2,snow\n")
        assert main.main(line) == 2, name
        assert "has the columns count, concept: name one of them (column, --column)" in capsys.readouterr().err, name
        assert main.main([*line, "--column", "concept"]) == 0, capsys.readouterr().err
        assert main.main([*line, "--column", "words"]) == 2, name
        assert "not 'words'" in capsys.readouterr().err, name
    assert hs.load_scan(tmp_path / "scan").info.concepts == len(TEXTS)
    assert (tmp_path / "fewer" / "texts.txt").read_text().splitlines() == [
        text for text in TEXTS if text not in ("cat", "snow")
    ]
    table.write_text('count,concept\n1,"red\nboat"\n2,dog\n3,cat\n4,snow\n')
    for name, line in lines(table, tmp_path).items():
        assert main.main([*line, "--column", "concept", "--strict"]) == 2, name
        assert "holds the control character U+000A" in capsys.readouterr().err, name


def test_a_column_of_nothing_is_refused(table, tmp_path, capsys):
    encode = lines(table, tmp_path)["encode"]
    assert main.main([*encode, "--column", "concept"]) == 0
    scan = [
        "scan",
        "demo",
        "--dictionary",
        str(tmp_path / "words"),
        "--column",
        "concept",
        "--out",
        str(tmp_path / "s"),
    ]
    for line, says in (
        (scan, "a column belongs to a list: "),
        (
            ["vocab", str(tmp_path / "words"), "--column", "x", "--out", str(tmp_path / "f")],
            "are of the list to drop",
        ),
        (
            ["edit", "demo", "--scan", "s", "--suppress", "cat", "--column", "x", "--dry-run"],
            "--column means nothing",
        ),
    ):
        assert main.main(line) == 2
        assert says in capsys.readouterr().err
