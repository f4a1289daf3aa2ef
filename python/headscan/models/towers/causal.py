"""Causal text towers: their parts, for encoding texts cut at their end, or every prefix of theirs once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headscan.models.towers.embedding import embed_ids
from headscan.models.towers.transformers import is_transformers

if TYPE_CHECKING:
    import torch

__all__ = ["CausalBlock", "CausalTower", "read_causal_tower"]

_KINDS = ("CLIP", "CLIPSeg", "MetaClip2", "OwlViT", "Owlv2", "XCLIP")
_TRANSFORMERS = tuple(f"{kind}Model" for kind in _KINDS)
_TRANSFORMERS_LAYERS = tuple(f"{kind}EncoderLayer" for kind in _KINDS)
_TRANSFORMERS_ATTENTION = tuple(f"{kind}Attention" for kind in _KINDS)
_LARGEST = ("OwlViTModel", "Owlv2Model", "XCLIPModel")  # pool the token of the largest id

Map = Callable[["torch.Tensor"], Any]


@dataclass(frozen=True, eq=False)
class CausalBlock:
    """One layer of a tower: ``x + output(attention)``, then ``x + feed(x)``, in the module's own parts.

    Attributes
    ----------
    heads : int
    norm : callable
        What its attention reads, from the stream.
    query, keys_values : callable
        From that, (n, width) to (n, width), and to (n, 2 width): keys, then values.
    output : callable
        From the heads' mixed values (n, width) to what is added to the stream.
    feed : callable
        From the stream to what the MLP adds.
    """

    heads: int
    norm: Map
    query: Map
    keys_values: Map
    output: Map
    feed: Map


@dataclass(frozen=True, eq=False)
class CausalTower:
    """A text tower in which a token's features depend on it and the tokens before it alone.

    Attributes
    ----------
    vocabulary : int
        How many tokens have an embedding.
    pool : {"first", "argmax", "eos"}
        Which token's feature becomes the embedding: the first, the first of the largest id, the first end token.
    eos : int or None
        The end token.
    encode : callable
        From ids (n, length), cut at or after their pooled token, to embeddings (n, joint_dim).
    embed : callable
        From ids (n,) and positions (n,) to the stream's start (n, width).
    blocks : tuple of CausalBlock
        Empty where the layers are not all known: then only whole texts can be encoded.
    project : callable
        From the stream's end (n, width) to embeddings.
    """

    vocabulary: int
    pool: str
    eos: int | None
    encode: Map
    embed: Callable[[torch.Tensor, torch.Tensor], Any]
    blocks: tuple[CausalBlock, ...]
    project: Map

    def pooled_at(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the position (n,) of the token whose feature becomes the embedding."""
        import torch

        if self.pool == "first":
            return ids.new_zeros(ids.shape[0])
        if self.pool == "eos":
            return torch.eq(ids, -1 if self.eos is None else self.eos).int().argmax(dim=-1)
        return ids.argmax(dim=-1)


def read_causal_tower(module: Any) -> CausalTower | None:
    """Return the model's causal text tower, or None where texts must be encoded at full length."""
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transformer import TextTransformer

    if type(module) is CLIP:
        tower = _open_clip_tower(module, module.text_pool_type, getattr(module, "text_eos_id", None))
    elif type(module) is CustomTextCLIP and type(module.text) is TextTransformer and module.text.cls_emb is None:
        tower = _open_clip_tower(module.text, module.text.pool_type, getattr(module.text, "eos_id", None))
    elif is_transformers(module) and type(module).__name__ in _TRANSFORMERS:
        tower = _transformers_tower(module)
    else:
        return None
    return tower if tower is not None and tower.pool in ("first", "argmax", "eos") else None


def _open_clip_tower(parts: Any, pool: str, eos: int | None) -> CausalTower | None:
    """Return the tower of open_clip's ``TextTransformer``, or of the ``CLIP`` that holds the parts of one."""
    import torch
    from open_clip.transformer import Transformer
    from torch import nn

    if not _is_causal(parts.attn_mask):
        return None
    transformer = parts.transformer

    def embed(ids: torch.Tensor, positions: torch.Tensor) -> Any:
        dtype = transformer.get_cast_dtype()
        return parts.token_embedding(ids).to(dtype) + parts.positional_embedding[positions].to(dtype)

    def project(x: torch.Tensor) -> Any:
        x, projection = parts.ln_final(x), parts.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def encode(ids: torch.Tensor) -> Any:
        length = ids.shape[1]
        x = embed(ids, torch.arange(length, device=ids.device))
        x = transformer(x, attn_mask=parts.attn_mask[:length, :length])
        return project(x[torch.arange(len(ids), device=ids.device), tower.pooled_at(ids)])

    blocks = [_open_clip_block(block) for block in transformer.resblocks]
    known = _is_plain(transformer, Transformer)
    vocabulary = int(parts.token_embedding.num_embeddings)
    tower = CausalTower(vocabulary, pool, eos, encode, embed, _all_or_none(blocks) if known else (), project)
    return tower


def _open_clip_block(block: Any) -> CausalBlock | None:
    from open_clip.transformer import ResidualAttentionBlock
    from torch import nn
    from torch.nn.functional import linear

    attention = block.attn
    if not _is_plain(block, ResidualAttentionBlock) or not _is_plain(attention, nn.MultiheadAttention):
        return None
    if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
        return None
    width = attention.embed_dim

    def project(rows: slice) -> Map:
        def projected(x: torch.Tensor) -> Any:
            bias = attention.in_proj_bias
            return linear(x, attention.in_proj_weight[rows], None if bias is None else bias[rows])

        return projected

    return CausalBlock(
        heads=attention.num_heads,
        norm=block.ln_1,
        query=project(slice(0, width)),
        keys_values=project(slice(width, None)),
        output=lambda mixed: block.ls_1(attention.out_proj(mixed)),
        feed=lambda x: block.ls_2(block.mlp(block.ln_2(x))),
    )


def _transformers_tower(module: Any) -> CausalTower:
    """Return the text tower of a two-tower model of transformers, which cuts positions and mask itself."""
    text = module.text_model
    eos = text.config.eos_token_id
    name = type(module).__name__
    # Old configurations of CLIP and CLIPSeg name a wrong end token.
    largest = name in _LARGEST or (name in ("CLIPModel", "CLIPSegModel") and eos == 2)
    embeddings = text.embeddings
    return CausalTower(
        vocabulary=int(text.config.vocab_size),
        pool="argmax" if largest else "eos",
        eos=eos,
        encode=lambda ids: embed_ids(module, ids),
        embed=lambda ids, positions: embeddings.token_embedding(ids) + embeddings.position_embedding(positions),
        blocks=_all_or_none([_transformers_block(layer) for layer in text.encoder.layers]),
        project=lambda x: module.text_projection(text.final_layer_norm(x)),
    )


def _transformers_block(layer: Any) -> CausalBlock | None:
    import torch

    attention = layer.self_attn
    if not any(_is_plain(layer, name) for name in _TRANSFORMERS_LAYERS):
        return None
    if not any(_is_plain(attention, name) for name in _TRANSFORMERS_ATTENTION):
        return None
    return CausalBlock(
        heads=attention.num_heads,
        norm=layer.layer_norm1,
        query=attention.q_proj,
        keys_values=lambda x: torch.cat((attention.k_proj(x), attention.v_proj(x)), dim=-1),
        output=attention.out_proj,
        feed=lambda x: layer.mlp(layer.layer_norm2(x)),
    )


def _is_causal(mask: torch.Tensor | None) -> bool:
    """Say whether an additive mask hides what comes after a token, and nothing else."""
    import torch

    if mask is None or mask.ndim != 2 or not mask.is_floating_point():
        return False
    after = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool(torch.equal(mask, torch.zeros_like(mask).masked_fill(after, float("-inf"))))


def _is_plain(part: Any, kind: type | str) -> bool:
    """Say whether a part is of a type itself, by its class or name, and does nothing more than its parts do."""
    of_kind = type(part) is kind if isinstance(kind, type) else type(part).__name__ == kind
    hooked = part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
    return of_kind and not hooked


def _all_or_none(blocks: list[CausalBlock | None]) -> tuple[CausalBlock, ...]:
    known = tuple(block for block in blocks if block is not None)
    return known if len(known) == len(blocks) else ()
