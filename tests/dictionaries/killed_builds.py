"""Builds a small dictionary again and again, killed (SIGKILL) before each of its filesystem events in turn.

Run by test_build.py in a process without torch, so that it can fork. After every kill the build is run
again to its end and must leave the very bytes of a build that nothing interrupted, and nothing beside them; in
between, whoever looks finds the old folder, none, or the new one whole. The second argument is 1 to have an older
dictionary in the place.
"""

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from headscan.dictionaries import build, encoding, shards
from headscan.dictionaries.dictionary import is_whole, open_dictionary

CONCEPTS, WIDTH, WINDOW, SHARD = 2500, 8, 900, 1024
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "shutil.rmtree"}
STEP = 4  # of the events; a STEP of 1 takes a minute and passes too
os.fsync = lambda file: None  # a kill loses nothing that was written; this is no test of power cuts
build.SHARD_ROWS = shards.SHARD_ROWS = SHARD


def windows(seed):
    for start in range(0, CONCEPTS, WINDOW):
        count = min(WINDOW, CONCEPTS - start)
        rng = np.random.default_rng(seed + start)
        rows = rng.standard_normal((count, WIDTH), dtype=np.float32) + 1
        yield encoding.Window([f"concept {start + i}" for i in range(count)], 0, lambda rows=rows: rows)


def record(kept, truncated):
    counts = {"blank": 0, "repeated": 0, "same_tokens": CONCEPTS - kept, "truncated": truncated}
    return {"source": "generated", "templates": ["{}"], "text_hash": "x", "history": [], **counts}


def build_once(target, seed=0):
    make = build.encode_into(lambda: windows(seed), record, width=WIDTH)
    build.build(target, key=str(seed), make=make, is_whole=is_whole, threads=1, progress=False)


def forked(run):
    """Run in a child process; say how it ended."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def killed_before(number):
    """Return a hook that kills this process before the filesystem event of that number."""
    left = [number]

    def hook(event, arguments):
        if event in EVENTS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def content(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def main(place, older):
    whole = place / "whole" / "dictionary"
    assert forked(lambda: build_once(whole)) == 0
    expected = content(whole)
    assert len(open_dictionary(whole, verify=True)) == CONCEPTS
    assert len(list((whole / "shards").iterdir())) == -(-CONCEPTS // SHARD)
    kills, number, target = 0, 1 + older, place / "killed" / "dictionary"
    while True:
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if older:
            shutil.copytree(place / "older", target) if (place / "older").exists() else build_once(target, seed=1)
            shutil.copytree(target, place / "older", dirs_exist_ok=True)

        def run(number=number):
            sys.addaudithook(killed_before(number))
            build_once(target)

        status = forked(run)
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        kills += 1
        if target.exists():  # whole, whichever it is
            open_dictionary(target, verify=True)
        assert forked(lambda: build_once(target)) == 0, f"after a kill before event {number}"
        assert content(target) == expected, f"after a kill before event {number}"
        assert [path.name for path in target.parent.iterdir()] == ["dictionary"]
        number += STEP
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
