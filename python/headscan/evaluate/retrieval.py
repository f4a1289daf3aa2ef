"""Retrieval between pictures and texts, and how far an edit moves embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import embeddings, flags, whole_number
from headscan.common.vectors import cosine, normalise
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Retrieval", "embedding_change", "retrieval"]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Top-1 and top-k retrieval of texts by pictures and of pictures by texts.

    Attributes
    ----------
    text_hits : ndarray of bool, shape (pictures,)
        Whether the best of all texts is true of the picture.
    text_hits_k : ndarray of bool, shape (pictures,)
        Whether one of the k best is.
    image_precision : ndarray of float64, shape (texts,)
        Share of the k best pictures of each text of which it is true.
    image_hits : ndarray of bool, shape (texts,)
        Whether the best of all pictures is one of which the text is true.
    """

    text_hits: NDArray[np.bool_]
    text_hits_k: NDArray[np.bool_]
    image_precision: NDArray[np.float64]
    image_hits: NDArray[np.bool_]


def retrieval(
    images: NDArray[np.float64], texts: NDArray[np.float64], relevant: NDArray[np.bool_], *, k: int = 10
) -> Retrieval:
    """Retrieve texts by pictures and pictures by texts, by cosine.

    Parameters
    ----------
    images : ndarray, shape (pictures, joint_dim)
        From `embed_images`; their length does not matter.
    texts : ndarray, shape (texts, joint_dim)
        From `class_embeddings`, likewise.
    relevant : ndarray of bool, shape (pictures, texts)
        Which texts are true of which pictures.
    k : int, default 10
        Cut to the number of texts or pictures where there are fewer.

    Raises
    ------
    HeadscanError
        If the shapes do not fit, an embedding is not finite or k is below 1.
    """
    images = embeddings(images, "images")
    texts = embeddings(texts, "texts", width=images.shape[1])
    relevant = flags(relevant, "relevant", ndim=2)
    if relevant.shape != (len(images), len(texts)) or relevant.size == 0:
        raise HeadscanError(f"expected relevance of shape {(len(images), len(texts))}, got {relevant.shape}")
    k = whole_number(k, "k", least=1)
    scores = normalise(images) @ normalise(texts).T
    best_texts = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best_images = np.argsort(-scores, axis=0, kind="stable")[:k]
    true_texts = np.take_along_axis(relevant, best_texts, axis=1)
    true_images = np.take_along_axis(relevant, best_images, axis=0)
    return Retrieval(true_texts[:, 0], np.asarray(true_texts.any(axis=1)), true_images.mean(axis=0), true_images[0])


def embedding_change(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each picture's embeddings before and after an edit, (n,).

    Raises
    ------
    HeadscanError
        If the shapes differ or an embedding is not finite.
    """
    before, after = embeddings(before, "before"), embeddings(after, "after")
    if before.shape != after.shape:
        raise HeadscanError(f"expected embeddings of the same pictures, got {before.shape} and {after.shape}")
    return cosine(before, after)
