"""What a tower is to the rest of headscan: sizes, the weights of each layer, the map into the joint space.

A reader says where an architecture keeps its parameters, as a `Block` for each layer; what is read and written there,
and how scales and norms are folded, is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.towers.layer_weights import (
    AttentionWeights,
    FinalWeights,
    MLPInputWeights,
    MLPWeights,
    QueryKeyWeights,
)

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.towers.block import Block, Linear
    from headscan.models.towers.weights import Weights

__all__ = ["Tower", "make_tower"]


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
        Attention heads a layer, width of what they write, the residual stream, dimension of a head, dimension of the
        joint space.
    read_width : int
        Width of what they read: the stream too, but for a ResNet's attention pool, which reads features of
        convolutions.
    blocks : tuple of Block
        The layers.
    weights : Weights
        Where their tensors are.
    read_final : callable
        Returns the `FinalWeights`.
    writes_centred : bool
        Whether a layer norm takes the all-ones direction out of what is written, before it reaches the joint space.
    note : str
        In what its directions differ from those of other towers; empty where in nothing.
    """

    family: str
    kind: str
    heads: int
    width: int
    read_width: int
    rank: int
    joint_dim: int
    blocks: tuple[Block, ...]
    weights: Weights
    read_final: Callable[[], FinalWeights]
    writes_centred: bool = True
    note: str = ""

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
        gain, shift = self._norm(block.norm, self.read_width)
        value, value_bias = block.value.read(self.weights)
        output, bias = block.output.read(self.weights)
        if block.value_norm is not None:
            bias = bias + self._norm(block.value_norm, len(output))[1] @ output
        scaled_bias = np.zeros(self.width)
        if block.output_norm is not None:
            scaled_bias, bias = self._fold_output_columns(layer, bias), self._norm(block.output_norm, self.width)[1]
        _, by_column = self._output_scales(block)
        output = self._fold_output_columns(layer, self._fold_output_rows(layer, output))
        return AttentionWeights(gain, shift, value, value_bias, output, bias * by_column, scaled_bias)

    def _fold_output_rows(self, layer: int, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows (heads * rank, ...) of an output matrix with what comes between values and output folded in."""
        block = self.blocks[layer]
        if block.value_norm is not None:
            matrix = self._norm(block.value_norm, len(matrix))[0][:, None] * matrix
            matrix = matrix - matrix.mean(axis=0)
        return matrix * self._output_scales(block)[0][:, None]

    def _fold_output_columns(self, layer: int, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return columns (..., width) of an output matrix with what comes after the output folded in."""
        block = self.blocks[layer]
        if block.output_norm is not None:
            matrix = (matrix - matrix.mean(axis=-1, keepdims=True)) * self._norm(block.output_norm, self.width)[0]
        return matrix * self._output_scales(block)[1]

    def fold_read(self, layer: int, matrix: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what reads a layer's normalised stream: the norm's gain folded in, the all-ones direction taken out.

        Without layer norms in front of attention and MLP the stream has that direction, and it stays.
        """
        if self.blocks[layer].norm is None:
            return matrix
        folded = matrix * gain[:, None]
        centred: NDArray[np.float64] = folded - folded.mean(axis=0, keepdims=True)
        return centred

    def fold_write(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what writes, (..., width), without the all-ones direction where a later layer norm removes it."""
        if not self.writes_centred:
            return matrix
        centred: NDArray[np.float64] = matrix - matrix.mean(axis=-1, keepdims=True)
        return centred

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
        return QueryKeyWeights(*self._norm(block.norm, self.read_width), *query, *key)

    def read_mlp(self, layer: int) -> MLPWeights:
        """Return a layer's MLP output matrix.

        Raises
        ------
        HeadscanError
            Where the layer has no MLP that is known.
        """
        block = self.blocks[layer]
        if block.mlp_output is None:
            raise HeadscanError(f"layer {layer} of the {self.kind} tower has no MLP of a known kind: part 'mlp'")
        output, bias = block.mlp_output.read(self.weights)
        scaled_bias = np.zeros(self.width)
        if block.mlp_norm is not None:
            gain, shift = self._norm(block.mlp_norm, len(output))
            bias = bias + shift @ output
            output = output * gain[:, None]
        if block.mlp_output_norm is not None:
            gain, shift = self._norm(block.mlp_output_norm, self.width)
            output = (output - output.mean(axis=1, keepdims=True)) * gain
            scaled_bias, bias = (bias - bias.mean()) * gain, shift
        scale = self.weights.array_or(block.mlp_scale, 1.0, self.width)
        return MLPWeights(output * scale, bias * scale, scaled_bias * scale)

    def read_mlp_input(self, layer: int) -> MLPInputWeights:
        """Return what a layer's MLP reads.

        Raises
        ------
        HeadscanError
            Where the layer has no MLP that is known.
        """
        block = self.blocks[layer]
        if block.mlp_input is None:
            raise HeadscanError(f"layer {layer} of the {self.kind} tower has no MLP of a known kind: part 'mlp'")
        return MLPInputWeights(*self._norm(block.mlp_input_norm, self.width), *block.mlp_input.read(self.weights))

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
            zero, a value beyond its dtype; or where a layer norm mixes the heads' outputs.
        """
        _ = self.weights.module
        block = self.blocks[layer]
        if block.value_norm is not None or block.output_norm is not None:
            where = "between values and output" if block.output_norm is None else "after the attention"
            raise HeadscanError(
                f"layer {layer} of the {self.kind} tower has a layer norm {where}: a change of one head changes the "
                "scale of all, so these heads can be read but not edited"
            )
        projection = block.output
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

    def _norm(self, norm: Any, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        return self.weights.array_or(weight, 1.0, size), self.weights.array_or(bias, 0.0, size)

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
    writes_centred: bool = True,
    note: str = "",
) -> Tower:
    """Return the `Tower` of some layers, its sizes taken from them.

    Raises
    ------
    HeadscanError
        If there is no layer, or they differ in their sizes.
    """
    if not blocks:
        raise HeadscanError(f"the {kind} tower has no transformer layers")
    sizes = {(block.heads, *block.output.weight.shape, block.value.weight.shape[1]) for block in blocks}
    if len(sizes) != 1:
        raise HeadscanError(f"the layers of the {kind} tower differ in their heads or widths: {sorted(sizes)}")
    heads, width, inner, read_width = sizes.pop()  # the output's weight is (width, heads * rank)
    sized = {"heads": heads, "width": width, "read_width": read_width, "rank": inner // heads, "joint_dim": joint_dim}
    return Tower(
        family=family,
        kind=kind,
        **sized,
        blocks=tuple(blocks),
        weights=weights,
        read_final=read_final,
        writes_centred=writes_centred,
        note=note,
    )


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
