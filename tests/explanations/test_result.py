"""The table of a scan, and the folder that it is saved in: whole, or refused in one line."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

import headscan as hs
from conftest import CONCEPTS
from headscan.common import files
from headscan.explanations.result import check_destination

# ---- the table


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, sides=("write", "read"), k=3)


def test_columns(scan):
    code = [f"{name}_{place}" for place in range(3) for name in ("concept", "atom", "coefficient")]
    labels = [
        "tower",
        "part",
        "layer",
        "head",
        "index",
        "side",
        "pole",
        "sigma",
        "fidelity",
        "joint_fidelity",
        "p_value",
        "q_value",
        "local_fdr",
        "joint_p_value",
        "joint_q_value",
        "joint_local_fdr",
        "certified",
        "concepts",
    ]
    assert list(scan.table().columns) == labels + code
    assert len(scan) == len(scan.table()) == 3 * 4 * 8 * 2 * 2


def test_concepts_are_the_used_ones_the_largest_first(scan):
    for row in scan.table().to_dict("records"):
        code = [(row[f"coefficient_{place}"], row[f"concept_{place}"]) for place in range(3)]
        used = sorted((pair for pair in code if pair[0] > 0), key=lambda pair: -pair[0])
        assert row["concepts"] == ", ".join(concept for _, concept in used)


def test_changing_the_table_does_not_change_the_scan(scan):
    table = scan.table()
    table["sigma"] = 0.0
    assert (scan.table()["sigma"] > 0).all()


def test_strongest(scan):
    rows = scan.strongest(6, layers=[2], side="write", pole="+")
    assert len(rows) == 6
    assert set(zip(rows.layer, rows.side, rows.pole, strict=True)) == {(2, "write", "+")}
    expected = scan.table().query("layer == 2 and side == 'write' and pole == '+'").sigma.nlargest(6)
    np.testing.assert_array_equal(rows.sigma, expected)
    assert scan.strongest(1, by="fidelity").fidelity[0] == scan.table().fidelity.max()
    assert len(scan.strongest(0)) == 0
    with pytest.raises(hs.HeadscanError, match="strongest can order by"):
        scan.strongest(by="concepts")
    with pytest.raises(hs.HeadscanError, match="count must be"):
        scan.strongest(-1)


# ---- the folder


def test_a_saved_scan_comes_back_the_same(scan, tmp_path):
    folder = scan.save(tmp_path / "deep" / "out")
    again = hs.load_scan(folder)
    assert again.info == scan.info
    assert again.table().equals(scan.table())
    assert sorted(path.name for path in folder.iterdir()) == ["explanations.parquet", "manifest.json"]


def test_the_manifest_says_what_it_was_made_from(scan, model, dictionary, tmp_path):
    manifest = json.loads((scan.save(tmp_path) / "manifest.json").read_text())
    assert manifest["format"] == "headscan-scan"
    assert manifest["headscan"] == hs.__version__
    assert manifest["weights_hash"] == model.weights_hash
    assert manifest["dictionary_hash"] == dictionary.hash
    assert (manifest["k"], manifest["coherence"], manifest["layers"]) == (3, 0.3, [0, 1, 2])
    assert manifest["explanations"]["rows"] == len(scan)


def test_a_scan_replaces_a_scan_and_leaves_the_rest_alone(scan, model, dictionary, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    scan.save(tmp_path)
    hs.scan(model, dictionary, layers=0, significance=0).save(tmp_path, force=True)
    assert len(hs.load_scan(tmp_path)) == 4 * 8 * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "explanations.parquet",
        "manifest.json",
        "notes.txt",
    ]


def test_places_refused(scan, dictionary, tmp_path):
    (tmp_path / "file").write_text("")
    dictionary.save(tmp_path / "dictionary")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "deep")
    cases = [
        ("file", "is not a folder"),
        ("file/below", "is not a folder"),
        ("dictionary", "will not write .* was not written as a headscan-scan manifest"),
        ("dangling", "is a link to nothing"),
        ("/proc/headscan/out", "cannot write to /proc/headscan/out"),
    ]
    for place, says in cases:
        for attempt in (check_destination, scan.save):
            with pytest.raises(hs.HeadscanError, match=says):
                attempt(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "dictionary", "file"]


def test_a_failed_save_leaves_the_old_scan(scan, tmp_path, monkeypatch):
    scan.save(tmp_path)

    def full(path, manifest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_manifest", full)
    with pytest.raises(hs.HeadscanError, match="No space left on device"):
        scan.save(tmp_path)
    monkeypatch.undo()
    assert hs.load_scan(tmp_path).table().equals(scan.table())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explanations.parquet", "manifest.json"]


def _edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _drop(folder, name):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[name]
    path.write_text(json.dumps(manifest))


def _edit_rows(folder, rows):
    table = json.loads((folder / "manifest.json").read_text())["explanations"]
    _edit(folder, explanations={**table, "rows": rows})


def _cut(folder):
    data = folder / "explanations.parquet"
    data.write_bytes(data.read_bytes()[:-20])


DAMAGES: dict[str, tuple[Any, str]] = {
    "gone": (shutil.rmtree, "there is no scan folder"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "holds no manifest.json"),
    "no table": (lambda folder: (folder / "explanations.parquet").unlink(), "holds no explanations.parquet"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text('{"fo'), "it is not JSON"),
    "a manifest of bytes": (
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
        "it is damaged, or of another kind",
    ),
    "a cut table": (_cut, "damaged or cut short"),
    "another kind": (
        lambda folder: _edit(folder, format="else"),
        "was not written as a headscan-scan manifest",
    ),
    "another version": (lambda folder: _edit(folder, format_version=2), "has format 2; this version reads 1"),
    "no hash": (lambda folder: _edit(folder, explanations={}), "does not match the manifest"),
    "layers of nothing": (lambda folder: _edit(folder, layers=None), "layers cannot be None"),
    "layers of text": (lambda folder: _edit(folder, layers=["x"]), r"layers cannot be \['x'\]"),
    "folded as text": (lambda folder: _edit(folder, folded="maybe"), "folded cannot be 'maybe'"),
    "k as a truth": (lambda folder: _edit(folder, k=True), "k cannot be True"),
    "another k": (lambda folder: _edit(folder, k=7), "its seal is not what headscan wrote"),
    "no k": (lambda folder: _drop(folder, "k"), "k is missing"),
    "other rows": (lambda folder: _edit_rows(folder, 999), "has 384 rows, its manifest says 999"),
    "endless nesting": (lambda folder: (folder / "manifest.json").write_text("[" * 200_000), "it is not JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_scans_are_refused_in_one_line(scan, tmp_path, damage):
    folder = scan.save(tmp_path / "out")
    harm, says = DAMAGES[damage]
    harm(folder)
    with pytest.raises(hs.HeadscanError, match=says) as caught:
        hs.load_scan(folder)
    assert "\n" not in str(caught.value)


def test_concepts_of_any_script_survive(model, tmp_path):
    concepts = ["猫", "chien\u200b", "[red]dog[/red]", "a, b", "ß" * 50, *CONCEPTS[:5]]
    scan = hs.scan(model, hs.load_dictionary(concepts, model=model, cache=False), layers=0, k=3)
    assert hs.load_scan(scan.save(tmp_path)).table().equals(scan.table())
