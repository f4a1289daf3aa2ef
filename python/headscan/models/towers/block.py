"""Where a layer keeps its parameters: what an adapter tells of each."""

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

    norm: Any  # the layer norm before the attention
    heads: int
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    head_scale: torch.Tensor | None  # one number a head, multiplies its mixed values
    layer_scale: torch.Tensor | None  # (width,), multiplies the attention's output
    qk_refusal: str | None
    mlp_input_norm: Any  # the layer norm before the MLP
    mlp_input: Linear | None  # all that leads into its hidden units, gates too
    mlp_output: Linear | None
    mlp_norm: Any  # a layer norm between the hidden units and the output matrix, or None
    mlp_scale: torch.Tensor | None  # (width,)
