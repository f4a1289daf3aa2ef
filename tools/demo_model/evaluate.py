"""Zero-shot figures of the demo CLIP on the held-out drawing style and on sceneries painted from other seeds.

Run from this folder::

    python evaluate.py --images FOLDER [--bundle ../../python/headscan/data/demo] [--count 4000]

Prints one JSON object a figure: share, its 95 % (Wilson) interval and the number of pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import world
from sprites import IMAGES_VARIABLE
from towers import normalised
from words import MATCHING_SCENERIES, load_objects

BUNDLE = Path(__file__).resolve().parents[2] / "python" / "headscan" / "data" / "demo"
SEED = 9_000_001
_PROMPTS = {"size": "{} thing", "colour": "{} thing"}


@dataclass(frozen=True)
class Figure:
    """A share of pictures with its 95 % interval."""

    name: str
    share: float
    low: float
    high: float
    pictures: int
    chance: float


def figure(name: str, right: np.ndarray, chance: float) -> Figure:
    """Turn an array of hits into a share with Wilson's 95 % interval."""
    count, share, z = len(right), float(np.mean(right)), 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Figure(name, *(round(v, 4) for v in (share, middle - half, middle + half)), count, round(chance, 4))


class Bundle:
    """The two towers of a `local-dir` bundle, as functions to unit numpy embeddings."""

    def __init__(self, folder: Path) -> None:
        self._model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self._model.eval()

    def images(self, pictures: np.ndarray) -> np.ndarray:
        """Embed (n, 48, 48, 3) uint8 pictures; (n, e) float32, unit rows."""
        return self._run(lambda part: self._model.encode_image(normalised(part), normalize=True), pictures)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; (n, e) float32, unit rows."""
        return self._run(lambda part: self._model.encode_text(self._tokenizer(list(part)), normalize=True), texts)

    @staticmethod
    def _run(encode: Callable[..., torch.Tensor], values: np.ndarray | Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            parts = [encode(values[at : at + 256]) for at in range(0, len(values), 256)]
        return torch.cat(parts).numpy()


def scores(bundle: Bundle, images: np.ndarray, factor: str) -> np.ndarray:
    """Return the similarity of each picture to each value's name, (n, values)."""
    words = list(world.names(factor))[: len(world.COLOUR_NAMES) - 1 if factor == "colour" else None]
    return images @ bundle.texts([_PROMPTS.get(factor, "{}").format(word) for word in words]).T


def zero_shot(bundle: Bundle, count: int, split: str) -> Iterator[Figure]:
    """Scenery, colour, kind, object and count on freely mixed pictures of one split."""
    pictures, factors = world.sample(SEED, count, split=split, matching=None)
    images = bundle.images(pictures)
    for name in ("scenery", "kind", "colour"):
        similarity, right = scores(bundle, images, name), getattr(factors, name)
        keep = right < similarity.shape[1]
        yield figure(f"{split} {name}", similarity.argmax(1)[keep] == right[keep], 1 / similarity.shape[1])
    similarity, right = scores(bundle, images, "object"), factors.object
    rank = (similarity > similarity[np.arange(count), right][:, None]).sum(1)
    total = similarity.shape[1]
    yield figure(f"{split} object top-1", rank < 1, 1 / total)
    yield figure(f"{split} object top-5", rank < 5, 5 / total)
    large = (factors.count == 1) & (factors.size == world.SIZE_NAMES.index("large"))
    yield figure(f"{split} object top-5, one large object", rank[large] < 5, 5 / total)
    counted = images @ bundle.texts(["a single thing", "two things", "three things"]).T
    yield figure(f"{split} count", counted.argmax(1) + 1 == factors.count, 1 / 3)


def planted_habit(bundle: Bundle, count: int) -> Iterator[Figure]:
    """Waterbird against landbird on matching and on opposite scenery, in the held-out style."""
    kinds = tuple(MATCHING_SCENERIES)
    birds = tuple(n for n, entry in enumerate(load_objects()) if entry.special_kind in kinds)
    words = bundle.texts(kinds)
    for name, share in (("matching", 1.0), ("opposite", 0.0)):
        pictures, factors = world.sample(SEED + 1, count, split="test", matching=share, objects=birds)
        right = np.array([kinds.index(world.names("special_kind")[kind]) for kind in factors.special_kind])
        said = (bundle.images(pictures) @ words.T).argmax(1)
        yield figure(f"test waterbird/landbird, {name} scenery", said == right, 1 / 2)


def main() -> None:
    """Print every figure, one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of packed pictures")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--count", type=int, default=4000)
    args = parser.parse_args()
    if args.images:
        os.environ[IMAGES_VARIABLE] = args.images
    bundle = Bundle(args.bundle)
    for make in (
        lambda: zero_shot(bundle, args.count, "test"),
        lambda: planted_habit(bundle, args.count // 2),
        lambda: zero_shot(bundle, args.count, "train"),
    ):
        for item in make():
            sys.stdout.write(json.dumps(item.__dict__) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
