"""The sceneries without water or green land, and the table of all painters."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scenery import (
    _CANVAS,
    SCENE_SIZE,
    Painter,
    blob,
    clouds,
    daylight,
    fill_below,
    gradient,
    paint_forest,
    paint_lake,
    paint_meadow,
    paint_river,
    paint_sea,
    ripples,
    vary,
)


def paint_mountains(rng: np.random.Generator) -> Image.Image:
    """Paint grey peaks, some capped white, over dark slopes."""
    canvas = daylight(rng)
    draw = ImageDraw.Draw(canvas)
    for row in range(2):
        rock = vary(rng, (112, 108, 124) if row == 0 else (84, 92, 92))
        for _ in range(rng.integers(2, 4)):
            x, half = rng.uniform(0, _CANVAS), rng.uniform(34, 64)
            peak, foot = rng.uniform(8, 48) + 20 * row, _CANVAS * 0.86
            draw.polygon([(x - half, foot), (x, peak), (x + half, foot)], fill=vary(rng, rock, 14))
            draw.polygon([(x, peak), (x + half, foot), (x + half * 0.2, foot)], fill=vary(rng, (70, 68, 84), 12))
            if rng.random() < 0.6:
                cap = 0.22
                tip = (foot - peak) * cap
                draw.polygon(
                    [(x - half * cap, peak + tip), (x, peak), (x + half * cap, peak + tip)],
                    fill=(240, 244, 250),
                )
    fill_below(draw, rng, rng.uniform(0.78, 0.88), 0.05, vary(rng, (78, 104, 62)))
    return canvas


def paint_desert(rng: np.random.Generator) -> Image.Image:
    """Paint sand dunes under a pale, hot sky."""
    canvas = gradient(vary(rng, (130, 190, 226)), vary(rng, (246, 226, 180)))
    draw = ImageDraw.Draw(canvas)
    if rng.random() < 0.5:
        blob(draw, rng.uniform(10, 118), rng.uniform(8, 30), 9, 9, (255, 246, 190))
    level = rng.uniform(0.25, 0.5)
    for step in range(rng.integers(3, 6)):
        fill_below(draw, rng, level + 0.13 * step, 0.07, vary(rng, (226, 182, 112), 24))
    for _ in range(rng.integers(0, 10)):
        x, y = rng.uniform(0, _CANVAS), rng.uniform(70, _CANVAS)
        draw.arc((x, y, x + 22, y + 8), 190, 350, fill=vary(rng, (190, 142, 80)), width=2)
    for _ in range(rng.integers(0, 3)):
        blob(
            draw,
            rng.uniform(0, _CANVAS),
            rng.uniform(80, 124),
            rng.uniform(3, 8),
            rng.uniform(2, 5),
            vary(rng, (140, 104, 72)),
        )
    return canvas


def paint_snow(rng: np.random.Generator) -> Image.Image:
    """Paint white ground, pale sky and falling flakes."""
    canvas = gradient(vary(rng, (168, 188, 212)), vary(rng, (222, 230, 240)))
    draw = ImageDraw.Draw(canvas)
    level = rng.uniform(0.3, 0.55)
    for x in rng.uniform(0, _CANVAS, rng.integers(0, 6)):
        foot, height = level * _CANVAS + 10, rng.uniform(24, 44)
        draw.polygon([(x - 10, foot), (x + 10, foot), (x, foot - height)], fill=vary(rng, (92, 122, 120)))
        draw.polygon(
            [(x - 5, foot - height * 0.5), (x + 5, foot - height * 0.5), (x, foot - height)],
            fill=(244, 248, 252),
        )
    for step in range(3):
        fill_below(draw, rng, level + 0.16 * step, 0.06, vary(rng, (232, 238, 248), 12))
    for _ in range(rng.integers(10, 60)):
        blob(draw, rng.uniform(0, _CANVAS), rng.uniform(0, _CANVAS), 1.8, 1.8, (255, 255, 255))
    return canvas


def paint_city(rng: np.random.Generator) -> Image.Image:
    """Paint buildings with lit windows along a road."""
    canvas = daylight(rng)
    draw = ImageDraw.Draw(canvas)
    walls = [(150, 120, 110), (120, 128, 140), (176, 160, 140), (96, 104, 122), (160, 96, 84)]
    road = rng.uniform(0.68, 0.86) * _CANVAS
    x = rng.uniform(-16, 0)
    while x < _CANVAS:
        wide, tall = rng.uniform(14, 32), rng.uniform(30, 96)
        draw.rectangle((x, road - tall, x + wide, road), fill=vary(rng, walls[rng.integers(len(walls))]))
        window = vary(rng, (250, 236, 170) if rng.random() < 0.5 else (190, 214, 230))
        for wy in np.arange(road - tall + 5, road - 6, 9):
            for wx in np.arange(x + 4, x + wide - 5, 8):
                draw.rectangle((wx, wy, wx + 3, wy + 4), fill=window)
        x += wide + rng.uniform(0, 3)
    draw.rectangle((0, road, _CANVAS, _CANVAS), fill=vary(rng, (92, 92, 98)))
    for x in np.arange(rng.uniform(-20, 0), _CANVAS, 24):
        draw.rectangle((x, (road + _CANVAS) / 2, x + 12, (road + _CANVAS) / 2 + 3), fill=(236, 230, 200))
    return canvas


def paint_room(rng: np.random.Generator) -> Image.Image:
    """Paint a wall with pictures, window or stripes over a wooden or tiled floor."""
    papers = [
        (214, 196, 170),
        (190, 206, 190),
        (206, 186, 200),
        (178, 196, 214),
        (226, 214, 180),
        (196, 150, 130),
    ]
    wall = vary(rng, papers[rng.integers(len(papers))])
    canvas = gradient(wall, vary(rng, wall, 10))
    draw = ImageDraw.Draw(canvas)
    floor = rng.uniform(0.6, 0.8) * _CANVAS
    if rng.random() < 0.4:
        for x in np.arange(rng.uniform(0, 8), _CANVAS, rng.uniform(8, 16)):
            draw.rectangle((x, 0, x + 3, floor), fill=vary(rng, wall, 16))
    draw.rectangle((0, floor, _CANVAS, _CANVAS), fill=vary(rng, (150, 100, 60)))
    for y in np.arange(floor, _CANVAS, 10):
        draw.line((0, y, _CANVAS, y), fill=(108, 70, 42), width=2)
    draw.rectangle((0, floor - 3, _CANVAS, floor), fill=vary(rng, (240, 234, 224), 10))
    for _ in range(rng.integers(1, 4)):
        x, y, wide, tall = rng.uniform(0, 100), rng.uniform(4, 30), rng.uniform(18, 36), rng.uniform(18, 34)
        draw.rectangle((x, y, x + wide, y + tall), fill=vary(rng, (110, 74, 44)))
        inside = (176, 214, 240) if rng.random() < 0.5 else (200, 170, 140)
        draw.rectangle((x + 3, y + 3, x + wide - 3, y + tall - 3), fill=vary(rng, inside))
        draw.line((x + wide / 2, y, x + wide / 2, y + tall), fill=(110, 74, 44), width=2)
    return canvas


def paint_night(rng: np.random.Generator) -> Image.Image:
    """Paint stars and often a moon over a dark land."""
    canvas = gradient(vary(rng, (10, 12, 36), 10), vary(rng, (34, 36, 78), 16))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(15, 60)):
        size = rng.uniform(0.6, 2)
        blob(draw, rng.uniform(0, _CANVAS), rng.uniform(0, _CANVAS), size, size, vary(rng, (236, 236, 210), 16))
    if rng.random() < 0.6:
        x, y, size = rng.uniform(12, 116), rng.uniform(12, 40), rng.uniform(7, 13)
        blob(draw, x, y, size, size, vary(rng, (244, 240, 206), 10))
        if rng.random() < 0.5:
            blob(draw, x + size * 0.5, y - size * 0.2, size * 0.9, size * 0.9, (20, 22, 50))
    if rng.random() < 0.7:
        fill_below(draw, rng, rng.uniform(0.7, 0.9), 0.06, vary(rng, (12, 18, 24), 8))
    return canvas


def paint_sunset(rng: np.random.Generator) -> Image.Image:
    """Paint a glowing sky with a low sun."""
    canvas = gradient(vary(rng, (110, 62, 126), 30), vary(rng, (250, 146, 62), 20))
    draw = ImageDraw.Draw(canvas)
    clouds(draw, rng, vary(rng, (226, 110, 120)), 4)
    blob(draw, rng.uniform(16, 112), rng.uniform(60, 92), *(2 * [rng.uniform(9, 16)]), (255, 226, 130))
    fill_below(draw, rng, rng.uniform(0.72, 0.86), 0.05, vary(rng, (62, 32, 48), 14))
    if rng.random() < 0.4:
        ripples(draw, rng, 0.8, vary(rng, (250, 170, 90)), 9)
    return canvas


def paint_underwater(rng: np.random.Generator) -> Image.Image:
    """Paint deep water with bubbles, weeds and corals on the floor."""
    canvas = gradient(vary(rng, (60, 190, 206)), vary(rng, (10, 70, 120)))
    draw = ImageDraw.Draw(canvas)
    floor = rng.uniform(0.78, 0.92)
    fill_below(draw, rng, floor, 0.04, vary(rng, (176, 158, 112)))
    for _ in range(rng.integers(2, 8)):
        x, y = rng.uniform(0, _CANVAS), floor * _CANVAS + rng.uniform(0, 16)
        steps = np.linspace(0, rng.uniform(16, 50), 9)
        bend = x + 4 * np.sin(steps / 5 + rng.uniform(0, 6))
        draw.line(list(zip(bend, y - steps, strict=True)), fill=vary(rng, (26, 122, 76)), width=4)
    corals = [(236, 110, 120), (240, 160, 90), (200, 110, 190)]
    for _ in range(rng.integers(0, 4)):
        x, y, colour = rng.uniform(0, _CANVAS), floor * _CANVAS + 8, corals[rng.integers(3)]
        for _ in range(5):
            draw.line((x, y, x + rng.uniform(-12, 12), y - rng.uniform(8, 20)), fill=vary(rng, colour, 12), width=4)
    for _ in range(rng.integers(4, 24)):
        x, y, size = rng.uniform(0, _CANVAS), rng.uniform(0, 100), rng.uniform(1.5, 4)
        draw.ellipse((x - size, y - size, x + size, y + size), outline=(206, 240, 248), width=1)
    return canvas


PAINTERS: dict[str, Painter] = {
    "sea": paint_sea,
    "lake": paint_lake,
    "river": paint_river,
    "forest": paint_forest,
    "meadow": paint_meadow,
    "mountains": paint_mountains,
    "desert": paint_desert,
    "snow": paint_snow,
    "city": paint_city,
    "room": paint_room,
    "night": paint_night,
    "sunset": paint_sunset,
    "underwater": paint_underwater,
}


def paint_pool(name: str, *, seed: int, count: int) -> np.ndarray:
    """Paint many pictures of one scenery.

    Parameters
    ----------
    name : str
        A key of `PAINTERS`.
    seed, count : int
        The pictures are the same for the same seed; picture i does not depend on `count`.

    Returns
    -------
    numpy.ndarray
        (count, 64, 64, 3) uint8.
    """
    kind = list(PAINTERS).index(name)
    pool = np.empty((count, SCENE_SIZE, SCENE_SIZE, 3), np.uint8)
    for number in range(count):
        rng = np.random.default_rng((seed, kind, number))
        pool[number] = np.asarray(PAINTERS[name](rng).resize((SCENE_SIZE, SCENE_SIZE), Image.Resampling.BOX))
    return pool
