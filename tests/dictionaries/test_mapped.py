"""A mapped dictionary that is cut short or rewritten in use ends in an error: no SIGBUS, no wrong picks."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import headscan as hs
from headscan.dictionaries.dictionary import open_dictionary
from headscan.dictionaries.shards import _FILES

if TYPE_CHECKING:
    from collections.abc import Callable

CONCEPTS, WIDTH = 20_000, 64
CHANGED = r"(changed|cut short) while it was in use|the file is truncated|ends before row"
NAMES = tuple(f"{name}.{kind}" for name, kind in _FILES.items())


def made(seed: int) -> hs.Dictionary:
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((CONCEPTS, WIDTH), dtype=np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    texts = tuple(f"concept {number}" for number in range(CONCEPTS))
    facts: dict[str, Any] = {"source": "generated", "templates": ("{}",), "text_hash": "x"}
    return hs.Dictionary(texts=texts, atoms=atoms, mean=np.zeros(WIDTH), **facts)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    made(1).save(folder / "other")
    return made(0).save(folder / "words")


@pytest.fixture
def words(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "words"))


def cut(path: Path, other: Path) -> None:
    os.truncate(path, 0)


def halve(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path: Path, other: Path) -> None:
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def flip(path: Path, other: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\x11")


def put_back(path: Path, other: Path) -> None:
    """Change it, and change it back: what was computed in between could be wrong."""
    content = path.read_bytes()
    os.truncate(path, 0)
    path.write_bytes(content)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [cut, halve, rewrite, flip, put_back])
def test_a_change_under_a_running_process_is_an_error(
    words: Path, saved: Path, name: str, change: Callable[[Path, Path], None]
) -> None:
    dictionary = open_dictionary(words)
    x = np.random.default_rng(2).standard_normal((8, WIDTH))
    before = hs.comp(x, dictionary.packed, k=3).indices
    change(words / "shards/00000" / name, saved.with_name("other") / "shards/00000" / name)
    for _ in range(2):
        with pytest.raises(hs.HeadscanError, match=CHANGED):
            hs.comp(x, dictionary.packed, k=3)
    with pytest.raises(hs.HeadscanError, match=CHANGED):
        dictionary.packed.take(np.array([0, CONCEPTS - 1]))
    if change in (cut, halve, rewrite):
        with pytest.raises(hs.HeadscanError, match=r"is damaged|not of the size"):
            open_dictionary(words)
    else:
        np.testing.assert_array_equal(hs.comp(x, open_dictionary(saved).packed, k=3).indices, before)


WORK = """
import sys, threading
from pathlib import Path
import numpy as np
import headscan as hs
from headscan.dictionaries.dictionary import open_dictionary
dictionary = open_dictionary(Path(sys.argv[1]))
x = np.random.default_rng(2).standard_normal((64, dictionary.packed.width))
expected = hs.comp(x, dictionary.packed, k=5).indices
print("at work", flush=True)
def work():
    while True:
        if sys.argv[2] == "comp":
            assert (hs.comp(x, dictionary.packed, k=5).indices == expected).all(), "another result"
        else:
            (dictionary.atoms @ x.T.astype(np.float32)).sum()
def thread():
    try:
        work()
    except hs.HeadscanError as error:
        print("refused", error, flush=True)
if sys.argv[3] == "thread":
    one = threading.Thread(target=thread)
    one.start()
    one.join()
else:
    thread()
"""


@pytest.mark.parametrize(("how", "where"), [("comp", "main"), ("comp", "thread"), ("atoms", "main")])
@pytest.mark.parametrize("name", ["atoms.f32", "codes.u8"])
def test_a_process_at_work_ends_in_one_error(words: Path, how: str, where: str, name: str) -> None:
    if (how, name) == ("atoms", "codes.u8"):
        pytest.skip("codes are not read by a product with the atoms")
    settings = {**os.environ, "PYTHONPATH": str(Path(hs.__file__).parents[1])}
    command = [sys.executable, "-c", WORK, str(words), how, where]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        os.truncate(words / "shards/00000" / name, 5)
        out = process.communicate(timeout=120)[0]
    assert process.returncode in ((0, 1) if where == "thread" else (0,)), out
    assert "another result" not in out
    assert re.search(CHANGED, out), out


def test_a_dictionary_that_is_replaced_or_removed_stays_mapped_as_it_was(words: Path, saved: Path) -> None:
    dictionary = open_dictionary(words)
    x = np.random.default_rng(2).standard_normal((8, WIDTH))
    before = hs.comp(x, dictionary.packed, k=3)
    made(3).save(words)
    assert (hs.comp(x, dictionary.packed, k=3).indices == before.indices).all()
    assert (hs.comp(x, open_dictionary(words).packed, k=3).indices != before.indices).any()
    again = open_dictionary(words)
    shutil.rmtree(words)
    hs.comp(x, again.packed, k=3)


def test_whoever_locks_a_file_to_change_it_is_waited_for(words: Path) -> None:
    atoms = words / "shards/00000/atoms.f32"
    with atoms.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(hs.HeadscanError, match=r"atoms\.f32 is being changed by another process"):
            open_dictionary(words)
    dictionary = open_dictionary(words)
    with atoms.open("r+b") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    del dictionary
