"""How well explanations match a text: the similarity of their concepts, weighted by coefficients, pole by pole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.vectors import normalise
from headscan.dictionaries.load import Dictionary
from headscan.edit.codes import Codes
from headscan.edit.direction import Direction
from headscan.errors import HeadscanError
from headscan.explanations.directions import explain_directions
from headscan.models.joint import joint_map
from headscan.models.prompts import class_embeddings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = [
    "POLES",
    "chance_levels",
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
_CHANCE_DIRECTIONS = 1000


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
    atoms = dictionary.atoms.astype(np.float64)
    wanted = (atoms @ embed_queries(model, dictionary, like).T).max(axis=1)
    if not unlike:
        return np.asarray(wanted)
    avoided = (atoms @ embed_queries(model, dictionary, unlike).T).max(axis=1)
    return np.asarray(np.where(wanted >= avoided, wanted, -avoided))


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


def combine_poles(rows: pd.DataFrame, scores: NDArray[np.float64], poles: str) -> dict[Direction, float]:
    """Return one score a direction from those of its poles, `scores` (rows,)."""
    by_direction: dict[Direction, list[float]] = {}
    for layer, head, index, score in zip(rows["layer"], rows["head"], rows["index"], scores, strict=True):
        by_direction.setdefault(Direction("vo", int(layer), int(head), int(index)), []).append(float(score))
    return combined(by_direction, poles)


def chance_levels(
    scan: Scan, model: Model, codes: Codes, similarity: NDArray[np.float64], *, poles: str, chances: Sequence[float]
) -> list[float]:
    """Return the scores that given shares of random directions exceed, explained as the scan's were.

    The directions are Gaussian, without the component along all-ones, from a fixed seed.
    """
    vectors = np.random.default_rng(0).standard_normal((_CHANCE_DIRECTIONS, model.width))
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    signs = [1.0 if pole == "+" else -1.0 for pole in scan.info.poles]
    scores = []
    for sign in signs:
        explained = explain_directions(
            sign * vectors, codes.dictionary, joint=joint_map(model), k=scan.info.k, coherence=scan.info.coherence
        )
        scores.append(mean_similarity(explained.indices, explained.coefficients, similarity))
    combined = POLES[poles](np.stack(scores), axis=0)
    return [float(np.quantile(combined, 1 - chance)) for chance in chances]


def names_one_of(text: str, names: Sequence[str]) -> bool:
    """Say whether a text holds one of the names as whole words, singular or with a plural s."""
    return any(re.search(rf"\b{re.escape(name)}(s|es)?\b", text, flags=re.IGNORECASE) for name in names)
