"""Peak resident memory of COMP over a dictionary whose full-precision atoms stay on disk, memory-mapped.

    python benchmarks/memory.py [--queries 24576] [--atoms 1000000] [--width 768] [--threads 2]

Packing and searching each run in a fresh process of their own, as they do in use: a dictionary is packed once, saved,
and from then on mapped. The peak is the kernel's VmHWM: everything resident, pages of mapped files among it. Linux
only.
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


def pack(path, folder):
    """The first measured process: map the atoms, pack them, save them as a dictionary."""
    import headscan as hs

    start = time.perf_counter()
    atoms = np.load(path, mmap_mode="r")
    record = {"source": "structured", "templates": ("{}",), "text_hash": ""}
    hs.Dictionary(tuple(map(str, range(len(atoms)))), atoms, np.zeros(atoms.shape[1]), **record).save(folder)
    print(_row("pack and save", time.perf_counter() - start))


def search(folder, queries, threads):
    """The second measured process: map the packed dictionary and search it."""
    import headscan as hs

    x = np.load(queries)
    packed = hs.load_dictionary(folder, verify=False).packed
    print(_row("start: package, queries, dictionary mapped", 0.0))
    start = time.perf_counter()
    codes = hs.comp(x, packed, k=5, coherence=0.3, threads=int(threads))
    seconds = time.perf_counter() - start
    passes = codes.counters.multiply_adds / (len(x) * packed.atoms.size)
    print(_row(f"comp, k=5, {100 * np.mean(codes.certified):.2f} % certified, {passes:.3f} full passes", seconds))


def _row(step, seconds):
    now = resident()
    shown = " | ".join(f"{now[name] / 1e9:.2f} GB" for name in ("VmHWM", "RssAnon", "RssFile"))
    return f"| {step} | {seconds:.1f} s | {shown} |"


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    for name, size in {"queries": 24_576, "atoms": 1_000_000, "width": 768, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)  # what a measured process is to do
    options = parser.parse_args()
    if options.step:
        {"pack": pack, "search": search}[options.step[0]](*options.step[1:])
        return
    path = atoms_file(options.atoms, options.width)
    with tempfile.TemporaryDirectory() as folder:
        queries = str(Path(folder) / "queries.npy")
        np.save(queries, data.mixtures(np.load(path, mmap_mode="r"), options.queries))
        packed, steps = str(path.with_suffix("")) + "_packed", []
        for step in (["pack", str(path), packed], ["search", packed, queries, str(options.threads)]):
            command = [sys.executable, __file__, "--step", *step]
            steps += subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    limit = (options.atoms * options.width + LIMIT_OVER_INT8) / 1e9
    body = [
        *interleave.machine(options.threads),
        f"- int8 dictionary {options.atoms * options.width / 1e9:.2f} GB, limit {limit:.2f} GB",
        "",
        "| step | time | peak so far | anonymous now | file pages now |",
        "| --- | --- | --- | --- | --- |",
        *steps,
    ]
    full = options.queries == 24_576 and options.atoms == 1_000_000
    title = f"Memory, {options.queries} queries x {options.atoms} atoms x {options.width}"
    interleave.report("memory" if full else None, title, body)


if __name__ == "__main__":
    main()
