"""Text towers: from texts to unnormalised embeddings.

In a causal tower nothing after the pooled token can change the embedding, and what a token computes depends on its
prefix alone: every text is cut at its pooled token, and of the texts of a batch each prefix is computed once. Exact,
and many times less work for concept-length texts. Towers that are causal but whose layers are not known in detail run
in batches sorted by length and cut to their longest; others at full length.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.prefixes import encode_prefixes, sorted_by_tokens
from headscan.models.towers.causal import read_causal_tower
from headscan.models.towers.embedding import embed_ids, masked_padding
from headscan.models.towers.forward import evaluating

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["VISION_PARTS", "Tokens", "check_tokenizer", "encode_tokens", "join", "text_structure", "tokenize"]

VISION_PARTS = (  # what in a model has no part in text embeddings
    "visual",
    "vision_model",
    "visual_projection",
    "vision_proj",
    "image_model",
    "image_projection",
)
_UNLIKE = ("a photo of a red dog", "snow")
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
        How many leading tokens decide the embedding: up to the pooled one in a causal tower, up to the padding where
        the tower masks it, else all of them.
    own_lengths : bool
        Whether lengths are those of the texts, in a causal tower or one that masks padding.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    own_lengths: bool

    def select(self, rows: Sequence[int]) -> Tokens:
        """Return the chosen rows."""
        return Tokens(ids=self.ids[rows], lengths=self.lengths[rows], own_lengths=self.own_lengths)

    def trimmed(self) -> Tokens:
        """Return the same without the columns after every text's last token that counts, in memory of its own."""
        return Tokens(self.ids[:, : int(self.lengths.max(initial=0))].copy(), self.lengths, self.own_lengths)


def join(parts: Sequence[Tokens]) -> Tokens:
    """Return the texts of several parts, one part after another, padded with zeros to the longest."""
    ids = np.zeros((sum(len(part.ids) for part in parts), max(part.ids.shape[1] for part in parts)), dtype=np.int64)
    start = 0
    for part in parts:
        ids[start : start + len(part.ids), : part.ids.shape[1]] = part.ids
        start += len(part.ids)
    lengths = np.concatenate([part.lengths for part in parts])
    return Tokens(ids=ids, lengths=lengths, own_lengths=all(part.own_lengths for part in parts))


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


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Raise if a model's tokenizer gives any text the same tokens, as one without its vocabulary does.

    Raises
    ------
    HeadscanError
        If it does.
    """
    import torch

    ids = torch.as_tensor(tokenizer(list(_UNLIKE)), dtype=torch.int64)
    if bool((ids[0] == ids[1]).all()):
        raise HeadscanError(
            f"the tokenizer of {name} gives every text the same tokens: its vocabulary is missing; save the base "
            "model's tokenizer beside the weights, or pass load_model(..., tokenizer=...)"
        )


def tokenize(module: Any, tokenizer: Any, texts: Sequence[str]) -> Tokens:
    """Tokenise texts for a model.

    Raises
    ------
    HeadscanError
        If the tokenizer's ids do not fit the model's vocabulary.
    """
    import torch

    ids = torch.as_tensor(tokenizer(list(texts)), dtype=torch.int64)
    tower, padding = read_causal_tower(module), masked_padding(module)
    if tower is not None:
        if ids.numel() and int(ids.max()) >= tower.vocabulary:
            raise HeadscanError(
                f"the tokenizer gives token {int(ids.max())} but the model's vocabulary has {tower.vocabulary}: "
                "pass the model's own tokenizer"
            )
        lengths = tower.pooled_at(ids) + 1
    elif padding is not None:
        positions = torch.arange(1, ids.shape[1] + 1)
        lengths = torch.where(ids != padding, positions, 1).amax(dim=1)
    else:
        lengths = torch.full((len(ids),), ids.shape[1])
    return Tokens(
        ids=ids.numpy(),
        lengths=lengths.numpy().astype(np.int64),
        own_lengths=tower is not None or padding is not None,
    )


def encode_tokens(
    module: torch.nn.Module, tokens: Tokens, *, batch_size: int, dtype: str = "float32"
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Encode tokenised texts batch by batch, neighbours in the tree of their prefixes together.

    Parameters
    ----------
    module : torch.nn.Module
        The model of open_clip or transformers.
    tokens : Tokens
        From `tokenize`.
    batch_size : int
        Texts per forward pass.
    dtype : str, default "float32"
        Arithmetic of the forward pass; "float16" and "bfloat16" run it under autocast.

    Yields
    ------
    rows : ndarray of int64, shape (b,)
        Which texts these are; each comes once.
    embeddings : ndarray of float32, shape (b, joint_dim)
        Their embeddings, not normalised.
    """
    import torch

    device = next(module.parameters()).device
    encode, order = _encoder(module, tokens)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        with evaluating(module), torch.inference_mode(), _autocast(device, dtype):
            embeddings = encode(rows, device).float().cpu().numpy()
        yield rows, embeddings


def _encoder(module: torch.nn.Module, tokens: Tokens) -> tuple[Callable[..., Any], NDArray[np.int64]]:
    """Return how to encode chosen rows, and the order in which to take them."""
    import torch

    tower = read_causal_tower(module)
    if tower is not None and tower.blocks:

        def together(rows: NDArray[np.int64], device: torch.device) -> Any:
            return encode_prefixes(tower, tokens.ids[rows], tokens.lengths[rows], device=device)

        return together, sorted_by_tokens(tokens.ids, tokens.lengths)
    whole = tower.encode if tower is not None else partial(embed_ids, module)
    padding = masked_padding(module)

    def trimmed(rows: NDArray[np.int64], device: torch.device) -> Any:
        ids, lengths = tokens.ids[rows], tokens.lengths[rows]
        if padding is not None:  # whatever they were joined with behind their ends
            ids = np.where(np.arange(ids.shape[1]) < lengths[:, None], ids, padding)
        return whole(torch.from_numpy(ids[:, : int(lengths.max())]).to(device))

    return trimmed, np.argsort(tokens.lengths, kind="stable")


def _autocast(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[Any]:
    import torch

    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))
