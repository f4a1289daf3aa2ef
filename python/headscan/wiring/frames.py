"""Frames: what the parts of a layer write into the residual stream, or read from it, as orthogonal rows.

A head's W_VO = U S V^T writes along the rows of ``S V^T``. It reads along the columns of ``U S``, as the two sides of
W_QK = W_Q W_K^T do. An MLP with output matrix W_2 and input matrix W_1 writes ``a @ W_2`` and reads ``x @ W_1``: the
triangular factor R of a QR decomposition is enough, since ``W_2 = Q R`` with orthonormal columns of Q. So the product
of two parts, taken across the stream, has the singular values of the small product of two frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.core.svd import svd_factored
from headscan.heads.factors import mlp_input, mlp_output, qk_factors, vo_factors
from headscan.heads.parts import NO_HEAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["PARTS", "SIDES", "Frames", "layer_frames"]

PARTS = ("vo", "qk", "mlp")
SIDES = {"value": "vo", "query": "qk", "key": "qk", "input": "mlp"}  # what reads, and the part it belongs to


@dataclass(frozen=True, eq=False)
class Frames:
    """What the heads of a layer, or its MLP, write into the residual stream or read from it.

    Attributes
    ----------
    part : {"vo", "qk", "mlp"}
    side : {"write", "value", "query", "key", "input"}
        ``"write"``, or what reads.
    layer : int
    heads : tuple of int
        (-1,) of an MLP.
    rows : ndarray, shape (n, rank, width)
        Each head's singular directions in the stream, times their singular values; of an MLP any rows with the Gram
        matrix of its weights, so that norms and singular values of products are those of the weights'.
    """

    part: str
    side: str
    layer: int
    heads: tuple[int, ...]
    rows: NDArray[np.float64]


def layer_frames(
    model: Model, layer: int, *, parts: Sequence[str], tower: str, threads: int = 0
) -> tuple[list[Frames], list[Frames]]:
    """Return what a layer's parts write (heads, MLP), and what they read, in the order of `SIDES`."""
    written, read = [], []
    if "vo" in parts:
        value = vo_factors(model, layers=[layer], tower=tower)
        u, sigma, vh = svd_factored(value.left[0], value.right[0], threads=threads)
        heads = tuple(range(len(u)))
        written.append(Frames("vo", "write", layer, heads, vh * sigma[..., None]))
        read.append(Frames("vo", "value", layer, heads, _rows(u, sigma)))
    if "qk" in parts:
        meeting = qk_factors(model, layers=[layer], tower=tower)
        u, sigma, vh = svd_factored(meeting.left[0], meeting.right[0], threads=threads)
        heads = tuple(range(len(u)))
        read.append(Frames("qk", "query", layer, heads, _rows(u, sigma)))
        read.append(Frames("qk", "key", layer, heads, vh * sigma[..., None]))
    if "mlp" in parts:
        output, read_by_mlp = mlp_output(model, layer, tower=tower), mlp_input(model, layer, tower=tower)
        written.append(Frames("mlp", "write", layer, (NO_HEAD,), _triangle(output)))
        read.append(Frames("mlp", "input", layer, (NO_HEAD,), _triangle(read_by_mlp.T)))
    return written, read


def _rows(u: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ascontiguousarray((u * sigma[:, None, :]).transpose(0, 2, 1))


def _triangle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R (1, at most width, width) of rows = Q R."""
    return np.asarray(np.linalg.qr(rows, mode="r"))[None]
