"""Files that version 0.1.0 wrote (tests/files) are read by this one: what docs/formats.md promises."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import headscan as hs
from headscan.dictionaries.dictionary import open_dictionary

WRITTEN = Path(__file__).parent / "files" / "0.1.0"
FORMATS = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.fixture
def written(tmp_path):
    return Path(shutil.copytree(WRITTEN, tmp_path / "written"))


def test_a_scan(written, caplog):
    with caplog.at_level("WARNING", logger="headscan"):
        scan = hs.load_scan(written / "scan")
    table = scan.table()
    assert (len(table), table.loc[0, "concepts"]) == (256, "hat, blue")
    assert table.loc[0, "fidelity"] == pytest.approx(0.4529402095321978)
    assert table["fidelity"].mean() == pytest.approx(0.2172749827836482)
    assert scan.info.fidelity_version == 1 and "of an older definition" in caplog.text
    assert scan.report(written / "report.html").is_file()


def test_a_dictionary(written):
    dictionary = open_dictionary(written / "dictionary")
    assert len(dictionary) == 30 and dictionary.texts[0] == "cat"
    codes = hs.comp(np.linspace(-1, 1, 48).reshape(2, 24), dictionary.packed, k=3)
    assert codes.indices.tolist() == [[22, 2, 20], [27, 17, 12]] and codes.certified.all()


def test_an_edit(written):
    edit = hs.load_edit(written / "edit.json")
    assert len(edit) == 6 and set(edit.multipliers.values()) == {0.5}
    assert edit.info.steps[0]["like"] == ["snow", "sand"]


def test_every_field_of_a_manifest_is_documented(model, dictionary, tmp_path):
    scan = hs.scan(model, dictionary, layers=[2], k=2)
    scan.save(tmp_path / "scan")
    fields = set(json.loads((tmp_path / "scan" / "manifest.json").read_text()))
    section = FORMATS.split("## A scan")[1].split("\n## ")[0]
    assert fields <= set(re.findall(r"`(\w+)`", section))
