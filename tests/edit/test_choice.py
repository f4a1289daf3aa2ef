"""Directions chosen by a text: what the demo model knows is found, what it does not know chooses none."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headscan as hs
from headscan.cli import main
from headscan.edit import Direction
from headscan.edit.codes import read_codes
from headscan.edit.evidence import NEAREST, random_scores, weigh
from headscan.edit.matching import contrast, embed_queries, mean_similarity
from headscan.explanations.significance import q_values

COLOURS = ["red", "orange", "yellow", "green", "blue", "purple"]
SCENERIES = ["forest", "meadow", "sea", "desert", "city", "snow", "living room", "lake", "waves"]
KINDS = ["animal", "bird", "landbird", "tool", "vehicle", "fruit", "wings", "wheels", "swimmer"]
UNKNOWN = [
    "quantum chromodynamics", "philosophy", "democracy", "jazz music", "mortgage", "stock market", "election",
    "surgery", "algebra", "poetry", "opera", "theology", "justice", "inflation", "tax return", "chess",
    "football match", "wedding", "courtroom", "graffiti", "passport", "x-ray", "traffic sign", "handwriting",
    "skyscraper", "cathedral", "astronaut", "protein folding", "keyboard shortcut", "newspaper headline",
    "violin concerto", "asdf qwer",
]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(_own_cache: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance is measured once for all tests of this file."""
    monkeypatch.setenv("HEADSCAN_CACHE", str(cache))


@pytest.fixture(scope="module")
def demo() -> hs.Model:
    return hs.load_model("demo")


@pytest.fixture(scope="module")
def scan(demo: hs.Model, cache: Path) -> hs.Scan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSCAN_CACHE", str(cache))
        return hs.scan(demo, hs.load_dictionary("demo", model=demo), layers="4-7")


@pytest.fixture(scope="module")
def saved(scan: hs.Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan.save(tmp_path_factory.mktemp("scan"))


@pytest.mark.parametrize("text", [*COLOURS, *SCENERIES, *KINDS])
def test_what_the_demo_was_taught_is_chosen(scan: hs.Scan, demo: hs.Model, text: str) -> None:
    edit = hs.Edit.suppress(scan, demo, like=text)
    (step,) = edit.info.steps
    assert len(edit) == step["directions_chosen"] >= 1 and step["why_empty"] is None
    assert {direction.layer for direction in edit.multipliers} <= {6, 7}  # the layers that were taught to say words
    for reason in step["chosen"]:
        assert reason["q_explanation"] <= 0.05 and reason["q_match"] <= 0.05 and reason["nearest"] <= NEAREST
        row = scan.explanations.query(
            "layer == {layer} and head == {head} and index == {index} and pole == '{pole}'".format(**reason)
        ).iloc[0]
        assert (row["q_value"], row["concepts"]) == (reason["q_explanation"], reason["concepts"])


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("poles", ["any", "mean", "all"])
def test_what_the_demo_does_not_know_chooses_nothing(scan: hs.Scan, demo: hs.Model, poles: str, graded: bool) -> None:
    for text in UNKNOWN if poles == "any" and not graded else UNKNOWN[:3]:
        edit = hs.Edit.suppress(scan, demo, like=text, poles=poles, graded=graded)
        assert len(edit) == 0, (text, edit.info.steps)
        assert f"no direction matches '{text}' better than chance" in edit.info.steps[0]["why_empty"]


def test_the_command_says_that_nothing_would_change(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["edit", "demo", "--scan", str(saved), "--suppress", "quantum chromodynamics"]
    for more in (["--dry-run"], ["--save-edit", str(tmp_path / "e.json")], ["--out", str(tmp_path / "edited")]):
        assert main.main([*line, *more]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "no direction matches 'quantum chromodynamics' better than chance" in err
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["snow", "forest, meadow, mountains, sea, lake, river"])
def test_command_and_library_choose_the_same_with_and_without_a_dictionary(
    scan: hs.Scan, demo: hs.Model, saved: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dictionary = hs.load_dictionary("demo", model=demo)
    made = [
        hs.Edit.suppress(scan, demo, like=text, dictionary=dictionary),
        hs.Edit.suppress(scan, demo, like=text),
        hs.Edit.suppress(hs.load_scan(saved), demo, like=text),
        hs.Edit.suppress(hs.load_scan(saved), demo, like=text, dictionary=dictionary),
    ]
    assert main.main(["edit", "demo", "--scan", str(saved), "--suppress", text, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["tables"]["directions"]
    assert rows == made[0].info.steps[0]["chosen"] and document["directions"] == len(made[0]) > 0
    for edit in made:
        assert edit.multipliers == made[0].multipliers
        assert edit.info.steps == made[0].info.steps


def test_a_list_of_ones_own_is_known_by_its_hash_or_asked_for(
    demo: hs.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join([*COLOURS, *SCENERIES, *KINDS]))
    dictionary = hs.load_dictionary(words, model=demo)
    folder = hs.scan(demo, dictionary, layers=7, significance=500).save(tmp_path / "scan")
    threshold: dict[Any, Any] = {"like": "snow", "threshold": 0.5}
    edit = hs.Edit.suppress(hs.load_scan(folder), demo, **threshold)
    assert (
        edit.multipliers
        == hs.Edit.suppress(hs.load_scan(folder), demo, **threshold, dictionary=dictionary).multipliers
    )
    monkeypatch.setenv("HEADSCAN_CACHE", str(tmp_path / "empty"))
    with pytest.raises(
        hs.HeadscanError, match=r"the scan's dictionary words\.txt .* is not in the cache: give the list"
    ):
        hs.Edit.suppress(hs.load_scan(folder), demo, **threshold)
    line = ["edit", "demo", "--scan", str(folder), "--suppress", "snow", "--threshold", "0.5", "--dry-run", "--json"]
    assert main.main(line) == 2
    capsys.readouterr()
    assert main.main([*line, "--dictionary", str(words)]) == 0
    assert json.loads(capsys.readouterr().out)["directions"] == len(edit)
    assert main.main([*line, "--dictionary", "demo"]) == 2
    assert "is not the one that the scan was made with" in capsys.readouterr().err


def test_the_dry_run_says_why_in_words(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["edit", "demo", "--scan", str(saved), "--suppress", "snow", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "What is scaled, and why" in out and "q_explanation" in out and "q_match" in out and "ice" in out


def test_directions_that_are_named_are_scaled_whatever_they_say(
    scan: hs.Scan, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["edit", "demo", "--scan", str(saved), "--save-edit", str(tmp_path / "e.json")]
    assert main.main([*line, "--direction", "4.0.31", "--direction", "7.2.9", "--strength", "0.5"]) == 0
    expected = {Direction("vo", 4, 0, 31): 0.5, Direction("vo", 7, 2, 9): 0.5}
    assert hs.load_edit(tmp_path / "e.json").multipliers == expected
    out = capsys.readouterr().out
    concepts = scan.explanations.query("layer == 7 and head == 2 and index == 9 and pole == '+'")["concepts"].iloc[0]
    assert concepts.split(",")[0] in out
    for wrong, says in (("7.2", "expected a layer, head and index"), ("7.2.99", "there is no index 99")):
        assert main.main([*line, "--direction", wrong, "--force"]) == 2
        assert says in capsys.readouterr().err


def test_the_evidence_is_what_it_says(scan: hs.Scan, demo: hs.Model) -> None:
    """P-values, shares and q-values of one pole each, computed one by one."""
    dictionary = hs.load_dictionary("demo", model=demo)
    codes = read_codes(scan, demo, dictionary=dictionary, layers=None)
    similarity = contrast(demo, dictionary, ["snow"], ())
    scores = mean_similarity(codes.indices, codes.coefficients, similarity)
    evidence = weigh(scan, demo, codes, similarity, scores, ["snow"], poles="any", chance=0.05)
    null = random_scores(scan, demo, codes, similarity)
    assert len(null) == 10_000
    (query,) = embed_queries(demo, dictionary, ["snow"])
    atoms = dictionary.atoms.astype(float)
    by_direction: dict[Direction, list[float]] = {}
    for row, direction in enumerate(codes.directions):
        if codes.rows["q_value"].iloc[row] > 0.05:
            continue
        vector = codes.coefficients[row] @ atoms[codes.indices[row]]
        near = float(np.mean(atoms @ vector >= vector @ query - 1e-6 * np.linalg.norm(vector)))
        p = (1 + np.sum(null >= scores[row])) / (len(null) + 1) if near <= NEAREST else 1.0
        by_direction.setdefault(direction, []).append(p)
    assert set(by_direction) == set(evidence.matches)
    expected = q_values([min(1.0, len(each) * min(each)) for each in by_direction.values()])
    found = [evidence.matches[direction].q_match for direction in by_direction]
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # no tail fits scores that end at 1: counted
    assert (expected <= 0.05).sum() == len(hs.Edit.suppress(scan, demo, like="snow"))


def test_a_graded_edit_goes_by_the_score(scan: hs.Scan, demo: hs.Model) -> None:
    plain = hs.Edit.suppress(scan, demo, like="snow", strength=-0.5)
    graded = hs.Edit.suppress(scan, demo, like="snow", strength=-0.5, graded=True)
    (step,) = graded.info.steps
    scores = {Direction("vo", r["layer"], r["head"], r["index"]): r["score"] for r in step["chosen"]}
    assert set(scores) == set(plain.multipliers) and min(graded.multipliers.values()) == -0.5
    span = [step["graded_from"], max(scores.values())]
    for direction, multiplier in graded.multipliers.items():
        assert multiplier == pytest.approx(np.interp(scores[direction], span, [1.0, -0.5]), abs=1e-6)
    with pytest.raises(hs.HeadscanError, match="has to be larger"):
        hs.Edit.suppress(scan, demo, like="snow", graded=True, threshold=step["graded_from"])


def test_scans_without_chance_are_refused_unless_a_threshold_is_given(
    model: hs.Model, dictionary: hs.Dictionary
) -> None:
    plain = hs.scan(model, dictionary, layers=0, k=2, significance=0)
    with pytest.raises(hs.HeadscanError, match=r"was not compared with chance .*: scan again with it"):
        hs.Edit.suppress(plain, model, like="snow")
    assert len(hs.Edit.suppress(plain, model, like="snow", threshold=-1)) == 32


def test_random_weights_say_nothing(model: hs.Model, dictionary: hs.Dictionary) -> None:
    plain = hs.scan(model, dictionary, k=3, significance=1000)
    chosen = [len(hs.Edit.suppress(plain, model, like=text)) for text in dictionary.texts]
    assert sum(count > 0 for count in chosen) <= 2  # of 30 texts; 5 % of 96 directions each before


def test_a_resolution_too_coarse_is_said(
    demo: hs.Model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = hs.scan(demo, hs.load_dictionary("demo", model=demo), layers="6-7", significance=400)
    monkeypatch.setattr(logging.getLogger("headscan"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        assert not len(hs.Edit.suppress(coarse, demo, like="meadow"))
    assert "scan with more random directions" in caplog.text
