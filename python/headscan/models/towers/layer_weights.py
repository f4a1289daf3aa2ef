"""What is read of a tower, in float64 and the row-vector convention (``x @ W``): a layer's parts, the last map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AttentionWeights", "FinalWeights", "MLPInputWeights", "MLPWeights", "QueryKeyWeights"]


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """One layer's path from the residual stream through values to the attention's output.

    With ``xhat`` the layer norm's output before gain and shift, head h (columns or rows ``h * rank`` to
    ``(h + 1) * rank``) and attention weights ``A`` whose rows sum to one, the layer adds to the stream
    ``sum_h A_h @ ((xhat * gain + shift) @ value[:, h] + value_bias[h]) @ output[h] + output_bias``.
    A layer scale or head scale is already multiplied into `output` and `output_bias`.

    Where a layer norm stands between the values and the output, or after it, the layer adds ``c * (sum_h ... +
    scaled_bias) + output_bias`` instead, with c the norm's one over standard deviation, a positive number of each
    token. The norm's centring and gain are multiplied into `output` and `scaled_bias`, its shift is in `output_bias`.
    """

    gain: NDArray[np.float64]  # (read_width,)
    shift: NDArray[np.float64]  # (read_width,)
    value: NDArray[np.float64]  # (read_width, heads * rank)
    value_bias: NDArray[np.float64]  # (heads * rank,)
    output: NDArray[np.float64]  # (heads * rank, width)
    output_bias: NDArray[np.float64]  # (width,)
    scaled_bias: NDArray[np.float64]  # (width,), zero where no layer norm follows the output


@dataclass(frozen=True, eq=False)
class QueryKeyWeights:
    """One layer's queries and keys: head h scores ``q_h @ k_h.T`` with ``q = (xhat * gain + shift) @ query + bias``.

    The scores are divided by the square root of the rank before the softmax; that is not folded in. A bias by the two
    tokens' relative position, where there is one, is left out.
    """

    gain: NDArray[np.float64]  # (read_width,)
    shift: NDArray[np.float64]  # (read_width,)
    query: NDArray[np.float64]  # (read_width, heads * rank)
    query_bias: NDArray[np.float64]  # (heads * rank,)
    key: NDArray[np.float64]  # (read_width, heads * rank)
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
    matrix; the units are then counted as that norm's normalised values, and its shift is in `output_bias`. A layer
    norm after the output is folded as in `AttentionWeights`.
    """

    output: NDArray[np.float64]  # (hidden, width)
    output_bias: NDArray[np.float64]  # (width,)
    scaled_bias: NDArray[np.float64]  # (width,)


@dataclass(frozen=True, eq=False)
class FinalWeights:
    """The last layer norm and the way into the joint space.

    ``(xhat * gain + shift) @ projection + bias``. Where the tower ends in an attention pool, `pool` takes the
    normalised rows all the way: to the embedding of an image of which every token is that row. All attention weights
    over equal tokens come to one, so the pool is then its value-output path (the pool's heads together), exactly,
    followed by what the module has next: a residual MLP, a layer norm. `projection` is the linear part of that.
    """

    gain: NDArray[np.float64]  # (width,)
    shift: NDArray[np.float64]  # (width,)
    eps: float
    projection: NDArray[np.float64]  # (width, joint_dim)
    bias: NDArray[np.float64]  # (joint_dim,)
    pool: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    normalises: bool = True  # False where the stream is the joint space, as behind a ResNet's attention pool

    def apply(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the tower makes of rows (n, width) after its last layer: (n, joint_dim), not normalised."""
        if self.normalises:
            vectors = vectors - vectors.mean(axis=1, keepdims=True)
            vectors = vectors / np.sqrt(np.mean(vectors**2, axis=1, keepdims=True) + self.eps)
        normed = vectors * self.gain + self.shift
        return normed @ self.projection + self.bias if self.pool is None else self.pool(normed)
