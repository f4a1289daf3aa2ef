"""Composition: how strongly each part writes into what each part of a later layer reads, and along which channels.

A writer W_A and a later reader W_B compose by their product W_A W_B across the residual stream (Elhage et al.
2021, "A Mathematical Framework for Transformer Circuits", on virtual weights). Their composition score, from its
section on two-layer transformers, is ``||W_A W_B||_F / (||W_A||_F ||W_B||_F)``. With frames A and B (`Frames`) the
product has the singular values of the small matrix ``A B^T``. Merullo et al. 2024 (arXiv 2406.09519, section 3)
compose single singular components of heads to find the low-rank channels they communicate by; here the product
itself is decomposed, ``A B^T = P diag(s) Q^T``: channel k carries ``P_k^T A``, as it is written, into ``Q_k^T B``,
as it is read, by s_k.

The reader sees the stream through its layer norm. The gain is folded into B, the division by the stream's deviation
is not: it is one number for all channels into a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.vectors import normalise
from headscan.wiring.frames import Frames, layer_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["Channels", "channels_between", "compositions"]


@dataclass(frozen=True, eq=False)
class Channels:
    """Singular channels of one writer and one reader, the strongest first.

    Attributes
    ----------
    amplitude : ndarray, shape (n,)
        Singular values of the product of the two parts' weights.
    entry : ndarray, shape (n, writer's rank)
        P: each channel in the writer's own singular basis (an MLP's is arbitrary).
    outlet : ndarray, shape (n, reader's rank)
        Q: in the reader's.
    written, read : ndarray, shape (n, width)
        Unit directions of the stream: what the writer writes, and what the reader reads. Their inner product is
        positive; the other pole of a channel is minus both.
    """

    amplitude: NDArray[np.float64]
    entry: NDArray[np.float64]
    outlet: NDArray[np.float64]
    written: NDArray[np.float64]
    read: NDArray[np.float64]


def compositions(
    model: Model, *, layers: Sequence[int], parts: Sequence[str], tower: str, threads: int = 0
) -> Iterator[tuple[Frames, Frames, NDArray[np.float64]]]:
    """Yield writers, readers of a later layer and the squared Frobenius norms of their products, (writers, readers).

    One pass over the layers: what earlier layers write is kept (of ViT-L/14 8 MB a layer for its heads and 8 MB for
    its MLP), what a layer reads is not. Two layers cost ``width (heads rank)^2`` multiply-adds a side that reads.
    """
    earlier: list[Frames] = []
    for layer in layers:
        written, read = layer_frames(model, layer, parts=parts, tower=tower, threads=threads)
        for reader in read:
            for writer in earlier:
                yield writer, reader, _squared_norms(writer.rows, reader.rows)
        earlier += written


def _squared_norms(written: NDArray[np.float64], read: NDArray[np.float64]) -> NDArray[np.float64]:
    (writers, out, width), (readers, into, _) = written.shape, read.shape
    product = written.reshape(-1, width) @ read.reshape(-1, width).T
    return np.asarray(np.square(product, out=product).reshape(writers, out, readers, into).sum(axis=(1, 3)))


def channels_between(written: NDArray[np.float64], read: NDArray[np.float64], *, count: int) -> Channels:
    """Return the strongest channels from one writer's rows (rank, width) to one reader's (rank, width).

    Signs are fixed by the largest entry of each read direction, which is positive.
    """
    p, amplitude, qh = np.linalg.svd(written @ read.T, full_matrices=False)
    count = min(count, len(amplitude))
    entry, outlet = p.T[:count], qh[:count]
    sent, received = entry @ written, outlet @ read
    largest = np.take_along_axis(received, np.abs(received).argmax(axis=1)[:, None], axis=1)
    sign = np.where(largest < 0, -1.0, 1.0)
    return Channels(
        amplitude[:count], entry * sign, outlet * sign, normalise(sent * sign), normalise(received * sign)
    )
