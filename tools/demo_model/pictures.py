"""The streams that ``features.py`` kept of the pool's pictures, and batches of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import vocabulary
import world
from geometry import caption_vectors


@dataclass(frozen=True)
class Batch:
    """Labels: captions (n, e), true pairs (n, n), each factor's words (values, e), targets (n, factors)."""

    captions: torch.Tensor
    true: torch.Tensor
    tables: list[torch.Tensor]
    targets: torch.Tensor


class Pool:
    """Streams (n, tokens, width) float16 of the pool's pictures, and their factors."""

    def __init__(self, folders: Sequence[Path]) -> None:
        parts = [np.load(folder / "streams.npy") for folder in folders]
        self.streams = np.concatenate(parts)
        tables = [np.load(folder / "factors.npy")[: len(part)] for folder, part in zip(folders, parts, strict=True)]
        self._table = np.concatenate(tables)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.streams)

    def batch(self, rows: np.ndarray, rng: np.random.Generator, tables: list[torch.Tensor]) -> Batch:
        """Label some pictures, with a new caption each."""
        factors = world.Factors(*self._table[rows].T)
        written = world.captions(int(rng.integers(2**31)), factors)
        return Batch(
            captions=torch.from_numpy(caption_vectors(written)),
            true=torch.from_numpy(world.truth(factors, written, open_natural=True)),
            tables=tables,
            targets=torch.from_numpy(vocabulary.targets(factors)),
        )
