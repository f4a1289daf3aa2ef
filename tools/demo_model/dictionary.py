"""The demo dictionary: every word the demo CLIP was trained on and combinations of them."""

from __future__ import annotations

from captions import object_terms, scenery_terms
from words import (
    COLOUR_SYNONYMS,
    COLOURS,
    COUNT_WORDS,
    PREPOSITIONS,
    SCENERIES,
    SIZES,
    load_objects,
    plural,
)

_NUMBER_WORDS = ("one", "two", "three")


def single_words() -> list[str]:
    """Return names, synonyms, kinds, keywords, colours, scenery words and sizes."""
    colours = [word for name in COLOURS for word in (name, *COLOUR_SYNONYMS[name])]
    sizes = [word for words in SIZES.values() for word in words if word != "medium sized"]
    return [*object_terms().words, *scenery_terms().words, *colours, *sizes]


def combinations() -> list[str]:
    """Return pairs: number and noun, colour and noun, colour and scenery, noun and scenery."""
    entries = load_objects()
    kinds = list(dict.fromkeys(kind for entry in entries for kind in entry.kinds))
    nouns = [*(entry.name for entry in entries), *kinds]
    pairs = [
        f"{number} {plural(noun) if number != 'one' else noun}"
        for noun in [*nouns, "thing"]
        for number in _NUMBER_WORDS
    ]
    pairs += [f"{colour} {noun}" for noun in [*nouns, "thing"] for colour in COLOURS]
    pairs += [f"{size} {noun}" for noun in nouns for size in ("small", "large")]
    pairs += [f"{colour} {name}" for name in SCENERIES for colour in COLOURS]
    pairs += [
        f"{noun} {PREPOSITIONS[name]} {words[0]}".replace("  ", " ")
        for noun in [*nouns, "thing"]
        for name, words in SCENERIES.items()
    ]
    return pairs


def concepts() -> list[str]:
    """Return the dictionary's lines in order, without duplicates."""
    return list(dict.fromkeys([*single_words(), *combinations()]))


def all_texts() -> list[str]:
    """Return texts that together hold every token a caption or the dictionary can use."""
    openings = [
        "a picture of",
        "a photo of",
        "an image of",
        "a drawing of",
        "an",
        "at by in on the",
        "medium sized",
    ]
    counts = [word for words in COUNT_WORDS.values() for word in words]
    many = [plural(word) for word in (*object_terms().words, "thing")]
    return [*concepts(), *openings, *counts, *many]
