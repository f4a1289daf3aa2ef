"""What the report's first view shows of each head: strength, fidelity, significance, theme and clearest direction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.explanations.head import Explanation
from headscan.explanations.verdicts import head_verdicts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CHANCE", "chance_column", "summarise", "themes"]

CHANCE = 0.05  # explanations whose p or q value is not below this are no better than chance
_EMPTY_WORDS = {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}


def chance_column(table: pd.DataFrame) -> str | None:
    """Return the column that tells chance: ``q_value`` where there is one, else ``p_value``, else None."""
    return next((name for name in ("q_value", "p_value") if name in table.columns), None)


def summarise(table: pd.DataFrame, *, k: int) -> list[dict[str, Any]]:
    """Return one record per layer, head and side, in that order.

    Keys
    ----
    layer, head, side
        Which.
    strength : float
        Square root of the sum of sigma squared: the Frobenius norm of the head's W_VO where all its
        directions are in the table.
    fidelity : float or None
        Mean fidelity, weighted by sigma squared.
    better : float
        Share of explanations better than chance; only where the table tells.
    clear : bool
        Whether the head, both sides as one, says more than chance (`head_verdicts`); only where the table tells.
    words : list of str
        The theme: up to three words, as in `themes`.
    best : dict
        Index, pole and code of the explanation with the largest sigma times fidelity.
    """
    keys = ["layer", "head", "side"]
    chance = chance_column(table)
    weights = _weights(table, chance)
    sizes = table[[*keys, "index"]].assign(energy=table["sigma"] ** 2, weight=weights)
    sizes["carried"] = sizes["energy"] * table["fidelity"]
    sizes["better"] = table[chance] < CHANCE if chance else True
    sizes = sizes.reset_index(drop=True)
    groups = sizes.groupby(keys, sort=True)
    sums = groups.agg({"energy": "sum", "carried": "sum", "better": "mean", "weight": "idxmax"})
    sums["strength"] = np.sqrt(sizes.drop_duplicates([*keys, "index"]).groupby(keys)["energy"].sum())
    words = themes(groups.ngroup().to_numpy(), _texts(table, k), weights[:, None] * _coefficients(table, k))
    clear = set() if chance is None else _clear_heads(table)
    records = []
    for number, ((layer, head, side), row) in enumerate(sums.iterrows()):
        best = Explanation.of(table.iloc[int(row["weight"])])
        record = {
            "layer": int(layer),
            "head": int(head),
            "side": side,
            "strength": float(row["strength"]),
            "fidelity": float(row["carried"] / row["energy"]) if row["energy"] > 0 else 0.0,
            "words": words.get(number, []),
            "best": {"index": best.index, "pole": best.pole, "code": best.code},
        }
        if chance is not None:
            record |= {"better": float(row["better"]), "clear": (layer, head) in clear}
        records.append(record)
    return records


def _clear_heads(table: pd.DataFrame) -> set[tuple[int, int]]:
    heads = head_verdicts(table)
    above = heads[heads["q_value"] < CHANCE]
    return set(zip(above["layer"], above["head"], strict=True))


def themes(
    groups: NDArray[np.int64], texts: NDArray[np.object_], weights: NDArray[np.float64], *, count: int = 3
) -> dict[int, list[str]]:
    """Return for each group the words that most set its texts apart from those of all groups.

    A word's score is its term of the Kullback-Leibler divergence of the group's weighted words from those of
    all groups: ``p log(p / q)``. Words that are everywhere, "the" say, score nothing.

    Parameters
    ----------
    groups : ndarray of int, shape (n,)
        The group of each row.
    texts : ndarray of str, shape (n, k)
        Its texts.
    weights : ndarray, shape (n, k)
        Their non-negative weights.
    count : int, default 3
        Words per group, at most.

    Returns
    -------
    dict
        From group to its words, the highest score first, ties in alphabetical order.
    """
    import pandas as pd

    numbers, distinct = pd.factorize(texts.ravel())
    words = [_words(text) for text in distinct]
    word_numbers, names = pd.factorize(np.array([word for some in words for word in some], dtype=object))
    pairs = pd.DataFrame(
        {"text": np.repeat(np.arange(len(words)), [len(some) for some in words]), "word": word_numbers}
    )
    flat = pd.DataFrame({"group": np.repeat(groups, texts.shape[1]), "text": numbers, "weight": weights.ravel()})
    by_text = flat[flat["weight"] > 0].groupby(["group", "text"], as_index=False)["weight"].sum()
    by_word = by_text.merge(pairs, on="text").groupby(["group", "word"], as_index=False)["weight"].sum()
    inside = by_word["weight"] / by_word.groupby("group")["weight"].transform("sum")
    overall = by_word.groupby("word")["weight"].transform("sum") / by_word["weight"].sum()
    by_word["score"] = inside * np.log(inside / overall)
    by_word["name"] = names[by_word["word"]]
    apart = by_word[by_word["score"] > 0].sort_values(["group", "score", "name"], ascending=[True, False, True])
    named: dict[int, list[str]] = {}
    for group, name in apart.groupby("group")[["group", "name"]].head(count).itertuples(index=False):
        named.setdefault(int(group), []).append(str(name))
    return named


def _words(text: str) -> list[str]:
    return sorted(set(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())) - _EMPTY_WORDS)


def _weights(table: pd.DataFrame, chance: str | None) -> NDArray[np.float64]:
    """Return sigma times fidelity, 0 where that is negative or no better than chance."""
    weights = np.nan_to_num((table["sigma"] * table["fidelity"].clip(lower=0)).to_numpy(dtype=np.float64))
    return weights if chance is None else np.where(table[chance] < CHANCE, weights, 0.0)


def _texts(table: pd.DataFrame, k: int) -> NDArray[np.object_]:
    texts: NDArray[np.object_] = table[[f"concept_{column}" for column in range(k)]].to_numpy(dtype=object)
    return texts


def _coefficients(table: pd.DataFrame, k: int) -> NDArray[np.float64]:
    coefficients: NDArray[np.float64] = table[[f"coefficient_{column}" for column in range(k)]].to_numpy(
        dtype=np.float64
    )
    return coefficients
