"""What a notebook shows: complete, escaped, and in the right order."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from tests.report.test_page import HOSTILE, WORDS

import headscan as hs
from browser import made_up_scan


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data + "\n"


@pytest.fixture(scope="module")
def scan():
    return made_up_scan(layers=2, heads=2, rank=8, concepts=WORDS)


def test_a_scan_shows_its_clearest_explanations(scan):
    shown = Text(scan._repr_html_()).text
    assert "made-up" in shown
    assert "128 explanations over 8 concepts (drawn), method comp; fidelity as published; the clearest 10" in shown
    table = scan.table()
    best = table.loc[(table["sigma"] * table["fidelity"]).idxmax()]
    cells = shown.split("concepts\n", 1)[1].splitlines()
    assert cells[0] == f"L{best['layer']}.H{best['head']}"
    assert shown.count("L0.H") + shown.count("L1.H") == 10


def test_a_head_and_its_explanations(scan):
    head = scan.head(1, 0)
    assert len(head) == 8 * 4
    assert "20 of 32 explanations" in Text(head._repr_html_()).text
    one = head.explanation(3, side="read", pole="-")
    row = scan.table().query("layer == 1 and head == 0 and index == 3 and side == 'read' and pole == '-'").iloc[0]
    assert (one.sigma, one.fidelity) == (row["sigma"], row["fidelity"])
    pairs = sorted(((row[f"coefficient_{i}"], row[f"concept_{i}"]) for i in range(5)), reverse=True)
    assert one.code == tuple((concept, coefficient) for coefficient, concept in pairs)
    assert str(one) == f"L1.H0/3/read/-: {', '.join(f'{text} {weight:.2f}' for text, weight in one.code)}"
    for text, weight in one.code:
        assert f"{text} \n{weight:.2f}" in Text(one._repr_html_()).text


def test_what_is_absent_is_refused(scan):
    with pytest.raises(
        hs.HeadscanError, match="no head 9 in layer 1 with the part vo: its layers are 0, 1, its parts vo"
    ):
        scan.head(1, 9)
    with pytest.raises(hs.HeadscanError, match="has no explanation 8, write, \\+"):
        scan.head(1, 0).explanation(8)


def test_every_text_is_escaped():
    scan = made_up_scan(layers=1, heads=1, rank=4, concepts=HOSTILE)
    plain = made_up_scan(layers=1, heads=1, rank=4, concepts=WORDS)
    for show in (lambda s: s, lambda s: s.head(0, 0), lambda s: s.head(0, 0).explanation(0)):
        shown = Text(show(scan)._repr_html_())
        assert shown.tags == Text(show(plain)._repr_html_()).tags
        assert any(text in shown.text for text in HOSTILE)


def test_unused_concepts_are_left_out():
    scan = made_up_scan(layers=1, heads=1, rank=1, concepts=WORDS)
    scan.explanations.loc[0, [f"coefficient_{i}" for i in range(5)]] = [0.0, 0.004, 0.3, 0.1, 0.0]
    one = scan.head(0, 0).explanation(0)
    assert [weight for _, weight in one.code] == [0.3, 0.1]
    scan.explanations.loc[0, ["coefficient_2", "coefficient_3"]] = 0.0
    assert str(scan.head(0, 0).explanation(0)) == "L0.H0/0/write/+: no concepts"
