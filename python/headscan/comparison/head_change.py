"""What fine-tuning did to one layer's heads, as thin factors.

A head's change is a difference of products, ``L' R' - L R = (L' - L) R' + L (R' - R)``: again a product of thin
factors, so that nothing of size width x width is formed and nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.heads.factors import vo_factors
from headscan.models.model import Model, check_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LayerChange", "check_fit", "layer_change", "svd_of_product"]


@dataclass(frozen=True, eq=False)
class LayerChange:
    """One layer's folded factors, their changes, and the change of their product as thin factors."""

    left: NDArray[np.float64]  # (heads, width, rank)
    right: NDArray[np.float64]  # (heads, rank, width)
    left_change: NDArray[np.float64]
    right_change: NDArray[np.float64]
    change: tuple[NDArray[np.float64], NDArray[np.float64]]  # (heads, width, q), (heads, q, width)


def layer_change(base: Model, tuned: Model, layer: int) -> LayerChange:
    """Return one layer's factors before, and their change."""
    before, after = vo_factors(base, layers=[layer]), vo_factors(tuned, layers=[layer])
    left, right = before.left[0], before.right[0]
    left_change, right_change = after.left[0] - left, after.right[0] - right
    change = np.concatenate([left_change, left], axis=2), np.concatenate([after.right[0], right_change], axis=1)
    return LayerChange(left, right, left_change, right_change, change)


def svd_of_product(
    left: NDArray[np.float64], right: NDArray[np.float64], *, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the decomposition of a product whose factors may be wider than it is."""
    if left.shape[2] <= left.shape[1]:
        return svd_factored(np.ascontiguousarray(left), np.ascontiguousarray(right), threads=threads)
    u, s, vh = np.linalg.svd(left @ right)
    signs = np.sign(np.take_along_axis(u, np.abs(u).argmax(axis=1)[:, None], axis=1))  # (heads, 1, width)
    return u * signs, s, vh * signs.transpose(0, 2, 1)


def check_fit(base: Model, tuned: Model) -> None:
    """Raise unless the heads of both have the same shapes.

    Raises
    ------
    HeadscanError
        If they do not, with both models' sizes.
    """
    check_model(tuned)
    sizes = [{name: getattr(model, name) for name in ("layers", "heads", "width", "rank")} for model in (base, tuned)]
    if sizes[0] != sizes[1]:
        of_base, of_tuned = (", ".join(f"{count} {name}" for name, count in size.items()) for size in sizes)
        raise HeadscanError(
            f"only models of one architecture compare: {base.name} has {of_base}, {tuned.name} {of_tuned}"
        )
