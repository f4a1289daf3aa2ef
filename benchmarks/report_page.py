"""How soon a report can be used, in a headless Chromium: from opening the file to the map, a head and a search.

    python benchmarks/report_page.py [--rounds 7]          # -> results/report.md

Each round opens the file in a fresh window: the map has to be drawn; then a head's page, after turning to it; then a
search for a word, with its count, which reads the whole scan for the first time. The count is checked against the
table. Times are taken outside the browser and include driving it; the last two columns are processor seconds of the
page's main thread, which other work on the machine does not lengthen.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import interleave

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import chromium, made_up_scan
from headscan.dictionaries.vocabulary import read_vocabulary

SHAPES = {  # layers, heads, rank; both sides, both poles
    "ViT-B/16-like, more heads": (14, 14, 64),
    "ViT-L/14": (24, 16, 64),
    "ViT-bigG/14": (48, 16, 104),
}
WORD = "snow"
STEPS = ("map", "head", "search", "open at a search", "processor: map", "processor: all three")


def once(browser, path, count):
    """Open, turn to a head, search; return the seconds of each of `STEPS`."""
    seconds = []
    with browser.new_page() as page:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = time.perf_counter()

        def busy():
            metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            return metrics["TaskDuration"]

        def reached(selector):
            page.wait_for_selector(selector)
            seconds.append(time.perf_counter() - start)

        page.goto(path.as_uri(), wait_until="commit")
        reached("table.map a")
        processor = [busy()]
        start = time.perf_counter()
        page.click("table.map tr:last-child td:last-child a")
        reached("li.direction")
        start = time.perf_counter()
        page.fill("#search", WORD)
        reached("p[role=status]")
        found = page.inner_text("p[role=status]")
        if not found.startswith(f"{count:,} explanation"):
            raise RuntimeError(f"the page found {found}, the table {count}")
        processor.append(busy())
    with browser.new_page() as page:
        start = time.perf_counter()
        page.goto(f"{path.as_uri()}#find?q={WORD}", wait_until="commit")
        reached("p[role=status]")
    return seconds + processor


def measure(name, shape, texts, *, folder, rounds):
    """Return a table row of one shape."""
    scan = made_up_scan(layers=shape[0], heads=shape[1], rank=shape[2], concepts=texts, chance=True)
    start = time.perf_counter()
    path = scan.report(folder / "report.html")
    written = time.perf_counter() - start
    joined = scan.explanations["concepts"]
    count = int(joined.str.contains(WORD, flags=re.IGNORECASE).sum())
    with chromium() as browser:
        times = [once(browser, path, count) for _ in range(rounds)]
        version = browser.version
    cells = [
        f"{statistics.median(step):.2f} s ({min(step):.2f} to {max(step):.2f})" for step in zip(*times, strict=True)
    ]
    size = f"{path.stat().st_size / 1e6:.1f} MB, written in {written:.1f} s"
    return version, f"| {name}: {len(scan):,} | {size} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    texts = list(read_vocabulary("wordnet").texts)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(name, shape, texts, folder=Path(folder), rounds=options.rounds) for name, shape in SHAPES.items()
        ]
    body = [
        f"- {interleave.cpu_model()}, {os.cpu_count()} CPUs, load before {os.getloadavg()[0]:.1f}",
        f"- Chromium {rows[0][0]}, headless; {options.rounds} rounds, median (range); explanations over WordNet",
        "",
        f"| scan | page | {' | '.join(STEPS)} |",
        f"| --- | --- |{' --- |' * len(STEPS)}",
        *[row for _, row in rows],
    ]
    interleave.report("report", "Opening a report", body)


if __name__ == "__main__":
    main()
