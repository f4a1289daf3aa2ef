"""What fine-tuning did to one layer's heads, as thin factors: of two models, or of a model and an adapter.

A head's change is a difference of products, ``L' R' - L R = (L' - L) R' + L (R' - R)``: again a product of thin
factors, so that nothing of size width x width is formed and nothing cancels. A LoRA adapter's change is thinner
still, and is never merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.comparison.adapters import Adapter, LowRank
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


def layer_change(base: Model, tuned: Model | Adapter, layer: int) -> LayerChange:
    """Return one layer's factors before, and their change."""
    before = vo_factors(base, layers=[layer])
    left, right = before.left[0], before.right[0]
    if isinstance(tuned, Model):
        after = vo_factors(tuned, layers=[layer])
        left_change, right_change = after.left[0] - left, after.right[0] - right
        pieces = [(left_change, after.right[0]), (left, right_change)]
    else:
        pieces = []
        left_change, right_change = np.zeros(left.shape), np.zeros(right.shape)
        if layer in tuned.value:
            down, up = _folded_value(base, tuned.value[layer], layer)  # (width, r), (heads, r, rank)
            left_change = down @ up
        if layer in tuned.output:
            inner, out = _folded_output(base, tuned.output[layer])  # (heads, rank, r), (r, width)
            right_change = inner @ out
            pieces.append((left @ inner, np.broadcast_to(out, (base.heads, *out.shape))))
        if layer in tuned.value:
            pieces.append((np.broadcast_to(down, (base.heads, *down.shape)), up @ (right + right_change)))
        if not pieces:
            pieces = [(left[..., :1] * 0, right[:, :1] * 0)]
    lefts, rights = zip(*pieces, strict=True)
    stacked = np.concatenate(lefts, axis=2), np.concatenate(rights, axis=1)
    return LayerChange(left, right, left_change, right_change, stacked)


def _folded_value(base: Model, change: LowRank, layer: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    down = base.tower.read_attention(layer).gain[:, None] * change.down
    up = change.up.reshape(change.up.shape[0], base.heads, base.rank).transpose(1, 0, 2)
    return down - down.mean(axis=0), up


def _folded_output(base: Model, change: LowRank) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inner = change.down.reshape(base.heads, base.rank, change.down.shape[1])
    return inner, change.up - change.up.mean(axis=1, keepdims=True)


def svd_of_product(
    left: NDArray[np.float64], right: NDArray[np.float64], *, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the decomposition of a product whose factors may be wider than it is."""
    if left.shape[2] <= left.shape[1]:
        return svd_factored(np.ascontiguousarray(left), np.ascontiguousarray(right), threads=threads)
    u, s, vh = np.linalg.svd(left @ right)
    signs = np.sign(np.take_along_axis(u, np.abs(u).argmax(axis=1)[:, None], axis=1))  # (heads, 1, width)
    return u * signs, s, vh * signs.transpose(0, 2, 1)


def check_fit(base: Model, tuned: Model | Adapter) -> None:
    """Raise unless the heads of both have the same shapes.

    Raises
    ------
    HeadscanError
        If they do not, saying how they differ.
    """
    if isinstance(tuned, Adapter):
        _check_adapter(base, tuned)
        return
    check_model(tuned)
    sizes = [{name: getattr(model, name) for name in ("layers", "heads", "width", "rank")} for model in (base, tuned)]
    if sizes[0] != sizes[1]:
        told = [", ".join(f"{count} {name}" for name, count in size.items()) for size in sizes]
        raise HeadscanError(
            f"only models of one architecture compare: {base.name} has {told[0]}, {tuned.name} {told[1]}"
        )


def _check_adapter(base: Model, adapter: Adapter) -> None:
    full = base.heads * base.rank
    wanted = {"value": (base.width, full), "output": (full, base.width)}
    for name, shape in wanted.items():
        for layer, change in getattr(adapter, name).items():
            came = (change.down.shape[0], change.up.shape[1])
            if layer >= base.layers or came != shape:
                raise HeadscanError(
                    f"the adapter does not fit {base.name}: its {name} projection of layer {layer} is {came}, "
                    f"expected {shape} in {base.layers} layers"
                )
            block = base.tower.blocks[layer]
            if block.layer_scale is not None or block.head_scale is not None:
                raise HeadscanError(
                    f"{base.name} scales its heads' outputs: merge the adapter, and compare the models"
                )
