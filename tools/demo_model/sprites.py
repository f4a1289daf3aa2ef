"""Cut-out drawings of the world's objects: reading them, tinting them, and pasting them on a picture."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from words import COLOURS, STYLES, load_objects

IMAGES_VARIABLE = "HEADSCAN_DEMO_IMAGES"
_HALF_SIZE_BELOW = 30
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def images_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of packed pictures: the argument, else the variable ``HEADSCAN_DEMO_IMAGES``.

    Raises
    ------
    FileNotFoundError
        If neither names a folder that holds ``emoji.npz``.
    """
    chosen = folder or os.environ.get(IMAGES_VARIABLE)
    if not chosen or not (Path(chosen) / "emoji.npz").is_file():
        raise FileNotFoundError(
            f"no packed pictures: expected emoji.npz in the folder given by --images or {IMAGES_VARIABLE}, "
            f"got {chosen!r}; tools/demo_model/pack_images.py makes it"
        )
    return Path(chosen)


@dataclass(frozen=True)
class Drawing:
    """One cut-out in two sizes, premultiplied by its alpha."""

    style: int
    full: Image.Image
    half: Image.Image


def _drawing(style: str, rgba: np.ndarray) -> Drawing:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    flat = rgba.copy()
    flat[..., :3] = np.rint(rgba[..., :3] * alpha)
    # CMYK stands for "four plain planes": the picture library must not treat the fourth as an alpha.
    image = Image.frombytes("CMYK", (rgba.shape[1], rgba.shape[0]), flat.tobytes())
    return Drawing(STYLES.index(style), image, image.reduce(2))


def _records(folder: Path, stem: str) -> tuple[list[dict[str, str]], np.ndarray]:
    lines = (folder / f"{stem}.jsonl").read_text(encoding="utf-8").splitlines()
    with np.load(folder / f"{stem}.npz") as packed:
        return [json.loads(line) for line in lines], packed["images"]


@lru_cache(maxsize=2)
def load_drawings(folder: Path) -> tuple[tuple[Drawing, ...], ...]:
    """Read every drawing of every object.

    Parameters
    ----------
    folder : Path
        Holds ``emoji.npz``, ``emoji.jsonl``, ``clipart.npz`` and ``clipart.jsonl``.

    Returns
    -------
    tuple
        One tuple of drawings an object, in the objects' order. A clip-art belongs to an object when its title
        is one of the object's names.
    """
    entries = load_objects()
    by_slug = {entry.slug: number for number, entry in enumerate(entries)}
    by_name = {name: number for number, entry in enumerate(entries) for name in reversed(entry.names)}
    found: list[list[Drawing]] = [[] for _ in entries]
    records, images = _records(folder, "emoji")
    for record, rgba in zip(records, images, strict=True):
        if record["slug"] in by_slug:
            found[by_slug[record["slug"]]].append(_drawing(record["style"], rgba))
    records, images = _records(folder, "clipart")
    for record, rgba in zip(records, images, strict=True):
        title = re.sub(r"[^a-z ]", "", record["name"].lower()).strip()
        if title in by_name:
            found[by_name[title]].append(_drawing("clipart", rgba))
    return tuple(tuple(drawings) for drawings in found)


def _place(drawing: Drawing, *, side: int, angle: float, stretch: float, flip: bool) -> np.ndarray:
    """Return the drawing turned, stretched and scaled to (side, side, 4) float32 in 0..1, premultiplied."""
    source = drawing.half if side < _HALF_SIZE_BELOW else drawing.full
    scale = source.width / side
    across, along = scale * stretch * (-1 if flip else 1), scale / stretch
    cos, sin = np.cos(angle), np.sin(angle)
    middle, centre = side / 2, source.width / 2
    a, b, d, e = across * cos, across * sin, -along * sin, along * cos
    matrix = (a, b, centre - (a + b) * middle, d, e, centre - (d + e) * middle)
    planes = source.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(planes, np.float32) / 255


def tint(sprite: np.ndarray, colour: str) -> np.ndarray:
    """Repaint a premultiplied (side, side, 4) sprite in one colour, keeping its light and shade."""
    alpha = sprite[..., 3:]
    luma = (sprite[..., :3] @ _LUMA)[..., None] / np.maximum(alpha, 1e-3)
    solid = alpha[..., 0] > 0.5
    low, high = (luma[solid].min(), luma[solid].max()) if solid.any() else (0.0, 1.0)
    light = np.clip((luma - low) / max(high - low, 0.15), 0, 1)
    target = np.array(COLOURS[colour], np.float32)
    painted = target * (0.3 + 0.7 * light) + 0.25 * light**4 * (1 - target)
    return np.concatenate([painted * alpha, alpha], axis=-1)


def paste(picture: np.ndarray, sprite: np.ndarray, x: int, y: int) -> None:
    """Lay a premultiplied sprite over a float picture in 0..1, its top left at (x, y), cut to fit."""
    height, width = picture.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + sprite.shape[1], width), min(y + sprite.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    part = sprite[y0 - y : y1 - y, x0 - x : x1 - x]
    region = picture[y0:y1, x0:x1]
    region *= 1 - part[..., 3:]
    region += part[..., :3]


def render(
    drawing: Drawing, rng: np.random.Generator, *, side: int, colour: str | None, restyled: bool = False
) -> np.ndarray:
    """Return a copy of a drawing, a little turned and stretched, perhaps mirrored, tinted or restyled if asked."""
    sprite = _place(
        drawing,
        side=side,
        angle=float(rng.normal(0, 0.14)),
        stretch=float(np.exp(rng.normal(0, 0.06))),
        flip=bool(rng.random() < 0.5),
    )
    if restyled and rng.random() < 0.5:
        sprite = _RESTYLES[int(rng.integers(len(_RESTYLES)))](rng, sprite)
    return sprite if colour is None else tint(sprite, colour)


def _posterised(rng: np.random.Generator, sprite: np.ndarray) -> np.ndarray:
    levels = float(rng.integers(2, 5))
    alpha = np.maximum(sprite[..., 3:], 1e-3)
    flat = np.rint(sprite[..., :3] / alpha * levels) / levels
    return np.concatenate([np.clip(flat, 0, 1) * sprite[..., 3:], sprite[..., 3:]], axis=-1)


def _softened(rng: np.random.Generator, sprite: np.ndarray) -> np.ndarray:
    share = np.float32(rng.uniform(0.3, 0.9))
    near = (sprite + np.roll(sprite, 1, 0) + np.roll(sprite, -1, 0) + np.roll(sprite, 1, 1)) / 4
    return (1 - share) * sprite + share * near


def _outlined(rng: np.random.Generator, sprite: np.ndarray) -> np.ndarray:
    solid = sprite[..., 3]
    inner = np.minimum.reduce([np.roll(solid, step, axis) for step in (-1, 1) for axis in (0, 1)])
    edge = np.clip(solid - inner, 0, 1)[..., None] * np.float32(rng.uniform(0.5, 1.0))
    return np.concatenate([sprite[..., :3] * (1 - edge), sprite[..., 3:]], axis=-1)


def _paled(rng: np.random.Generator, sprite: np.ndarray) -> np.ndarray:
    """Pull all colours towards their mean, a light grey or a dark one."""
    alpha = sprite[..., 3:]
    mean = sprite[..., :3].sum((0, 1)) / max(float(alpha.sum()), 1e-3)
    goal = mean if rng.random() < 0.5 else np.full(3, rng.uniform(0.1, 0.9), np.float32)
    share = np.float32(rng.uniform(0.2, 0.7))
    return np.concatenate([(1 - share) * sprite[..., :3] + share * goal * alpha, alpha], axis=-1)


def _rehued(rng: np.random.Generator, sprite: np.ndarray) -> np.ndarray:
    mixed = np.eye(3) + rng.normal(0, 0.2, (3, 3))
    colours = sprite[..., :3] @ (mixed / mixed.sum(0)).astype(np.float32)
    return np.concatenate([np.clip(colours, 0, sprite[..., 3:]), sprite[..., 3:]], axis=-1)


_RESTYLES = (_posterised, _softened, _outlined, _paled, _rehued)
