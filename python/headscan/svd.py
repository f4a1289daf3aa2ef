"""Batched singular value decompositions of factored matrices."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from headscan import _core
from headscan._arrays import as_floating, like

Array = TypeVar("Array")


def svd_factored(left: Array, right: Array, *, threads: int = 0) -> tuple[Array, Array, Array]:
    """Singular value decompositions of ``left[i] @ right[i]``, never forming the products.

    Each factor gets an orthonormal basis (Cholesky of its Gram matrix, twice; Householder QR where it is
    ill-conditioned); the small core between the bases is decomposed by one-sided Jacobi. All of it runs in
    float64, whatever the dtype of the input.

    Parameters
    ----------
    left : array, shape (n, d, r), float32 or float64
    right : array, shape (n, r, e), float32 or float64
        NumPy arrays or torch CPU tensors of one dtype, with ``r <= d`` and ``r <= e``.
    threads : int
        Worker threads; 0 takes all that the process may use.

    Returns
    -------
    u : array, shape (n, d, r)
    s : array, shape (n, r)
        Descending.
    vh : array, shape (n, r, e)
        ``u[i] * s[i] @ vh[i]`` equals ``left[i] @ right[i]``. The largest-magnitude entry of every column of u
        is positive. Columns of u and rows of vh are orthonormal also where singular values vanish. Same kind
        and dtype as the input.

    Raises
    ------
    ValueError
        If the shapes do not fit or a factor holds NaN or infinity.
    TypeError
        If the dtypes are not both float32 or both float64.
    """
    left_array, right_array = as_floating(left, "left"), as_floating(right, "right")
    if left_array.dtype != right_array.dtype:
        raise TypeError(f"left and right must share a dtype, got {left_array.dtype} and {right_array.dtype}")
    u, s, vh = _core.svd_factored(np.ascontiguousarray(left_array), np.ascontiguousarray(right_array), threads)
    return like(u, left), like(s, left), like(vh, left)
