"""Peak resident memory of COMP over a dictionary whose full-precision atoms stay on disk, memory-mapped.

    python benchmarks/memory.py [--queries 24576] [--atoms 1000000] [--width 768] [--threads 2]

All of it runs in a fresh process that makes no dictionary. The peak is the kernel's VmHWM:
everything resident, pages of mapped files among it. Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import data
import interleave
import numpy as np

LIMIT_OVER_INT8 = 1e9  # bytes that the peak may exceed the int8 dictionary by


def resident():
    """Peak, and now: anonymous and file pages, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    values = {parts[0][:-1]: int(parts[1]) * 1024 for parts in lines if parts and parts[-1] == "kB"}
    return {name: values[name] for name in ("VmHWM", "RssAnon", "RssFile")}


def atoms_file(rows, width):
    """The structured dictionary as a .npy in the cache folder, made once."""
    import minilm  # imports torch, which the measured process does without

    path = minilm.cache_folder() / f"structured_{rows}x{width}.npy"
    if not path.exists():
        partial = path.with_suffix(".partial")
        atoms = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(rows, width))
        data.structured(rows, width, out=atoms)
        atoms.flush()
        partial.rename(path)
    return path


def search(path, queries, options):
    """The measured process: map the atoms, pack them, search; one line of the table for each step."""
    import headscan as hs

    atoms = np.load(path, mmap_mode="r")
    x = np.load(queries)
    lines = [_row("start: package, queries", 0.0)]
    start = time.perf_counter()
    packed = hs.pack(atoms)
    lines.append(_row("pack", time.perf_counter() - start))
    start = time.perf_counter()
    codes = hs.comp(x, packed, k=5, coherence=0.3, threads=options.threads)
    certified = 100 * np.mean(codes.certified)
    lines.append(_row(f"comp, k=5, {certified:.2f} % certified", time.perf_counter() - start))
    print("\n".join(lines))


def _row(step, seconds):
    now = resident()
    shown = " | ".join(f"{now[name] / 1e9:.2f} GB" for name in ("VmHWM", "RssAnon", "RssFile"))
    return f"| {step} | {seconds:.1f} s | {shown} |"


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    for name, size in {"queries": 24_576, "atoms": 1_000_000, "width": 768, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--search", nargs=2, help=argparse.SUPPRESS)  # files of the measured process
    options = parser.parse_args()
    if options.search:
        search(*options.search, options)
        return
    path = atoms_file(options.atoms, options.width)
    with tempfile.TemporaryDirectory() as folder:
        queries = str(Path(folder) / "queries.npy")
        np.save(queries, data.mixtures(np.load(path, mmap_mode="r"), options.queries))
        command = [sys.executable, __file__, *sys.argv[1:], "--search", str(path), queries]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    limit = (options.atoms * options.width + LIMIT_OVER_INT8) / 1e9
    body = [
        *interleave.machine(options.threads),
        f"- int8 dictionary {options.atoms * options.width / 1e9:.2f} GB, limit {limit:.2f} GB",
        "",
        "| step | time | peak so far | anonymous now | file pages now |",
        "| --- | --- | --- | --- | --- |",
        *result.stdout.splitlines(),
    ]
    full = options.queries == 24_576 and options.atoms == 1_000_000
    title = f"Memory, {options.queries} queries x {options.atoms} atoms x {options.width}"
    interleave.report("memory" if full else None, title, body)


if __name__ == "__main__":
    main()
