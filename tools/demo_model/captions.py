"""Captions of the demo world: templates with synonyms, factors left out at random, and what they claim."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from words import (
    COLOUR_SYNONYMS,
    COLOURS,
    COUNT_WORDS,
    PREPOSITIONS,
    SCENERIES,
    SHARED_SCENERY_WORDS,
    SIZES,
    load_objects,
    plural,
)

ANY = -1
_OPENINGS = ("a picture of", "a photo of", "an image of", "a drawing of")
_COLOUR_NAMES = tuple(COLOURS)
_SIZE_NAMES = tuple(SIZES)
_SCENERY_NAMES = tuple(SCENERIES)


@dataclass(frozen=True)
class Terms:
    """Words for things, and which objects each holds for: `holds` is (terms, objects) bool."""

    words: tuple[str, ...]
    holds: np.ndarray
    number: dict[str, int]


@lru_cache(maxsize=1)
def object_terms() -> Terms:
    """Return every name, synonym, kind and keyword with the objects it is true of."""
    truth: dict[str, set[int]] = {}
    for number, entry in enumerate(load_objects()):
        for word in (*entry.names, *entry.kinds, *entry.keywords):
            truth.setdefault(word, set()).add(number)
    words = tuple(sorted(truth))
    holds = np.zeros((len(words), len(load_objects())), bool)
    for row, word in enumerate(words):
        holds[row, list(truth[word])] = True
    return Terms(words, holds, {word: row for row, word in enumerate(words)})


@lru_cache(maxsize=1)
def scenery_terms() -> Terms:
    """Return every scenery word with the sceneries it is true of; `holds` is (words, sceneries) bool."""
    truth = {word: {name} for name, words in SCENERIES.items() for word in words}
    truth |= {word: set(names) for word, names in SHARED_SCENERY_WORDS.items()}
    words = tuple(sorted(truth))
    holds = np.array([[name in truth[word] for name in _SCENERY_NAMES] for word in words])
    return Terms(words, holds, {word: row for row, word in enumerate(words)})


@dataclass(frozen=True)
class Caption:
    """A text and the factors it claims; -1 where it leaves a factor open."""

    text: str
    thing: int = ANY
    colour: int = ANY
    count: int = ANY
    size: int = ANY
    scenery: int = ANY


def _pick(rng: np.random.Generator, words: tuple[str, ...], first: float = 0.5) -> str:
    if len(words) == 1 or rng.random() < first:
        return words[0]
    return words[1 + int(rng.integers(len(words) - 1))]


def _thing_word(rng: np.random.Generator, obj: int) -> tuple[str, bool]:
    """Return a word for the object ("" for none) and whether it is a keyword, which takes no number."""
    entry = load_objects()[obj]
    draw = rng.random()
    if draw < 0.60:
        return _pick(rng, entry.names, 0.65), False
    if draw < 0.80:
        return _pick(rng, entry.kinds, 0.6), False
    if draw < 0.90 and entry.keywords:
        return entry.keywords[int(rng.integers(len(entry.keywords)))], True
    return "", False


def _scenery_word(rng: np.random.Generator, name: str) -> str:
    shared = [word for word, names in SHARED_SCENERY_WORDS.items() if name in names]
    if shared and rng.random() < 0.12:
        return shared[int(rng.integers(len(shared)))]
    return _pick(rng, SCENERIES[name], 0.4)


def _article(words: str) -> str:
    return "an" if words[:1] in "aeio" and not words.startswith("one") else "a"


def _noun_phrase(rng: np.random.Generator, count: int, adjectives: list[str], noun: str) -> str:
    """Join number, adjectives and noun; `count` is -1 where the number is left open."""
    if count == ANY:
        return " ".join([*adjectives, noun])
    word = _pick(rng, COUNT_WORDS[count], 0.6)
    tail = " ".join([*adjectives, noun if count == 1 else plural(noun)])
    return f"{_article(tail) if word == 'a' else word} {tail}"


def caption(rng: np.random.Generator, *, obj: int, colour: int, count: int, size: int, scenery: int) -> Caption:
    """Write one caption of a picture.

    Parameters
    ----------
    rng : numpy.random.Generator
    obj, colour, count, size, scenery : int
        Numbers of the factors; `colour` is past the last colour where the object keeps its own colours.
        `count` is 1, 2 or 3.

    Returns
    -------
    Caption
        Never empty; every claim is true of the picture.
    """
    thing, keyword = _thing_word(rng, obj)
    says_colour = colour < len(_COLOUR_NAMES) and rng.random() < 0.55
    says_count = not keyword and rng.random() < 0.5
    says_size = rng.random() < 0.2 and _SIZE_NAMES[size] != "medium"
    says_scenery = rng.random() < 0.5 or not (thing or says_colour or says_count)
    adjectives = []
    if says_size:
        adjectives.append(_pick(rng, SIZES[_SIZE_NAMES[size]], 0.5))
    if says_colour:
        name = _COLOUR_NAMES[colour]
        adjectives.append(_pick(rng, (name, *COLOUR_SYNONYMS[name]), 0.8))
    parts = []
    if thing:
        parts.append(_noun_phrase(rng, count if says_count else ANY, adjectives, thing))
    elif says_count:
        parts.append(_noun_phrase(rng, count, adjectives, "thing"))
    elif adjectives:
        parts.append(" ".join(adjectives))
    place = ""
    if says_scenery:
        name = _SCENERY_NAMES[scenery]
        place = _scenery_word(rng, name)
        link = PREPOSITIONS[name] if rng.random() < 0.6 and parts else ""
        parts.append(f"{link} {place}".strip())
    text = " ".join(parts)
    if rng.random() < 0.15:
        text = f"{_OPENINGS[int(rng.integers(len(_OPENINGS)))]} {text}"
    return Caption(
        text,
        thing=object_terms().number[thing] if thing else ANY,
        colour=colour if says_colour else ANY,
        count=count if says_count else ANY,
        size=size if says_size else ANY,
        scenery=scenery_terms().number[place] if place else ANY,
    )
