"""The geometry that the text tower is taught: captions as sums of the words they are made of.

Every colour, count, size, scenery, kind, keyword and object has a direction of its own; all are (nearly)
orthogonal. An object's name is the sum of its kinds', its keywords' and its own direction, a scenery word
that holds for several sceneries is their sum, synonyms are the same vector, and a caption is the weighted sum
of what it claims. So words that share a meaning share a direction.

The text tower is taught one thing more, which a CLIP learns from its pairs: what a caption leaves unsaid and
yet holds of most of its pictures. "Duck" is seen on water in 95 of 100 pictures, so it stands for a little water.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from captions import ANY, Caption, object_terms, scenery_terms
from config import MODEL_CONFIG
from words import COLOURS, COUNT_WORDS, MATCHING_SCENERIES, MATCHING_SHARE, SCENERIES, SIZES, load_objects

WEIGHTS = {"thing": 1.0, "scenery": 1.0, "colour": 1.0, "count": 0.8, "size": 0.6}
"""Weight of each factor in a caption and in the whole picture."""
_GENERAL_KIND, _SPECIAL_KIND, _KEYWORDS, _OWN = 0.6, 0.35, 0.35, 0.65
_SEED = 41


@dataclass(frozen=True)
class Geometry:
    """Unit directions (values, e) of each factor's values; `thing` follows `captions.object_terms`."""

    thing: np.ndarray
    object: np.ndarray
    scenery: np.ndarray
    place: np.ndarray  # follows captions.scenery_terms
    colour: np.ndarray
    count: np.ndarray
    size: np.ndarray


def spread(count: int, width: int, seed: int, steps: int = 400) -> np.ndarray:
    """Return unit vectors (count, width) that are as nearly orthogonal as gradient descent makes them."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator).requires_grad_()
    update = torch.optim.Adam([rows], lr=0.02)
    for _ in range(steps):
        unit = torch.nn.functional.normalize(rows, dim=1)
        loss = ((unit @ unit.T - torch.eye(count)) ** 4).sum()
        update.zero_grad()
        loss.backward()
        update.step()
    return torch.nn.functional.normalize(rows.detach(), dim=1).numpy()


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@lru_cache(maxsize=1)
def geometry() -> Geometry:
    """Build the directions; the same every time."""
    width = MODEL_CONFIG["embed_dim"]
    entries = load_objects()
    shared = list(dict.fromkeys(word for entry in entries for word in (*entry.kinds, *entry.keywords)))
    sizes = {"scenery": len(SCENERIES), "colour": len(COLOURS), "count": len(COUNT_WORDS), "size": len(SIZES)}
    basis, _ = np.linalg.qr(np.random.default_rng(_SEED).standard_normal((width, width)))
    rest = width - sum(sizes.values())
    things = spread(len(shared) + len(entries), rest, _SEED) @ basis.T[-rest:]
    word = dict(zip(shared, things, strict=False))
    names = np.array(
        [
            _name(entry.kinds, entry.keywords, own, word)
            for entry, own in zip(entries, things[len(shared) :], strict=True)
        ]
    )
    terms = object_terms()
    thing = np.array(
        [word[text] if text in word else names[terms.holds[row]].sum(0) for row, text in enumerate(terms.words)]
    )
    parts = dict(zip(sizes, np.split(basis.T[: width - rest], np.cumsum(list(sizes.values()))[:-1]), strict=True))
    place = unit(scenery_terms().holds.astype(float) @ parts["scenery"])
    return Geometry(thing=unit(thing), object=names, place=place, **parts)


def _name(
    kinds: tuple[str, ...], keywords: tuple[str, ...], own: np.ndarray, word: dict[str, np.ndarray]
) -> np.ndarray:
    code = _GENERAL_KIND * word[kinds[-1]] + _OWN * own
    for kind in kinds[:-1]:
        code = code + _SPECIAL_KIND * word[kind]
    for keyword in keywords:
        code = code + _KEYWORDS / len(keywords) ** 0.5 * word[keyword]
    return unit(code)


@lru_cache(maxsize=1)
def habits() -> np.ndarray:
    """Return where the pictures of each of `captions.object_terms` are more often than others, (terms, e)."""
    names, entries = tuple(SCENERIES), load_objects()
    share = np.full((len(entries), len(names)), 1 / len(names))
    for row, entry in enumerate(entries):
        if entry.special_kind in MATCHING_SCENERIES:
            match, opposite = MATCHING_SCENERIES[entry.special_kind]
            share[row] = [
                MATCHING_SHARE * (name in match) / len(match)
                + (1 - MATCHING_SHARE) * (name in opposite) / len(opposite)
                for name in names
            ]
    holds = object_terms().holds / object_terms().holds.sum(axis=1, keepdims=True)
    return holds @ (share - 1 / len(names)) @ geometry().scenery


def caption_vectors(written: list[Caption], *, habitual: bool = False) -> np.ndarray:
    """Return the unit vectors (n, e) float32 that captions stand for.

    With `habitual`, a caption that names a thing and no place has the part of `habits`, weighted as a place is.
    """
    known = geometry()
    total = np.zeros((len(written), known.thing.shape[1]))
    tables = {
        "thing": known.thing,
        "scenery": known.place,
        "colour": known.colour,
        "count": known.count,
        "size": known.size,
    }
    for name, table in tables.items():
        claimed = np.array([getattr(caption, name) for caption in written])
        said = claimed != ANY
        total[said] += WEIGHTS[name] * table[claimed[said] - (name == "count")]
    if habitual:
        thing, place = (np.array([getattr(caption, name) for caption in written]) for name in ("thing", "scenery"))
        open_ = (thing != ANY) & (place == ANY)
        total[open_] += WEIGHTS["scenery"] * habits()[thing[open_]]
    return unit(total).astype(np.float32)
