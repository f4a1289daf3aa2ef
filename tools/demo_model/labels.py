"""What the dictionary's concepts claim about the demo world's factors, for `headscan.evaluate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from captions import object_terms, scenery_terms
from words import COLOUR_SYNONYMS, COLOURS, COUNT_WORDS, SIZES, load_objects, plural
from world import Factors, names

from headscan.evaluate.interpretability import Factor


def factors(concepts: Sequence[str], pictures: Factors) -> list[Factor]:
    """Return scenery, colour, count, size, kind and object with every concept's claims.

    A kind is claimed by words that hold for objects of one kind only; an object by words that do not hold for
    the whole of its kind.
    """
    things, places = object_terms(), scenery_terms()
    kinds = np.array([names("kind").index(entry.kind) for entry in load_objects()])
    said = [_claims(concept) for concept in concepts]
    object_claims = np.array([_row(claim["thing"], things.holds) for claim in said])
    of_kind = object_claims @ np.eye(len(names("kind")), dtype=bool)[kinds] > 0  # (concepts, kinds)
    of_kind &= (of_kind.sum(axis=1) == 1)[:, None]
    whole = np.array(
        [any((row == (kinds == kind)).all() for kind in range(of_kind.shape[1])) for row in object_claims]
    )
    object_claims &= ~whole[:, None]
    count = np.array([[claim["count"] == value for value in COUNT_WORDS] for claim in said])
    columns = {
        "scenery": (
            names("scenery"),
            pictures.scenery,
            np.array([_row(claim["scenery"], places.holds) for claim in said]),
        ),
        "colour": (
            tuple(COLOURS),
            np.where(pictures.colour < len(COLOURS), pictures.colour, -1),
            _eye(said, "colour", len(COLOURS)),
        ),
        "count": (tuple(str(value) for value in COUNT_WORDS), pictures.count - 1, count),
        "size": (tuple(SIZES), pictures.size, _eye(said, "size", len(SIZES))),
        "kind": (names("kind"), pictures.kind, of_kind),
        "object": (names("object"), pictures.object, object_claims),
    }
    return [Factor(name, *column) for name, column in columns.items()]


def _row(place: int | None, holds: np.ndarray) -> np.ndarray:
    return np.zeros(holds.shape[1], bool) if place is None else holds[place]


def _eye(said: list[dict[str, int | None]], name: str, values: int) -> np.ndarray:
    return np.array([[claim[name] == value for value in range(values)] for claim in said])


@lru_cache(maxsize=1)
def _forms() -> tuple[dict[str, dict[str, int]], list[tuple[re.Pattern[str], str, int]]]:
    """Return each factor's words, and all of them as patterns, the longest first."""
    tables: dict[str, dict[str, int]] = {
        "thing": {form: row for word, row in object_terms().number.items() for form in (word, plural(word))},
        "scenery": dict(scenery_terms().number),
        "colour": {word: n for n, name in enumerate(COLOURS) for word in (name, *COLOUR_SYNONYMS[name])},
        "size": {word: n for n, words in enumerate(SIZES.values()) for word in words},
        "count": {word: value for value, words in COUNT_WORDS.items() for word in words if len(word) > 1},
    }
    words = sorted(((word, name) for name, table in tables.items() for word in table), key=lambda pair: -len(pair[0]))
    return tables, [(re.compile(rf"(?<![\w-]){re.escape(w)}(?![\w-])"), name, tables[name][w]) for w, name in words]


def _claims(concept: str) -> dict[str, int | None]:
    """Read one concept of `dictionary.concepts`: the longest known word of each factor, none read twice."""
    tables, patterns = _forms()
    claims: dict[str, int | None] = dict.fromkeys(tables)
    for name in ("thing", "scenery"):
        if concept in tables[name]:
            return claims | {name: tables[name][concept]}
    rest = concept
    for pattern, name, value in patterns:
        if claims[name] is None and pattern.search(rest):
            claims[name] = value
            rest = pattern.sub(" ", rest, count=1)
    return claims
