"""Adversarial COMP configurations and SVDs equal their references; a part of `make faults`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import headscan as hs

CAMPAIGN = Path(__file__).with_name("exactness.py")
WHOLE = bool(int(os.environ.get("HEADSCAN_FAULTS", "0")))
COUNTS = {"comp": (300, 20_000), "svd": (60, 1_500)}  # in make test, in make faults


@pytest.mark.parametrize("what", COUNTS)
def test_adversarial_inputs_equal_their_references(what: str) -> None:
    roots = [str(Path(hs.__file__).parents[1]), str(CAMPAIGN.parents[1])]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(CAMPAIGN), what, str(COUNTS[what][WHOLE])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-2000:]}"
