"""How well explanations match a text: the similarity of their concepts, weighted by coefficients, pole by pole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.vectors import normalise
from headscan.dictionaries.load import Dictionary, load_dictionary
from headscan.edit.direction import Direction
from headscan.errors import HeadscanError
from headscan.explanations.directions import explain_directions
from headscan.explanations.result import check_scan
from headscan.heads.layers import parse_layers, select_layers
from headscan.models.joint import joint_map
from headscan.models.model import check_model
from headscan.models.prompts import class_embeddings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = [
    "POLES",
    "Codes",
    "chance_levels",
    "combine_poles",
    "contrast",
    "embed_queries",
    "mean_similarity",
    "names_one_of",
    "read_codes",
    "texts",
    "written_rows",
]

POLES: dict[str, Callable[..., NDArray[np.float64]]] = {"any": np.max, "all": np.min, "mean": np.mean}
_CHANCE_DIRECTIONS = 1000


@dataclass(frozen=True, eq=False)
class Codes:
    """The write side of a scan: each explanation's code over the atoms of a dictionary.

    Attributes
    ----------
    rows : pandas.DataFrame
        The scan's rows, in its order.
    indices : ndarray of int64, shape (n, k)
        Rows of the dictionary.
    coefficients : ndarray of float64, shape (n, k)
    dictionary : Dictionary
        Holds at least the concepts of the codes.
    """

    rows: pd.DataFrame
    indices: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    dictionary: Dictionary


def read_codes(
    scan: Scan, model: Model, *, dictionary: Dictionary | None, layers: str | int | Iterable[int] | None
) -> Codes:
    """Return the codes of a scan's write side; without its dictionary, its concepts are encoded again.

    Raises
    ------
    HeadscanError
        If the scan has no write side, or model or dictionary is not the scan's.
    """
    _check_origin(scan, model, dictionary)
    rows = written_rows(scan, layers=layers)
    concepts = rows[[f"concept_{place}" for place in range(scan.info.k)]].to_numpy(dtype=object)
    if dictionary is None:
        named = list(dict.fromkeys(concepts.ravel()))
        dictionary = load_dictionary(named, model=model, template=scan.info.template.split(" | "))
    place_of = {text: place for place, text in enumerate(dictionary.texts)}
    indices = np.array([[place_of[text] for text in code] for code in concepts], dtype=np.int64)
    coefficients = rows[[f"coefficient_{place}" for place in range(scan.info.k)]].to_numpy(dtype=np.float64)
    return Codes(rows, indices, coefficients, dictionary)


def written_rows(scan: Scan, *, layers: str | int | Iterable[int] | None) -> pd.DataFrame:
    """Return what can be edited: the write side of the image tower's value-output directions.

    Raises
    ------
    HeadscanError
        If the scan has none, or not those layers.
    """
    held = check_scan(scan).info.layers
    chosen = held
    if layers is not None and not (isinstance(layers, str) and parse_layers(layers) is None):
        chosen = select_layers(layers, count=max(held) + 1, tower="scanned part of the image")
    absent = sorted({*chosen} - {*held})
    if absent:
        raise HeadscanError(f"layer {absent[0]} is not in the scan: it holds {', '.join(map(str, held))}")
    rows = scan.rows(layers=chosen, side="write", part="vo") if scan.info.tower == "image" else scan.explanations[:0]
    if len(rows) == 0:
        raise HeadscanError(
            "the scan explains no write directions of these layers (image tower, part vo), and only those are edited"
        )
    return rows


def _check_origin(scan: Scan, model: Model, dictionary: Dictionary | None) -> None:
    check_model(model)
    check_scan(scan)
    if model.weights_hash != scan.info.weights_hash:
        raise HeadscanError(
            f"the scan is of {scan.info.model} with the weights {scan.info.weights_hash[:12]}, but {model.name} has "
            f"{model.weights_hash[:12]}: scan this model"
        )
    if dictionary is not None and dictionary.hash != scan.info.dictionary_hash:
        raise HeadscanError(f"the dictionary {dictionary.source} is not the one that the scan was made with")


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


def combine_poles(rows: pd.DataFrame, scores: NDArray[np.float64], poles: str) -> dict[Direction, float]:
    """Return one score a direction from those of its poles.

    Raises
    ------
    HeadscanError
        If `poles` is unknown.
    """
    if poles not in POLES:
        raise HeadscanError(f"poles must be one of {', '.join(POLES)}, not {poles!r}")
    found: dict[Direction, list[float]] = {}
    for layer, head, index, score in zip(rows["layer"], rows["head"], rows["index"], scores, strict=True):
        found.setdefault(Direction("vo", int(layer), int(head), int(index)), []).append(float(score))
    return {direction: float(POLES[poles](values)) for direction, values in found.items()}


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
