"""A dictionary of ten million generated concepts x 768: built, opened and scanned, each in a process of its own.

    python benchmarks/ten_million.py [--concepts 10000000] [--layers 23] [--folder DIR]

Texts and embeddings are generated (`data.py`'s structured embeddings, from one set of groups) and go through the
same resumable builder that encoded texts go through; the scan is `hs.scan` of a randomly initialised ViT-L-14, whose
joint space has 768 dimensions. Directions of random weights mean nothing: this measures time and memory. Needs 3.9 KB
of disk a concept (39 GB), is refused where that would leave less than 3 GB, and stops if less than 2 GB are left. The
folder is deleted at the end unless one is named. The peak is the kernel's VmHWM: everything resident, pages of mapped
files among it. Linux only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import data
import interleave
import numpy as np
from memory import resident

WINDOW, WIDTH, GROUP_ROWS = 65_536, 768, 200_000
BYTES_A_CONCEPT, KEEP_FREE = 3_900, 3e9


def model():
    import headscan as hs

    return hs.load_model("ViT-L-14", pretrained="random")


def windows(concepts):
    """Windows of generated concepts, as the encoder gives them."""
    from headscan.dictionaries.encoding import Window

    rng = np.random.default_rng(0)
    scale = data.spectrum(WIDTH)  # along the axes as they are: the packing finds its own
    groups = data._groups(GROUP_ROWS, WIDTH, rng) * scale
    common = data.normalise(rng.standard_normal((1, WIDTH), dtype=np.float32))  # text embeddings have a large mean

    def encode(start, count):
        own = np.random.default_rng(1 + start)
        group = (len(groups) * own.random(count) ** 1.3).astype(np.int64)
        stray = own.beta(1.3, 3.5, (count, 1)).astype(np.float32)
        rows = own.standard_normal((count, WIDTH), dtype=np.float32)
        rows *= np.sqrt(stray) * scale
        rows += np.sqrt(1 - stray) * groups[group]
        rows += common
        return rows

    for start in range(0, concepts, WINDOW):
        if shutil.disk_usage(Path.cwd()).free < 2e9:
            sys.exit("less than 2 GB of disk are left: stopped")
        count = min(WINDOW, concepts - start)
        texts = [f"concept number {number}" for number in range(start, start + count)]
        yield Window(texts, 0, lambda start=start, count=count: encode(start, count))


def hash_(folder, _):
    loaded = model()
    Path(f"{folder}.text_hash").write_text(loaded.text_hash)
    _tell("the model alone, random ViT-L-14", 0.0)


def build(folder, concepts):
    from headscan.dictionaries.build import build as build_folder
    from headscan.dictionaries.build import encode_into
    from headscan.dictionaries.dictionary import is_whole

    text_hash = Path(f"{folder}.text_hash").read_text()

    def record(kept, truncated):
        return {
            "source": "generated", "templates": ("{}",), "text_hash": text_hash, "blank": 0, "repeated": 0,
            "same_tokens": 0, "truncated": truncated, "history": (),
        }  # fmt: skip

    start = time.perf_counter()
    make = encode_into(lambda: windows(int(concepts)), record, width=WIDTH)
    build_folder(Path(folder), key=f"generated {concepts}", make=make, is_whole=is_whole)
    _tell("build: generate, centre, pack, write", time.perf_counter() - start)


def open_(folder, _):
    import headscan as hs

    loaded = model()
    loaded.text_hash  # noqa: B018
    start = time.perf_counter()
    dictionary = hs.load_dictionary(folder, model=loaded, verify=False)
    _tell(f"open: {len(dictionary):,} concepts", time.perf_counter() - start)


def scan(folder, layers):
    import headscan as hs

    loaded = model()
    dictionary = hs.load_dictionary(folder, model=loaded, verify=False)
    start = time.perf_counter()
    found = hs.scan(loaded, dictionary, layers=layers)
    seconds = time.perf_counter() - start
    certified = 100 * float(np.mean(found.explanations["certified"]))
    _tell(f"scan: {len(found):,} explanations, {certified:.2f} % certified", seconds)


def _tell(step, seconds):
    now = resident()
    shown = " | ".join(f"{now[name] / 1e9:.2f} GB" for name in ("VmHWM", "RssAnon", "RssFile"))
    print(f"| {step} | {seconds:.1f} s | {shown} |", flush=True)


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--concepts", type=int, default=10_000_000)
    parser.add_argument("--layers", default="23", help="layers to scan (23, the last)")
    parser.add_argument("--folder", type=Path, help="where the dictionary goes and stays")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # what a measured process is to do
    options = parser.parse_args()
    if options.step:
        {"hash": hash_, "build": build, "open": open_, "scan": scan}[options.step[0]](*options.step[1:])
        return
    place = options.folder.parent if options.folder else Path(tempfile.mkdtemp(dir=Path.cwd()))
    free, needed = shutil.disk_usage(place).free, options.concepts * BYTES_A_CONCEPT
    if free - needed < KEEP_FREE:
        sys.exit(f"{options.concepts:,} concepts need {needed / 1e9:.1f} GB of the {free / 1e9:.1f} GB that are free")
    folder = options.folder or place / "dictionary"
    try:
        rows = []
        for step in (("hash", "-"), ("build", str(options.concepts)), ("open", "-"), ("scan", options.layers)):
            command = [sys.executable, __file__, "--step", step[0], str(folder), step[1]]
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            print(run.stdout, end="", flush=True)
            rows += run.stdout.splitlines()
        layout = json.loads((folder / "manifest.json").read_text())["layout"]
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    finally:
        if not options.folder:
            shutil.rmtree(place, ignore_errors=True)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    body = [
        *interleave.machine(os.cpu_count()),
        f"- {total / 1e9:.1f} GB of memory; {layout['rows']:,} x {layout['width']}, {size / 1e9:.2f} GB on disk",
        "",
        "| step | time | peak so far | anonymous now | file pages now |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    full = options.concepts == 10_000_000
    interleave.report("ten_million" if full else None, f"{options.concepts:,} concepts x {WIDTH}", body)


if __name__ == "__main__":
    main()
