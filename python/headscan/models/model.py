"""A CLIP model as headscan sees it: its weights, its towers, its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.text import VISION_PARTS, encode_tokens, text_structure, tokenize
from headscan.models.towers import Tower, Weights, read_tower

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["Model", "check_model"]

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
    folder : Path or None
        The folder that it came in, of a ``local-dir:``, ``hf-hub:`` or demo model.
    config : mapping or None
        Its open_clip configuration as it was built, of a model of open_clip from a file.
    image_mean_of : str
        Of which pictures the image mean was taken when the model was loaded, and which were left out.
    """

    name: str
    pretrained: str | None
    weights: Weights
    tower: Tower
    image_mean: NDArray[np.float64] | None
    dtype: str
    make_tokenizer: Callable[[], Any]
    checkpoint: tuple[Path, ...] = ()
    folder: Path | None = None
    config: Mapping[str, Any] | None = None
    image_mean_of: str = ""

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
        batches = encode_tokens(self.module, tokens, batch_size=batch_size, dtype=self.dtype)
        order, embeddings = map(np.concatenate, zip(*batches, strict=True))
        listed: NDArray[np.float32] = embeddings[np.argsort(order)]
        return listed


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


def _state_hash(state: Iterable[tuple[str, torch.Tensor]]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in state:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
