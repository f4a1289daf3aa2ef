"""What a tower is to the rest of headscan: sizes, the weights of each layer, the map into the joint space.

An adapter says where an architecture keeps its parameters, as a `Block` for each layer; what is read and written
there, and how scales are folded, is the same for all of them. All arrays are float64, in the row-vector convention
(``x @ W``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.towers.block import Block, Linear
    from headscan.models.towers.weights import Weights

__all__ = [
    "AttentionWeights",
    "FinalWeights",
    "MLPInputWeights",
    "MLPWeights",
    "QueryKeyWeights",
    "Tower",
    "make_tower",
]


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """One layer's path from the residual stream through values to the attention's output.

    With ``xhat`` the layer norm's output before gain and shift, head h (columns or rows ``h * rank`` to
    ``(h + 1) * rank``) and attention weights ``A`` whose rows sum to one, the layer adds to the stream
    ``sum_h A_h @ ((xhat * gain + shift) @ value[:, h] + value_bias[h]) @ output[h] + output_bias``.
    A layer scale or head scale is already multiplied into `output` and `output_bias`.
    """

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    value: NDArray[np.float64]  # (width, heads * rank)
    value_bias: NDArray[np.float64]  # (heads * rank,)
    output: NDArray[np.float64]  # (heads * rank, width)
    output_bias: NDArray[np.float64]  # (width,)


@dataclass(frozen=True, eq=False)
class QueryKeyWeights:
    """One layer's queries and keys: head h scores ``q_h @ k_h.T`` with ``q = (xhat * gain + shift) @ query + bias``.

    The scores are divided by the square root of the rank before the softmax; that is not folded in.
    """

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    query: NDArray[np.float64]  # (width, heads * rank)
    query_bias: NDArray[np.float64]  # (heads * rank,)
    key: NDArray[np.float64]  # (width, heads * rank)
    key_bias: NDArray[np.float64]  # (heads * rank,)


@dataclass(frozen=True, eq=False)
class MLPInputWeights:
    """One layer's way into the MLP: ``(xhat * gain + shift) @ input + input_bias`` before anything not linear."""

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    input: NDArray[np.float64]  # (width, hidden), or twice hidden where the units have gates
    input_bias: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MLPWeights:
    """One layer's way out of the MLP: hidden units ``a`` add ``a @ output + output_bias`` to the stream.

    A layer scale is already multiplied in, and so is the gain of a layer norm between the units and the output
    matrix; the units are then counted as that norm's normalised values, and its shift is in `output_bias`.
    """

    output: NDArray[np.float64]  # (hidden, width)
    output_bias: NDArray[np.float64]  # (width,)


@dataclass(frozen=True, eq=False)
class FinalWeights:
    """The last layer norm and the way into the joint space.

    ``(xhat * gain + shift) @ projection + bias``. Where the tower ends in an attention pool, that is the value-output
    path of the pool (its heads together) with whatever linear map follows, and `pool` takes the normalised rows all
    the way: to the embedding of an image of which every token is that row. All attention weights over equal tokens
    come to one, so the pool is then the value-output path, exactly, followed by its residual MLP.
    """

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    eps: float
    projection: NDArray[np.float64]  # (width, joint_dim)
    bias: NDArray[np.float64]  # (joint_dim,)
    pool: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None

    def apply(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the tower makes of rows (n, width) after its last layer: (n, joint_dim), not normalised."""
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        variance = np.mean(centred**2, axis=1, keepdims=True)
        normed = centred / np.sqrt(variance + self.eps) * self.gain + self.shift
        return normed @ self.projection + self.bias if self.pool is None else self.pool(normed)


@dataclass(frozen=True, eq=False)
class Tower:
    """A transformer tower: its sizes, and how its weights are read and written, one layer at a time.

    Attributes
    ----------
    family : str
        The adapter that reads it.
    kind : str
        ``"image"`` or ``"text"``.
    heads, width, rank, joint_dim : int
        Attention heads a layer, width of the residual stream, dimension of a head, dimension of the joint space.
    blocks : tuple of Block
        The layers.
    weights : Weights
        Where their tensors are.
    read_final : callable
        Returns the `FinalWeights`.
    """

    family: str
    kind: str
    heads: int
    width: int
    rank: int
    joint_dim: int
    blocks: tuple[Block, ...]
    weights: Weights
    read_final: Callable[[], FinalWeights]

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return len(self.blocks)

    @property
    def hidden(self) -> int:
        """Number of hidden units of a layer's MLP; 0 where it is of no known kind."""
        output = self.blocks[0].mlp_output
        return 0 if output is None else int(output.weight.shape[1])

    def read_attention(self, layer: int) -> AttentionWeights:
        """Return a layer's value-output path."""
        block = self.blocks[layer]
        gain, shift = self._norm(block.norm)
        value, value_bias = block.value.read(self.weights)
        output, output_bias = block.output.read(self.weights)
        by_row, by_column = self._output_scales(block)
        output = output * by_row[:, None] * by_column
        return AttentionWeights(gain, shift, value, value_bias, output, output_bias * by_column)

    def read_query_key(self, layer: int) -> QueryKeyWeights:
        """Return a layer's queries and keys.

        Raises
        ------
        HeadscanError
            Where something between the projections and the scores is not linear, saying what.
        """
        block = self.blocks[layer]
        if block.qk_refusal is not None:
            raise HeadscanError(
                f"layer {layer} of the {self.kind} tower {block.qk_refusal}: part 'qk' cannot be read"
            )
        query, key = block.query.read(self.weights), block.key.read(self.weights)
        return QueryKeyWeights(*self._norm(block.norm), *query, *key)

    def read_mlp(self, layer: int) -> MLPWeights:
        """Return a layer's MLP output matrix.

        Raises
        ------
        HeadscanError
            Where the layer has no MLP that is known.
        """
        block = self.blocks[layer]
        if block.mlp_output is None:
            raise HeadscanError(f"layer {layer} of the {self.kind} tower has an MLP of unknown kind: part 'mlp'")
        output, bias = block.mlp_output.read(self.weights)
        if block.mlp_norm is not None:
            gain = self.weights.array_or(block.mlp_norm.weight, 1.0, len(output))
            bias = bias + self.weights.array_or(block.mlp_norm.bias, 0.0, len(output)) @ output
            output = output * gain[:, None]
        scale = self.weights.array_or(block.mlp_scale, 1.0, self.width)
        return MLPWeights(output * scale, bias * scale)

    def read_mlp_input(self, layer: int) -> MLPInputWeights:
        """Return what a layer's MLP reads.

        Raises
        ------
        HeadscanError
            Where the layer has no MLP that is known.
        """
        block = self.blocks[layer]
        if block.mlp_input is None:
            raise HeadscanError(f"layer {layer} of the {self.kind} tower has an MLP of unknown kind: part 'mlp'")
        return MLPInputWeights(*self._norm(block.mlp_input_norm), *block.mlp_input.read(self.weights))

    def write_attention_output(
        self, layer: int, output: NDArray[np.float64], output_bias: NDArray[np.float64]
    ) -> None:
        """Set a layer's output projection so that reading it again gives these, up to rounding to its own dtype.

        A layer scale or head scale is divided out again. Weights still in a file are brought into the module first.

        Parameters
        ----------
        layer : int
            The layer.
        output : ndarray, shape (heads * rank, width)
        output_bias : ndarray, shape (width,)

        Raises
        ------
        HeadscanError
            Where the module cannot hold them, and nothing is changed: another shape, no bias to write to, a scale of
            zero, a value beyond its dtype.
        """
        _ = self.weights.module
        projection = self.blocks[layer].output
        by_row, by_column = self._output_scales(self.blocks[layer])
        expected = (len(by_row), len(by_column))
        if output.shape != expected or output_bias.shape != by_column.shape:
            raise HeadscanError(
                f"expected an output projection of shape {expected} and a bias of shape {by_column.shape}, "
                f"got {output.shape} and {output_bias.shape}"
            )
        _write(
            projection,
            _divide(output, by_row[:, None] * by_column),
            _divide(output_bias, by_column),
            what="output projection",
        )

    def write_read(self, layer: int, side: str, matrix: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """Set what a layer's values, queries, keys or MLP read, so that reading it again gives these up to rounding.

        Weights still in a file are brought into the module first.

        Parameters
        ----------
        layer : int
            The layer.
        side : {"value", "query", "key", "input"}
        matrix : ndarray, shape (width, heads * rank), or (width, hidden) for "input"
        bias : ndarray, shape (heads * rank,) or (hidden,)

        Raises
        ------
        HeadscanError
            As in `write_attention_output`.
        """
        _ = self.weights.module
        block = self.blocks[layer]
        into: Linear = getattr(block, "mlp_input" if side == "input" else side)
        _write(into, matrix, bias, what="input projection")

    def _norm(self, norm: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        read = self.weights.array_or
        return read(norm.weight, 1.0, self.width), read(norm.bias, 0.0, self.width)

    def _output_scales(self, block: Block) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what multiplies the rows (heads * rank,) and the columns (width,) of the output projection."""
        heads = self.weights.array_or(block.head_scale, 1.0, self.heads).ravel()
        return np.repeat(heads, self.rank), self.weights.array_or(block.layer_scale, 1.0, self.width)


def make_tower(
    blocks: Sequence[Block],
    *,
    family: str,
    kind: str,
    joint_dim: int,
    weights: Weights,
    read_final: Callable[[], FinalWeights],
) -> Tower:
    """Return the `Tower` of some layers, its sizes taken from them.

    Raises
    ------
    HeadscanError
        If there is no layer, or they differ in their sizes.
    """
    if not blocks:
        raise HeadscanError(f"the {kind} tower has no transformer layers")
    sizes = {(block.heads, *block.output.weight.shape) for block in blocks}  # the weight is (width, heads * rank)
    if len(sizes) != 1:
        raise HeadscanError(f"the layers of the {kind} tower differ in their heads or widths: {sorted(sizes)}")
    heads, width, inner = sizes.pop()
    return Tower(family, kind, heads, width, inner // heads, joint_dim, tuple(blocks), weights, read_final)


def _write(into: Linear, matrix: NDArray[np.float64], bias: NDArray[np.float64], *, what: str) -> None:
    """Set a linear map's parameters to a matrix (in, out) and a bias (out,); all or nothing."""
    rows = slice(None) if into.rows is None else into.rows
    weight = _cast(matrix.T, into.weight, what)
    if into.bias is None:
        if bias.any():
            raise HeadscanError(f"the {what} has no bias: what is written must have a bias of zero")
    else:
        into.bias.data[slice(None) if into.bias_rows is None else into.bias_rows] = _cast(bias, into.bias, what)
    into.weight.data[rows] = weight


def _divide(values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide out a scale; where it is zero the module writes zero, whatever its weight."""
    if np.any((scale == 0) & (values != 0)):
        raise HeadscanError("a layer scale or head scale of zero makes part of the output projection unwritable")
    return np.divide(values, scale, out=np.zeros(values.shape), where=scale != 0)


def _cast(values: NDArray[np.float64], parameter: torch.Tensor, what: str) -> torch.Tensor:
    import torch

    cast = torch.from_numpy(np.ascontiguousarray(values)).to(parameter.dtype)
    if not bool(cast.isfinite().all()):
        raise HeadscanError(f"the changed {what} does not fit the module's {parameter.dtype}")
    return cast
