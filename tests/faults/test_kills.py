"""Saves and commands stopped at any change to the file system lose nothing, leave nothing, and end in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import headscan as hs
from faults.saves import KINDS

CAMPAIGN = Path(__file__).with_name("kills.py")
WHOLE = bool(int(os.environ.get("HEADSCAN_FAULTS", "0")))
STOPS = ("killed", "full", "files", "read-only", "removed")
QUICK = {
    "encode": "killed",
    "vocab": "read-only",
    "scan": "files",
    "report": "removed",
    "compare": "full",
    "edit": "killed",
}
CASES = [
    (kind, stop, older)
    for kind in KINDS
    for stop in STOPS
    for older in (False, True)
    if WHOLE or (older and QUICK.get(kind, stop) == stop)
]


@pytest.mark.parametrize(("kind", "stop", "older"), CASES)
def test_a_run_that_is_stopped_loses_nothing_and_leaves_nothing(
    tmp_path: Path, kind: str, stop: str, older: bool
) -> None:
    stops = 0 if WHOLE else 2 if kind in QUICK else 6  # 0: all
    roots = [str(Path(hs.__file__).parents[1]), str(CAMPAIGN.parents[1])]
    settings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(roots),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, str(CAMPAIGN), kind, str(tmp_path), "--stop", stop, "--stops", str(stops)]
    done = subprocess.run(
        [*command, *(["--older"] if older else [])], capture_output=True, text=True, check=False, env=settings
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert int(done.stdout.split()[0]) >= min(stops, 2)
