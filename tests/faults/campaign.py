"""Read many mutations of one kind of file, and say what was not refused as it should be.

    PYTHONPATH=python:tests python tests/faults/campaign.py "scan table" 2000 [first seed]

Each reading ends within five seconds, in what the file held (or, of a kind without a checksum, in something else) or
in a HeadscanError that says something. Anything else is printed with its seed; the process's own memory stays below
1 GB. The seed in hand is written to seed.txt in the folder, for the case of a crash.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import headscan as hs
from faults.kinds import KINDS
from faults.mutations import mutated
from headscan.common.terminal import one_line, plain

_SECONDS, _MOST_KIB = 5, 1 << 20


class _Hang(BaseException):
    pass


def _ring(*received: object) -> None:
    raise _Hang


def main(name: str, count: int, first: int) -> int:
    """Run a campaign and return the number of findings."""
    warnings.simplefilter("ignore")
    logging.disable()
    signal.signal(signal.SIGALRM, _ring)
    kind = KINDS[name]
    place = Path(tempfile.mkdtemp(prefix="headscan-faults-"))
    os.environ["HEADSCAN_CACHE"] = str(place / "cache")
    (place / "whole").mkdir()
    path = kind.make(place / "whole")
    data, expected = path.read_bytes(), kind.read(place / "whole")
    findings, refused, same, other = [], 0, 0, 0
    for seed in range(first, first + count):
        (place / "seed.txt").write_text(f"{seed}\n")
        changed = mutated(data, seed)
        if changed == data:
            continue
        path.write_bytes(changed)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            result = kind.read(place / "whole")
        except hs.HeadscanError as error:
            refused += 1
            if not str(error) or plain(one_line(str(error))) == "":
                findings.append(f"seed {seed}: a message that says nothing")
        except _Hang:
            findings.append(f"seed {seed}: more than {_SECONDS} seconds")
        except BaseException as error:
            findings.append(f"seed {seed}: {type(error).__name__}: {str(error)[:150]!r}")
        else:
            same += result == expected
            other += result != expected
            if kind.checked and result != expected:
                findings.append(f"seed {seed}: read as something else, in spite of a checksum")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    status = Path("/proc/self/status").read_text()  # of this program alone; getrusage counts who started it, too
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    if peak > _MOST_KIB:
        findings.append(f"{peak / 1024:.0f} MiB of memory")
    shutil.rmtree(place)
    for finding in findings:
        sys.stdout.write(re.sub(r"[^\x20-\x7e]", "?", finding) + "\n")
    sys.stdout.write(f"{name}: {refused} refused, {same} read alike, {other} read otherwise, {peak >> 10} MiB\n")
    return len(findings)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)))
