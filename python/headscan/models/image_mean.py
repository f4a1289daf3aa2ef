"""The mean image embedding that singular vectors are centred on: from pictures, or estimated without any.

Text and image embeddings of a CLIP model lie in different parts of the joint space (the modality gap), so each is
centred on its own mean (arXiv 2603.24653). A model seldom comes with its image mean. From pictures of any kind that
the model is meant for, `image_mean_of_folder` measures it. Without pictures, `estimate_image_mean` takes the mean
embedding of pictures of noise, from single pixels to coarse patches.

The estimate has roughly the right direction at best, so it is subtracted at a length of 0.2 and no more: at the
length that it has by itself it did harm (`benchmarks/paper/image_mean.py` measures it). By default nothing is
subtracted from a model that does not bring its mean, and a folder of pictures is to be preferred to the estimate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.reading import read_array, reading, regular
from headscan.common.terminal import progress_bar
from headscan.common.vectors import normalise
from headscan.errors import HeadscanError
from headscan.models.model import Model
from headscan.models.pictures import PictureFolder, embed_pixels, prepared, read_folder
from headscan.models.published import read_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["estimate_image_mean", "image_mean_for", "image_mean_of_folder", "noise_pictures"]

NONE, FOLDER, ESTIMATE = "none", "folder:", "estimate:noise"
_PICTURES, _BATCH = 256, 32


def image_mean_for(
    model: Model, source: ArrayLike | str | Path | None, *, progress: bool | None = None
) -> tuple[NDArray[np.float64] | None, str]:
    """Return the mean (joint_dim,) that an array, a file or a request gives, and what it is of where pictures are.

    None for None and ``"none"``.

    Raises
    ------
    HeadscanError
        If it is no such mean, or cannot be read or computed.
    """
    if source is None or (isinstance(source, str) and source == NONE):
        return None, ""
    if isinstance(source, str) and source.startswith(FOLDER):
        pictures = read_folder(source[len(FOLDER) :])
        return image_mean_of_folder(model, pictures, progress=progress), str(pictures)
    if isinstance(source, str) and source == ESTIMATE:
        return estimate_image_mean(model), "pictures of noise"
    if isinstance(source, str) and source.startswith(("none", "estimate:")):
        raise HeadscanError(f"an image mean is a file, {NONE}, {FOLDER}PATH or {ESTIMATE}, not {source!r}")
    return _read_image_mean(source, joint_dim=model.joint_dim), ""


def image_mean_of_folder(
    model: Model, folder: str | Path | PictureFolder, *, batch_size: int = _BATCH, progress: bool | None = None
) -> NDArray[np.float64]:
    """Return the mean of the unit embeddings of all pictures in a folder and those below it.

    Parameters
    ----------
    model : Model
        From `load_model`.
    folder : str, path or PictureFolder
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
        If there is no picture that can be read, or the model's module embeds no images.
    """
    paths = (folder if isinstance(folder, PictureFolder) else read_folder(folder)).paths
    total = np.zeros(model.joint_dim)
    with progress_bar("embedding pictures", total=len(paths), unit="pictures", show=progress) as advance:
        for pixels in prepared(model, paths, batch_size=batch_size):
            total += embed_pixels(model, pixels).sum(axis=0)
            advance(len(pixels))
    return total / len(paths)


def estimate_image_mean(model: Model, *, length: float | None = 0.2, seed: int = 0) -> NDArray[np.float64]:
    """Return the mean embedding of pictures of noise; see the module's text for its worth.

    Parameters
    ----------
    model : Model
        From `load_model`.
    length : float or None, default 0.2
        Length of the result; None leaves that of the mean itself.
    seed : int, default 0
        Of the noise.

    Returns
    -------
    ndarray of float64, shape (joint_dim,)

    Raises
    ------
    HeadscanError
        If the model's module embeds no images.
    """
    batches = prepared(model, noise_pictures(seed), batch_size=_BATCH)
    mean = np.concatenate([embed_pixels(model, pixels) for pixels in batches]).mean(axis=0)
    return np.asarray(mean if length is None else length * normalise(mean[None])[0])


def noise_pictures(seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures of noise, (n, 256, 256, 3): from single pixels to coarse patches."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((_PICTURES, 256, 256, 3), np.uint8)
    for number, picture in enumerate(pictures):
        side = 2 ** (number % 8 + 1)
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        picture[:] = np.repeat(np.repeat(pixels, 256 // side, axis=0), 256 // side, axis=1)
    return pictures


def _read_image_mean(source: ArrayLike | str | Path, *, joint_dim: int) -> NDArray[np.float64]:
    """Return the image mean as float64 (joint_dim,), from an array or a file."""
    values = _as_array(_load_image_mean(files.expanded(source)) if isinstance(source, (str, Path)) else source)
    if values.shape != (joint_dim,) or not np.issubdtype(values.dtype, np.floating):
        raise HeadscanError(
            f"the image mean must be {joint_dim} floating-point numbers, the model's joint dimension; "
            f"got {values.dtype} of shape {values.shape}"
        )
    mean = values.astype(np.float64)
    length = float(np.linalg.norm(mean))
    if not np.isfinite(length) or length > 1.001:
        raise HeadscanError(
            f"the image mean has length {length:.4g}: a mean of normalised image embeddings has at most 1; "
            "normalise the embeddings before averaging"
        )
    return mean


def _as_array(values: Any) -> NDArray[Any]:
    import torch

    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            if values.dtype not in (torch.float32, torch.float64) and values.is_floating_point():
                values = values.float()  # NumPy has no bfloat16
        return np.asarray(values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise HeadscanError(f"the image mean is not an array: {str(error).splitlines()[0]}") from error


def _load_image_mean(path: Path) -> Any:
    if path.suffix == ".pt":
        return read_tensor(path, "the image mean", ndim=1)
    from safetensors.torch import load_file

    what = "the image mean file"
    if path.suffix == ".npy":
        return read_array(path, what)
    with reading(regular(path, what), what):
        tensors = load_file(path)
    if "image_mean" not in tensors:
        raise HeadscanError(f"{path} has no tensor named image_mean")
    return tensors["image_mean"]
