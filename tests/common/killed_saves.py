"""Saves small results again and again, killed (SIGKILL) before each of their filesystem events in turn.

Run by test_writing.py in a process without torch, so that it can fork. After every kill whoever looks finds the old
result or the new one, whole (none where there was none); the save run again ends in the very bytes of one that
nothing interrupted, nothing is left beside them, and a file that is not headscan's is still there.
"""

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from headscan.common import files, writing
from headscan.comparison.result import Comparison
from headscan.errors import HeadscanError
from headscan.explanations.result import Scan, load_scan
from headscan.explanations.table import ScanInfo

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock", "shutil.rmtree"}
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
os.fsync = lambda file: None  # a kill loses nothing that was written; this is no test of power cuts


def scan(seed):
    rng = np.random.default_rng(seed)
    rows = 40 + seed
    columns = dict.fromkeys(("tower", "part", "side", "pole", "concepts"), "x")
    columns |= {"layer": 0, "head": 1, "index": np.arange(rows)}
    columns |= {name: rng.random(rows) for name in ("sigma", "fidelity", "joint_fidelity", "coefficient_0")}
    columns |= {"certified": True, "concept_0": "dog", "atom_0": 3}
    facts = {"headscan": "0", "created": files.now(), "model": "m", "pretrained": None, "weights_hash": f"w{seed}"}
    facts |= {"image_mean_hash": None, "dictionary": "d", "dictionary_hash": "h", "template": "{}", "concepts": 9}
    kinds = {"tower": "image", "parts": ("vo",), "layers": (0,), "sides": ("write",), "poles": ("+",)}
    return Scan(ScanInfo(**facts, **kinds, k=1, coherence=0.3, folded=True), pd.DataFrame(columns))


def comparison(seed):
    heads = pd.DataFrame({"layer": [0], "head": [0], "relative": [0.1 + seed], "norm": 1.0, "change": 0.1})
    shares = {
        "sigma_moved": 0.1,
        "write_angle": 1.0,
        "read_angle": 1.0,
        "reweighted": 0.2,
        "mixed": 0.3,
        "outside": 0.5,
    }
    table = pd.DataFrame({"layer": [0], "head": [0], "sigma": [0.5], "concepts": ["a"]})
    return Comparison(f"base{seed}", "tuned", heads.assign(**shares), table, table)


def save_scan(folder, seed):
    scan(seed).save(folder, force=True)


def save_comparison(folder, seed):
    comparison(seed).save(folder, force=True)


def save_folder(folder, seed):
    with writing.folder_aside(folder / "inner") as aside:
        (aside / "weights").write_text(f"weights {seed}")
        (aside / "sub").mkdir()
        (aside / "sub" / "card").write_text(f"card {seed}")
    files.sweep(folder / "inner")


def save_file(folder, seed):
    files.sweep(folder / "page.html")
    with files.write_aside(folder / "page.html") as aside:
        aside.write_text(f"page {seed}")


def whole_scan(folder, seeds):
    found = load_scan(folder)
    assert any(found.explanations.equals(scan(seed).explanations) for seed in seeds)


def whole_folder(folder, seeds):
    read = [(folder / "inner" / name).read_text() for name in ("weights", "sub/card")]
    assert read in [[f"weights {seed}", f"card {seed}"] for seed in seeds], read


def whole_file(folder, seeds):
    assert (folder / "page.html").read_text() in [f"page {seed}" for seed in seeds]


def whole_comparison(folder, seeds):
    from headscan.comparison.result import FOLDER

    manifest = files.read_manifest(folder / "manifest.json", kind=FOLDER.kind, format_version=FOLDER.version)
    tables = [FOLDER._table(folder, name, manifest) for name in FOLDER.tables]
    assert any(tables[0].equals(comparison(seed).heads) for seed in seeds)


KINDS = {
    "scan": (save_scan, whole_scan),
    "comparison": (save_comparison, whole_comparison),
    "folder": (save_folder, whole_folder),
    "file": (save_file, whole_file),
}


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
    left = [number]

    def hook(event, arguments):
        if event in EVENTS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def content(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


def main(place, kind, older):
    save, whole = KINDS[kind]

    def fresh(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
        if older:
            save(folder, 1)

    fresh(place / "whole")
    assert forked(lambda: save(place / "whole", 0)) == 0
    expected = content(place / "whole")
    seeds = (0, 1) if older else (0,)
    number = 0
    while True:
        number += 1
        folder = place / "killed"
        fresh(folder)
        status = forked(lambda: (sys.addaudithook(killed_before(number)), save(folder, 0)))  # noqa: B023
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        try:
            whole(folder, seeds)
        except (HeadscanError, FileNotFoundError):
            assert not older, f"nothing is whole after a kill before event {number}"
        assert forked(lambda: save(folder, 0)) == 0, number  # noqa: B023
        assert content(folder) == expected, f"other bytes, or litter, after a kill before event {number}"
    print(f"{number - 1} kills")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1")
