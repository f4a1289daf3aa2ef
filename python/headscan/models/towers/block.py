"""Where a layer keeps its parameters: what a reader says of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from headscan.models.towers.weights import Weights

__all__ = ["Block", "Linear"]


@dataclass(frozen=True, eq=False)
class Linear:
    """Parameters of a linear map ``x @ weight[rows].T + bias[bias_rows]``."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    rows: slice | None = None
    bias_rows: slice | None = None

    def read(self, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the matrix (in, out) and the bias (out,)."""
        matrix = weights.array(self.weight, self.rows).T
        return matrix, weights.array_or(self.bias, 0.0, matrix.shape[1], self.bias_rows)


@dataclass(frozen=True, eq=False)
class Block:
    """Where one layer keeps its parameters; a refusal says why a part cannot be read as linear factors."""

    norm: Any  # the layer norm before the attention, None where it reads the stream as it is
    heads: int
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    qk_refusal: str | None = None
    head_scale: torch.Tensor | None = None  # one number a head, multiplies its mixed values
    value_norm: Any = None  # a layer norm over all heads' mixed values, before the output matrix
    output_norm: Any = None  # a layer norm over the attention's output
    layer_scale: torch.Tensor | None = None  # (width,), multiplies the attention's output
    mlp_input_norm: Any = None  # the layer norm before the MLP, None where it reads the stream as it is
    mlp_input: Linear | None = None  # all that leads into its hidden units, gates too
    mlp_output: Linear | None = None
    mlp_norm: Any = None  # a layer norm between the hidden units and the output matrix
    mlp_output_norm: Any = None  # a layer norm over the MLP's output
    mlp_scale: torch.Tensor | None = None  # (width,)
