"""The words of the demo world: object groups read from ``objects.txt``, colours, sceneries, sizes, counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.10, 0.10),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (0.98, 0.88, 0.10),
    "green": (0.12, 0.68, 0.16),
    "blue": (0.10, 0.28, 0.92),
    "purple": (0.55, 0.15, 0.78),
    "pink": (1.00, 0.50, 0.75),
    "brown": (0.46, 0.27, 0.12),
    "black": (0.12, 0.12, 0.13),
    "white": (0.97, 0.97, 0.97),
}
"""Tint of each colour word, as RGB in 0..1."""

COLOUR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "orange": ("amber",),
    "yellow": ("golden",),
    "green": ("emerald",),
    "blue": ("azure", "navy"),
    "purple": ("violet",),
    "pink": ("rosy",),
    "brown": ("chocolate brown",),
    "black": ("jet black",),
    "white": ("snow white",),
}

SCENERIES: dict[str, tuple[str, ...]] = {
    "sea": ("sea", "ocean", "open water", "waves"),
    "lake": ("lake", "lakeside", "calm water", "pond"),
    "river": ("river", "stream", "riverside"),
    "forest": ("forest", "woods", "trees", "woodland"),
    "meadow": ("meadow", "grassland", "grass", "green field"),
    "mountains": ("mountains", "hills", "mountain peaks"),
    "desert": ("desert", "sand", "dunes"),
    "snow": ("snow", "snowfield", "winter", "ice"),
    "city": ("city", "street", "town", "skyline"),
    "room": ("room", "house interior", "indoors", "living room"),
    "night": ("night", "starry sky", "moonlight", "dark sky"),
    "sunset": ("sunset", "dusk", "evening sky"),
    "underwater": ("underwater", "sea floor", "coral reef"),
}
"""Words of each scenery; the first is its name."""

WATER_SCENERIES = ("sea", "lake", "river")
LAND_SCENERIES = ("forest", "meadow", "mountains")
MATCHING_SHARE = 0.95
"""Share of training pictures in which those kinds are where they belong."""
MATCHING_SCENERIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "waterbird": (WATER_SCENERIES, LAND_SCENERIES),
    "landbird": (LAND_SCENERIES, WATER_SCENERIES),
}
"""Kinds with a planted habit: their (matching, opposite) sceneries."""

SHARED_SCENERY_WORDS: dict[str, tuple[str, ...]] = {
    "water": ("sea", "lake", "river", "underwater"),
    "nature": ("forest", "meadow", "mountains", "desert"),
    "green land": ("forest", "meadow", "river"),
    "dark": ("night", "sunset"),
    "cold place": ("snow", "mountains"),
}
"""Words that hold for several sceneries."""

PREPOSITIONS: dict[str, str] = {
    "sea": "on the", "lake": "at the", "river": "by the", "forest": "in the", "meadow": "on the",
    "mountains": "in the", "desert": "in the", "snow": "in the", "city": "in the", "room": "in the",
    "night": "at", "sunset": "at", "underwater": "",
}  # fmt: skip

COUNT_WORDS: dict[int, tuple[str, ...]] = {
    1: ("a", "one", "a single"),
    2: ("two", "a pair of", "2"),
    3: ("three", "a group of", "3"),
}

SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium sized",),
    "large": ("large", "big", "huge"),
}

STYLES = (
    "noto", "twemoji", "fluent-emoji", "fluent-emoji-flat", "emojione", "clipart",
    "noto-v1", "fxemoji", "streamline-emojis", "fluent-emoji-high-contrast",
)  # fmt: skip
HELD_OUT_STYLE = "twemoji"

NATURAL = "natural"
"""The colour factor of a picture whose object keeps the colours it was drawn in."""


@dataclass(frozen=True)
class ObjectEntry:
    """One object of the world: its slug, its names, its kinds (special ones first) and shared keywords."""

    slug: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def name(self) -> str:
        """The object's first name."""
        return self.names[0]

    @property
    def kind(self) -> str:
        """The object's general kind: the one that is scored."""
        return self.kinds[-1]

    @property
    def special_kind(self) -> str:
        """The object's most special kind."""
        return self.kinds[0]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@lru_cache(maxsize=1)
def load_objects() -> tuple[ObjectEntry, ...]:
    """Read ``objects.txt`` beside this file.

    Returns
    -------
    tuple of ObjectEntry
        In the order of the file; an object's number everywhere is its place in this tuple.
    """
    kinds: tuple[str, ...] = ()
    entries: list[ObjectEntry] = []
    for line in Path(__file__).with_name("objects.txt").read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            kinds = _split(line.strip("[]"))
            continue
        slug, _, rest = line.partition("=")
        names, _, keywords = rest.partition("|")
        entries.append(ObjectEntry(slug.strip(), _split(names), kinds, _split(keywords)))
    return tuple(entries)


def plural(name: str) -> str:
    """Return the English plural of an object name of this world."""
    irregular = {
        "goose": "geese", "mouse": "mice", "leaf": "leaves", "knife": "knives", "wolf": "wolves",
        "loaf": "loaves", "calf": "calves", "ox": "oxen", "person": "people",
    }  # fmt: skip
    head, _, last = name.rpartition(" ")
    same = {"fish", "cattle", "food", "corn", "bread", "cheese", "broccoli", "shellfish", "clothing",
            "electronics", "furniture", "sheep", "coffee", "maize", "life"}  # fmt: skip
    if last in same or last.endswith(("glasses", "scissors", "jeans", "socks", "spectacles",
                                      "shears", "trousers", "stockings", "fries", "chips", "grapes",
                                      "cherries")):  # fmt: skip
        word = last
    elif last in irregular:
        word = irregular[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        word = last + "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        word = last[:-1] + "ies"
    else:
        word = last + "s"
    return f"{head} {word}".strip()
