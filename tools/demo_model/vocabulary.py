"""The factors put into words: what a picture has to find among all values of a factor in training."""

from __future__ import annotations

import numpy as np
import torch
from captions import object_terms, scenery_terms
from geometry import geometry
from words import COLOURS
from world import Factors, names

WEIGHTS = (1.0, 1.0, 0.5, 0.25, 0.2, 0.2, 0.05)
"""Weight of object, kind, special kind, colour, scenery, count and size in the naming loss."""
SHARED_WEIGHTS = (0.0, 1.0, 0.5, 1.0, 1.0, 0.5, 0.1)
"""The same where the last layers' heads alone are asked."""
_SHARED_BY = 6


def words() -> list[str]:
    """Return the first word of every value of every factor, in the order of the rows of `directions`' tables."""
    things = [name for factor in ("object", "kind", "special_kind") for name in names(factor)]
    return [*things, *COLOURS, *names("scenery"), "one thing", "two things", "three things", *names("size")]


def shared_words() -> list[str]:
    """Return the general kinds, and the special kinds and keywords that hold for several objects."""
    terms = object_terms()
    general = names("kind")
    return [word for row, word in enumerate(terms.words) if word in general or terms.holds[row].sum() >= _SHARED_BY]


def directions() -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return what the words stand for.

    Returns
    -------
    tables : list of torch.Tensor
        For each factor, in the order of `WEIGHTS`, its values' unit vectors (values, e).
    shared : torch.Tensor
        (m, e): the words that pictures of several objects share, that is every factor's but the objects', and
        the scenery words that hold for several sceneries.
    """
    known = geometry()
    number = object_terms().number
    kinds = [known.thing[[number[name] for name in names(factor)]] for factor in ("kind", "special_kind")]
    tables = [
        torch.from_numpy(np.ascontiguousarray(table)).float()
        for table in (known.object, *kinds, known.colour, known.scenery, known.count, known.size)
    ]
    words = torch.from_numpy(known.thing[[number[word] for word in shared_words()]]).float()
    places = torch.from_numpy(known.place[scenery_terms().holds.sum(axis=1) > 1]).float()
    return tables, torch.cat([*tables[3:], places, words])


def targets(factors: Factors) -> np.ndarray:
    """Return (n, 7) int64 places of the right words; -1 where an object keeps its own colours."""
    colour = np.where(factors.colour < len(COLOURS), factors.colour, -1)
    things = factors.object, factors.kind, factors.special_kind
    return np.stack([*things, colour, factors.scenery, factors.count - 1, factors.size], axis=1)
