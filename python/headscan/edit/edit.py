"""The table of an edit: which singular directions are scaled, by how much, and why."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.core.svd import svd_factored
from headscan.edit.direction import COLUMNS, Direction, checked_direction, checked_multiplier, said, unique
from headscan.edit.mean import average_writes
from headscan.edit.weights import by_layer, edited_output, right_vectors
from headscan.errors import HeadscanError
from headscan.explanations.result import check_scan
from headscan.heads.factors import vo_factors
from headscan.models.load import load_model
from headscan.models.model import Model, check_model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.explanations.result import Scan


__all__ = ["Edit", "EditInfo", "EditedModel", "apply_edit", "changes"]


_ROWS_IN_CARD = 40


@dataclass(frozen=True)
class EditInfo:
    """What an edit is for and how it was made.

    Attributes
    ----------
    headscan, created : str
        Version of headscan, and when (ISO 8601, UTC).
    model, weights_hash : str
        Name and SHA-256 of the model whose directions are meant. Indices mean nothing for other weights.
    folded : bool
        Whether the directions are those of the folded and centred matrices, as in `vo_factors`.
    steps : tuple of dict
        How the multipliers came about, one JSON object a step.
    """

    headscan: str
    created: str
    model: str
    weights_hash: str
    folded: bool
    steps: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, scan: Scan, step: Mapping[str, Any]) -> EditInfo:
        """Return the provenance of an edit made from a scan in one step."""
        info = check_scan(scan).info
        return cls(files.package_version(), files.now(), info.model, info.weights_hash, info.folded, (step,))


@dataclass(frozen=True, eq=False)
class Edit:
    """Multipliers of singular values: W_VO = U S V^T becomes U S M V^T (arXiv 2603.24653, section on edits).

    Made by its class methods, or read by `headscan.load_edit`.

    Attributes
    ----------
    multipliers : mapping of Direction to float
        Only those that change something: a multiplier of exactly 1 is left out.
    info : EditInfo
        Provenance.
    """

    multipliers: Mapping[Direction, float]
    info: EditInfo

    def __post_init__(self) -> None:
        checked = {checked_direction(key): checked_multiplier(value) for key, value in self.multipliers.items()}
        kept = {key: checked[key] for key in sorted(checked) if checked[key] != 1.0}
        object.__setattr__(self, "multipliers", kept)

    def __len__(self) -> int:
        """Return the number of directions that change."""
        return len(self.multipliers)

    def __str__(self) -> str:
        """Say in a few lines what is scaled and why."""
        made = "; ".join(str(step.get("made_by", "?")) for step in self.info.steps)
        layers = sorted({direction.layer for direction in self.multipliers})
        heads = {(direction.layer, direction.head) for direction in self.multipliers}
        values = list(self.multipliers.values())
        span = f", multipliers {min(values):g} to {max(values):g}" if values else ""
        return (
            f"edit of {self.info.model} ({self.info.weights_hash[:12]}), made by {made}: {len(self)} directions "
            f"of {len(heads)} heads in layers {layers}{span}"
        )

    @classmethod
    def suppress(cls, scan: Scan, model: Model, **options: Any) -> Edit:
        """Scale down what a text names; see `headscan.edit.multipliers.suppress`."""
        from headscan.edit import multipliers

        return multipliers.suppress(scan, model, **options)

    @classmethod
    def amplify(cls, scan: Scan, model: Model, **options: Any) -> Edit:
        """Scale up what a text names; see `headscan.edit.multipliers.amplify`."""
        from headscan.edit import multipliers

        return multipliers.amplify(scan, model, **options)

    @classmethod
    def for_classes(cls, scan: Scan, model: Model, classes: Sequence[str], **options: Any) -> Edit:
        """Scale by relevance for a classification task; see `headscan.edit.multipliers.for_classes`."""
        from headscan.edit import multipliers

        return multipliers.for_classes(scan, model, classes, **options)

    @classmethod
    def from_judgements(cls, scan: Scan, source: Any, mapping: Any, **options: Any) -> Edit:
        """Scale by scores from a file or a callable; see `headscan.edit.judgements.from_judgements`."""
        from headscan.edit import judgements

        return judgements.from_judgements(scan, source, mapping, **options)

    @classmethod
    def from_table(cls, frame: pd.DataFrame, scan: Scan) -> Edit:
        """Take multipliers from a table; `scan` says for which model.

        Parameters
        ----------
        frame : pandas.DataFrame
            Columns layer, head, index and multiplier; part is "vo" where there is no such column. Other columns
            are ignored.
        scan : Scan
            A scan of the model that the directions belong to.

        Raises
        ------
        HeadscanError
            If a column is missing, a value is none, or a direction comes twice with different multipliers.
        """
        check_scan(scan)
        missing = [name for name in COLUMNS if name != "part" and name not in frame.columns]
        if missing:
            raise HeadscanError(
                f"the table of an edit needs the columns {', '.join(COLUMNS)}: {missing[0]} is missing"
            )
        parts = frame["part"] if "part" in frame.columns else ["vo"] * len(frame)
        rows = zip(parts, frame["layer"], frame["head"], frame["index"], frame["multiplier"], strict=True)
        return cls(unique(rows), EditInfo.of(scan, {"made_by": "from_table", "rows": len(frame)}))

    def table(self, scan: Scan | None = None) -> pd.DataFrame:
        """Return one row a direction; with the scan also its sigma and what its poles were explained by."""
        import pandas as pd

        rows = [(*direction, multiplier) for direction, multiplier in self.multipliers.items()]
        table: pd.DataFrame = pd.DataFrame(rows, columns=list(COLUMNS))
        if scan is None:
            return table
        where = ["layer", "head", "index"]
        written = check_scan(scan).rows(side="write", part="vo")
        concepts = written.pivot(index=where, columns="pole", values="concepts").add_prefix("concepts ")
        sigma = written.groupby(where)["sigma"].first()
        described: pd.DataFrame = table.join(sigma, on=where).join(concepts, on=where)
        return described

    def combine(self, other: Edit) -> Edit:
        """Return the edit that does both: multipliers of the same direction are multiplied.

        Raises
        ------
        HeadscanError
            If they are for different weights, or one is for folded matrices and the other is not.
        """
        if (self.info.weights_hash, self.info.folded) != (other.info.weights_hash, other.info.folded):
            raise HeadscanError(
                f"edits of different models or foldings cannot be combined: {self.info.model} "
                f"({self.info.weights_hash[:12]}) and {other.info.model} ({other.info.weights_hash[:12]})"
            )
        both = dict(self.multipliers)
        for direction, multiplier in other.multipliers.items():
            both[direction] = both.get(direction, 1.0) * multiplier
        return Edit(both, replace(self.info, created=files.now(), steps=self.info.steps + other.info.steps))

    def invert(self) -> Edit:
        """Return the edit that undoes this one, up to float32: what a small multiplier rounded away stays lost.

        Raises
        ------
        HeadscanError
            If a multiplier is 0: what is gone cannot be brought back from the edited weights.
        """
        for direction, multiplier in self.multipliers.items():
            if multiplier == 0:
                raise HeadscanError(
                    f"an edit that removes a direction has no inverse: {said(direction)} is scaled by 0"
                )
        inverse = {direction: 1 / multiplier for direction, multiplier in self.multipliers.items()}
        steps = (*self.info.steps, {"made_by": "invert"})
        return Edit(inverse, replace(self.info, created=files.now(), steps=steps))

    def shuffled(self, model: Model, *, seed: int = 0) -> Edit:
        """Return a random edit of the same size: the same multipliers at other directions of the same layers."""
        rng = np.random.default_rng(seed)
        moved: dict[Direction, float] = {}
        for layer in sorted({direction.layer for direction in self.multipliers}):
            values = [value for direction, value in self.multipliers.items() if direction.layer == layer]
            places = rng.choice(model.heads * model.rank, size=len(values), replace=False)
            for place, value in zip(places.tolist(), values, strict=True):
                moved[Direction("vo", layer, place // model.rank, place % model.rank)] = value
        steps = (*self.info.steps, {"made_by": "shuffled", "seed": seed})
        return Edit(moved, replace(self.info, created=files.now(), steps=steps))

    def diff(self, other: Edit) -> pd.DataFrame:
        """Return the directions whose multipliers differ, with both: columns `multiplier` and `other`."""
        import pandas as pd

        rows = []
        for direction in sorted({*self.multipliers, *other.multipliers}):
            pair = self.multipliers.get(direction, 1.0), other.multipliers.get(direction, 1.0)
            if pair[0] != pair[1]:
                rows.append((*direction, *pair))
        differing: pd.DataFrame = pd.DataFrame(rows, columns=[*COLUMNS, "other"])
        return differing

    def apply(
        self, model: Model, *, in_place: bool = False, compensate: bool = True, pictures: Any = None
    ) -> EditedModel:
        """Return the edited model; see `apply_edit`."""
        return apply_edit(model, self, in_place=in_place, compensate=compensate, pictures=pictures)

    def changes(self, model: Model) -> pd.DataFrame:
        """Return by how much each head would change; see `changes`."""
        return changes(model, self)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the edit as JSON, aside and then renamed, and return its path.

        Raises
        ------
        HeadscanError
            If it cannot be written, or another edit is there, which only `force` replaces.
        """
        from headscan.edit.files import write_edit

        return write_edit(self, path, force=force)


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
        """Write an ordinary checkpoint; see `headscan.edit.save.save_edited`."""
        from headscan.edit.save import save_edited

        return save_edited(self, path, force=force)


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
    written, scaled = {}, by_layer(edit.multipliers, model)
    means = average_writes(model, pictures, tuple(scaled)) if pictures is not None and scaled else None
    for place, (layer, rows) in enumerate(scaled.items()):
        if layer not in basis:
            basis[layer] = right_vectors(model, layer, fold=edit.info.folded)
        mean = None if means is None else means[place]
        written[layer] = edited_output(
            model, layer, rows, basis[layer], fold=edit.info.folded, compensate=compensate, mean=mean
        )
    fresh = fresh_copy(model, in_place=in_place)
    for layer, (output, bias) in written.items():
        fresh.tower.write_attention_output(layer, output, bias)
    kept = (*kept, _kept(compensate, pictures))
    if in_place:
        vars(model).pop("weights_hash", None)
        if isinstance(model, EditedModel):  # it holds this edit, too, from now on
            vars(model).update(edit=whole, basis=basis, kept=kept)
    parts = {field.name: getattr(fresh, field.name) for field in fields(fresh)}
    return EditedModel(**parts, edit=whole, original_hash=original_hash, basis=basis, kept=kept)


def fresh_copy(model: Model, *, in_place: bool) -> Model:
    """Return the model around a copy of its module, or around its own, free of what was computed of its weights."""
    module = model.module if in_place else copy.deepcopy(model.module)
    made = load_model(
        module, dtype=model.dtype, image_mean=model.image_mean, tokenizer=lambda texts: model.tokenizer(texts)
    )
    kept = ("name", "pretrained", "checkpoint", "folder", "config")
    return replace(made, **{name: getattr(model, name) for name in kept})


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
