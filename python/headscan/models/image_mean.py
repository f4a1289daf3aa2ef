"""The mean image embedding that singular vectors are centred on: from pictures, or estimated without any.

Text and image embeddings of a CLIP model lie in different places of the joint space (the modality gap), so each is
centred on its own mean (arXiv 2603.24653). A model seldom comes with its image mean. From pictures of any kind that
the model is meant for, `image_mean_of_folder` measures it. Without pictures, `estimate_image_mean` guesses:

* ``"noise"``: the mean embedding of pictures of noise, from single pixels to coarse patches;
* ``"flat"``: the mean embedding of pictures of a single colour;
* ``"bias"``: the image of the residual stream's zero, which is the last layer norm's shift, projected;
* ``"text"``: the mean text embedding of 2,000 concepts spread over the packaged WordNet list.

A guess has roughly the right direction at best, so it is subtracted at a length of 0.2 and no more: at the length
that it has by itself every one did harm (`benchmarks/paper/image_mean.py` measures it). On the demo model `noise`
brings a little, `flat` nothing, `text` points away from the true mean, and there is no shift for `bias`. By default,
therefore, nothing is subtracted from a model that does not bring its mean, and a folder of pictures is to be
preferred to any guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.terminal import progress_bar
from headscan.common.vectors import normalise, unit
from headscan.errors import HeadscanError
from headscan.models.joint import joint_map
from headscan.models.model import Model
from headscan.models.pictures import embed_pixels, found_pictures, prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ESTIMATES", "estimate_image_mean", "image_mean_for", "image_mean_of_folder", "synthetic_pictures"]

ESTIMATES = ("noise", "flat", "bias", "text")
NONE, FOLDER, ESTIMATE = "none", "folder:", "estimate:"
_PICTURES, _TEXTS, _BATCH = 256, 2000, 32


def image_mean_for(model: Model, source: str, *, progress: bool | None = None) -> NDArray[np.float64] | None:
    """Return the mean that ``"none"``, ``"folder:PATH"`` or ``"estimate:METHOD"`` names.

    Raises
    ------
    HeadscanError
        If it names something else, or cannot be reckoned.
    """
    if source.startswith(FOLDER):
        return image_mean_of_folder(model, source[len(FOLDER) :], progress=progress)
    if source.startswith(ESTIMATE):
        return estimate_image_mean(model, source[len(ESTIMATE) :])
    if source != NONE:
        raise HeadscanError(f"an image mean is a file, {NONE}, {FOLDER}PATH or {ESTIMATE}METHOD, not {source!r}")
    return None


def image_mean_of_folder(
    model: Model, folder: str | Path, *, batch_size: int = _BATCH, progress: bool | None = None
) -> NDArray[np.float64]:
    """Return the mean of the unit embeddings of all pictures in a folder and those below it.

    Parameters
    ----------
    model : Model
        From `load_model`.
    folder : str or path
        Searched for .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff and .webp files.
    batch_size : int, default 32
        Pictures per forward pass.
    progress : bool, optional
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    ndarray of float64, shape (joint_dim,)

    Raises
    ------
    HeadscanError
        If there are no pictures, one cannot be read, or the model's module embeds no images.
    """
    paths = found_pictures(folder)
    total = np.zeros(model.joint_dim)
    with progress_bar("embedding pictures", total=len(paths), unit="pictures", show=progress) as advance:
        for pixels in prepared(model, paths, batch_size=batch_size):
            total += embed_pixels(model, pixels).sum(axis=0)
            advance(len(pixels))
    return total / len(paths)


def estimate_image_mean(
    model: Model, method: str = "noise", *, length: float | None = 0.2, seed: int = 0
) -> NDArray[np.float64]:
    """Return a guess at the mean image embedding that needs no pictures; see the module's text for its worth.

    Parameters
    ----------
    model : Model
        From `load_model`.
    method : {"noise", "flat", "bias", "text"}, default "noise"
        How to guess.
    length : float or None, default 0.2
        Length of the result; None leaves that of the guess.
    seed : int, default 0
        Of the synthetic pictures.

    Returns
    -------
    ndarray of float64, shape (joint_dim,)

    Raises
    ------
    HeadscanError
        If there is no such method, the model's module embeds no images, or its last layer norm has no shift
        (``"bias"``).
    """
    mean = _guess(model, method, seed)
    return mean if length is None else length * normalise(mean[None])[0]


def _guess(model: Model, method: str, seed: int) -> NDArray[np.float64]:
    if method == "bias":
        final = joint_map(model).final
        mean: NDArray[np.float64] = normalise((final.shift @ final.projection)[None])[0]
        if not mean.any():
            raise HeadscanError(
                f"the last layer norm of {model.name} shifts nothing, so there is no mean to guess from its bias: "
                "take another estimate, or pictures"
            )
        return mean
    if method == "text":
        from headscan.dictionaries.vocabulary import read_vocabulary

        texts = read_vocabulary("wordnet").texts
        return np.asarray(unit(model.encode_text(texts[:: len(texts) // _TEXTS][:_TEXTS])).mean(axis=0))
    if method not in ESTIMATES:
        raise HeadscanError(f"an estimate of the image mean is one of {', '.join(ESTIMATES)}, not {method!r}")
    batches = prepared(model, synthetic_pictures(method, seed), batch_size=_BATCH)
    return np.asarray(np.concatenate([embed_pixels(model, pixels) for pixels in batches]).mean(axis=0))


def synthetic_pictures(method: str, seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures (n, 256, 256, 3) of ``"noise"``, from single pixels to coarse patches, or ``"flat"`` ones."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((_PICTURES, 256, 256, 3), np.uint8)
    for number, picture in enumerate(pictures):
        side = 1 if method == "flat" else 2 ** (number % 8 + 1)
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        picture[:] = np.repeat(np.repeat(pixels, 256 // side, axis=0), 256 // side, axis=1)
    return pictures
