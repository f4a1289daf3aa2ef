"""Do explanations mean something? Measured on pictures whose factors are known, for any model.

A direction is driven by what makes its head write along it. So for each picture the head's write at the class
token is dotted with the direction (its contribution), and compared, by Spearman's rank correlation over the
pictures, with what the explanation says: the coefficient-weighted presence of its concepts in the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common.vectors import cosine
from headscan.core.comp import comp
from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.evaluate.factors import Factor, check_factors, name_factor, presence
from headscan.heads.factors import vo_factors
from headscan.heads.layers import select_layers
from headscan.heads.writes import head_writes
from headscan.models.joint import JointMap, joint_map
from headscan.models.model import check_model

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["Factor", "Interpretability", "head_writes", "interpretability", "name_factor", "rank_correlations"]

METHODS: dict[str, dict[str, Any]] = {
    "comp": {"method": "comp", "coherence": 0.3},
    "nnomp": {"method": "nnomp"},
    "top_k": {"method": "top_k"},
}


@dataclass(frozen=True, eq=False)
class Interpretability:
    """What `interpretability` measured.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per direction and method ("comp", "nnomp", "top_k"; "random" for COMP's explanations of random
        directions of the same head): ``layer``, ``head``, ``index``, ``sigma``, ``pole``, ``joint_fidelity``,
        ``concepts``, ``factor`` (the value that the explanation names, "" for none), ``share`` (of the code's
        weight on it), ``driven`` (rank correlation of the contribution with that value's presence, NaN without
        one), ``predicted`` (rank correlation with the presence of all its concepts) and ``shuffled`` (mean of
        ``predicted`` when the explanation is another direction's).
    pictures : int
        How many pictures were seen.
    """

    table: pd.DataFrame
    pictures: int

    def summary(self) -> pd.DataFrame:
        """Return one row per method: directions, share that names a factor, and the medians."""
        groups = self.table.groupby("method", sort=False)
        return groups.agg(
            directions=("method", "size"),
            names_one=("factor", lambda names: float((names != "").mean())),
            driven=("driven", "median"),
            predicted=("predicted", "median"),
            shuffled=("shuffled", "median"),
            joint_fidelity=("joint_fidelity", "mean"),
        )


def interpretability(
    model: Model,
    dictionary: Dictionary,
    pictures: torch.Tensor | NDArray[np.float32],
    factors: Sequence[Factor],
    *,
    layers: str | int | Iterable[int] = (-2, -1),
    top: int = 8,
    k: int = 5,
    seed: int = 0,
    batch_size: int = 128,
) -> Interpretability:
    """Measure whether explanations of the strongest write directions say what drives them.

    Of each direction the pole is taken that COMP explains with the higher joint fidelity, which looks at no
    picture. Every method explains the same poles.

    Parameters
    ----------
    model : Model
        From `load_model`; see `head_writes` for which are read.
    dictionary : Dictionary
        Of the same model.
    pictures : float array, shape (n, 3, height, width)
        Preprocessed for the model.
    factors : sequence of Factor
        Their labels, and what the dictionary's concepts claim.
    layers : str, int or iterable of int, default (-2, -1)
        As in `vo_factors`.
    top : int, default 8
        Directions per head, by singular value.
    k : int, default 5
        Concepts per explanation.
    seed : int
        Of the random directions.
    batch_size : int
        Pictures per forward pass.

    Returns
    -------
    Interpretability

    Raises
    ------
    HeadscanError
        If the labels do not fit the pictures or the dictionary, or the model's class token cannot be read.
    """
    check_model(model)
    chosen = select_layers(layers, count=model.layers)
    check_factors(factors, pictures=len(pictures), concepts=len(dictionary))
    if not 1 <= top <= model.rank:
        raise HeadscanError(f"top must be from 1 to the head rank, {model.rank}, not {top}")
    writes = head_writes(model, pictures, layers=chosen, batch_size=batch_size)  # (n, layers, heads, width)
    vectors, labels = _strongest(model, chosen, top=top)
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal(vectors.shape)
    drawn -= drawn.mean(axis=1, keepdims=True)
    sets = {name: (vectors, options) for name, options in METHODS.items()}
    sets["random"] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True), METHODS["comp"])
    parts = []
    for name, (directions, options) in sets.items():
        signs, weights, fidelity = _explained(directions, joint_map(model), dictionary, k=k, options=options)
        signed = (directions * signs[:, None]).reshape(*writes.shape[1:3], top, model.width)
        driving = np.einsum("nlhw,lhtw->nlht", writes, signed).reshape(len(writes), -1)
        correlations = rank_correlations(driving, presence(factors) @ weights.T)
        own = correlations.diagonal()
        columns = labels | {
            "method": name,
            "pole": np.where(signs > 0, "+", "-"),
            "joint_fidelity": fidelity,
            "concepts": [_words(row, dictionary.texts) for row in weights],
            "predicted": own,
            "shuffled": (correlations.sum(axis=1) - own) / max(len(own) - 1, 1),
        }
        parts.append(columns | _named(weights, factors, driving))
    return Interpretability(table=_stack(parts), pictures=len(pictures))


def rank_correlations(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of every column of `left` with every column of `right`.

    Ties share their mean rank. A constant column correlates with nothing: 0.

    Parameters
    ----------
    left, right : ndarray, shapes (n, a) and (n, b)

    Returns
    -------
    ndarray, shape (a, b)
    """
    import pandas as pd

    units = []
    for values in (left, right):
        ranks = pd.DataFrame(values).rank().to_numpy()
        ranks = ranks - ranks.mean(axis=0)
        lengths = np.linalg.norm(ranks, axis=0)
        units.append(np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0))
    correlations: NDArray[np.float64] = units[0].T @ units[1]
    return correlations


def _strongest(model: Model, layers: tuple[int, ...], *, top: int) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return each head's first write directions, (layers * heads * top, width), and their labels."""
    factors = vo_factors(model, layers=layers)
    shape = (len(layers), model.heads, top)
    vectors, sigmas = np.empty((*shape, model.width)), np.empty(shape)
    for row in range(len(layers)):
        _, sigma, vh = svd_factored(factors.left[row], factors.right[row])
        vectors[row], sigmas[row] = vh[:, :top], sigma[:, :top]
    layer, head, index = (axis.ravel() for axis in np.indices(shape))
    labels = {"layer": np.array(layers)[layer], "head": head, "index": index, "sigma": sigmas.ravel()}
    return vectors.reshape(-1, model.width), labels


def _explained(
    vectors: NDArray[np.float64], joint: JointMap, dictionary: Dictionary, *, k: int, options: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return signs (n,) of the poles that COMP says better, and their codes (n, concepts) and fidelity (n,)."""
    atoms = dictionary.atoms.astype(np.float64)

    def explain(directions: NDArray[np.float64], chosen: dict[str, Any]) -> tuple[Any, Any]:
        images = joint.to_joint(directions)
        codes = comp(images, dictionary.packed, k=k, **chosen)
        weights = _dense(codes.indices, codes.coefficients, len(dictionary))
        return weights, cosine(images, weights @ atoms)

    plus, minus = (explain(sign * vectors, METHODS["comp"])[1] for sign in (1.0, -1.0))
    signs = np.where(plus >= minus, 1.0, -1.0)
    return signs, *explain(vectors * signs[:, None], options)


def _dense(indices: NDArray[np.int64], coefficients: NDArray[np.float64], concepts: int) -> NDArray[np.float64]:
    weights = np.zeros((len(indices), concepts))
    np.put_along_axis(weights, indices, coefficients, axis=1)
    return weights


def _named(
    weights: NDArray[np.float64], factors: Sequence[Factor], driving: NDArray[np.float64]
) -> dict[str, list[Any]]:
    by_name = {factor.name: factor for factor in factors}
    columns: dict[str, list[Any]] = {"factor": [], "share": [], "driven": []}
    for row, match in enumerate(name_factor(weights, factors)):
        label, share, driven = "", 0.0, float("nan")
        if match is not None:
            factor, share = by_name[match[0]], match[2]
            label = f"{factor.name}: {factor.values[match[1]]}"
            present = (factor.pictures == match[1]).astype(np.float64)
            driven = float(rank_correlations(driving[:, [row]], present[:, None])[0, 0])
        for name, value in zip(columns, (label, share, driven), strict=True):
            columns[name].append(value)
    return columns


def _words(weights: NDArray[np.float64], texts: Sequence[str]) -> str:
    order = np.argsort(-weights, kind="stable")[: int((weights > 0).sum())]
    return ", ".join(texts[column] for column in order)


def _stack(parts: Sequence[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    order = ("method", "layer", "head", "index", "sigma", "pole", "joint_fidelity", "concepts")
    table: pd.DataFrame = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    ordered: pd.DataFrame = table[[*order, "factor", "share", "driven", "predicted", "shuffled"]]
    return ordered
