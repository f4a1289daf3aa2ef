"""Times contenders in turn, A B C A B C ..., so that what else the machine does falls on all alike.

Reported for each: the median, the smallest and largest time, and the ratio to the baseline taken round by
round (a round's baseline over the same round's contender) as median and range. Written as a Markdown table
with the machine, the versions and the measured peaks.
"""

import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import peaks

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("headscan", "numpy", "torch", "faiss-cpu", "scikit-learn")


@dataclass
class Contender:
    """Something to time.

    Attributes
    ----------
    name : str
    run : callable
        Does the work once; what it returns is kept as `result` of the last round.
    scale : float
        Multiplies the time, where `run` does only part of the work; the name must say so.
    note : str
        Goes beside the row: an error, a rate.
    """

    name: str
    run: Callable[[], object]
    scale: float = 1.0
    note: str = ""
    seconds: list[float] = field(default_factory=list)
    result: object = None


def measure(contenders, rounds, warm=True, clock=time.perf_counter):
    """Run all contenders `rounds` times in turn, after one untimed round if `warm`.

    With `time.process_time` as the clock these are CPU seconds of all threads: what one thread needs even where other
    work shares the machine, while several threads also count what they wait for one another.
    """
    for number in range(-1 if warm else 0, rounds):
        for contender in contenders:
            contender.result = None
            gc.collect()
            start = clock()
            contender.result = contender.run()
            if number >= 0:
                contender.seconds.append(contender.scale * (clock() - start))
    return contenders


def shown(seconds):
    return f"{seconds:.3f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(contender, baseline):
    """Baseline over contender, round by round: above 1 is faster than the baseline."""
    return [slow / fast for slow, fast in zip(baseline.seconds, contender.seconds, strict=True)]


def table(contenders, baseline):
    """Markdown rows; `baseline` is the contender that the ratios refer to."""
    lines = [
        f"| contender | median | min to max | times faster than {baseline.name} | note |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in contenders:
        extent = f"{shown(min(one.seconds))} to {shown(max(one.seconds))}"
        ratio = spread(ratios(one, baseline))
        median = shown(statistics.median(one.seconds))
        lines.append(f"| {one.name} | {median} | {extent} | {ratio} | {one.note} |")
    return lines


def cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions():
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return ", ".join([*found, f"commit {commit.stdout.strip() or 'unknown'}"])


def machine(threads):
    """Bullet lines: CPU, threads, load, versions, peaks. Call before measuring, so that the load is the
    machine's."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    coretype = os.environ.get("OPENBLAS_CORETYPE", "as detected")
    lines = [
        f"{cpu_model()}, {os.cpu_count()} CPUs, {threads} threads, load before {load}",
        f"{versions()}, OPENBLAS_CORETYPE {coretype}",
        f"{time.strftime('%Y-%m-%d', time.gmtime())}",
        *peaks.describe(threads),
    ]
    return [f"- {line}" for line in lines]


def report(name, title, body):
    """Print a page, and write it to results/NAME.md where a name is given."""
    text = "\n".join([f"# {title}", "", *body]) + "\n"
    print(text)
    if name:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
