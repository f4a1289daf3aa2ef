"""How well explanations match a text: the similarity of their concepts, weighted by coefficients, pole by pole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.vectors import normalise
from headscan.dictionaries.load import Dictionary
from headscan.edit.direction import Direction
from headscan.errors import HeadscanError
from headscan.models.prompts import class_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = [
    "POLES",
    "blocks",
    "check_poles",
    "combine_poles",
    "combined",
    "contrast",
    "embed_queries",
    "mean_similarity",
    "names_one_of",
    "texts",
]

POLES: dict[str, Callable[..., NDArray[np.float64]]] = {"any": np.max, "all": np.min, "mean": np.mean}
_BLOCK_ROWS = 8192


def texts(like: str | Sequence[str], name: str = "like") -> tuple[str, ...]:
    """Return texts given as one, separated by commas, or as several.

    Raises
    ------
    HeadscanError
        If there are none.
    """
    given = like.split(",") if isinstance(like, str) else list(like) if isinstance(like, Iterable) else [like]
    if not all(isinstance(text, str) for text in given) or not any(text.strip() for text in given):
        raise HeadscanError(f"{name} is a text, several separated by commas, or a list of texts, not {like!r}")
    return tuple(text.strip() for text in given if text.strip())


def embed_queries(model: Model, dictionary: Dictionary, queries: Sequence[str]) -> NDArray[np.float64]:
    """Return unit vectors (queries, joint_dim) for texts, centred as the dictionary's atoms are."""
    return normalise(class_embeddings(model, queries, templates=dictionary.templates) - dictionary.mean)


def contrast(model: Model, dictionary: Dictionary, like: Sequence[str], unlike: Sequence[str]) -> NDArray[np.float64]:
    """Return each concept's largest similarity to `like`, or minus that to `unlike` where this is larger."""
    wanted = embed_queries(model, dictionary, like)
    avoided = embed_queries(model, dictionary, unlike) if unlike else wanted[:0]
    parts = []
    for block in blocks(dictionary):
        near = (block @ wanted.T).max(axis=1)
        far = (block @ avoided.T).max(axis=1, initial=-np.inf)
        parts.append(np.where(near >= far, near, -far))
    return np.concatenate(parts)


def blocks(dictionary: Dictionary) -> Iterator[NDArray[np.float64]]:
    """Yield a dictionary's atoms in bounded blocks, in float64."""
    for start in range(0, len(dictionary), _BLOCK_ROWS):
        yield dictionary.atoms[start : start + _BLOCK_ROWS].astype(np.float64)


def mean_similarity(
    indices: NDArray[np.int64], coefficients: NDArray[np.float64], similarity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of per-concept values over each code, weighted by its coefficients; 0 for an empty code."""
    total = coefficients.sum(axis=1)
    weighted = (similarity[indices] * coefficients).sum(axis=1)
    return np.asarray(np.divide(weighted, total, out=np.zeros(len(total)), where=total > 0))


def check_poles(poles: str) -> None:
    """Raise unless `poles` is one of `POLES`."""
    if poles not in POLES:
        raise HeadscanError(f"poles must be one of {', '.join(POLES)}, not {poles!r}")


def combined(values: Mapping[Direction, Sequence[float]], poles: str) -> dict[Direction, float]:
    """Return one value a direction from those of its poles."""
    check_poles(poles)
    return {direction: float(POLES[poles](each)) for direction, each in values.items()}


def combine_poles(directions: Sequence[Direction], scores: NDArray[np.float64], poles: str) -> dict[Direction, float]:
    """Return one score a direction from those of its poles, `scores` (rows,) in the order of `directions`."""
    by_direction: dict[Direction, list[float]] = {}
    for direction, score in zip(directions, scores.tolist(), strict=True):
        by_direction.setdefault(direction, []).append(score)
    return combined(by_direction, poles)


def names_one_of(text: str, names: Sequence[str]) -> bool:
    """Say whether a text holds one of the names as whole words, singular or with a plural s."""
    return any(re.search(rf"\b{re.escape(name)}(s|es)?\b", text, flags=re.IGNORECASE) for name in names)
