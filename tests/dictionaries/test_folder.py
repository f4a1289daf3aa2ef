"""What is not headscan's stays; shortage is no damage; what is damaged stays until its successor stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import headscan as hs
from conftest import CONCEPTS
from headscan.cli.main import main
from headscan.common import writing
from headscan.dictionaries import build

if TYPE_CHECKING:
    from collections.abc import Callable

FOREIGN = (".{}.building", ".{}.mine.old", ".{}.merged", ".{}.part", ".{}.headscan-0123456789ab.building")


def treasure(folder: Path) -> Path:
    folder.mkdir()
    (folder / "gold").write_text("mine")
    return folder


def built_at(target: Path) -> Path:
    """Return the folder where a dictionary is built on its way to `target`."""
    with writing.resumable_folder(target) as folder:
        return folder


def encode(model: hs.Model, target: Path) -> None:
    hs.encode_dictionary(CONCEPTS, target, model=model)


def save(model: hs.Model, target: Path) -> None:
    hs.load_dictionary(CONCEPTS[:9], model=model, cache=False).save(target)


def choose(model: hs.Model, target: Path) -> None:
    hs.load_dictionary(CONCEPTS, model=model, cache=False).filter(drop="o", folder=target)


def merge(model: hs.Model, target: Path) -> None:
    parts = [hs.load_dictionary(some, model=model, cache=False) for some in (CONCEPTS[:9], CONCEPTS[5:])]
    folders = [str(part.save(target.parent / f"part{number}")) for number, part in enumerate(parts)]
    assert main(["vocab", *folders, "--drop", "o", "--out", str(target), "--quiet"]) == 0
    for folder in folders:
        shutil.rmtree(folder)


@pytest.mark.parametrize("write", [encode, save, choose, merge])
@pytest.mark.parametrize("older", [False, True])
def test_folders_and_links_that_are_not_headscans_stay(
    model: hs.Model, tmp_path: Path, write: Callable[[hs.Model, Path], None], older: bool
) -> None:
    target = tmp_path / "words"
    if older:
        hs.load_dictionary(CONCEPTS[5:], model=model, cache=False).save(target)
    own = treasure(tmp_path / "treasure")
    for name in FOREIGN:
        treasure(tmp_path / name.format("words"))
    for name in ("link.building", "link.old", "link.merged", "headscan-0123456789ab.part"):
        (tmp_path / f".words.{name}").symlink_to(own)
    before = {path.name for path in tmp_path.iterdir()} | {"words"}
    write(model, target)
    assert {path.name for path in tmp_path.iterdir()} == before
    for name in before - {"words"}:
        assert (tmp_path / name / "gold").read_text() == "mine"
    hs.load_dictionary(target, model=model, verify=True)


def test_a_link_or_a_file_in_place_of_the_builds_folder_is_refused(model: hs.Model, tmp_path: Path) -> None:
    own, folder = treasure(tmp_path / "treasure"), built_at(tmp_path / "words")
    folder.rmdir()
    folder.symlink_to(own)
    with pytest.raises(hs.HeadscanError, match="is not a folder: headscan builds words there, move it away"):
        encode(model, tmp_path / "words")
    folder.unlink()
    folder.write_text("mine")
    with pytest.raises(hs.HeadscanError, match="is not a folder"):
        encode(model, tmp_path / "words")
    assert folder.read_text() == (own / "gold").read_text() == "mine"


@pytest.mark.parametrize("place", ["gold", "shards", "shards/00000", "windows"])
def test_what_a_build_did_not_write_is_not_removed_with_it(model: hs.Model, tmp_path: Path, place: str) -> None:
    folder = built_at(tmp_path / "words")
    inside = folder / place if place == "gold" else folder / place / "gold"
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.write_text("mine")
    with pytest.raises(hs.HeadscanError, match="no part of a build of headscan's, and will not be removed"):
        encode(model, tmp_path / "words")
    assert inside.read_text() == "mine"
    inside.unlink()
    (folder / "texts.txt").symlink_to(treasure(tmp_path / "treasure") / "gold")
    with pytest.raises(hs.HeadscanError, match="no part of a build"):
        encode(model, tmp_path / "words")
    assert (tmp_path / "treasure" / "gold").read_text() == "mine"


@pytest.mark.parametrize("write", [encode, save, choose])
def test_a_file_kept_in_a_dictionary_is_not_lost_with_it(
    model: hs.Model, tmp_path: Path, write: Callable[[hs.Model, Path], None]
) -> None:
    target = hs.load_dictionary(CONCEPTS[5:], model=model, cache=False).save(tmp_path / "words")
    (target / "notes.txt").write_text("mine")
    with pytest.raises(hs.HeadscanError, match=r"notes\.txt is no part of a dictionary and would be lost"):
        write(model, target)
    assert (target / "notes.txt").read_text() == "mine"
    assert len(hs.load_dictionary(target, model=model)) == 25


def test_the_doctor_removes_an_unfinished_build_of_headscans_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in FOREIGN:
        treasure(tmp_path / name.format("words"))
    folder = built_at(tmp_path / "words")
    (folder / "build.json").write_text("{}")
    assert main(["doctor", "--clean", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"removed {folder} (2 bytes)\n"
    assert {path.name for path in tmp_path.iterdir()} == {name.format("words") for name in FOREIGN}


@pytest.mark.parametrize("name", ["texts.txt", "record.json", "layout.json", "mean.npy", "windows", "shards"])
def test_an_interrupted_build_that_is_damaged_begins_anew(
    model: hs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(build, "seal", None)  # all is written but the manifest
    monkeypatch.setattr(build._WindowRows, "release", lambda rows, count: None)
    with pytest.raises(TypeError):
        encode(model, tmp_path / "words")
    monkeypatch.undo()
    folder = built_at(tmp_path / "words")
    path = folder / name
    path = next(each for each in sorted(path.rglob("*")) if each.is_file()) if path.is_dir() else path
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    encode(model, tmp_path / "words")
    assert "is damaged and begins anew" in caplog.text
    expected = hs.load_dictionary(CONCEPTS, model=model, cache=False)
    assert hs.load_dictionary(tmp_path / "words", model=model, verify=True).hash == expected.hash


# ---- shortage is no damage

SHORT = """
import os, resource, sys
from pathlib import Path
import headscan as hs
from headscan.dictionaries import load
model = hs.load_model(f"local-dir:{sys.argv[1]}")
concepts = Path(sys.argv[2]).read_text().split()
hs.load_dictionary(concepts, model=model)  # encoded, and all modules are there
load.encode_windows = None  # it is not encoded again
limit, unit = (resource.RLIMIT_NOFILE, 1) if sys.argv[3] == "descriptors" else (resource.RLIMIT_AS, 1 << 14)
used = os.dup(0) if unit == 1 else int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
soft, hard = resource.getrlimit(limit)
for count in range(30):
    resource.setrlimit(limit, (used + unit * count, hard))
    try:
        ended = f"read {len(hs.load_dictionary(concepts, model=model))}"
    except (hs.HeadscanError, OSError, MemoryError) as error:
        ended = f"{type(error).__name__}: {error}"
    resource.setrlimit(limit, (soft, hard))
    print(ended)
"""


@pytest.mark.parametrize("resource", ["descriptors", "memory"])
def test_a_good_dictionary_outlives_a_shortage(bundle: Path, tmp_path: Path, resource: str) -> None:
    (tmp_path / "concepts.txt").write_text("\n".join(CONCEPTS))
    settings = {**os.environ, "PYTHONPATH": str(Path(hs.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SHORT, str(bundle), str(tmp_path / "concepts.txt"), resource]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "read 30"
    short = [line for line in lines if line != "read 30"]
    assert short and all(re.search("Too many open files|MemoryError|Cannot allocate", line) for line in short), short
    model = hs.load_model(f"local-dir:{bundle}")
    assert len(hs.load_dictionary(CONCEPTS, model=model, cache_dir=tmp_path / "cache", verify=True)) == 30


def test_what_is_damaged_stays_until_its_successor_stands(
    model: hs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hs.load_dictionary(CONCEPTS, model=model)
    (entry,) = (tmp_path / "cache" / "dictionaries").iterdir()
    (entry / "texts.txt").write_bytes(b"damaged")
    before = {path.name for path in entry.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(build, "write_shard", None)
        with pytest.raises(TypeError):
            hs.load_dictionary(CONCEPTS, model=model)
    assert {path.name for path in entry.iterdir()} == before and (entry / "texts.txt").read_bytes() == b"damaged"
    assert len(hs.load_dictionary(CONCEPTS, model=model)) == 30
    assert list(entry.parent.iterdir()) == [entry] and (entry / "texts.txt").read_bytes() != b"damaged"


def test_a_folder_that_may_not_be_read_is_not_replaced(model: hs.Model, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    hs.load_dictionary(CONCEPTS, model=model)
    (entry,) = (tmp_path / "cache" / "dictionaries").iterdir()
    (entry / "texts.txt").chmod(0)
    with pytest.raises(hs.HeadscanError, match="Permission denied"):
        hs.load_dictionary(CONCEPTS, model=model)
    assert (entry / "texts.txt").exists()
