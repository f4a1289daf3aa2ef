"""Factors of attention heads, value-output and query-key: LayerNorm folded in, centred.

Row-vector convention: a head writes ``A @ (xhat @ left @ right + bias)`` into the residual stream, where
``xhat`` is the normalised stream before the layer norm's gain and shift and ``A`` are its attention weights
(rows sum to one).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.heads.layers import select_layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["QKFactors", "VOFactors", "mlp_input", "mlp_output", "qk_factors", "vo_factors"]


@dataclass(frozen=True, eq=False)
class VOFactors:
    """Value-output factors of the heads of some layers, in float64.

    Unpacks as a pair: ``left, right = vo_factors(model)``.

    Attributes
    ----------
    layers : tuple of int
        The layers read, numbered from 0; the first axis of every array.
    left : ndarray, shape (layers, heads, read_width, rank)
        What each head reads: W_V, with the layer norm's gain folded in and centred when `folded`.
    right : ndarray, shape (layers, heads, rank, width)
        What each head writes: W_O, with any layer scale or head scale multiplied in, centred when `folded`.
    bias : ndarray, shape (layers, heads, width)
        What each head writes whatever it reads: its value bias, plus the layer norm's shift through W_V when
        `folded`, through `right`. The output projection's own bias belongs to no head and is not in it.
    folded : bool
        Whether the layer norm is folded in. If not, the head reads ``xhat * gain + shift`` instead of
        ``xhat``.
    """

    layers: tuple[int, ...]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    bias: NDArray[np.float64]
    folded: bool

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Yield `left`, then `right`."""
        yield self.left
        yield self.right


@dataclass(frozen=True, eq=False)
class QKFactors:
    """Query-key factors of the heads of some layers, in float64.

    Unpacks as a pair: ``left, right = qk_factors(model)``.

    Attributes
    ----------
    layers : tuple of int
        The layers read, numbered from 0; the first axis of every array.
    left : ndarray, shape (layers, heads, read_width, rank)
        What each head's queries read: W_Q, folded and centred like the values of `VOFactors`.
    right : ndarray, shape (layers, heads, rank, read_width)
        What its keys read: W_K transposed, likewise.
    folded : bool
        Whether the layer norm is folded in.
    """

    layers: tuple[int, ...]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    folded: bool

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Yield `left`, then `right`."""
        yield self.left
        yield self.right


def qk_factors(
    model: Model, *, layers: str | int | Iterable[int] = "all", fold: bool = True, tower: str = "image"
) -> QKFactors:
    """Return the query-key factors of every head of the chosen layers.

    ``xhat_i @ left @ right @ xhat_j`` is what the contents of two tokens add to the score of token i for token j,
    before it is divided by the square root of the rank. What the biases of queries and keys add is left out: it
    depends on one of the two tokens at most.

    Parameters
    ----------
    model, layers, fold, tower
        As in `vo_factors`.

    Raises
    ------
    HeadscanError
        If a layer does not exist, or queries and keys meet other than by their inner product (qk_norm, rotary
        position embedding).
    """
    source = model.get_tower(tower)
    chosen = select_layers(layers, count=source.layers, tower=tower)
    left = np.empty((len(chosen), source.heads, source.read_width, source.rank))
    right = np.empty((len(chosen), source.heads, source.rank, source.read_width))
    for row, layer in enumerate(chosen):
        weights = source.read_query_key(layer)
        for factor, matrix in ((left, weights.query), (right, weights.key)):
            read = source.fold_read(layer, matrix, weights.gain) if fold else matrix
            by_head = read.reshape(source.read_width, source.heads, source.rank).transpose(1, 0, 2)
            factor[row] = by_head if factor is left else by_head.transpose(0, 2, 1)
    return QKFactors(layers=chosen, left=left, right=right, folded=fold)


def vo_factors(
    model: Model, *, layers: str | int | Iterable[int] = "all", fold: bool = True, tower: str = "image"
) -> VOFactors:
    """Return the value-output factors of every head of the chosen layers.

    With ``W_V`` (width, rank) and ``W_O`` (rank, width) of a head and layer norm ``xhat * gain + shift``,
    folding (arXiv 2603.24653, preliminaries) gives ``left = C (gain * W_V)`` and ``right = W_O C``, where ``C
    = I - 1 1^T / width`` removes the all-ones direction: ``xhat`` has none, and the next layer norm removes
    what is written along it. The product ``left @ right`` is the head's W_VO.

    Parameters
    ----------
    model : Model
        From `load_model`.
    layers : str, int or iterable of int, default "all"
        ``"all"``, one layer, a range such as ``"20-23"``, a list such as ``"3,5-7"``, or integers. Layers are
        numbered from 0; negative ones count from the end.
    fold : bool, default True
        Fold the layer norm and centre. If False the raw weights come back and `bias` is the value bias
        through W_O.
    tower : {"image", "text"}
        Whose heads.

    Returns
    -------
    VOFactors
        Float64 arrays, layers in ascending order.

    Raises
    ------
    HeadscanError
        If a layer does not exist.
    """
    source = model.get_tower(tower)
    chosen = select_layers(layers, count=source.layers, tower=tower)
    left = np.empty((len(chosen), source.heads, source.read_width, source.rank))
    right = np.empty((len(chosen), source.heads, source.rank, source.width))
    bias = np.empty((len(chosen), source.heads, source.width))
    for row, layer in enumerate(chosen):
        weights = source.read_attention(layer)
        value, value_bias, output = weights.value, weights.value_bias, weights.output
        if fold:
            value_bias = value_bias + weights.shift @ value
            value, output = source.fold_read(layer, value, weights.gain), source.fold_write(output)
        left[row] = value.reshape(source.read_width, source.heads, source.rank).transpose(1, 0, 2)
        right[row] = output.reshape(source.heads, source.rank, source.width)
        bias[row] = np.einsum("hr,hrd->hd", value_bias.reshape(source.heads, source.rank), right[row])
    return VOFactors(layers=chosen, left=left, right=right, bias=bias, folded=fold)


def mlp_input(model: Model, layer: int, *, tower: str = "image") -> NDArray[np.float64]:
    """Return what a layer's MLP reads, (width, hidden): its layer norm folded in, centred like `VOFactors.left`."""
    source = model.get_tower(tower)
    weights = source.read_mlp_input(layer)
    return source.fold_read(layer, weights.input, weights.gain)


def mlp_output(model: Model, layer: int, *, fold: bool = True, tower: str = "image") -> NDArray[np.float64]:
    """Return what each hidden unit of a layer's MLP writes, (hidden, width), centred when `fold`."""
    source = model.get_tower(tower)
    output = source.read_mlp(layer).output
    return source.fold_write(output) if fold else output
