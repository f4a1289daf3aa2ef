"""Put an edit into the weights: the output projections of the edited layers change, nothing else.

In the row-vector convention a head writes ``A @ (xhat @ left @ right + bias)``, ``left @ right = U S V^T``. Scaling
the singular values by M is ``left @ right V M V^T``, so ``W_O <- W_O + right V (M - I) V^T``. The head's constant,
``bias``, goes through W_O as well; what that scaling adds to it is taken off the output projection's bias. So is,
where pictures are given, what it adds to the head's mean over them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.edit.mean import average_writes
from headscan.edit.table import Direction, Edit
from headscan.errors import HeadscanError
from headscan.heads import vo_factors
from headscan.models import Model, check_model, load_model
from headscan.svd import svd_factored

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["EditedModel", "apply_edit", "changes"]


@dataclass(frozen=True, eq=False, kw_only=True)
class EditedModel(Model):
    """A model whose output projections carry an edit; a `Model` in every other way.

    Its image mean is the original's.

    Attributes
    ----------
    edit : Edit
        All that was done to the original.
    original_hash : str
        `weights_hash` of the original: further edits are told in the original's directions.
    basis : mapping of int to ndarray, shape (heads, rank, width)
        The original's right singular vectors of the layers that were edited.
    kept : tuple of str
        What was kept out of the scaling, edit by edit: the heads' constants, their averages, or nothing.
    """

    edit: Edit
    original_hash: str
    kept: tuple[str, ...]
    basis: Mapping[int, NDArray[np.float64]]

    def save(self, path: str | Path) -> Path:
        """Write an ordinary checkpoint; see `headscan.edit.save.save_edited`."""
        from headscan.edit.save import save_edited

        return save_edited(self, path)


def apply_edit(
    model: Model, edit: Edit, *, in_place: bool = False, compensate: bool = True, pictures: Any = None
) -> EditedModel:
    """Scale singular values of heads by changing their output projections (arXiv 2603.24653, edits).

    Parameters
    ----------
    model : Model
        The model that the edit is for, or one that was edited before: then both edits hold.
    edit : Edit
        Multipliers.
    in_place : bool, default False
        Change `model`'s own module; by default a copy is made.
    compensate : bool, default True
        Keep the heads' constants, which come from value biases and the layer norm's shift, as they were. If
        False they are scaled with the rest.
    pictures : uint8 array (n, height, width, 3), sequence of paths, or "estimate", optional
        Keep what the heads write at the class token on average over these pictures, as mean ablation does, and
        not the constants alone: what the directions say of pictures in general stays. No labels are needed.
        ``"estimate"`` guesses the average from the model's image mean (`headscan.edit.mean`).

    Returns
    -------
    EditedModel
        Shapes, dtypes and architecture as before; every tensor but the output projections of edited layers is
        untouched.

    Raises
    ------
    HeadscanError
        If the edit is for other weights, names a direction that is not there, or an output projection cannot
        hold it (no bias to compensate in); if there are pictures, but not `compensate`, or no class token; if
        there is no image mean to estimate from.
    """
    check_model(model)
    if pictures is not None and not compensate:
        raise HeadscanError("pictures say which mean to keep, and compensate=False keeps none: give one of them")
    original_hash, basis, whole = model.weights_hash, {}, edit
    kept: tuple[str, ...] = ()
    if isinstance(model, EditedModel):
        original_hash, basis, whole = model.original_hash, dict(model.basis), model.edit.combine(edit)
        kept = model.kept
    _check_fits(edit, model, original_hash=original_hash)
    written, scaled = {}, _by_layer(edit, model)
    means = average_writes(model, pictures, tuple(scaled)) if pictures is not None and scaled else None
    for place, (layer, rows) in enumerate(scaled.items()):
        if layer not in basis:
            basis[layer] = _right_vectors(model, layer, fold=edit.info.folded)
        mean = None if means is None else means[place]
        written[layer] = _edited_output(
            model, layer, rows, basis[layer], fold=edit.info.folded, compensate=compensate, mean=mean
        )
    module = model.module if in_place else copy.deepcopy(model.module)
    fresh = replace(
        load_model(
            module, dtype=model.dtype, image_mean=model.image_mean, tokenizer=lambda texts: model.tokenizer(texts)
        ),
        name=model.name,
        pretrained=model.pretrained,
        checkpoint=model.checkpoint,
    )
    for layer, (output, bias) in written.items():
        fresh.tower.write_attention_output(layer, output, bias)
    kept = (*kept, _kept(compensate, pictures))
    if in_place:
        vars(model).pop("weights_hash", None)
        if isinstance(model, EditedModel):  # it holds this edit, too, from now on
            vars(model).update(edit=whole, basis=basis, kept=kept)
    parts = {field.name: getattr(fresh, field.name) for field in fields(fresh)}
    return EditedModel(**parts, edit=whole, original_hash=original_hash, basis=basis, kept=kept)


def _kept(compensate: bool, pictures: Any) -> str:
    if pictures is None:
        return "the heads' constants" if compensate else "nothing, the heads' constants are scaled too"
    where = "as estimated from the image mean" if isinstance(pictures, str) else f"over {len(pictures)} pictures"
    return f"what the heads write on average, {where}"


def changes(model: Model, edit: Edit) -> pd.DataFrame:
    """Return by how much each edited head would change, without changing it.

    Columns
    -------
    layer, head : int
    directions : int
        How many are scaled.
    largest : float
        The multiplier furthest from 1.
    vo_change : float
        ``|W_VO edited - W_VO| / |W_VO|``, Frobenius norms, of the folded matrices the edit is told in.
    output_change : float
        The same of the head's rows of the output projection.
    """
    import pandas as pd

    check_model(model)
    _check_fits(edit, model, original_hash=model.weights_hash)
    rows = []
    for layer, heads in _by_layer(edit, model).items():
        factors = vo_factors(model, layers=[layer], fold=edit.info.folded)
        _, sigma, basis = svd_factored(factors.left[0], factors.right[0])
        raw = model.tower.read_attention(layer).output.reshape(model.heads, model.rank, model.width)
        for head, scale in heads.items():
            written = (factors.right[0, head] @ basis[head].T) * (scale - 1)  # its rows keep their norms through V
            vo = np.linalg.norm(sigma[head] * (scale - 1)) / max(np.linalg.norm(sigma[head]), 1e-300)
            output = np.linalg.norm(written) / max(np.linalg.norm(raw[head]), 1e-300)
            far = float(scale[np.argmax(np.abs(scale - 1))])
            rows.append((layer, head, int((scale != 1).sum()), far, float(vo), float(output)))
    table: pd.DataFrame = pd.DataFrame(
        rows, columns=["layer", "head", "directions", "largest", "vo_change", "output_change"]
    )
    return table


def _check_fits(edit: Edit, model: Model, *, original_hash: str) -> None:
    if edit.info.weights_hash != original_hash:
        raise HeadscanError(
            f"the edit is for {edit.info.model} with the weights {edit.info.weights_hash[:12]}, but {model.name} has "
            f"{original_hash[:12]}: directions of other weights have other indices; scan this model and make it anew"
        )
    if isinstance(model, EditedModel) and model.edit.info.folded != edit.info.folded:
        raise HeadscanError("one edit is for folded matrices, the other is not: apply them to separate copies")
    sizes = Direction("vo", model.layers, model.heads, model.rank)
    for direction in edit.multipliers:
        for name, number, size in zip(Direction._fields[1:], direction[1:], sizes[1:], strict=True):
            if number >= size:
                raise HeadscanError(f"there is no {name} {number}: {model.name} has {name} 0 to {size - 1}")


def _by_layer(edit: Edit, model: Model) -> dict[int, dict[int, NDArray[np.float64]]]:
    """Return the multipliers (rank,) of each head that changes, by layer."""
    layers: dict[int, dict[int, NDArray[np.float64]]] = {}
    for (_, layer, head, index), multiplier in edit.multipliers.items():
        layers.setdefault(layer, {}).setdefault(head, np.ones(model.rank))[index] = multiplier
    return layers


def _right_vectors(model: Model, layer: int, *, fold: bool) -> NDArray[np.float64]:
    factors = vo_factors(model, layers=[layer], fold=fold)
    return np.asarray(svd_factored(factors.left[0], factors.right[0])[2])


def _edited_output(
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
