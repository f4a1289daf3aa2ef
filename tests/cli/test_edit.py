"""``headscan edit``: options that do not go together, edits that choose nothing, what is checked before a write."""

from __future__ import annotations

import re

import pytest

import headscan as hs
from conftest import build_module, edit_command, write_bundle


@pytest.fixture
def bundle(tmp_path):
    """The tiny model as a folder, without an image mean."""
    return write_bundle(tmp_path / "tiny", build_module())


@pytest.fixture
def edit(bundle, tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("layer,head,index,score\n0,1,2,5\n")
    return edit_command(bundle, tmp_path, capsys, "--layers", "1-2")


def refused(answer, says):
    status, out, err = answer
    assert status == 2 and out == "" and re.fullmatch(r"headscan: error: [^\n]+\n", err) and says in err, answer


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--edit", "e.json", "--graded"], "--graded means nothing with --edit, only with --suppress, --amplify"),
        (["--edit", "e.json", "--strength", "5"], "--strength means nothing with --edit"),
        (["--edit", "e.json", "--layers", "0"], "--layers means nothing with --edit"),
        (["--edit", "e.json", "--poles", "all"], "--poles means nothing with --edit"),
        (["--suppress", "dog", "--score-map", "5=0"], "--score-map means nothing with --suppress, only with --judge"),
        (["--classes", "c.txt", "--unlike", "cat"], "--unlike means nothing with --classes"),
        (["--judgements", "s.csv", "--threshold", "0"], "--threshold means nothing with --judgements"),
        (["--judgements", "s.csv", "--score-map", "9=0"], "each score from 1 to 5 at most once, not '9=0'"),
        (["--judgements", "s.csv", "--score-map", "5=0,5=1"], "each score from 1 to 5 at most once"),
        (["--suppress", "dog", "--keep-mean", "estimate", "--no-compensate"], "give one of them"),
        (["--suppress", "dog", "--keep-mean", "none"], "there is no folder of pictures none"),
        (["--suppress", "dog", "--layers", "0"], "layer 0 is not in the scan: it holds 1, 2"),
        (["--suppress", "dog", "--layers", "9"], "there is no layer 9: the scanned part"),
    ],
)
def test_what_does_not_apply_is_refused_by_name(edit, arguments, says):
    refused(edit(*arguments, "--dry-run"), says)


def test_an_edit_alone_holds_no_mean(edit, tmp_path):
    for option in (["--keep-mean", "estimate"], ["--no-compensate"]):
        refused(edit("--suppress", "snow", *option, "--save-edit", tmp_path / "edit.json"), "give --out PATH")


def test_nothing_is_written_before_the_mean_is_known(edit, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ["--suppress", "snow", "--save-edit", tmp_path / "edit.json", "--out", tmp_path / "edited"]
    refused(edit(*arguments, "--keep-mean", tmp_path / "empty"), "holds no pictures")
    status, _, err = edit(*arguments, "--threshold", "0", "--keep-mean", "estimate")
    assert status == 2 and "has no image mean to estimate from" in err
    assert not (tmp_path / "edit.json").exists() and not (tmp_path / "edited").exists()


def test_an_edit_that_chooses_nothing_is_said_and_not_saved(edit, bundle, tmp_path):
    arguments = ["--suppress", "snow", "--threshold", "2"]
    model, scan = hs.load_model(f"local-dir:{bundle}"), hs.load_scan(tmp_path / "scan")
    step = hs.Edit.suppress(scan, model, like="snow", threshold=2.0).info.steps[0]
    highest = step["highest_score"]
    assert step["directions_chosen"] == 0
    for threshold, count in ((highest, 1), (highest + 1e-9, 0)):
        assert len(hs.Edit.suppress(scan, model, like="snow", threshold=threshold)) == count
    why = f"no direction matched, the highest score is {highest:.3f} and 2.000 is needed"
    refused(edit(*arguments, "--dry-run", "--out", tmp_path / "edited"), f"nothing would change: {why}")
    refused(edit(*arguments, "--out", tmp_path / "edited"), f"there is nothing to save: {why}")
    refused(edit("--amplify", "snow", "--strength", "1", "--out", tmp_path / "edited"), "there is nothing to save")
    for more in (["--threshold", "0"], []):
        refused(edit("--amplify", "snow", "--strength", "1", *more, "--dry-run"), "nothing would change")
    assert not (tmp_path / "edited").exists()
