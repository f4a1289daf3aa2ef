"""Models: load a CLIP model and hold what headscan reads of it.

This is the one module that may download. Weights are never unpickled: checkpoints are read as safetensors or
with torch's ``weights_only`` loader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan import _checkpoints, _files
from headscan.errors import HeadscanError
from headscan.terminal import one_line
from headscan.text import VISION_PARTS, encode_tokens, text_structure, tokenize
from headscan.towers import Tower, Weights, read_tower

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Model", "check_model", "load_model"]

_DTYPES = ("float32", "float16", "bfloat16")
_MEAN_REQUESTS = ("none", "folder:", "estimate:")
_PROBE = ["a photo of a red Fox, no. 0123456789; caffe latte!", "Zebra-crossing"]  # tells tokenizers apart


@dataclass(frozen=True, eq=False)
class Model:
    """A CLIP model whose vision heads can be explained; made by `load_model`.

    The weights are taken as fixed: after changing them, load the module again.

    Attributes
    ----------
    name : str
        The name it was loaded by.
    pretrained : str or None
        The tag or path of its weights where the name alone does not say.
    weights : Weights
        Its tensors, in memory or still in the checkpoint's files.
    tower : Tower
        Sizes of the vision tower and how its weights are read.
    image_mean : ndarray of float64, shape (joint_dim,), or None
        Mean of its normalised image embeddings, if known.
    dtype : str
        Arithmetic of the text tower's forward pass.
    make_tokenizer : callable
        Makes `tokenizer` when it is first used.
    checkpoint : tuple of Path
        The files that hold its weights; none of a model in memory.
    """

    name: str
    pretrained: str | None
    weights: Weights
    tower: Tower
    image_mean: NDArray[np.float64] | None
    dtype: str
    make_tokenizer: Callable[[], Any]
    checkpoint: tuple[Path, ...] = ()

    @property
    def module(self) -> Any:
        """The model of open_clip or transformers, with all its weights in memory from now on."""
        return self.weights.module

    def get_tower(self, kind: str) -> Tower:
        """Return the tower of a kind, ``"image"`` or ``"text"``."""
        return self.tower if kind == "image" else read_tower(self.weights.skeleton, kind=kind, weights=self.weights)

    @property
    def layers(self) -> int:
        """Number of transformer layers in the vision tower."""
        return self.tower.layers

    @property
    def heads(self) -> int:
        """Attention heads per layer."""
        return self.tower.heads

    @property
    def width(self) -> int:
        """Width of the vision tower's residual stream."""
        return self.tower.width

    @property
    def rank(self) -> int:
        """Dimension of one head."""
        return self.tower.rank

    @property
    def joint_dim(self) -> int:
        """Dimension of the joint image-text space."""
        return self.tower.joint_dim

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer: a callable from a list of texts to padded ids (n, context)."""
        with _checkpoints.explaining(f"the tokenizer of {self.name} cannot be loaded"):
            return self.make_tokenizer()

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 over the names, shapes, dtypes and bytes of all weights, names sorted."""
        return _state_hash(self.weights.state())

    @cached_property
    def text_hash(self) -> str:
        """SHA-256 over everything that decides a text embedding.

        The text tower's weights, its structure (the same weights with another activation embed differently),
        its tokenizer and the arithmetic. The vision tower is left out: a model with edited heads has the same
        one.
        """
        digest = hashlib.sha256(_state_hash(self.weights.state(skip=VISION_PARTS)).encode())
        digest.update(f"{text_structure(self.weights.skeleton)}\n{self.dtype}\n".encode())
        probe = tokenize(self.weights.skeleton, self.tokenizer, _PROBE)
        digest.update(str(probe.ids.shape).encode() + probe.ids.astype("<i8").tobytes())
        return digest.hexdigest()

    def encode_text(self, texts: Sequence[str], *, batch_size: int = 256) -> NDArray[np.float32]:
        """Embed texts.

        Parameters
        ----------
        texts : sequence of str
            Texts, used as they are.
        batch_size : int, default 256
            Texts per forward pass; the result does not depend on it beyond rounding.

        Returns
        -------
        ndarray of float32, shape (n, joint_dim)
            Embeddings, not normalised.
        """
        if len(texts) == 0:
            return np.empty((0, self.joint_dim), dtype=np.float32)
        tokens = tokenize(self.module, self.tokenizer, texts)
        return encode_tokens(self.module, tokens, batch_size=batch_size, dtype=self.dtype)


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
        pictures there, ``"estimate:noise"``, ``"estimate:flat"``, ``"estimate:bias"`` or ``"estimate:text"`` to
        guess it without any (`headscan.image_mean`), ``"none"`` to subtract none. By default the
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
        loaded = _checkpoints.load_by_name(source, pretrained=pretrained, device=device or "cpu")
    else:
        loaded = _checkpoints.take_module(source, pretrained=pretrained, device=device)
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
        from headscan.image_mean import image_mean_for

        model = replace(model, image_mean=image_mean_for(model, str(image_mean)))
    return model


def check_model(model: object) -> None:
    """Raise unless `model` came from `load_model`.

    Raises
    ------
    HeadscanError
        If it did not.
    """
    if not isinstance(model, Model):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise HeadscanError(f"model must be one from load_model, not {kind}")


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


def _state_hash(state: Iterable[tuple[str, torch.Tensor]]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in state:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_image_mean(source: ArrayLike | str | Path, *, joint_dim: int) -> NDArray[np.float64]:
    """Return the image mean as float64 (joint_dim,), from an array or a file."""
    values = _as_array(_load_image_mean(_files.expanded(source)) if isinstance(source, (str, Path)) else source)
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
