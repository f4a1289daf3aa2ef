"""The demo world: small pictures of drawn objects on drawn scenery, with every factor known.

`sample` gives pictures and factors in one call and needs only numpy and pillow::

    pictures, factors = sample(seed=7, count=256, split="test")

In the training split waterbirds stand on water and landbirds on land in 95 % of pictures; every other factor
is independent of every other. The test split has the held-out drawing style, sceneries painted from other
seeds, and no such habit unless `matching` asks for one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from captions import ANY, Caption, caption, object_terms, scenery_terms
from config import IMAGE_SIZE
from scenery_more import paint_pool
from sprites import Drawing, images_folder, load_drawings, paste, render
from words import (
    COLOURS,
    HELD_OUT_STYLE,
    MATCHING_SCENERIES,
    MATCHING_SHARE,
    NATURAL,
    SCENERIES,
    SIZES,
    STYLES,
    load_objects,
)

COLOUR_NAMES = (*COLOURS, NATURAL)
SCENERY_NAMES = tuple(SCENERIES)
SIZE_NAMES = tuple(SIZES)
NATURAL_SHARE = 0.4
COUNT_SHARES = (0.6, 0.22, 0.18)
SIZE_SHARES = (0.25, 0.35, 0.40)
SCENES_PER_KIND = {"train": 400, "test": 100}
_SCENE_SEEDS = {"train": 101, "test": 202}
_SIDES = {
    1: ((24, 30), (31, 38), (39, 48)),
    2: ((19, 22), (22, 25), (25, 29)),
    3: ((18, 21), (21, 24), (24, 27)),
}
_CENTRES = {1: [(0.5, 0.5)], 2: [(0.27, 0.5), (0.73, 0.5)], 3: [(0.26, 0.68), (0.74, 0.68), (0.5, 0.28)]}
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Factors:
    """What is in each picture: int arrays of one length, places in the tables of `names`, or the count."""

    object: np.ndarray
    kind: np.ndarray
    special_kind: np.ndarray
    colour: np.ndarray
    count: np.ndarray
    size: np.ndarray
    scenery: np.ndarray
    style: np.ndarray

    def __len__(self) -> int:
        return len(self.object)

    def row(self, number: int) -> dict[str, str | int]:
        """Return one picture's factors in words."""
        values: dict[str, str | int] = {}
        for field in fields(self):
            value = int(getattr(self, field.name)[number])
            values[field.name] = value if field.name == "count" else names(field.name)[value]
        return values


@lru_cache(maxsize=16)
def names(factor: str) -> tuple[str, ...]:
    """Return the words of one factor's values, in the order of their numbers."""
    entries = load_objects()
    tables = {
        "object": tuple(entry.name for entry in entries),
        "kind": tuple(dict.fromkeys(entry.kind for entry in entries)),
        "special_kind": tuple(dict.fromkeys(entry.special_kind for entry in entries)),
        "colour": COLOUR_NAMES,
        "size": SIZE_NAMES,
        "scenery": SCENERY_NAMES,
        "style": STYLES,
    }
    if factor not in tables:
        raise ValueError(f"unknown factor {factor!r}: expected one of {', '.join(tables)}")
    return tables[factor]


@lru_cache(maxsize=4)
def _scenes(split: str) -> np.ndarray:
    """Return (sceneries, pictures, 64, 64, 3) uint8."""
    pools = [paint_pool(name, seed=_SCENE_SEEDS[split], count=SCENES_PER_KIND[split]) for name in SCENERY_NAMES]
    return np.stack(pools)


@lru_cache(maxsize=4)
def _drawings(folder: Path, split: str) -> tuple[dict[int, list[Drawing]], ...]:
    """Return, for each object, its drawings of the split's styles by style."""
    held_out = STYLES.index(HELD_OUT_STYLE)
    chosen = []
    for drawings in load_drawings(folder):
        styles: dict[int, list[Drawing]] = {}
        for drawing in drawings:
            if (drawing.style == held_out) == (split == "test"):
                styles.setdefault(drawing.style, []).append(drawing)
        chosen.append(styles)
    return tuple(chosen)


def _draw_scenery(rng: np.random.Generator, kind: str, matching: float | None) -> int:
    if matching is None or kind not in MATCHING_SCENERIES:
        return int(rng.integers(len(SCENERY_NAMES)))
    match, opposite = MATCHING_SCENERIES[kind]
    pool = match if rng.random() < matching else opposite
    return SCENERY_NAMES.index(pool[int(rng.integers(len(pool)))])


def _background(rng: np.random.Generator, scenes: np.ndarray, scenery: int) -> np.ndarray:
    """Return a crop of a random scene, perhaps mirrored, a little brighter or darker; (48, 48, 3) in 0..1."""
    scene = scenes[scenery, rng.integers(scenes.shape[1])]
    x, y = rng.integers(0, scene.shape[1] - IMAGE_SIZE + 1, 2)
    crop = scene[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.clip(crop.astype(np.float32) / 255 * np.float32(rng.uniform(0.85, 1.12)), 0, 1)


def _compose(
    rng: np.random.Generator,
    canvas: np.ndarray,
    drawing: Drawing,
    *,
    colour: int,
    count: int,
    size: int,
    restyled: bool,
) -> None:
    """Paste the copies of one object."""
    low, high = _SIDES[count][size]
    tinted = None if COLOUR_NAMES[colour] == NATURAL else COLOUR_NAMES[colour]
    for across, down in _CENTRES[count]:
        side = int(rng.integers(low, high))
        room = (IMAGE_SIZE - side) / 2 + 1 if count == 1 else 3
        x = across * IMAGE_SIZE + rng.uniform(-room, room) - side / 2
        y = down * IMAGE_SIZE + rng.uniform(-room, room) - side / 2
        paste(canvas, render(drawing, rng, side=side, colour=tinted, restyled=restyled), round(x), round(y))


@dataclass(frozen=True)
class _Stock:
    """What pictures are made from: drawings by object and style, scenes, and three options of `sample`."""

    drawings: tuple[dict[int, list[Drawing]], ...]
    scenes: np.ndarray
    matching: float | None
    plain: float
    restyled: bool


def _picture(rng: np.random.Generator, stock: _Stock, obj: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Draw one picture of an object and its factors in the order of `Factors`."""
    entry = load_objects()[obj]
    colour = len(COLOURS) if rng.random() < NATURAL_SHARE else int(rng.integers(len(COLOURS)))
    copies = 1 + int(rng.choice(3, p=COUNT_SHARES))
    size = int(rng.choice(3, p=SIZE_SHARES))
    if stock.plain and rng.random() < stock.plain:
        copies, size = 1, SIZE_NAMES.index("large")
    scenery = _draw_scenery(rng, entry.special_kind, stock.matching)
    styles = stock.drawings[obj]
    style = list(styles)[int(rng.integers(len(styles)))]
    drawing = styles[style][int(rng.integers(len(styles[style])))]
    canvas = _background(rng, stock.scenes, scenery)
    _compose(rng, canvas, drawing, colour=colour, count=copies, size=size, restyled=stock.restyled)
    kinds = names("kind").index(entry.kind), names("special_kind").index(entry.special_kind)
    return canvas, (obj, *kinds, colour, copies, size, scenery, style)


def sample(
    seed: int,
    count: int,
    *,
    split: str = "train",
    matching: float | Literal["split"] | None = "split",
    plain: float = 0.0,
    restyled: bool = False,
    objects: tuple[int, ...] | None = None,
    images: str | Path | None = None,
) -> tuple[np.ndarray, Factors]:
    """Draw pictures and their factors.

    Parameters
    ----------
    seed : int
        The same seed, count and options give the same pictures.
    count : int
        How many pictures.
    split : {"train", "test"}
        Which drawing styles and scenery seeds.
    matching : float, None or "split"
        Share of waterbirds and landbirds on matching scenery (the rest stand on the opposite one); None
        makes their scenery independent. "split" is 0.95 in training and None in testing.
    plain : float
        Share of pictures made easy: a single large object, whatever was drawn for count and size.
    restyled : bool, default False
        Draw half of the copies flatter, softer, paler, outlined or in other hues, to widen the styles.
    objects : tuple of int, optional
        Draw only from these objects.
    images : path, optional
        Folder of packed pictures; by default the environment variable ``HEADSCAN_DEMO_IMAGES``.

    Returns
    -------
    pictures : numpy.ndarray
        (count, 48, 48, 3) uint8.
    factors : Factors

    Raises
    ------
    ValueError
        If the split is unknown.
    FileNotFoundError
        If the packed pictures are not there.
    """
    if split not in _SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(_SPLITS)}")
    share = (MATCHING_SHARE if split == "train" else None) if matching == "split" else matching
    stock = _Stock(_drawings(images_folder(images), split), _scenes(split), share, plain, restyled)
    rng = np.random.default_rng((seed, _SPLITS.index(split)))
    pictures = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    table = np.empty((count, len(fields(Factors))), np.int64)
    for number in range(count):
        obj = int(rng.choice(objects)) if objects else int(rng.integers(len(load_objects())))
        canvas, table[number] = _picture(rng, stock, obj)
        pictures[number] = np.rint(np.clip(canvas, 0, 1) * 255)
    return pictures, Factors(*table.T)


def captions(seed: int, factors: Factors) -> list[Caption]:
    """Write one caption for each picture; the same seed and factors give the same captions."""
    rng = np.random.default_rng((seed, 7))
    return [
        caption(rng, obj=int(obj), colour=int(colour), count=int(copies), size=int(size), scenery=int(scenery))
        for obj, colour, copies, size, scenery in zip(
            factors.object, factors.colour, factors.count, factors.size, factors.scenery, strict=True
        )
    ]


def truth(factors: Factors, written: list[Caption], *, open_natural: bool = False) -> np.ndarray:
    """Tell which captions are true of which pictures.

    Parameters
    ----------
    factors : Factors
    written : list of Caption
    open_natural : bool
        Count a colour claim as possibly true of a picture whose object keeps its own colours.

    Returns
    -------
    numpy.ndarray
        (pictures, captions) bool.
    """
    claims = {
        name: np.array([getattr(c, name) for c in written])
        for name in ("thing", "colour", "count", "size", "scenery")
    }
    holds = np.ones((len(factors), len(written)), bool)
    for name in ("colour", "count", "size"):
        value = getattr(factors, name)[:, None]
        fits = (claims[name] == ANY) | (value == claims[name])
        holds &= fits | (value == len(COLOURS)) if open_natural and name == "colour" else fits
    for name, terms, value in (
        ("thing", object_terms(), factors.object),
        ("scenery", scenery_terms(), factors.scenery),
    ):
        holds &= (claims[name] == ANY) | terms.holds[claims[name]][:, value].T
    return holds
