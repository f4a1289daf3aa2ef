"""The pool's pictures, a little changed each time that they are seen, and batches of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import vocabulary
import world
from geometry import caption_vectors
from towers import normalised

_SHIFT = 4


@dataclass(frozen=True)
class Batch:
    """Pictures (n, 3, H, W); captions (n, e), true pairs (n, n), factors' words (values, e), targets (n, factors)."""

    pictures: torch.Tensor
    captions: torch.Tensor
    true: torch.Tensor
    tables: list[torch.Tensor]
    targets: torch.Tensor


class Pool:
    """Pictures (n, H, W, 3) uint8 and their factors, from folders that ``pool.py`` wrote."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._parts = [np.load(folder / "pictures.npy", mmap_mode="r") for folder in folders]
        self._table = np.concatenate([np.load(folder / "factors.npy") for folder in folders])
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._table)

    def batch(self, rows: np.ndarray, rng: np.random.Generator, tables: list[torch.Tensor]) -> Batch:
        """Take some pictures, mirrored and moved at random, and label them with a new caption each."""
        factors = world.Factors(*self._table[rows].T)
        written = world.captions(int(rng.integers(2**31)), factors)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        drawn = np.stack([self._parts[part][row - self._starts[part]] for part, row in zip(parts, rows, strict=True)])
        return Batch(
            pictures=normalised(_moved(drawn, rng)),
            captions=torch.from_numpy(caption_vectors(written)),
            true=torch.from_numpy(world.truth(factors, written, open_natural=True)),
            tables=tables,
            targets=torch.from_numpy(vocabulary.targets(factors)),
        )


def _moved(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror half of the pictures and move each by up to `_SHIFT` pixels, repeating its border."""
    count, side = drawn.shape[:2]
    padded = np.pad(drawn, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    moves = rng.integers(0, 2 * _SHIFT + 1, (count, 2))
    moved = np.stack([one[y : y + side, x : x + side] for one, (y, x) in zip(padded, moves, strict=True)])
    mirrored = rng.random(count) < 0.5
    moved[mirrored] = moved[mirrored, :, ::-1]
    return moved
