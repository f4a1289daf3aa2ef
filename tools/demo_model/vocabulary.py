"""The factors put into single words: what a picture has to find among all words of a factor in training."""

from __future__ import annotations

import numpy as np
from captions import object_terms
from words import COLOUR_SYNONYMS, COLOURS, COUNT_WORDS, SCENERIES, SIZES, load_objects, plural
from world import Factors, names

WEIGHTS = (1.0, 0.5, 0.25, 0.15, 0.15, 0.05)
"""Weight of object, kind, colour, scenery, count and size in the naming loss."""


def sizes() -> tuple[int, ...]:
    """Return the number of words of each factor, in the order of `words`."""
    return len(load_objects()), len(names("kind")), len(COLOURS), len(SCENERIES), len(COUNT_WORDS), len(SIZES)


def _any(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[0] if rng.random() < 0.5 else words[int(rng.integers(len(words)))]


def words(seed: int) -> list[str]:
    """Return one word (or its synonym) for every value of every factor; same seed, same words."""
    rng = np.random.default_rng((seed, 11))
    colours = [_any(rng, (name, *COLOUR_SYNONYMS[name])) for name in COLOURS]
    counts = [_any(rng, COUNT_WORDS[count][1:] if count == 1 else COUNT_WORDS[count]) for count in COUNT_WORDS]
    noun = "thing"
    if rng.random() < 0.5:
        terms = object_terms().words
        noun = terms[int(rng.integers(len(terms)))]
    counted = [f"{word} {noun if count == 0 else plural(noun)}" for count, word in enumerate(counts)]
    return [
        *(_any(rng, entry.names) for entry in load_objects()),
        *names("kind"),
        *colours,
        *(_any(rng, options) for options in SCENERIES.values()),
        *counted,
        *(_any(rng, options) for options in SIZES.values()),
    ]


def targets(factors: Factors) -> np.ndarray:
    """Return (n, 6) int64 places of the right words; -1 where an object keeps its own colours."""
    colour = np.where(factors.colour < len(COLOURS), factors.colour, -1)
    return np.stack([factors.object, factors.kind, colour, factors.scenery, factors.count - 1, factors.size], axis=1)
