"""Chance: how strongly random subspaces with the same singular values would compose.

Of two parts with frames ``A = S V^T`` and ``B = S' U'^T``, whose directions lie in a space of D dimensions, let X be
``||A B^T||_F^2 = tr(S^2 O S'^2 O^T)``, ``O = V^T U'``. If the directions of one of them were drawn at random, O would
be a block of a Haar-distributed orthogonal matrix. With ``a_k = tr (S^2)^k`` and likewise b_k, zonal polynomials of
degree 1 to 3 (Muirhead 1982, section 7.2, and theorem 7.2.5: ``E C(A O B O^T) = C(A) C(B) / C(I)``) give the moments
of X exactly:

    mean      a_1 b_1 / D
    variance  2 a'_2 b'_2 / ((D - 1)(D + 2))
    third     a'_3 b'_3 / D * (64/15 / ((D + 2)(D + 4)) + 12/5 / ((D + 2)(D - 1)) + 4/3 / ((D - 1)(D - 2)))

where a'_k are the sums of powers of the eigenvalues less their mean over all D dimensions. A Pearson type III
distribution (a shifted gamma) with these three moments is the null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["chance_moments", "tail_probability"]

_SYMMETRIC = 1e-6  # a skewness so small that the normal distribution is the limit, to double precision


def chance_moments(
    written: NDArray[np.float64], read: NDArray[np.float64], *, dimension: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, variance and skewness of the squared Frobenius norm under the null, each (writers, readers).

    Parameters
    ----------
    written : ndarray, shape (writers, rank, width)
        Rows of `Frames`.
    read : ndarray, shape (readers, rank, width)
    dimension : int
        D, of the space that all rows lie in: the width, less one where rows are centred.
    """
    d = dimension
    a, b = _powers(written, d)[:, :, None], _powers(read, d)[:, None, :]
    mean = a[0] * b[0] / d
    variance = 2 * a[1] * b[1] / ((d - 1) * (d + 2))
    weight = 64 / 15 / ((d + 2) * (d + 4)) + 12 / 5 / ((d + 2) * (d - 1)) + 4 / 3 / ((d - 1) * (d - 2))
    third = a[2] * b[2] / d * weight
    skewness = np.divide(third, variance**1.5, out=np.zeros_like(mean), where=variance > 0)
    return mean, variance, skewness


def _powers(rows: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    """Return tr G, and the second and third power sums of G's eigenvalues less their mean, (3, n)."""
    gram = rows @ rows.transpose(0, 2, 1)  # (n, rank, rank)
    squared = gram @ gram
    first = np.trace(gram, axis1=1, axis2=2)
    second, third = np.trace(squared, axis1=1, axis2=2), np.einsum("nij,nij->n", squared, gram)
    mean = first / dimension
    return np.stack([first, second - dimension * mean**2, third - 3 * mean * second + 2 * dimension * mean**3])


def tail_probability(
    squares: NDArray[np.float64],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    skewness: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the probability of a squared norm at least as large under the null; 1 where the null does not vary.

    Pearson type III: with ``g`` the skewness and ``k = 4 / g^2``, ``k + sqrt(k) (x - mean) / std`` has the gamma
    distribution of shape k for g > 0, and its mirror image for g < 0.
    """
    import torch

    std = np.sqrt(variance)
    z = np.divide(squares - mean, std, out=np.full_like(mean, -np.inf), where=std > 0)
    shape = 4 / np.maximum(np.abs(skewness), _SYMMETRIC) ** 2
    side = np.where(skewness < 0, -1.0, 1.0)
    half = torch.from_numpy(np.maximum(shape + side * z * np.sqrt(shape), 0.0))
    k = torch.from_numpy(shape)
    upper, lower = torch.special.gammaincc(k, half).numpy(), torch.special.gammainc(k, half).numpy()
    return np.asarray(np.where(std > 0, np.where(side > 0, upper, lower), 1.0), dtype=np.float64)
