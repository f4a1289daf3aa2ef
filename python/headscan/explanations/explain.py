"""Explain anything: an image, a text or an embedding as a sparse sum of concepts, and who wrote an image's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import check_code_options
from headscan.common.reading import read_array
from headscan.common.terminal import one_line
from headscan.common.vectors import cosine, normalise
from headscan.core.comp import comp
from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.explanations.directions import explain_directions
from headscan.explanations.table import make_table
from headscan.heads.contributions import Contributions, contributions
from headscan.heads.factors import vo_factors
from headscan.models.joint import joint_map
from headscan.models.model import check_model
from headscan.models.pictures import preprocess

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy.typing import ArrayLike, NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["EmbeddingExplanation", "explain", "written_in_words"]


@dataclass(frozen=True, eq=False)
class EmbeddingExplanation:
    """An embedding as a sum of concepts; made by `explain`.

    Attributes
    ----------
    kind : {"image", "text", "vector"}
        What was embedded.
    embedding : ndarray of float64, shape (joint_dim,)
        As the model gives it, not normalised.
    concepts : tuple of str
        In the order of picking.
    atoms : ndarray of int64, shape (k,)
        Their rows in the dictionary.
    coefficients : ndarray of float64, shape (k,)
        Non-negative.
    fidelity : float
        Cosine between the centred embedding and the sum.
    certified : bool
        Every pick is proven to be the exact arg-max over the dictionary.
    contributions : Contributions or None
        What wrote it, for an image.
    """

    kind: str
    embedding: NDArray[np.float64]
    concepts: tuple[str, ...]
    atoms: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    fidelity: float
    certified: bool
    contributions: Contributions | None

    def table(self) -> pd.DataFrame:
        """Return the concepts that are used and their coefficients, the largest first."""
        import pandas as pd

        rows = pd.DataFrame({"concept": self.concepts, "atom": self.atoms, "coefficient": self.coefficients})
        used = rows[rows["coefficient"] > 0]
        ordered: pd.DataFrame = used.sort_values("coefficient", ascending=False, kind="stable", ignore_index=True)
        return ordered


def explain(
    model: Model,
    dictionary: Dictionary,
    *,
    image: Any = None,
    text: str | None = None,
    vector: ArrayLike | str | Path | None = None,
    k: int = 5,
    coherence: float = 0.3,
    threads: int = 0,
) -> EmbeddingExplanation:
    """Explain one image, text or vector of the joint space with k concepts (COMP; SpLiCE does so by lasso).

    The embedding is normalised, centred (an image or vector on the model's image mean, where there is one, a text on
    the dictionary's mean) and normalised again, then coded over the dictionary.

    Parameters
    ----------
    model : Model
        From `load_model`.
    dictionary : Dictionary
        From `load_dictionary`, encoded by the same model.
    image : path, PIL image or torch.Tensor (3, height, width), optional
        A tensor is taken as preprocessed; anything else goes through the model's own `preprocess`. The embedding is
        split into contributions as well.
    text : str, optional
        Encoded as it is.
    vector : array or path to .npy, shape (joint_dim,), optional
        An embedding, taken as an image's.
    k, coherence, threads
        As in `comp`.

    Returns
    -------
    EmbeddingExplanation

    Raises
    ------
    HeadscanError
        If not exactly one of `image`, `text` and `vector` is given, or it cannot be read or explained.
    """
    check_model(model)
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    if dictionary.text_hash != model.text_hash:
        raise HeadscanError(f"the dictionary {dictionary.source} is another model's: load it with {model.name}")
    given = {"image": image, "text": text, "vector": vector}
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        raise HeadscanError(f"explain takes one of image, text and vector, got {' and '.join(kinds) or 'none'}")
    (kind,) = kinds
    written = None
    if kind == "image":
        written = contributions(model, _tensor(model, image), threads=threads)
        embedding, mean = written.embedding, model.image_mean
    elif kind == "text":
        if not str(text).strip():
            raise HeadscanError("the text to explain is empty")
        embedding, mean = model.encode_text([str(text)])[0].astype(np.float64), dictionary.mean
    else:
        embedding, mean = _vector(vector, joint_dim=model.joint_dim), model.image_mean
    unit = normalise(embedding[None])
    centred = unit if mean is None else normalise(unit - mean)
    code = comp(centred, dictionary.packed, k=k, coherence=coherence, threads=threads)
    atoms, coefficients = code.indices[0], code.coefficients[0]
    return EmbeddingExplanation(
        kind=kind,
        embedding=embedding,
        concepts=tuple(dictionary.texts[atom] for atom in atoms),
        atoms=atoms,
        coefficients=coefficients,
        fidelity=float(cosine(centred, (coefficients @ dictionary.atoms[atoms])[None])[0]),
        certified=bool(code.certified[0]),
        contributions=written,
    )


def written_in_words(
    parts: Contributions,
    model: Model,
    dictionary: Dictionary,
    *,
    count: int = 10,
    k: int = 5,
    coherence: float = 0.3,
    threads: int = 0,
) -> pd.DataFrame:
    """Return the directions that wrote most of an embedding, each with its explanation.

    Parameters
    ----------
    parts : Contributions
        From `contributions`.
    model, dictionary, k, coherence, threads
        As in `explain`.
    count : int, default 10
        Directions, at most.

    Returns
    -------
    pandas.DataFrame
        Columns `share` and `coefficient` as in `Contributions.table`, the largest share first, then those of
        `Scan.table` without sigma and side: all are write directions.
    """
    parts_table = parts.table()
    rows = parts_table[parts_table["part"] == "direction"].head(count)
    layer, head, index = (rows[name].to_numpy() for name in ("layer", "head", "index"))
    vectors = np.empty((len(rows), model.width))
    for number in np.unique(layer):
        factors = vo_factors(model, layers=[int(number)])
        vh = svd_factored(factors.left[0], factors.right[0], threads=threads)[2]
        vectors[layer == number] = vh[head[layer == number], index[layer == number]]
    vectors *= np.where(rows["pole"] == "+", 1.0, -1.0)[:, None]
    explained = explain_directions(
        vectors, dictionary, joint=joint_map(model), k=k, coherence=coherence, threads=threads
    )
    labels = {name: rows[name].to_numpy() for name in ("layer", "head", "index", "pole")}
    table = make_table(labels | vars(explained), texts=dictionary.texts, k=k)
    for column, name in enumerate(("share", "coefficient")):
        table.insert(column, name, rows[name].to_numpy())
    return table


def _tensor(model: Model, image: Any) -> torch.Tensor:
    import torch

    return image if isinstance(image, torch.Tensor) else preprocess(model, image)


def _vector(vector: ArrayLike | str | Path | None, *, joint_dim: int) -> NDArray[np.float64]:
    loaded = (
        read_array(files.expanded(vector), "the vector file", kinds="fiu")
        if isinstance(vector, (str, Path))
        else vector
    )
    try:
        values = np.asarray(loaded, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise HeadscanError(f"cannot read the vector: {one_line(str(error))}") from error
    if values.shape != (joint_dim,):
        raise HeadscanError(f"a vector must have the model's {joint_dim} joint dimensions, not shape {values.shape}")
    if not (np.isfinite(values).all() and values.any()):
        raise HeadscanError("a vector must be finite and not all zero")
    return values
