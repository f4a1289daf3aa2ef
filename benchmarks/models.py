"""The value-output part of a ViT-L-14 straight from its safetensors file: time, and peak memory over what is needed.

    python benchmarks/models.py [--architecture ViT-L-14] [--threads 2]

Writes randomly initialised weights into a temporary file, then reads every layer's value-output factors from it and
decomposes them, in a process of its own. The peak is the growth of the kernel's VmHWM over that of the process
with its libraries loaded and used, mapped pages of the file among it. Bars: 10 seconds on two cores; 1.5 times the
bytes of the tensors needed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write(architecture, path):
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(open_clip.create_model(architecture, pretrained_text=False).state_dict(), path)


def measure(architecture, path, threads):
    import headscan as hs

    def peak():  # of this program alone; ru_maxrss would count what the process was before it became this one
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def decompose(model, layer):
        left, right = hs.vo_factors(model, layers=[layer])
        hs.svd_factored(left[0], right[0], threads=threads)

    decompose(hs.load_model("demo"), 0)  # libraries loaded, threads started
    before, start = peak(), time.perf_counter()
    model = hs.load_model(architecture, pretrained=path)
    loaded, clock = time.perf_counter(), time.process_time()
    for layer in range(model.layers):
        decompose(model, layer)
    seconds, processor = time.perf_counter() - loaded, time.process_time() - clock
    inner, width = model.heads * model.rank, model.width
    needed = model.layers * 4 * (2 * inner * width + inner + 3 * width)  # V and O with their biases, the layer norm
    grown = peak() - before
    load = f"{loaded - start:.1f} s to find them, "
    print(
        f"{architecture}: {model.layers * model.heads} heads, {load}{seconds:.1f} s ({processor:.1f} s of processor)"
    )
    print(f"peak memory {grown / 1e6:.0f} MB over {needed / 1e6:.0f} MB needed: {grown / needed:.2f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="ViT-L-14")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.architecture, options.measure, options.threads)
    else:
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "weights.safetensors"
            write(options.architecture, weights)
            again = [sys.executable, __file__, "--architecture", options.architecture, "--measure", str(weights)]
            environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
            subprocess.run([*again, "--threads", str(options.threads)], check=True, env=environment)
