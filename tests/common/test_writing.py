"""Results are whole or not there: under kills, under concurrent writers, beside files that are not headscan's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import headscan as hs
from conftest import CONCEPTS
from headscan.cli import main
from headscan.common import files, writing

TESTS = Path(__file__).parents[1]
TOKEN = "0123456789ab"


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, layers=0, k=2, significance=0)


def test_writers_at_once_end_with_one_whole_result(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from faults import saves; from pathlib import Path\n"
        "for turn in range(15): saves.save_scan(Path(sys.argv[2]), int(sys.argv[3]))"
    )
    settings = {**os.environ, "PYTHONPATH": str(Path(hs.__file__).parents[1])}
    folder = tmp_path / "scan"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(TESTS), str(folder), str(seed)], env=settings)
        for seed in (1, 2, 3)
    ]
    read = 0
    while any(writer.poll() is None for writer in writers):
        if (folder / "manifest.json").exists():
            scan = hs.load_scan(folder)
            assert len(scan) == 40 + int(scan.info.weights_hash[1:])
            read += 1
    assert [writer.returncode for writer in writers] == [0, 0, 0] and read
    assert sorted(path.name for path in folder.iterdir()) == ["explanations.parquet", "manifest.json"]
    assert len(hs.load_scan(folder)) in (41, 42, 43)


def test_files_get_the_mode_of_the_umask(scan, model, tmp_path):
    before = os.umask(0o027)
    try:
        folder = scan.save(tmp_path / "scan")
        page = scan.report(tmp_path / "page.html")
        edited = hs.Edit.suppress(scan, model, like="dog", threshold=0.0).apply(model)
        single = edited.save(tmp_path / "edited.safetensors")
    finally:
        os.umask(before)
    for path in (*folder.iterdir(), page, single, *tmp_path.glob("edited.*")):
        assert path.stat().st_mode & 0o777 == 0o640, path


def test_what_is_not_ours_is_never_removed(tmp_path):
    target = tmp_path / "out"
    kept = [
        ".out.part",
        f".out.{TOKEN}.part",
        f".out.headscan-{TOKEN[:-1]}.part",
        f"out.headscan-{TOKEN}.part",
        f".other.headscan-{TOKEN}.part",
        ".out.building",
    ]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / "treasure").mkdir()
    (tmp_path / "treasure" / "gold").write_text("mine")
    (tmp_path / f".out.headscan-{TOKEN}.part").symlink_to(tmp_path / "treasure")
    dead = [f".out.headscan-{TOKEN[::-1]}.part", f".out.headscan-{TOKEN[::-1]}.old"]
    for name in dead:
        (tmp_path / name).mkdir()
    target.mkdir()
    assert {path.name for path in writing.leftovers(tmp_path, "out")} == set(dead)
    files.sweep(target)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*kept, "out", "treasure", f".out.headscan-{TOKEN}.part"}
    assert (tmp_path / "treasure" / "gold").read_text() == "mine"


def test_what_a_living_process_writes_stays(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from headscan.common import writing\n"
        "with writing.write_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half')\n    print('at work', flush=True)\n    time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "page")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"at work\n"
        files.sweep(tmp_path / "page")
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        files.sweep(tmp_path / "page")
        assert not list(tmp_path.iterdir())


def test_what_made_way_comes_back(tmp_path):
    old = tmp_path / f".out.headscan-{TOKEN}.old"
    old.mkdir()
    (old / "weights").write_text("earlier")
    files.sweep(tmp_path / "out")
    assert (tmp_path / "out" / "weights").read_text() == "earlier" and not old.exists()


def test_without_an_exchange_of_names_folders_are_replaced_too(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_exchange", lambda one, other: False)
    for turn in ("first", "second"):
        with files.folder_aside(tmp_path / "out") as aside:
            (aside / turn).touch()
        assert [path.name for path in (tmp_path / "out").iterdir()] == [turn]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_results_of_other_parameters_are_replaced_by_force_alone(scan, model, dictionary, tmp_path):
    folder = scan.save(tmp_path / "scan")
    scan.save(folder)  # the same again
    other = hs.scan(model, dictionary, layers=0, k=3, significance=0)
    with pytest.raises(hs.HeadscanError, match=r"a scan of other parameters \(k 2 there, 3 here\).*--force"):
        other.save(folder)
    assert hs.load_scan(folder).info.k == 2
    other.save(folder, force=True)
    assert hs.load_scan(folder).info.k == 3
    edit = hs.Edit.suppress(scan, model, like="dog", threshold=0.0)
    edit.save(tmp_path / "edit.json")
    edit.save(tmp_path / "edit.json")
    weaker = hs.Edit.suppress(scan, model, like="dog", threshold=0.0, strength=0.5)
    with pytest.raises(hs.HeadscanError, match="holds another edit"):
        weaker.save(tmp_path / "edit.json")
    for path in ("edited", "edited.safetensors"):
        edit.apply(model).save(tmp_path / path) if path.endswith("s") else None
    weaker.save(tmp_path / "edit.json", force=True)
    with pytest.raises(hs.HeadscanError, match="holds another edit"):
        weaker.apply(model).save(tmp_path / "edited.safetensors")
    weaker.apply(model).save(tmp_path / "edited.safetensors", force=True)
    (tmp_path / "mine.json").write_text('{"mine": 1}')
    for force in (False, True):
        with pytest.raises(hs.HeadscanError, match="exists and is not an edit"):
            edit.save(tmp_path / "mine.json", force=force)


def test_the_command_refuses_before_the_work(bundle, tmp_path, capsys, monkeypatch):
    (tmp_path / "concepts.txt").write_text("\n".join(CONCEPTS))
    line = [
        "scan",
        f"local-dir:{bundle}",
        "--dictionary",
        str(tmp_path / "concepts.txt"),
        "--out",
        str(tmp_path / "o"),
    ]
    line += ["--layers", "0", "--significance", "0", "--quiet"]
    assert main.main([*line, "-k", "2"]) == 0
    assert main.main(["report", str(tmp_path / "o"), "--quiet"]) == 0
    report = tmp_path / "o" / "report.html"
    assert main.main([*line, "-k", "2"]) == 0
    assert report.exists()  # of the same parameters
    with monkeypatch.context() as patch:
        patch.setattr("headscan.dictionaries.by_name.load_model", None)
        assert main.main([*line, "-k", "3"]) == 2
        assert "k 2 there, 3 here" in capsys.readouterr().err
    assert main.main([*line, "-k", "3", "--force"]) == 0
    assert hs.load_scan(tmp_path / "o").info.k == 3
    assert not report.exists()  # it was of another scan
    (tmp_path / "mine.html").write_text("mine")
    assert main.main(["report", str(tmp_path / "o"), "--out", str(tmp_path / "mine.html")]) == 2
    assert "no page of headscan's" in capsys.readouterr().err
    assert main.main(["report", str(tmp_path / "o"), "--out", str(tmp_path / "mine.html"), "--force", "--quiet"]) == 0


def test_the_doctor_shows_and_removes_leftovers(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HEADSCAN_CACHE", str(tmp_path / "cache"))
    deep = tmp_path / "cache" / "a" / f".words.headscan-{TOKEN}.part"
    deep.mkdir(parents=True)
    (deep / "codes").write_bytes(b"12345")
    (tmp_path / "results").mkdir()
    other = tmp_path / "results" / f".page.html.headscan-{TOKEN}.part"
    other.write_text("abc")
    assert main.main(["doctor"]) == 0
    assert "1 of killed runs, 5 bytes: headscan doctor --clean removes them" in capsys.readouterr().out
    assert main.main(["doctor", "--clean", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out == f"removed {deep} (5 bytes)\nremoved {other} (3 bytes)\n"
    assert not deep.exists() and not other.exists()
    assert main.main(["doctor", "--clean", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out == "there are no leftovers\n"
