"""Batched singular value decompositions: of factored matrices, and the leading triplets of large ones."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from headscan.core import _core, cuda, devices
from headscan.core.arrays import as_floating, like
from headscan.errors import HeadscanError

Array = TypeVar("Array")


def svd_factored(
    left: Array, right: Array, *, threads: int = 0, device: devices.Device = None
) -> tuple[Array, Array, Array]:
    """Singular value decompositions of ``left[i] @ right[i]``, never forming the products.

    Each factor gets an orthonormal basis (Cholesky of its Gram matrix, twice; Householder QR where it is
    ill-conditioned); the small core between the bases is decomposed by one-sided Jacobi. All of it runs in
    float64, whatever the dtype of the input.

    Parameters
    ----------
    left : array, shape (n, d, r), float32 or float64
    right : array, shape (n, r, e), float32 or float64
        NumPy arrays or torch tensors of one dtype, with ``r <= d`` and ``r <= e``. CUDA tensors are decomposed
        where they live, on the current stream, without waiting: NaN or infinity in a factor then makes all results
        of its matrix NaN.
    threads : int
        Worker threads; 0 takes all that the process may use.
    device : str or sequence of str, optional
        As in `comp`; of several the first takes all. On CUDA r is at most 256.

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
    HeadscanError
        If the shapes do not fit, a factor holds NaN or infinity, or a device is asked for that is not there.
    TypeError
        If the dtypes are not both float32 or both float64.
    """
    placed = devices.devices_for(left, device, "left")
    if placed != devices.devices_for(right, device, "right"):
        raise HeadscanError("left and right must live on one device")
    if placed and placed.resident:
        if left.dtype != right.dtype:  # type: ignore[attr-defined]
            raise TypeError("left and right must share a dtype")
        return cuda.run_svd_factored(left, right, placed)
    left_array, right_array = as_floating(left, "left"), as_floating(right, "right")
    if left_array.dtype != right_array.dtype:
        raise TypeError(f"left and right must share a dtype, got {left_array.dtype} and {right_array.dtype}")
    if placed:
        u, s, vh = cuda.run_svd_factored(left_array, right_array, placed)
        return like(u, left), like(s, left), like(vh, left)
    u, s, vh = _core.svd_factored(
        np.ascontiguousarray(left_array), np.ascontiguousarray(right_array), threads=threads
    )
    return like(u, left), like(s, left), like(vh, left)
