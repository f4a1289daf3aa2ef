"""The table of explanations, a row each, and what a scan records beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import pandas as pd

    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["FIDELITY_VERSION", "ScanInfo", "dictionary_facts", "make_table", "model_facts"]

FIDELITY_VERSION = 2
_FIDELITIES = {
    1: "of an older definition, without normalising the reconstruction before the mean is added back",
    2: "as published",
}

OF_THE_RUN = ("headscan", "created", "image_mean_of")  # differ between runs of the same parameters
_LABELS = (
    "tower",
    "part",
    "layer",
    "head",
    "index",
    "side",
    "pole",
    "sigma",
    "fidelity",
    "joint_fidelity",
    "p_value",
    "q_value",
    "local_fdr",
    "joint_p_value",
    "joint_q_value",
    "joint_local_fdr",
    "certified",
    "concepts",
)


@dataclass(frozen=True)
class ScanInfo:
    """What a scan was made from.

    Attributes
    ----------
    headscan, created : str
        Version of headscan, and when (ISO 8601, UTC).
    model, weights_hash : str
        The model's name and the SHA-256 of its weights.
    pretrained : str or None
        The tag or path of its weights, where the name alone does not say.
    image_mean_hash : str or None
        SHA-256 of the image mean that was subtracted (float64, little-endian), None if none was.
    dictionary, dictionary_hash, template : str
        The dictionary's source, SHA-256 and template.
    concepts : int
        Its number of concepts.
    tower : str
        The tower explained, ``"image"`` or ``"text"``.
    parts, layers, sides, poles : tuple
        What was explained in it.
    k : int
        Concepts per explanation.
    coherence : float
        Weight of the concepts' similarity to one another.
    folded : bool
        Whether the layer norm was folded in.
    significance : int
        Random directions that the explanations were compared with; 0 where they were not.
    method : str
        How concepts were picked, as in `comp`.
    penalty : float
        Of the method "lasso".
    chance : tuple of dict
        What the p-values of each part, side and fidelity rest on: see `headscan.explanations.families`.
    image_mean_of : str
        Of which pictures the image mean was taken, and which were left out; empty where it came from elsewhere.
    fidelity_version : int
        Which definition of fidelity the table holds; `fidelity_definition` says it in words.
    """

    headscan: str
    created: str
    model: str
    pretrained: str | None
    weights_hash: str
    image_mean_hash: str | None
    dictionary: str
    dictionary_hash: str
    template: str
    concepts: int
    tower: str
    parts: tuple[str, ...]
    layers: tuple[int, ...]
    sides: tuple[str, ...]
    poles: tuple[str, ...]
    k: int
    coherence: float
    folded: bool
    significance: int = 0
    method: str = "comp"
    penalty: float = 0.25
    chance: tuple[dict[str, Any], ...] = ()
    image_mean_of: str = ""
    fidelity_version: int = FIDELITY_VERSION

    def __post_init__(self) -> None:
        if self.fidelity_version not in _FIDELITIES:
            known = ", ".join(map(str, _FIDELITIES))
            raise HeadscanError(
                f"the scan's fidelities are of version {self.fidelity_version!r}, this headscan knows {known}: "
                "read it with the headscan that made it"
            )

    @property
    def fidelity_definition(self) -> str:
        """Say which definition of fidelity the table holds."""
        return _FIDELITIES[self.fidelity_version]

    @property
    def mark(self) -> str:
        """A hash of the parameters, which equal scans share: not of when they were made, or by which version."""
        facts = {name: value for name, value in asdict(self).items() if name not in OF_THE_RUN}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def make_table(columns: dict[str, Any], *, texts: Sequence[str], k: int) -> pd.DataFrame:
    """Return the table of `Scan.table`; codes come as columns ``indices`` and ``coefficients``, (n, k)."""
    import pandas as pd

    indices, coefficients = columns["indices"], columns["coefficients"]
    used, inverse = np.unique(indices, return_inverse=True)
    named = np.array([texts[atom] if atom >= 0 else "" for atom in used], dtype=object)
    words = named[inverse.reshape(indices.shape)]  # (n, k)
    table = {name: columns[name] for name in _LABELS if name in columns}
    table["concepts"] = [_joined(*row) for row in zip(words, coefficients, strict=True)]
    for column in range(k):
        table[f"concept_{column}"] = words[:, column]
        table[f"atom_{column}"] = indices[:, column]
        table[f"coefficient_{column}"] = coefficients[:, column]
    frame: pd.DataFrame = pd.DataFrame(table)
    return frame


def _joined(words: Sequence[str], coefficients: np.ndarray[Any, Any]) -> str:
    order = np.argsort(-np.abs(coefficients), kind="stable")
    signs = np.where(coefficients < 0, "-", "")
    return ", ".join(f"{signs[column]}{words[column]}" for column in order if coefficients[column])


def model_facts(model: Model) -> dict[str, Any]:
    """Return what `ScanInfo` keeps of a model, by field."""
    mean = model.image_mean
    return {
        "model": model.name,
        "pretrained": model.pretrained,
        "weights_hash": model.weights_hash,
        "image_mean_hash": None if mean is None else hashlib.sha256(mean.astype("<f8").tobytes()).hexdigest(),
        "image_mean_of": model.image_mean_of,
    }


def dictionary_facts(dictionary: Dictionary, model: Model) -> dict[str, Any]:
    """Return what `ScanInfo` keeps of a dictionary, by field.

    Raises
    ------
    HeadscanError
        If it was encoded by another text tower.
    """
    if dictionary.text_hash != model.text_hash:
        raise HeadscanError(
            f"the dictionary {dictionary.source} was encoded by another text tower than that of "
            f"{model.name}: load it with this model"
        )
    return {
        "dictionary": dictionary.source,
        "dictionary_hash": dictionary.hash,
        "template": dictionary.template,
        "concepts": len(dictionary),
    }
