"""Zero-shot classification of pictures: an image folder or arrays, class names and prompt templates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import checked, embeddings, texts
from headscan.common.vectors import normalise
from headscan.errors import HeadscanError
from headscan.evaluate.intervals import wilson
from headscan.models.model import check_model
from headscan.models.pictures import PICTURE_SUFFIXES, embed_images, pictures_in, readable_pictures
from headscan.models.prompts import class_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

_log = logging.getLogger(__name__)

__all__ = ["ZeroShot", "read_image_folder", "zero_shot"]


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """Zero-shot predictions and how many are right.

    Attributes
    ----------
    classes : tuple of str
    scores : ndarray of float64, shape (n, classes)
        Cosines of pictures and classes.
    labels : ndarray of int64, shape (n,)
    """

    classes: tuple[str, ...]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The class of the largest cosine, ties to the first, (n,)."""
        return np.asarray(self.scores.argmax(axis=1))

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Which predictions are right, (n,)."""
        return np.asarray(self.predictions == self.labels)

    @property
    def accuracy(self) -> float:
        """Share of pictures that are classified rightly."""
        return float(self.hits.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(int(self.hits.sum()), len(self.hits))

    def top(self, count: int) -> float:
        """Share of pictures whose class is among the `count` best; ties count for the picture."""
        mine = self.scores[np.arange(len(self.labels)), self.labels]
        return float(((self.scores > mine[:, None]).sum(axis=1) < count).mean())


def zero_shot(
    model: Model,
    images: Any,
    labels: Sequence[int] | NDArray[np.integer[Any]],
    classes: Sequence[str],
    *,
    templates: Sequence[str] = ("a photo of a {}",),
    batch_size: int = 128,
) -> ZeroShot:
    """Classify pictures by the cosine between their embeddings and those of the classes' prompts.

    Parameters
    ----------
    model : Model
    images : array or sequence of paths
        As in `embed_images`, or embeddings (n, joint_dim) that it returned; their length does not matter.
    labels : sequence of int, length n
        Places in `classes`.
    classes : sequence of str
    templates : sequence of str
        Texts with ``{}`` for the class name; the embeddings of a class's prompts are averaged.
    batch_size : int, default 128
        Pictures a forward pass.

    Raises
    ------
    HeadscanError
        If labels do not fit pictures or classes, or an embedding is not finite.
    """
    check_model(model)
    names = texts(classes, "classes")
    expected = f"labels must be whole numbers from 0 to {len(names) - 1}, one a picture"
    known = checked(labels, expected, kinds="biu", ndim=1)
    if known.size == 0 or known.min() < 0 or known.max() >= len(names):
        raise HeadscanError(f"{expected}; got {f'{known.min()} to {known.max()}' if known.size else 'none'}")
    if getattr(images, "ndim", 0) == 2:
        embedded = normalise(embeddings(images, "images", width=model.joint_dim))
    else:
        embedded = embed_images(model, images, batch_size=batch_size)
    if len(embedded) != len(known):
        raise HeadscanError(f"expected one label a picture, got {len(known)} labels for {len(embedded)} pictures")
    scores = embedded @ class_embeddings(model, names, templates=templates).T
    return ZeroShot(names, scores, known.astype(np.int64))


def read_image_folder(folder: str | Path) -> tuple[list[Path], NDArray[np.int64], tuple[str, ...]]:
    """Return the pictures, labels and class names of a folder with one subfolder a class.

    Class names are the subfolders' names with underscores read as spaces, in alphabetical order. Pictures that cannot
    be read are left out, counted and named in a warning; every one is decoded once to be sure.

    Raises
    ------
    HeadscanError
        If there is no such folder or no picture in it that can be read.
    """
    root = files.expanded(folder)
    if not root.is_dir():
        raise HeadscanError(f"there is no image folder {root}")
    subfolders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    labels = {path: label for label, subfolder in enumerate(subfolders) for path in pictures_in(subfolder)}
    if not labels:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise HeadscanError(f"{root} holds no pictures: expected one subfolder a class with {kinds}")
    paths, reasons = readable_pictures(labels)
    if not paths:
        raise HeadscanError(f"none of the {len(labels):,} pictures in {root} can be read: {reasons[0]}")
    if reasons:
        _log.warning("%d of %d pictures left out: %s", len(reasons), len(labels), "; ".join(reasons))
    names = tuple(path.name.replace("_", " ") for path in subfolders)
    return paths, np.array([labels[path] for path in paths], dtype=np.int64), names
