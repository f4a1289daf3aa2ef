"""Sizes, one dictionary at a time, and a Markdown table of what pytest-benchmark measured.

pytest benchmarks/bench_comp.py benchmarks/bench_svd.py [--size quick|full] [--threads 2]
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser):
    parser.addoption("--size", choices=["quick", "full"], default="quick", help="full also writes")
    parser.addoption("--threads", type=int, default=2)


def pytest_collection_modifyitems(config, items):
    """Leave the full sizes out of a quick run."""
    if config.getoption("--size") == "quick":
        large = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in large]
        config.hook.pytest_deselected(items=large)


def pytest_configure(config):
    config.addinivalue_line("markers", "full: a size that only --size full runs")


@pytest.fixture(scope="session")
def threads(request):
    import torch

    count = request.config.getoption("--threads")
    torch.set_num_threads(count)
    return count


@pytest.fixture
def timed(benchmark):
    """Times a call: once where it is slow, otherwise three times (the check before has warmed it)."""

    def run(function, slow=False, note=""):
        benchmark.extra_info["note"] = note
        return benchmark.pedantic(function, rounds=1 if slow else 3)

    return run


def pytest_terminal_summary(config):
    """One row a timing; the ratio is to the group's first contender, a baseline."""
    session = getattr(config, "_benchmarksession", None)
    if session is None or not session.benchmarks:
        return
    import interleave

    lines = ["| case | contender | median | min to max | times faster than the first | note |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    first = {}
    for one in (one for one in session.benchmarks if one.stats.data):
        median = one.stats.median
        ratio = first.setdefault(one.group, median) / median
        extent = f"{interleave.shown(one.stats.min)} to {interleave.shown(one.stats.max)}"
        name = one.params["contender"] if one.params and "contender" in one.params else one.name
        lines.append(
            f"| {one.group} | {name} | {interleave.shown(median)} | {extent} | {ratio:.2f} "
            f"| {one.extra_info.get('note', '')} |"
        )
    body = [*interleave.machine(config.getoption("--threads")), "", *lines]
    name = "shapes" if config.getoption("--size") == "full" else None
    interleave.report(name, "Timings by shape (pytest-benchmark, not interleaved)", body)
