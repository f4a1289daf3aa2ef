"""Drawn sceneries of the demo world: one small seeded painter for each kind, with much variety inside a kind.

Every painter draws on a canvas twice as wide as the finished picture, which is then reduced, so that edges
are smooth. Painters take a random generator and nothing else: the same state gives the same picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SCENE_SIZE = 64
_CANVAS = 2 * SCENE_SIZE

Colour = tuple[int, int, int]
Painter = Callable[[np.random.Generator], Image.Image]


def vary(rng: np.random.Generator, colour: Colour, amount: int = 22) -> Colour:
    """Return a colour near the given one: channels moved apart a little, and together by at most `amount`."""
    shift = rng.integers(-amount, amount + 1)
    moved = [int(np.clip(c + shift + rng.integers(-amount // 2, amount // 2 + 1), 0, 255)) for c in colour]
    return moved[0], moved[1], moved[2]


def gradient(top: Colour, bottom: Colour) -> Image.Image:
    """Return a canvas that goes evenly from the top colour to the bottom one."""
    share = np.linspace(0.0, 1.0, _CANVAS)[:, None, None]
    rows = (1 - share) * np.array(top) + share * np.array(bottom)
    return Image.fromarray(np.broadcast_to(rows, (_CANVAS, _CANVAS, 3)).astype(np.uint8))


def fill_below(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, level: float, rough: float, colour: Colour
) -> None:
    """Fill everything under a wandering line at height `level` (0 top, 1 bottom) that varies by `rough`."""
    knots = rng.integers(4, 9)
    x = np.linspace(-4, _CANVAS + 4, knots)
    y = (level + rough * rng.uniform(-1, 1, knots)) * _CANVAS
    fine = np.linspace(-4, _CANVAS + 4, 33)
    line = list(zip(fine, np.interp(fine, x, y), strict=True))
    draw.polygon([*line, (_CANVAS + 4, _CANVAS + 4), (-4, _CANVAS + 4)], fill=colour)


def blob(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
    """Draw an ellipse around (x, y)."""
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)


def clouds(draw: ImageDraw.ImageDraw, rng: np.random.Generator, colour: Colour, most: int = 3) -> None:
    """Draw up to `most` clouds in the upper third."""
    for _ in range(rng.integers(0, most + 1)):
        x, y = rng.uniform(0, _CANVAS), rng.uniform(4, 0.3 * _CANVAS)
        for _ in range(4):
            blob(
                draw,
                x + rng.uniform(-14, 14),
                y + rng.uniform(-3, 3),
                rng.uniform(6, 14),
                rng.uniform(3, 7),
                colour,
            )


def daylight(rng: np.random.Generator) -> Image.Image:
    """Return a canvas of day sky, from clear blue to overcast."""
    top, bottom = (vary(rng, (96, 166, 236)), vary(rng, (196, 226, 248)))
    if rng.random() < 0.3:
        top, bottom = vary(rng, (150, 170, 190)), vary(rng, (210, 216, 222))
    canvas = gradient(top, bottom)
    clouds(ImageDraw.Draw(canvas), rng, vary(rng, (242, 246, 250), 12))
    return canvas


def ripples(draw: ImageDraw.ImageDraw, rng: np.random.Generator, top: float, colour: Colour, most: int) -> None:
    """Draw short horizontal glints on water below `top` (0..1)."""
    for _ in range(rng.integers(most // 3, most)):
        x, y = rng.uniform(0, _CANVAS), rng.uniform(top * _CANVAS, _CANVAS)
        half = rng.uniform(4, 14)
        draw.line((x - half, y, x + half, y), fill=colour, width=int(rng.integers(1, 4)))


def paint_sea(rng: np.random.Generator) -> Image.Image:
    """Paint waves to the horizon."""
    canvas = daylight(rng)
    draw = ImageDraw.Draw(canvas)
    horizon = rng.uniform(0.2, 0.5)
    base = vary(rng, (18, 92, 170), 26)
    for step in range(6):
        level = horizon + step * (1 - horizon) / 6
        fill_below(draw, rng, level, 0.0 if step == 0 else 0.02, vary(rng, base, 16))
        for x in np.arange(rng.uniform(-16, 0), _CANVAS, rng.uniform(14, 26)) if step else ():
            y = level * _CANVAS + rng.uniform(-2, 4)
            draw.arc((x, y, x + 16, y + 8), 180, 360, fill=vary(rng, (226, 242, 250), 14), width=2)
    return canvas


def paint_lake(rng: np.random.Generator) -> Image.Image:
    """Paint calm water within a green shore, with reeds."""
    canvas = daylight(rng)
    draw = ImageDraw.Draw(canvas)
    shore = rng.uniform(0.2, 0.4)
    fill_below(draw, rng, shore - 0.06, 0.05, vary(rng, (52, 120, 66)))
    fill_below(draw, rng, shore + 0.06, 0.01, vary(rng, (112, 178, 200)))
    ripples(draw, rng, shore + 0.1, vary(rng, (178, 220, 232)), 12)
    for _ in range(rng.integers(4, 14)):
        x, y = rng.choice([rng.uniform(0, 30), rng.uniform(_CANVAS - 30, _CANVAS)]), rng.uniform(70, _CANVAS)
        draw.line((x, y, x + rng.uniform(-4, 4), y - rng.uniform(16, 36)), fill=vary(rng, (74, 120, 48)), width=3)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 5)):
            blob(
                draw,
                rng.uniform(0, _CANVAS),
                rng.uniform(90, _CANVAS),
                rng.uniform(5, 10),
                3,
                vary(rng, (60, 150, 80)),
            )
    return canvas


def paint_river(rng: np.random.Generator) -> Image.Image:
    """Paint a winding band of water between grass banks."""
    canvas = daylight(rng)
    draw = ImageDraw.Draw(canvas)
    top = rng.uniform(0.15, 0.35) * _CANVAS
    fill_below(draw, rng, top / _CANVAS, 0.02, vary(rng, (110, 168, 70)))
    y = np.linspace(top, _CANVAS + 2, 24)
    share = (y - top) / (_CANVAS - top)
    middle = (
        _CANVAS / 2
        + rng.uniform(-20, 20)
        + rng.uniform(12, 30) * np.sin(rng.uniform(0, 6) + share * rng.uniform(3, 7))
    )
    half = rng.uniform(2, 6) + share * rng.uniform(26, 50)
    left, right = list(zip(middle - half, y, strict=True)), list(zip(middle + half, y, strict=True))
    draw.polygon(left + right[::-1], fill=vary(rng, (70, 150, 206)))
    for side in (left, right):
        draw.line(side, fill=vary(rng, (168, 146, 96)), width=4)
    for _ in range(rng.integers(2, 8)):
        at = rng.integers(4, 24)
        x = middle[at] + rng.uniform(-0.7, 0.7) * half[at]
        draw.line((x - 5, y[at], x + 5, y[at]), fill=vary(rng, (190, 226, 242)), width=2)
    return canvas


def _tree(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot: float, height: float) -> None:
    trunk, leaf = vary(rng, (84, 58, 36)), vary(rng, (30, 88, 42), 26)
    draw.rectangle((x - height * 0.06, foot - height * 0.5, x + height * 0.06, foot), fill=trunk)
    if rng.random() < 0.5:
        for part in range(3):
            low = foot - height * (0.2 + 0.25 * part)
            half = height * (0.32 - 0.07 * part)
            draw.polygon([(x - half, low), (x + half, low), (x, low - height * 0.4)], fill=leaf)
    else:
        for _ in range(4):
            blob(draw, x + rng.uniform(-0.2, 0.2) * height, foot - height * rng.uniform(0.5, 0.9),
                 0.22 * height, 0.2 * height, vary(rng, leaf, 10))  # fmt: skip


def paint_forest(rng: np.random.Generator) -> Image.Image:
    """Paint rows of trees on dark ground."""
    canvas = gradient(vary(rng, (120, 168, 150)), vary(rng, (58, 100, 62)))
    draw = ImageDraw.Draw(canvas)
    fill_below(draw, rng, rng.uniform(0.55, 0.75), 0.04, vary(rng, (62, 78, 36)))
    for row in range(3):
        for x in np.arange(rng.uniform(-10, 10), _CANVAS + 10, rng.uniform(16, 28)):
            _tree(draw, rng, x + rng.uniform(-5, 5), _CANVAS * (0.6 + 0.13 * row), rng.uniform(44, 84))
    return canvas


def paint_meadow(rng: np.random.Generator) -> Image.Image:
    """Paint open grass with flowers."""
    canvas = daylight(rng)
    draw = ImageDraw.Draw(canvas)
    level = rng.uniform(0.2, 0.5)
    fill_below(draw, rng, level, 0.05, vary(rng, (128, 196, 72)))
    fill_below(draw, rng, level + 0.2, 0.06, vary(rng, (98, 176, 56)))
    for _ in range(rng.integers(20, 50)):
        x, y = rng.uniform(0, _CANVAS), rng.uniform((level + 0.1) * _CANVAS, _CANVAS)
        draw.line((x, y, x + rng.uniform(-3, 3), y - rng.uniform(4, 9)), fill=vary(rng, (64, 140, 40)), width=2)
    petals = [(250, 240, 120), (250, 250, 250), (232, 120, 170), (200, 90, 90), (170, 120, 220)]
    for _ in range(rng.integers(4, 24)):
        x, y = rng.uniform(0, _CANVAS), rng.uniform((level + 0.1) * _CANVAS, _CANVAS)
        blob(draw, x, y, 2.5, 2.5, vary(rng, petals[rng.integers(len(petals))], 14))
    return canvas
