"""Find: which directions of a scan are about a text, and which of their concepts say so."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import whole_number
from headscan.common.vectors import normalise
from headscan.dictionaries.kept import kept_dictionary
from headscan.dictionaries.load import load_dictionary
from headscan.errors import HeadscanError
from headscan.models.model import check_model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.table import ScanInfo
    from headscan.models.model import Model

__all__ = ["brought_by_concepts", "find"]

_log = logging.getLogger(__name__)
_SHOWN = 0.1  # a concept made a row match if it brought this share of what the best one brought


def find(
    table: pd.DataFrame,
    info: ScanInfo,
    text: str,
    *,
    model: Model | None = None,
    dictionary: Dictionary | None = None,
    count: int | None = 10,
) -> pd.DataFrame:
    """Return the rows of a scan's table that are about a text, the best first; see `Scan.find`.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `Scan.table`.
    info : ScanInfo
        Of the same scan.
    text, model, dictionary, count
        As in `Scan.find`.
    """
    if count is not None:
        whole_number(count, "count", least=0)
    brought, names = brought_by_concepts(info, table, text, model=model, dictionary=dictionary)
    score = brought.sum(axis=1)
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > 0][:count]
    best: pd.DataFrame = table.iloc[order].reset_index(drop=True)
    best.insert(0, "score", score[order])
    best.insert(1, "matched", [_reason(*pair) for pair in zip(names[order], brought[order], strict=True)])
    return best


def brought_by_concepts(
    info: ScanInfo,
    rows: pd.DataFrame,
    text: str,
    *,
    model: Model | None,
    dictionary: Dictionary | None,
    prefix: str = "",
) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """Return coefficient times similarity to a text of every concept of some codes, and the concepts: (rows, k) each.

    By meaning with a model, as in `find`, else by words; `prefix` comes before the names of the codes' columns.
    """
    import pandas as pd

    words = _words(text)
    if not words:
        raise HeadscanError(f"a text to find needs at least one word, not {text!r}")
    columns = range(info.k)
    concepts = rows[[f"{prefix}concept_{column}" for column in columns]].to_numpy(dtype=object)
    named = concepts.ravel().copy()
    named[named == ""] = None
    code, used = pd.factorize(named)  # -1 where there is no concept
    if model is not None:
        similarity = _by_meaning(info, text, used, model=model, dictionary=dictionary)
    elif dictionary is None:
        similarity = np.array([float(words <= _words(concept)) for concept in used])
    else:
        raise HeadscanError(
            "a dictionary alone cannot encode the text: pass its model too, or neither to match words"
        )
    coefficients = rows[[f"{prefix}coefficient_{column}" for column in columns]].to_numpy()
    return coefficients * np.append(similarity, 0.0)[code.reshape(coefficients.shape)], concepts


def _by_meaning(
    info: ScanInfo, text: str, concepts: NDArray[np.object_], *, model: Model, dictionary: Dictionary | None
) -> NDArray[np.float64]:
    """Return the cosine of a text with each concept, (concepts,), centred as the scan's dictionary is."""
    from headscan.models.prompts import class_embeddings

    check_model(model)
    if model.weights_hash != info.weights_hash:
        raise HeadscanError(
            f"{model.name} is not the model of this scan, which is {info.model} with other weights: load that one"
        )
    templates = info.template.split(" | ")
    if dictionary is None:
        dictionary = kept_dictionary(info.dictionary, info.dictionary_hash, model=model, templates=templates)
    if dictionary is None:
        _log.warning(
            "the scan's dictionary %s is not in the cache: texts are centred on the concepts that the scan uses "
            "instead, which moves scores a little (dictionary= gives it)", info.dictionary
        )  # fmt: skip
        dictionary = load_dictionary(list(concepts), model=model, template=templates)
    row = {concept: index for index, concept in enumerate(dictionary.texts)}
    missing = next((concept for concept in concepts if concept not in row), None)
    if missing is not None:
        raise HeadscanError(f"the dictionary {dictionary.source} is not the scan's: it has no concept {missing!r}")
    query = normalise(class_embeddings(model, [text], templates=dictionary.templates) - dictionary.mean)[0]
    atoms = dictionary.packed.take(np.array([row[concept] for concept in concepts]))
    return np.asarray(atoms @ query, dtype=np.float64)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _reason(concepts: Sequence[str], brought: NDArray[np.float64]) -> str:
    """Name the concepts that made a row match and what each brought, the most first."""
    order = np.argsort(-brought, kind="stable")
    shown = [column for column in order if brought[column] > max(0.0, _SHOWN * brought.max())]
    return ", ".join(f"{concepts[column]} {brought[column]:.2f}" for column in shown)
