"""Compare: what fine-tuning did to every head, by its singular values and directions and in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common.checks import check_code_options, whole_number
from headscan.comparison.head_change import check_fit, layer_change, svd_of_product
from headscan.comparison.result import Comparison, ComparisonInfo
from headscan.comparison.words import NO_CHANGE, Coding, Rows, in_words
from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.explanations.null import RANDOM_DIRECTIONS
from headscan.explanations.table import dictionary_facts, model_facts
from headscan.heads.layers import select_layers
from headscan.models.adapters import Adapter
from headscan.models.model import Model, check_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary

__all__ = ["compare"]

_GONE = 1e-9  # a singular value this small beside the largest has no direction of its own
_ROUNDED = 1e-3  # nor one this small a size to multiply: weights are rounded, to float16 where they were saved so


def compare(
    base: Model,
    tuned: Model | Adapter,
    *,
    dictionary: Dictionary | None = None,
    layers: str | int | Iterable[int] = "all",
    count: int = 4,
    k: int = 5,
    coherence: float = 0.3,
    significance: int = RANDOM_DIRECTIONS,
    threads: int = 0,
) -> Comparison:
    """Compare the heads of two models of one architecture, or of a model with and without an adapter.

    Layer norms are folded in and the factors centred, as in `vo_factors`.

    Parameters
    ----------
    base : Model
        From `load_model`.
    tuned : Model or Adapter
        A model of the same architecture, or a LoRA adapter of `base` from `load_adapter`.
    dictionary : Dictionary, optional
        From `load_dictionary`, encoded by `base`: explains the directions, in the joint space of `base`.
    layers
        As in `vo_factors`.
    count : int, default 4
        Directions of the change, and reweighted directions, kept per head.
    k, coherence, threads
        As in `comp`.
    significance : int, default 10,000
        Random directions that the explanations are compared with; 0 for none.

    Returns
    -------
    Comparison

    Raises
    ------
    HeadscanError
        If the models differ in architecture, the adapter does not fit, or an option is out of range.
    """
    check_model(base)
    chosen = select_layers(layers, count=base.layers)
    count = min(whole_number(count, "count", least=1), base.rank)
    coding = Coding(
        k=k, coherence=coherence, significance=whole_number(significance, "significance", least=0), threads=threads
    )
    words: dict[str, Any] = {}
    if dictionary is not None:
        check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
        if dictionary.text_hash != base.text_hash:
            raise HeadscanError(f"the dictionary {dictionary.source} is another model's: load it with {base.name}")
        words = {**dictionary_facts(dictionary, base), "k": k, "coherence": coherence, "significance": significance}
    unused: tuple[str, ...] = ()
    if isinstance(tuned, Adapter):
        tuned = tuned.apply(base)
        unused = tuned.weights.changed_beside(_of_heads(tuned))
    check_fit(base, tuned)
    heads, changed, moved = _by_layer(base, tuned, chosen, count=count, threads=threads)
    changes, of_changes = in_words(changed, base, dictionary, by="sigma", coding=coding)
    reweighted, of_reweighted = in_words(moved, base, dictionary, by="size", coding=coding)
    import pandas as pd

    facts = model_facts(base)
    info = ComparisonInfo(
        base_hash=facts["weights_hash"], tuned_hash=tuned.weights_hash, image_mean_hash=facts["image_mean_hash"],
        layers=chosen, count=count, chance={"changes": of_changes, "reweighted": of_reweighted}, **words,
    )  # fmt: skip
    return Comparison(
        base=base.name,
        tuned=tuned.name,
        heads=pd.DataFrame(heads).sort_values("change", ascending=False, kind="stable", ignore_index=True),
        changes=changes,
        reweighted=reweighted.drop(columns="size"),
        unused=unused,
        info=info,
    )


def _by_layer(
    base: Model, tuned: Model, layers: Iterable[int], *, count: int, threads: int
) -> tuple[list[dict[str, Any]], list[Rows], list[Rows]]:
    """Return the heads' rows, and layer by layer what their changes write and which directions they move most."""
    heads: list[dict[str, Any]] = []
    changed: list[Rows] = []
    moved: list[Rows] = []
    for layer in layers:
        pair = layer_change(base, tuned, layer)
        before = svd_factored(pair.left, pair.right, threads=threads)
        after = svd_factored(pair.left + pair.left_change, pair.right + pair.right_change, threads=threads)
        change = svd_of_product(*pair.change, threads=threads)
        core = (before[0].transpose(0, 2, 1) @ pair.change[0]) @ (pair.change[1] @ before[2].transpose(0, 2, 1))
        heads += _head_rows(layer, before, after, change[1], core)
        changed.append(_change_rows(layer, before, change, count))
        moved.append(_reweighted_rows(layer, before, core, count))
    return heads, changed, moved


def _of_heads(model: Model) -> Iterator[Any]:
    """Yield the parameters that a model's value-output matrices are read from."""
    for block in model.tower.blocks:
        yield from block.norm.parameters()
        yield from (block.value.weight, block.value.bias, block.output.weight, block.output.bias)
        yield from (block.head_scale, block.layer_scale)


def _head_rows(
    layer: int, before: Any, after: Any, change: NDArray[np.float64], core: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return the row of each head; `core` is the change in the base's own singular basis, (heads, rank, rank)."""
    rows = []
    for head, sigma in enumerate(before[1]):
        norm, size = float(np.linalg.norm(sigma)), float(np.linalg.norm(change[head]))
        kept = int(np.count_nonzero(sigma > _GONE * sigma[0]))
        write = _angles(before[2][head][:kept].T, after[2][head][:kept].T)
        read = _angles(before[0][head][:, :kept], after[0][head][:, :kept])
        diagonal = float(np.sum(np.diagonal(core[head]) ** 2))
        inside = max(float(np.sum(core[head] ** 2)), diagonal)
        whole = max(size**2, inside)
        shares = (diagonal, inside - diagonal, whole - inside)
        rows.append(
            {
                "layer": layer,
                "head": head,
                "norm": norm,
                "change": size,
                "relative": size / norm if norm else 0.0,
                "sigma_moved": float(np.linalg.norm(after[1][head] - sigma)) / norm if norm else 0.0,
                "write_angle": float(write.mean()) if kept else 0.0,
                "write_angle_max": float(write.max()) if kept else 0.0,
                "read_angle": float(read.mean()) if kept else 0.0,
                "read_angle_max": float(read.max()) if kept else 0.0,
                **dict(zip(_SHARES, (share / whole if whole else 0.0 for share in shares), strict=True)),
            }
        )
    return rows


_SHARES = ("reweighted", "mixed", "outside")


def _angles(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the principal angles, in degrees, between the spans of orthonormal columns (Björck and Golub 1973).

    From the cosines where they are small and from the sines where those are, so that neither loses digits.
    """
    overlap = one.T @ other
    cosines = np.linalg.svd(overlap, compute_uv=False).clip(max=1.0)
    sines = np.linalg.svd(other - one @ overlap, compute_uv=False)[::-1].clip(max=1.0)
    radians = np.where(cosines**2 < 0.5, np.arccos(cosines), np.arcsin(sines))
    return np.asarray(np.degrees(radians), dtype=np.float64)


def _change_rows(layer: int, before: Any, change: Any, count: int) -> Rows:
    """Return what the strongest directions of each head's change write, both poles."""
    _, sigma, vh = change
    head, index, pole = (axis.ravel() for axis in np.indices((len(sigma), min(count, sigma.shape[1]), 2)))
    whole = np.sum(sigma**2, axis=1)[head]
    values = sigma[head, index]
    columns = {
        **_labels(layer, head, index, pole),
        "sigma": values,
        "share": np.divide(values**2, whole, out=np.zeros(len(whole)), where=whole > 0),
    }
    vectors = vh[head, index] * np.where(pole, -1.0, 1.0)[:, None]
    whole_change = vh[sigma > NO_CHANGE * before[1][:, :1]]
    among = whole_change if len(whole_change) else vh.reshape(-1, vh.shape[2])
    return Rows.larger(columns, vectors, size=values, than=before[1][head, 0], among=among)


def _reweighted_rows(layer: int, before: Any, core: NDArray[np.float64], count: int) -> Rows:
    """Return the base's own write directions whose singular value the change moves most, both poles."""
    _, sigma, vh = before
    moved = np.diagonal(core, axis1=1, axis2=2)  # (heads, rank)
    strongest = np.argsort(-np.abs(moved), axis=1, kind="stable")[:, :count]
    head, rank, pole = (axis.ravel() for axis in np.indices((*strongest.shape, 2)))
    index = strongest[head, rank]
    base, delta = sigma[head, index], moved[head, index]
    real = base > _ROUNDED * sigma[head, 0]  # what is gone, but for rounding, is multiplied into nothing
    columns = {
        **_labels(layer, head, index, pole),
        "sigma": base,
        "moved": delta,
        "multiplier": np.divide(base + delta, base, out=np.full(len(base), np.nan), where=real),
        "size": np.abs(delta),
    }
    vectors = vh[head, index] * np.where(pole, -1.0, 1.0)[:, None]
    return Rows.larger(columns, vectors, size=np.abs(delta), than=sigma[head, 0], among=vh.reshape(-1, vh.shape[2]))


def _labels(layer: int, head: Any, index: Any, pole: Any) -> dict[str, Any]:
    poles = np.where(pole, "-", "+").astype(object)
    return {"layer": np.full(len(head), layer), "head": head, "index": index, "pole": poles}
