"""Text towers: from texts to unnormalised embeddings.

In a causal tower nothing after the pooled token can change the embedding, so texts are sorted by length and
every batch is cut to its longest: exact, and many times less work for concept-length texts. Other towers run
at full length.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.hugging_face import embed_ids, is_transformers
from headscan.models.towers.forward import evaluating

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["VISION_PARTS", "Tokens", "encode_tokens", "text_structure", "tokenize"]

VISION_PARTS = ("visual", "vision_model", "visual_projection")  # what in a model has no part in text embeddings
_CAUSAL_TRANSFORMERS = ("CLIPModel", "MetaClip2Model")
_SETTING = (bool, int, float, str)
_NO_SETTING = ("training", "name_or_path")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokenised texts.

    Attributes
    ----------
    ids : ndarray of int64, shape (n, context)
        Token ids, padded.
    lengths : ndarray of int64, shape (n,)
        How many leading tokens decide the embedding: up to the pooled one in a causal tower, else all of
        them.
    causal : bool
        Whether the tower is causal, so that lengths are those of the texts.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    causal: bool

    def select(self, rows: Sequence[int]) -> Tokens:
        """Return the chosen rows."""
        return Tokens(ids=self.ids[rows], lengths=self.lengths[rows], causal=self.causal)


@dataclass(frozen=True, eq=False)
class _CausalTower:
    """The parts of open_clip's own causal text tower, wherever the model keeps them."""

    parts: Any
    pool: str
    eos: int | None

    @property
    def vocabulary(self) -> int:
        """How many tokens have an embedding."""
        return int(self.parts.token_embedding.num_embeddings)

    def pooled_at(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the position (n,) of the token whose feature becomes the embedding."""
        import torch

        if self.pool == "first":
            return ids.new_zeros(ids.shape[0])
        if self.pool == "eos":
            return torch.eq(ids, -1 if self.eos is None else self.eos).int().argmax(dim=-1)
        return ids.argmax(dim=-1)

    def encode(self, ids: torch.Tensor) -> Any:
        """Return embeddings (n, joint_dim) of ids (n, length) cut at or after their pooled token."""
        import torch
        from torch import nn

        parts, length = self.parts, ids.shape[1]
        dtype = parts.transformer.get_cast_dtype()
        x = parts.token_embedding(ids).to(dtype) + parts.positional_embedding[:length].to(dtype)
        x = parts.transformer(x, attn_mask=parts.attn_mask[:length, :length])
        x = parts.ln_final(x)[torch.arange(len(ids), device=ids.device), self.pooled_at(ids)]
        projection = parts.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection


@dataclass(frozen=True, eq=False)
class _TransformersTower(_CausalTower):
    """A causal text tower of transformers: `parts` is the two-tower model, which cuts positions and mask itself."""

    @property
    def vocabulary(self) -> int:
        """How many tokens have an embedding."""
        return int(self.parts.text_model.config.vocab_size)

    def encode(self, ids: torch.Tensor) -> Any:
        """Return embeddings (n, joint_dim) of ids (n, length) cut at or after their pooled token."""
        return embed_ids(self.parts, ids)


def _causal_tower(module: Any) -> _CausalTower | None:
    """Return the model's causal text tower, or None where texts must be encoded at full length."""
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transformer import TextTransformer

    if type(module) is CLIP:
        tower = _CausalTower(module, module.text_pool_type, getattr(module, "text_eos_id", None))
    elif type(module) is CustomTextCLIP and type(module.text) is TextTransformer and module.text.cls_emb is None:
        tower = _CausalTower(module.text, module.text.pool_type, getattr(module.text, "eos_id", None))
    elif is_transformers(module) and type(module).__name__ in _CAUSAL_TRANSFORMERS:
        eos = module.text_model.config.eos_token_id
        legacy = type(module).__name__ == "CLIPModel" and eos == 2  # old configurations name a wrong end token
        return _TransformersTower(module, "argmax" if legacy else "eos", eos)
    else:
        return None
    causal = tower.parts.attn_mask is not None and tower.pool in ("first", "argmax", "eos")
    return tower if causal else None


def text_structure(module: Any) -> str:
    """Return what decides text embeddings besides the weights: the parts, their types and their settings.

    Two towers with the same weights embed differently if their activations, numbers of heads, pooling or
    masks differ.
    """
    lines = []
    for name, part in module.named_modules():
        if name.split(".")[0] not in VISION_PARTS:
            settings = {key: value for key, value in vars(part).items() if isinstance(value, _SETTING)}
            settings = {key: value for key, value in settings.items() if key not in _NO_SETTING and key[0] != "_"}
            masked = getattr(part, "attn_mask", None) is not None
            lines.append(f"{name} {type(part).__qualname__} {masked} {sorted(settings.items())}")
    return "\n".join(lines)


def tokenize(module: Any, tokenizer: Any, texts: Sequence[str]) -> Tokens:
    """Tokenise texts for a model.

    Raises
    ------
    HeadscanError
        If the tokenizer's ids do not fit the model's vocabulary.
    """
    import torch

    ids = torch.as_tensor(tokenizer(list(texts)), dtype=torch.int64)
    tower = _causal_tower(module)
    if tower is not None:
        if ids.numel() and int(ids.max()) >= tower.vocabulary:
            raise HeadscanError(
                f"the tokenizer gives token {int(ids.max())} but the model's vocabulary has {tower.vocabulary}: "
                "pass the model's own tokenizer"
            )
        lengths = tower.pooled_at(ids) + 1
    else:
        lengths = torch.full((len(ids),), ids.shape[1])
    return Tokens(ids=ids.numpy(), lengths=lengths.numpy().astype(np.int64), causal=tower is not None)


def encode_tokens(
    module: torch.nn.Module,
    tokens: Tokens,
    *,
    batch_size: int,
    dtype: str = "float32",
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Encode tokenised texts, shortest first, in batches cut to their longest text.

    Parameters
    ----------
    module : torch.nn.Module
        The open_clip model.
    tokens : Tokens
        From `tokenize`.
    batch_size : int
        Texts per forward pass.
    dtype : str, default "float32"
        Arithmetic of the forward pass; "float16" and "bfloat16" run it under autocast.
    advance : callable, optional
        Called with the number of texts just encoded.

    Returns
    -------
    ndarray of float32, shape (n, joint_dim)
        Embeddings in the order given, not normalised.
    """
    import torch

    tower = _causal_tower(module)
    device = next(module.parameters()).device
    order = np.argsort(tokens.lengths, kind="stable")
    embeddings: NDArray[np.float32] | None = None
    with evaluating(module), torch.inference_mode(), _autocast(device, dtype):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            length = int(tokens.lengths[rows].max())
            ids = torch.from_numpy(tokens.ids[rows, :length]).to(device)
            output = embed_ids(module, ids) if tower is None else tower.encode(ids)
            batch = output.float().cpu().numpy()
            if embeddings is None:
                embeddings = np.empty((len(order), batch.shape[1]), dtype=np.float32)
            embeddings[rows] = batch
            if advance is not None:
                advance(len(rows))
    return np.empty((0, 0), dtype=np.float32) if embeddings is None else embeddings


def _autocast(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[Any]:
    import torch

    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))
