"""Texts of a causal tower encoded together: each of their prefixes once.

What a token computes there depends on it and the tokens before it alone, so the texts of a batch, sorted by their
tokens, are a tree whose nodes are their distinct prefixes. All that is done token by token is done once a node. For
the attention the tree is cut into pieces of neighbouring texts, each with the ancestors of its nodes: small, dense
and masked. In the last layer only the nodes in which a text ends attend and go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.towers.causal import CausalTower

__all__ = ["encode_prefixes", "sorted_by_tokens"]

_PIECE = 64  # nodes attending to one another, ancestors among them
_ALIGNED = 8  # masks of a multiple of this many keys suit a GPU's attention


def sorted_by_tokens(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order (n,) of texts in which those that share prefixes are neighbours.

    Parameters
    ----------
    ids : ndarray of int64, shape (n, context)
    lengths : ndarray of int64, shape (n,)
        How many leading tokens count.
    """
    cut = _cut(ids, lengths)
    order: NDArray[np.int64] = np.lexsort(cut.T[::-1]) if cut.size else np.arange(len(ids))
    return order


def encode_prefixes(
    tower: CausalTower, ids: NDArray[np.int64], lengths: NDArray[np.int64], *, device: torch.device
) -> Any:
    """Return the embeddings (n, joint_dim) of texts in the order of `sorted_by_tokens`.

    Parameters
    ----------
    tower : CausalTower
        One whose blocks are known.
    ids : ndarray of int64, shape (n, context)
    lengths : ndarray of int64, shape (n,)
        Up to the pooled token.
    device : torch.device
        Where the tower is.
    """
    import torch

    tree = _Tree(ids, lengths)
    parts = (tree.tokens, tree.positions, tree.ends)
    tokens, positions, ends = (torch.from_numpy(part).to(device) for part in parts)
    attention, of_ends = (part.to(device) for part in tree.attention())
    x = tower.embed(tokens, positions)
    for block in tower.blocks:
        read = block.norm(x)
        keys_values = block.keys_values(read)
        if block is tower.blocks[-1]:
            x, read, attention = x[ends], read[ends], of_ends
        x = x + block.output(attention.mix(block.query(read), keys_values, heads=block.heads))
        x = x + block.feed(x)
    return tower.project(x)


@dataclass(frozen=True, eq=False)
class _Attention:
    """Who attends to whom.

    Attributes
    ----------
    queries : tensor of int64, shape (pieces, queries)
        The query in each slot of each piece; slots that are left over hold any.
    keys : tensor of int64, shape (pieces, keys)
        The node in each slot.
    mask : tensor of bool, shape (pieces, 1, queries, keys)
        Which slots each query sees.
    home : tensor of int64, shape (n,)
        The slot of each query among all, counted through.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor
    home: torch.Tensor

    def to(self, device: torch.device) -> _Attention:
        return _Attention(*(part.to(device) for part in (self.queries, self.keys, self.mask, self.home)))

    def mix(self, query: torch.Tensor, keys_values: torch.Tensor, *, heads: int) -> torch.Tensor:
        """Return the heads' values as their attention mixes them: (n, width)."""
        from torch.nn.functional import scaled_dot_product_attention

        pieces, width = len(self.keys), query.shape[-1]
        q = query[self.queries].reshape(pieces, -1, heads, width // heads).transpose(1, 2)
        k, v = keys_values[self.keys].reshape(pieces, -1, 2, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=self.mask)  # (pieces, heads, queries, rank)
        return mixed.transpose(1, 2).reshape(-1, width)[self.home]


class _Tree:
    """The distinct prefixes of sorted texts, numbered in the order in which they first come.

    Attributes
    ----------
    tokens, positions : ndarray of int64, shape (nodes,)
        The last token of each prefix, and its position.
    ends : ndarray of int64, shape (texts,)
        The node in which each text ends.
    """

    def __init__(self, ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        cut = _cut(ids, lengths)
        same = (cut[1:] == cut[:-1]) & (cut[1:] >= 0)
        shared = np.zeros(len(ids), dtype=np.int64)  # leading tokens that a text shares with the one before
        shared[1:] = np.logical_and.accumulate(same, axis=1).sum(axis=1)
        self._nodes, new = _numbered(shared, lengths)  # (texts, longest)
        self._last = np.arange(len(ids)), lengths - 1
        self.tokens, self.positions = cut[new], np.nonzero(new)[1]
        self.ends = self._nodes[self._last]
        self._piece = _pieces(shared, lengths)  # of each text
        self._first = np.flatnonzero(np.diff(self._piece, prepend=-1))  # text of each piece
        shared[self._first] = 0  # a piece has its own copy of the ancestors of its nodes
        slots, placed = _numbered(shared, lengths)
        starts = slots[self._first, 0]
        self._slots = slots - starts[self._piece][:, None]  # (texts, longest), within the piece
        self._text, self._position = np.nonzero(placed)  # of each slot, piece by piece
        self._home = new[placed]  # whether a slot is not a copy
        largest = np.diff(starts, append=len(self._text)).max()
        self._wide = int(-(-largest // _ALIGNED) * _ALIGNED)  # slots a piece

    def attention(self) -> tuple[_Attention, _Attention]:
        """Return how each node attends to its ancestors and itself, and the same of `ends` alone."""
        piece, slot = self._piece[self._text], self._slots[self._text, self._position]
        keys = np.zeros((len(self._first), self._wide), dtype=np.int64)
        keys[piece, slot] = self._nodes[self._text, self._position]
        mask = np.zeros((*keys.shape, self._wide), dtype=np.bool_)
        for position in range(self._slots.shape[1]):
            deep = self._position >= position
            mask[piece[deep], slot[deep], self._slots[self._text[deep], position]] = True
        every = _attention(keys, keys, mask, (piece * self._wide + slot)[self._home])
        texts = np.arange(len(self._piece))
        rank = texts - self._first[self._piece]  # of a text in its piece
        queries = np.zeros((len(keys), int(rank.max()) + 1), dtype=np.int64)
        queries[self._piece, rank] = texts
        seen = np.zeros((*queries.shape, self._wide), dtype=np.bool_)
        seen[self._piece, rank] = mask[self._piece, self._slots[self._last]]
        return every, _attention(queries, keys, seen, self._piece * queries.shape[1] + rank)


def _attention(
    queries: NDArray[np.int64], keys: NDArray[np.int64], mask: NDArray[np.bool_], home: NDArray[np.int64]
) -> _Attention:
    import torch

    mask[..., 0] |= ~mask.any(axis=-1)  # slots that are left over see the first: a softmax of nothing is NaN
    return _Attention(*map(torch.from_numpy, (queries, keys, mask[:, None], home)))


def _cut(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ids (n, longest) with -1 after the tokens that count."""
    longest = int(lengths.max(initial=0))
    cut: NDArray[np.int64] = np.where(np.arange(longest) < lengths[:, None], ids[:, :longest], -1)
    return cut


def _numbered(shared: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the number of each text's prefixes (n, longest), and where each number first comes."""
    columns = np.arange(int(lengths.max()))
    new = (columns >= shared[:, None]) & (columns < lengths[:, None])
    numbers = np.where(new, new.cumsum().reshape(new.shape) - 1, -1)
    return np.maximum.accumulate(numbers, axis=0), new


def _pieces(shared: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the piece of each text: neighbours, as many as fit."""
    piece, size, pieces = -1, _PIECE, []
    for own, length in zip((lengths - shared).tolist(), lengths.tolist(), strict=True):
        size += own
        if size > _PIECE:
            piece, size = piece + 1, length
        pieces.append(piece)
    return np.array(pieces)
