"""Load a CLIP model: by name, from a folder or hub, or from memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError
from headscan.models import checkpoints
from headscan.models.image_mean import image_mean_for
from headscan.models.known_means import known_image_mean
from headscan.models.model import Model
from headscan.models.text import check_tokenizer
from headscan.models.towers import read_tower

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

__all__ = ["load_model"]

_DTYPES = ("float32", "float16", "bfloat16")


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
        `pretrained`, ``"hf-hub:org/repo"`` (``@revision`` may follow; the commit becomes part of the model's
        name), ``"local-dir:path"`` (a folder with open_clip_config.json, or
        transformers' config.json and tokenizer, and weights), or a model of open_clip or transformers in memory.
    pretrained : str or path, optional
        For an architecture name alone: an open_clip tag such as ``"laion2b_s32b_b82k"``, a checkpoint file,
        or ``"random"`` for weights drawn from a fixed seed, which mean nothing and have to be asked for.
    device : str, optional
        Where the text tower runs; "cpu" by default. A model in memory stays where it is.
    dtype : {"float32", "float16", "bfloat16"}
        Arithmetic of the text tower's forward pass. Vision weights are always read in float64.
    image_mean : array, path to .safetensors, .npy or the published code's .pt, or str, optional
        Mean of the model's normalised image embeddings, (joint_dim,); ``"folder:PATH"`` to measure it on the
        pictures there, ``"estimate:noise"`` to estimate it without any (`headscan.models.image_mean`), ``"none"``
        to subtract none. By default the ``image_mean.safetensors`` beside a ``local-dir:`` model's weights, or that
        of a named pretrained model where it is known (`headscan.models.known_means`); otherwise none is subtracted.
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
    model = Model(
        name=loaded.name,
        pretrained=loaded.pretrained,
        weights=loaded.weights,
        tower=tower,
        image_mean=None,
        dtype=dtype,
        make_tokenizer=_explained(loaded) if tokenizer is None else lambda: tokenizer,
        checkpoint=loaded.checkpoint,
        folder=loaded.folder,
        config=loaded.config,
    )
    if image_mean is None:
        image_mean = loaded.image_mean
    if image_mean is None and isinstance(source, str):
        image_mean = known_image_mean(loaded.name, loaded.pretrained)
    mean, pictures = image_mean_for(model, image_mean)
    return model if mean is None else replace(model, image_mean=mean, image_mean_of=pictures)


def _explained(loaded: checkpoints.LoadedModel) -> Callable[[], Any]:
    """Return what makes a model's tokenizer, its errors named."""

    def make() -> Any:
        with checkpoints.explaining(f"the tokenizer of {loaded.name} cannot be loaded"):
            tokenizer = loaded.make_tokenizer()
            check_tokenizer(tokenizer, loaded.name)
            return tokenizer

    return make


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
