"""Run pool pictures through the first layers of an earlier bundle's vision tower, once, and keep the streams.

Run from this folder::

    python features.py --pool FOLDER --initial BUNDLE --pictures 24000

Writes ``streams.npy`` (n, tokens, width) float16 into the pool's folder: what enters layer `FROZEN`. The later
layers are then trained on these alone, which costs a quarter of training the whole tower.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from towers import normalised

FROZEN = 5
_BATCH = 128


def write(pool: Path, initial: Path, pictures: int) -> None:
    """Write the streams of the pool's first pictures."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{initial}")
    seen: list[torch.Tensor] = []
    blocks = model.visual.transformer.resblocks
    blocks[FROZEN - 1].register_forward_hook(lambda _, __, output: seen.append(output))
    for block in blocks[FROZEN:]:
        block.forward = lambda stream, **_: stream  # what follows is not needed
    drawn = np.load(pool / "pictures.npy", mmap_mode="r")[:pictures]
    streams = None
    for first in range(0, len(drawn), _BATCH):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            model.visual(normalised(drawn[first : first + _BATCH]))
        part = seen.pop().half().numpy()
        if streams is None:
            shape = (len(drawn), *part.shape[1:])
            streams = np.lib.format.open_memmap(pool / "streams.tmp.npy", mode="w+", dtype=np.float16, shape=shape)
        streams[first : first + len(part)] = part
    (pool / "streams.tmp.npy").replace(pool / "streams.npy")


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="folder written by pool.py")
    parser.add_argument("--initial", type=Path, required=True, help="bundle whose vision tower to start from")
    parser.add_argument("--pictures", type=int, default=24_000)
    args = parser.parse_args()
    write(args.pool, args.initial, args.pictures)


if __name__ == "__main__":
    main()
