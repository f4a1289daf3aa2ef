"""Mutated files of every kind are refused by name or read; a part of `make faults`, which reads 2,000 of each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import headscan as hs
from faults.kinds import KINDS

CAMPAIGN = Path(__file__).with_name("campaign.py")
COUNT = int(os.environ.get("HEADSCAN_FAULTS", "0"))  # of each kind; make faults asks for 2,000
SHORT, SHORT_SLOW = 60, 12


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_is_refused_or_read(name):
    count = COUNT or (SHORT_SLOW if KINDS[name].slow else SHORT)
    settings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(hs.__file__).parents[1]), str(CAMPAIGN.parents[1])]),
    }
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), name, str(count)], capture_output=True, text=True, check=False, env=settings
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}"
