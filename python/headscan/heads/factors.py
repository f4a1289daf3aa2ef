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
    from headscan.models.towers import AttentionWeights

__all__ = ["QKFactors", "VOFactors", "mlp_input", "mlp_output", "qk_factors", "vo_factors"]


@dataclass(frozen=True, eq=False)
class VOFactors:
    """Value-output factors of the heads of some layers, in float64.

    Unpacks as a pair: ``left, right = vo_factors(model)``.

    Attributes
    ----------
    layers : tuple of int
        The layers read, numbered from 0; the first axis of every array.
    left : ndarray, shape (layers, heads, width, rank)
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
    left : ndarray, shape (layers, heads, width, rank)
        What each head's queries read: W_Q, folded and centred like the values of `VOFactors`.
    right : ndarray, shape (layers, heads, rank, width)
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
    left = np.empty((len(chosen), source.heads, source.width, source.rank))
    right = np.empty((len(chosen), source.heads, source.rank, source.width))
    for row, layer in enumerate(chosen):
        weights = source.read_query_key(layer)
        for factor, matrix in ((left, weights.query), (right, weights.key)):
            read = _folded(matrix, weights.gain) if fold else matrix
            by_head = read.reshape(source.width, source.heads, source.rank).transpose(1, 0, 2)
            factor[row] = by_head if factor is left else by_head.transpose(0, 2, 1)
    return QKFactors(layers=chosen, left=left, right=right, folded=fold)


def _folded(matrix: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what reads the layer norm's input: its gain folded in, the all-ones direction taken out."""
    read = matrix * gain[:, None]
    return np.asarray(read - read.mean(axis=0, keepdims=True), dtype=np.float64)


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
    left = np.empty((len(chosen), source.heads, source.width, source.rank))
    right = np.empty((len(chosen), source.heads, source.rank, source.width))
    bias = np.empty((len(chosen), source.heads, source.width))
    for row, layer in enumerate(chosen):
        value, value_bias, output = _value_output(source.read_attention(layer), fold=fold)
        left[row] = value.reshape(source.width, source.heads, source.rank).transpose(1, 0, 2)
        right[row] = output.reshape(source.heads, source.rank, source.width)
        bias[row] = np.einsum("hr,hrd->hd", value_bias.reshape(source.heads, source.rank), right[row])
    return VOFactors(layers=chosen, left=left, right=right, bias=bias, folded=fold)


def mlp_input(model: Model, layer: int, *, tower: str = "image") -> NDArray[np.float64]:
    """Return what a layer's MLP reads, (width, hidden): its layer norm folded in, centred like `VOFactors.left`."""
    weights = model.get_tower(tower).read_mlp_input(layer)
    return _folded(weights.input, weights.gain)


def mlp_output(model: Model, layer: int, *, fold: bool = True, tower: str = "image") -> NDArray[np.float64]:
    """Return what each hidden unit of a layer's MLP writes, (hidden, width), centred when `fold`."""
    output = model.get_tower(tower).read_mlp(layer).output
    return output - output.mean(axis=1, keepdims=True) if fold else output


def _value_output(
    weights: AttentionWeights, *, fold: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return a layer's value weights (width, heads * rank), value bias and output weights, folded or raw."""
    if not fold:
        return weights.value, weights.value_bias, weights.output
    value_bias = weights.value_bias + weights.shift @ weights.value
    output = weights.output - weights.output.mean(axis=1, keepdims=True)
    return _folded(weights.value, weights.gain), value_bias, output
