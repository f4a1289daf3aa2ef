"""The report's file: what it holds, how its figures come about, and what it refuses. The page at work is in
test_page_browser.py."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headscan as hs
from browser import made_up_scan
from headscan.cli import main
from headscan.report.columns import encode
from headscan.report.summary import summarise, themes

WORDS = ["red fox", "green fox", "the snow", "snow at night", "blue car", "two cars", "pine tree", "old ship"]
HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<!-- <script>",
    "&lt;b&gt; @data@ @script@",
    "\u2028 \u202e \U0001f600 猫 '\"`${1}",
    '"quoted" -minus layer:3',
    "]]> javascript:alert(1)",
]


@pytest.fixture(scope="module")
def scan():
    return made_up_scan(layers=3, heads=4, rank=5, concepts=WORDS, chance=True)


class Reader(HTMLParser):
    """Collect the texts of scripts and styles, and every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.raw, self.inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.raw.append([dict(attributes), ""])

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.raw[-1][1] += data


def chunks(path):
    reader = Reader(path.read_text(encoding="utf-8"))
    return {attributes["id"]: json.loads(text) for attributes, text in reader.raw if "id" in attributes}


def decode(column):
    return np.frombuffer(base64.b64decode(column[1]), dtype=f"<{column[0]}")


# ---- the data


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], "u1"), ([256], "u2"), ([65535], "u2"), ([65536], "u4"), ([], "u1"),
        ([True, False], "u1"), ([0.1, -3.5, math.nan], "f4"), ([[1, 2], [3, 4]], "u1"),
    ],
)  # fmt: skip
def test_columns_take_the_narrowest_kind_and_come_back(values, kind):
    array = np.array(values, dtype=int if values == [] else None)
    column = encode(array)
    assert column[0] == kind
    np.testing.assert_array_equal(decode(column), array.ravel().astype(f"<{kind}"))


def test_the_file_holds_the_table(scan, tmp_path):
    found = chunks(scan.report(tmp_path / "report.html"))
    table = scan.table()
    assert found["scan"]["rows"] == len(table) == 3 * 4 * 5 * 4
    assert found["scan"]["measures"] == ["fidelity", "joint_fidelity", "p_value", "q_value"]
    assert (found["scan"]["chance"], found["scan"]["layers"], found["scan"]["heads"]) == ("q_value", [0, 1, 2], 4)
    for layer, rows in table.groupby("layer"):
        chunk = {name: decode(column) for name, column in found[f"layer-{layer}"].items()}
        for name in ("head", "index", "certified"):
            np.testing.assert_array_equal(chunk[name], rows[name])
        for name in ("sigma", "fidelity", "joint_fidelity", "p_value", "q_value"):
            np.testing.assert_array_equal(chunk[name], rows[name].astype(np.float32))
        np.testing.assert_array_equal(np.array(["write", "read"])[chunk["side"]], rows["side"])
        np.testing.assert_array_equal(np.array(["+", "-"])[chunk["pole"]], rows["pole"])
        texts = np.array(found["texts"], dtype=object)[chunk["atoms"].reshape(-1, 5)]
        np.testing.assert_array_equal(texts, rows[[f"concept_{i}" for i in range(5)]])
        coefficients = rows[[f"coefficient_{i}" for i in range(5)]].astype(np.float32)
        np.testing.assert_array_equal(chunk["coefficients"].reshape(-1, 5), coefficients)


def test_texts_that_nobody_uses_stay_out(tmp_path):
    scan = made_up_scan(layers=1, heads=1, rank=1, concepts=[f"concept {i}" for i in range(1000)])
    assert len(chunks(scan.report(tmp_path / "report.html"))["texts"]) <= 4 * 5


def test_hostile_texts_stay_inside_their_element(tmp_path):
    scan = made_up_scan(layers=1, heads=2, rank=3, concepts=HOSTILE)
    scan = dataclasses.replace(scan, info=dataclasses.replace(scan.info, model=HOSTILE[0], dictionary=HOSTILE[1]))
    path = scan.report(tmp_path / "report.html")
    found = chunks(path)
    assert sorted(found["texts"]) == sorted(HOSTILE)
    assert (found["scan"]["info"]["model"], found["scan"]["info"]["dictionary"]) == tuple(HOSTILE[:2])
    plain = made_up_scan(layers=1, heads=2, rank=3, concepts=WORDS[:7]).report(tmp_path / "plain.html")
    tags = [[tag for tag, _ in Reader(page.read_text()).tags] for page in (path, plain)]
    assert tags[0] == tags[1]


def test_the_policy_admits_the_page_s_own_style_and_script_alone(scan, tmp_path):
    page = scan.report(tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader(page)
    (policy,) = [a["content"] for _, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for attributes, text in reader.raw:
        if "id" not in attributes:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    for tag, attributes in reader.tags:
        assert not {name for name in attributes if name.startswith("on")}, tag
        assert attributes.get("src") is None


# ---- the figures


def test_summaries_against_plain_sums(scan):
    table = scan.table()
    records = summarise(table, k=5)
    assert [(r["layer"], r["head"], r["side"]) for r in records] == [
        (layer, head, side) for layer in range(3) for head in range(4) for side in ("read", "write")
    ]
    for record in records:
        rows = table[(table["layer"] == record["layer"]) & (table["head"] == record["head"])]
        rows = rows[rows["side"] == record["side"]]
        energy = rows["sigma"] ** 2
        assert record["strength"] == pytest.approx(math.sqrt(energy.sum() / 2))  # each direction has two poles
        assert record["fidelity"] == pytest.approx((energy * rows["fidelity"]).sum() / energy.sum())
        assert record["better"] == pytest.approx((rows["q_value"] < 0.05).mean())
        sure = rows[rows["q_value"] < 0.05]
        best = (sure["sigma"] * sure["fidelity"]).idxmax()
        assert (record["best"]["index"], record["best"]["pole"]) == (table["index"][best], table["pole"][best])
        coefficients = [coefficient for _, coefficient in record["best"]["code"]]
        assert coefficients == sorted(coefficients, reverse=True)


def test_themes_are_the_largest_terms_of_the_divergence():
    groups = np.array([0, 0, 1, 2])
    texts = np.array([["red fox", "the fox"], ["red car", "Fox!"], ["red car", "the car"], ["red", "a the"]], object)
    weights = np.array([[3.0, 1.0], [1.0, 2.0], [4.0, 1.0], [0.0, 2.0]])
    sums = {0: {"red": 4, "fox": 6, "car": 1}, 1: {"red": 4, "car": 5}}
    total = sum(sum(words.values()) for words in sums.values())
    expected = {}
    for group, words in sums.items():
        inside = {word: weight / sum(words.values()) for word, weight in words.items()}
        overall = {word: sum(other.get(word, 0) for other in sums.values()) / total for word in words}
        scores = {word: inside[word] * math.log(inside[word] / overall[word]) for word in words}
        expected[group] = sorted((word for word in scores if scores[word] > 0), key=lambda word: -scores[word])
    assert themes(groups, texts, weights) == expected
    assert themes(groups, texts, weights, count=1) == {0: ["fox"], 1: ["car"]}
    assert themes(groups, texts, np.zeros((4, 2))) == {}


def test_a_scan_without_significance_reports_none(tmp_path):
    scan = made_up_scan(layers=1, heads=1, rank=2, concepts=WORDS)
    found = chunks(scan.report(tmp_path / "report.html"))["scan"]
    assert (found["chance"], found["better"]) == (None, None)
    assert "better" not in found["summary"][0]


def test_numbers_that_are_not_finite_do_not_spoil_the_page(tmp_path):
    scan = made_up_scan(layers=1, heads=1, rank=2, concepts=WORDS)
    scan.explanations.loc[0, "fidelity"] = math.nan
    found = chunks(scan.report(tmp_path / "report.html"))
    assert math.isnan(decode(found["layer-0"]["fidelity"])[0])


# ---- what is refused


def test_places_and_scans_refused(scan, tmp_path):
    (tmp_path / "folder").mkdir()
    for place in ("nowhere/report.html", "folder"):
        with pytest.raises(hs.HeadscanError, match="cannot write the report to"):
            scan.report(tmp_path / place)
    empty = dataclasses.replace(scan, explanations=scan.explanations[:0])
    with pytest.raises(hs.HeadscanError, match="nothing to report"):
        empty.report(tmp_path / "report.html")
    other = dataclasses.replace(scan, explanations=scan.explanations.assign(part="qk"))
    with pytest.raises(hs.HeadscanError, match="nothing to report"):
        other.report(tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_other_parts_stay_in_the_table(scan, tmp_path, capsys):
    rows = scan.explanations
    queries = rows.assign(part="qk", side=rows["side"].map({"write": "query", "read": "key"}))
    both = dataclasses.replace(scan, explanations=pd.concat([rows, queries], ignore_index=True))
    assert main.main(["report", str(both.save(tmp_path / "both"))]) == 0
    assert capsys.readouterr().out.endswith("; 240 of other parts are in the table alone\n")
    assert chunks(tmp_path / "both" / "report.html") == chunks(scan.report(tmp_path / "report.html"))


def test_the_command_writes_beside_the_scan_or_where_it_is_told(scan, tmp_path, capsys, monkeypatch):
    folder = scan.save(tmp_path / "out")
    assert main.main(["report", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(rf"240 explanations in {re.escape(str(folder / 'report.html'))} \(0\.\d MB\)\n", said)
    opened: list[Any] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main.main(["report", str(folder), "--out", str(tmp_path / "mine.html"), "--open"]) == 0
    assert opened == [(tmp_path / "mine.html").as_uri()]
    assert (tmp_path / "mine.html").read_bytes() == (folder / "report.html").read_bytes()
    capsys.readouterr()
    assert main.main(["report", str(tmp_path / "nothing")]) == 2
    assert "there is no scan folder" in capsys.readouterr().err
