"""Draw training pictures once and keep them on disk, so that drawing does not bound the training.

Run from this folder::

    python pool.py --images FOLDER --out FOLDER --pictures 160000 --seed 0

Writes ``pictures.npy`` (n, 48, 48, 3) uint8 and ``factors.npy`` (n, factors) int64, columns as in `world.Factors`.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import world
from config import IMAGE_SIZE
from sprites import IMAGES_VARIABLE

_BATCH = 1000
_EASY_SHARE = 0.25


def draw(out: Path, pictures: int, seed: int) -> None:
    """Draw the pool; batch b is `world.sample` of seed ``seed * 1,000,000 + b``, every fourth of easy pictures."""
    out.mkdir(parents=True, exist_ok=True)
    shape = (pictures, IMAGE_SIZE, IMAGE_SIZE, 3)
    pool = np.lib.format.open_memmap(out / "pictures.tmp.npy", mode="w+", dtype=np.uint8, shape=shape)
    table = np.empty((pictures, len(fields(world.Factors))), np.int64)
    for first in range(0, pictures, _BATCH):
        part = slice(first, min(first + _BATCH, pictures))
        drawn, factors = world.sample(
            seed * 1_000_000 + first // _BATCH, part.stop - part.start, plain=_EASY_SHARE, restyled=True
        )
        pool[part], table[part] = drawn, np.stack(astuple(factors), axis=1)
    pool.flush()
    np.save(out / "factors.npy", table)
    (out / "pictures.tmp.npy").replace(out / "pictures.npy")


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of packed pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=160_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.images:
        os.environ[IMAGES_VARIABLE] = args.images
    draw(args.out, args.pictures, args.seed)


if __name__ == "__main__":
    main()
