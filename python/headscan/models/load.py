"""Load a CLIP model: by name, from a folder or hub, or from memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.terminal import one_line
from headscan.errors import HeadscanError
from headscan.models import checkpoints
from headscan.models.model import Model
from headscan.models.towers import read_tower

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray


__all__ = ["load_model"]

_DTYPES = ("float32", "float16", "bfloat16")
_MEAN_REQUESTS = ("none", "folder:", "estimate:")


def load_model(
    source: str | torch.nn.Module,
    *,
    pretrained: str | Path | None = None,
    device: str | None = None,
    dtype: str = "float32",
    image_mean: ArrayLike | str | Path | None = None,
    tokenizer: Callable[[list[str]], Any] | None = None,
) -> Model:
    """Load a CLIP model whose towers are transformers; ``headscan models`` lists the families.

    Weights stay in their files, where these hold them as the model does: a tensor is read when it is asked for.

    Parameters
    ----------
    source : str or torch.nn.Module
        ``"demo"`` (shipped with headscan), an open_clip architecture such as ``"ViT-L-14"`` together with
        `pretrained`, ``"hf-hub:org/repo"``, ``"local-dir:path"`` (a folder with open_clip_config.json, or
        transformers' config.json and tokenizer, and weights), or a model of open_clip or transformers in memory.
    pretrained : str or path, optional
        For an architecture name alone: an open_clip tag such as ``"laion2b_s32b_b82k"``, a checkpoint file,
        or ``"random"`` for weights drawn from a fixed seed, which mean nothing and have to be asked for.
    device : str, optional
        Where the text tower runs; "cpu" by default. A model in memory stays where it is.
    dtype : {"float32", "float16", "bfloat16"}
        Arithmetic of the text tower's forward pass. Vision weights are always read in float64.
    image_mean : array, path to .safetensors or .npy, or str, optional
        Mean of the model's normalised image embeddings, (joint_dim,); ``"folder:PATH"`` to measure it on the
        pictures there, ``"estimate:noise"`` to estimate it without any (`headscan.models.image_mean`), ``"none"``
        to subtract none. By default the
        ``image_mean.safetensors`` beside a ``local-dir:`` model's weights, where there is one; otherwise none
        is subtracted.
    tokenizer : callable, optional
        From a list of texts to padded token ids. By default the one that open_clip pairs with the model, or the
        one in the transformers folder.

    Returns
    -------
    Model

    Raises
    ------
    HeadscanError
        If the model is unknown, cannot be fetched or read, has NaN or infinite weights (of weights in a file,
        when they are read), or an architecture that is not supported; the message names it and says why.
    """
    if dtype not in _DTYPES:
        raise HeadscanError(f"dtype must be one of {', '.join(_DTYPES)}, not {dtype!r}")
    _check_device(device)
    if isinstance(source, str):
        if device is not None and str(device).split(":")[0] == "meta":
            raise HeadscanError("device 'meta' cannot be used: it holds no weights")
        loaded = checkpoints.load_by_name(source, pretrained=pretrained, device=device or "cpu")
    else:
        loaded = checkpoints.take_module(source, pretrained=pretrained, device=device)
    tower = read_tower(loaded.weights.skeleton, weights=loaded.weights)
    requested = isinstance(image_mean, str) and image_mean.startswith(_MEAN_REQUESTS)
    mean = None if requested else loaded.image_mean if image_mean is None else image_mean
    model = Model(
        name=loaded.name,
        pretrained=loaded.pretrained,
        weights=loaded.weights,
        tower=tower,
        image_mean=None if mean is None else _read_image_mean(mean, joint_dim=tower.joint_dim),
        dtype=dtype,
        make_tokenizer=loaded.make_tokenizer if tokenizer is None else lambda: tokenizer,
        checkpoint=loaded.checkpoint,
    )
    if requested:
        from headscan.models.image_mean import image_mean_for

        model = replace(model, image_mean=image_mean_for(model, str(image_mean)))
    return model


def _check_device(device: str | None) -> None:
    import torch

    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise HeadscanError(
            f"device {device!r} cannot be used: {str(error).splitlines()[0].split('. ')[0]}"
        ) from error


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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".npy":
            loaded = np.load(path, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                raise HeadscanError(f"cannot read the image mean {path}: it is an .npz archive, not one array")
            return loaded
        return load_file(path)["image_mean"]
    except FileNotFoundError as error:
        raise HeadscanError(f"there is no image mean file {path}") from error
    except KeyError as error:
        raise HeadscanError(f"{path} has no tensor named image_mean") from error
    except (OSError, EOFError, ValueError, SafetensorError) as error:
        raise HeadscanError(f"cannot read the image mean {path}: {one_line(str(error))}") from error
