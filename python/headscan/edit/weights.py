"""Put an edit into the weights: the output projections of the edited layers change, nothing else.

In the row-vector convention a head writes ``A @ (xhat @ left @ right + bias)``, ``left @ right = U S V^T``. Scaling
the singular values by M is ``left @ right V M V^T``, so ``W_O <- W_O + right V (M - I) V^T``. The head's constant,
``bias``, goes through W_O as well; what that scaling adds to it is taken off the output projection's bias. So is,
where pictures are given, what it adds to the head's mean over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from headscan.core.svd import svd_factored
from headscan.edit.direction import Direction
from headscan.heads.factors import vo_factors
from headscan.models.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["by_layer", "edited_output", "right_vectors"]


def by_layer(multipliers: Mapping[Direction, float], model: Model) -> dict[int, dict[int, NDArray[np.float64]]]:
    """Return the multipliers (rank,) of each head that changes, by layer."""
    layers: dict[int, dict[int, NDArray[np.float64]]] = {}
    for (_, layer, head, index), multiplier in multipliers.items():
        layers.setdefault(layer, {}).setdefault(head, np.ones(model.rank))[index] = multiplier
    return layers


def right_vectors(model: Model, layer: int, *, fold: bool) -> NDArray[np.float64]:
    """Return the right singular vectors (heads, rank, width) of a layer's heads."""
    factors = vo_factors(model, layers=[layer], fold=fold)
    return np.asarray(svd_factored(factors.left[0], factors.right[0])[2])


def edited_output(
    model: Model,
    layer: int,
    rows: Mapping[int, NDArray[np.float64]],
    basis: NDArray[np.float64],
    *,
    fold: bool,
    compensate: bool,
    mean: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a layer's output projection (heads * rank, width) and bias with some heads' directions scaled.

    What each head writes on average, `mean` (heads, width), or whatever it reads if that is None, is kept.
    """
    weights = model.tower.read_attention(layer)
    factors = vo_factors(model, layers=[layer], fold=fold)
    output, bias = weights.output.copy(), weights.output_bias.copy()
    for head, scale in rows.items():
        vectors = basis[head]  # (rank, width)
        mine = slice(head * model.rank, (head + 1) * model.rank)
        constant = factors.bias[0, head] if mean is None else mean[head]
        output[mine] += (factors.right[0, head] @ vectors.T * (scale - 1)) @ vectors
        if compensate:
            bias -= (constant @ vectors.T * (scale - 1)) @ vectors
    return output, bias
