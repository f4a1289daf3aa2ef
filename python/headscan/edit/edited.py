"""Edits put into the weights of a model, and by how much each head changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from headscan.core.svd import svd_factored
from headscan.edit.changed import ChangedModel, fresh_copy
from headscan.edit.direction import Direction
from headscan.edit.mean import average_writes
from headscan.edit.multipliers import Multipliers
from headscan.edit.save import save_changed
from headscan.edit.weights import by_layer, edited_output, right_vectors
from headscan.errors import HeadscanError
from headscan.heads.factors import vo_factors
from headscan.models.model import Model, check_model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["EditedModel", "Pictures", "apply_edit", "changes", "check_fits"]

_ROWS_IN_CARD = 40
Pictures: TypeAlias = "NDArray[np.uint8] | Sequence[str | Path] | str"


@dataclass(frozen=True, eq=False, kw_only=True)
class EditedModel(ChangedModel):
    """A model whose output projections carry an edit; a `Model` in every other way.

    Its image mean is the original's.

    Attributes
    ----------
    edit : Edit
        All that was done to the original.
    original_hash : str
        `weights_hash` of the original: further edits are given in the original's directions.
    basis : mapping of int to ndarray, shape (heads, rank, width)
        The original's right singular vectors of the layers that were edited.
    kept : tuple of str
        What was kept out of the scaling, edit by edit: the heads' constants, their averages, or nothing.
    """

    edit: Multipliers
    kept: tuple[str, ...]
    basis: Mapping[int, NDArray[np.float64]]

    def card_lines(self) -> list[str]:
        """Return what a model card says of the change."""
        heads = self.edit.table().groupby(["layer", "head"])["multiplier"].agg(["size", "min", "max"])
        lines = [
            f"{len(self.edit)} singular directions of attention heads are scaled; only output projections differ.",
            f"Kept out of the scaling: {'; then '.join(self.kept)}.",
            "",
            "| layer | head | directions | multipliers |",
            "| ---: | ---: | ---: | --- |",
        ]
        for row in heads.head(_ROWS_IN_CARD).reset_index().to_dict("records"):
            lines.append(f"| {row['layer']} | {row['head']} | {row['size']} | {row['min']:g} to {row['max']:g} |")
        if len(heads) > _ROWS_IN_CARD:
            lines.append(f"| ... | {len(heads) - _ROWS_IN_CARD} more heads | | |")
        return lines

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write an ordinary checkpoint; see `headscan.edit.save.save_changed`."""
        return save_changed(self, path, force=force)


def apply_edit(
    model: Model,
    edit: Multipliers,
    *,
    in_place: bool = False,
    compensate: bool = True,
    pictures: Pictures | None = None,
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
    before = model if isinstance(model, EditedModel) else None
    original_hash = model.weights_hash if before is None else before.original_hash
    check_fits(edit, model, original_hash=original_hash)
    whole = edit if before is None else before.edit.combine(edit)
    kept = (*(() if before is None else before.kept), _kept(compensate, pictures))
    basis = {} if before is None else dict(before.basis)
    written = _written(edit, model, basis, compensate=compensate, pictures=pictures)
    fresh = fresh_copy(model, in_place=in_place)
    for layer, (output, bias) in written.items():
        fresh.tower.write_attention_output(layer, output, bias)
    if in_place:
        vars(model).pop("weights_hash", None)
        if before is not None:  # it holds this edit, too, from now on
            vars(model).update(edit=whole, basis=basis, kept=kept)
    parts = {field.name: getattr(fresh, field.name) for field in fields(fresh)}
    return EditedModel(**parts, edit=whole, original_hash=original_hash, basis=basis, kept=kept)


def _written(
    edit: Multipliers,
    model: Model,
    basis: dict[int, NDArray[np.float64]],
    *,
    compensate: bool,
    pictures: Pictures | None,
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the new output projection and bias of each layer that changes; `basis` is filled with those it lacks."""
    scaled = by_layer(edit.multipliers, model)
    means = average_writes(model, pictures, tuple(scaled)) if pictures is not None and scaled else None
    written = {}
    for number, (layer, rows) in enumerate(scaled.items()):
        if layer not in basis:
            basis[layer] = right_vectors(model, layer, fold=edit.info.folded)
        mean = None if means is None else means[number]
        written[layer] = edited_output(
            model, layer, rows, basis[layer], fold=edit.info.folded, compensate=compensate, mean=mean
        )
    return written


def _kept(compensate: bool, pictures: Pictures | None) -> str:
    if pictures is None:
        return "the heads' constants" if compensate else "nothing, the heads' constants are scaled too"
    where = "as estimated from the image mean" if isinstance(pictures, str) else f"over {len(pictures)} pictures"
    return f"what the heads write on average, {where}"


def changes(model: Model, edit: Multipliers) -> pd.DataFrame:
    """Return by how much each edited head would change, without changing it.

    Columns
    -------
    layer, head : int
    directions : int
        How many are scaled.
    largest : float
        The multiplier furthest from 1.
    vo_change : float
        ``|W_VO edited - W_VO| / |W_VO|``, Frobenius norms, of the folded matrices that the edit is of.
    output_change : float
        The same of the head's rows of the output projection.
    """
    import pandas as pd

    check_model(model)
    check_fits(edit, model, original_hash=model.weights_hash)
    rows = []
    for layer, heads in by_layer(edit.multipliers, model).items():
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


def check_fits(edit: Multipliers, model: Model, *, original_hash: str) -> None:
    """Raise unless an edit is of a model with these weights, and of directions that it has."""
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
