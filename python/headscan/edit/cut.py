"""Cuts: a direction of the residual stream taken out of what a head or an MLP reads, in the weights.

With the layer norm's gain and shift a reader takes ``(xhat * gain + shift) @ W + b``. Along a unit direction w
without a part along all-ones it sees ``xhat . w`` by ``w @ (gain * W)``. ``W - outer(w / gain, w @ (gain * W))`` in
the place of W, and what this takes off the constant ``shift @ W`` added to b, leave everything that is read but for
that: w is projected out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import whole_number
from headscan.edit.changed import ChangedModel, fresh_copy
from headscan.edit.files import CUT, check_unchanged, read_content, save_json
from headscan.edit.info import EditInfo
from headscan.edit.save import save_changed
from headscan.errors import HeadscanError
from headscan.models.model import Model, check_model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headscan.models.towers import Tower

__all__ = ["READS", "Cut", "CutModel", "ReadDirection", "load_cut"]

READS = ("value", "query", "key", "input")  # of a head, and of an MLP


@dataclass(frozen=True, eq=False)
class ReadDirection:
    """A direction that a reader of the image tower shall no longer see.

    Attributes
    ----------
    side : {"value", "query", "key", "input"}
        What reads: a head's values, queries or keys, or an MLP's input.
    layer, head : int
        Where; head -1 of an MLP.
    vector : ndarray, shape (width,)
        The direction, of any length; its part along all-ones, which no reader sees, is left out.
    """

    side: str
    layer: int
    head: int
    vector: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.side not in READS:
            raise HeadscanError(f"side is one of {', '.join(READS)}, not {self.side!r}")
        whole_number(self.layer, "layer", least=0)
        least = -1 if self.side == "input" else 0
        whole_number(self.head, "head", least=least, most=-1 if self.side == "input" else None)
        vector = np.asarray(self.vector, dtype=np.float64)
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise HeadscanError(f"a direction to cut is finite, of shape (width,), not of shape {vector.shape}")
        vector = vector - vector.mean()
        length = np.linalg.norm(vector)
        if not length > 1e-12:
            raise HeadscanError("a direction to cut must have a part that is not along all-ones")
        object.__setattr__(self, "vector", vector / length)


@dataclass(frozen=True, eq=False)
class Cut:
    """Directions projected out of what some readers take in; made by `Cut.of` or `headscan.load_cut`.

    Attributes
    ----------
    reads : tuple of ReadDirection
        Several at one reader are taken out one after the other.
    info : EditInfo
        Provenance.
    """

    reads: tuple[ReadDirection, ...]
    info: EditInfo

    @classmethod
    def of(cls, model: Model, reads: Iterable[tuple[str, int, int, ArrayLike]], *, why: str = "") -> Cut:
        """Return a cut for a model: rows of side, layer, head and vector, as in `ReadDirection`."""
        check_model(model)
        rows = tuple(ReadDirection(side, layer, head, np.asarray(vector)) for side, layer, head, vector in reads)
        step = {"made_by": "cut", "directions": len(rows), "why": why}
        return cls(
            rows, EditInfo(files.package_version(), files.now(), model.name, model.weights_hash, True, (step,))
        )

    def __len__(self) -> int:
        """Return the number of directions."""
        return len(self.reads)

    def apply(self, model: Model, *, in_place: bool = False) -> CutModel:
        """Return the model without them: input weights and biases of the readers change, nothing else.

        Raises
        ------
        HeadscanError
            If the cut is for other weights, a reader is not there, or its layer cannot hold the change (no bias, or a
            gain of zero).
        """
        check_model(model)
        if model.weights_hash != self.info.weights_hash:
            raise HeadscanError(
                f"the cut is for {self.info.model} with the weights {self.info.weights_hash[:12]}, but {model.name} "
                f"has {model.weights_hash[:12]}"
            )
        for read in self.reads:
            for name, number, size in (("layer", read.layer, model.layers), ("head", read.head, model.heads)):
                if number >= size:
                    raise HeadscanError(f"there is no {name} {number}: {model.name} has {name} 0 to {size - 1}")
            if len(read.vector) != model.width:
                raise HeadscanError(f"a direction to cut has {len(read.vector)} entries, the stream {model.width}")
        fresh = fresh_copy(model, in_place=in_place)
        for read in self.reads:
            _project_out(fresh.tower, read, rank=model.rank)
        if in_place:
            vars(model).pop("weights_hash", None)
        parts = {field.name: getattr(fresh, field.name) for field in fields(fresh)}
        return CutModel(**parts, edit=self, original_hash=self.info.weights_hash)

    def card_lines(self) -> list[str]:
        """Return what a model card says of it."""
        rows = [f"| {read.side} | {read.layer} | {read.head} |" for read in self.reads]
        return [
            f"{len(self)} directions are taken out of what these read; only their input weights and biases differ:",
            "",
            "| read as | layer | head (-1: MLP) |",
            "| --- | ---: | ---: |",
            *rows,
        ]

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the cut as JSON, aside and then renamed, and return its path.

        Raises
        ------
        HeadscanError
            If it cannot be written, or another one is there, which only `force` replaces.
        """
        return save_json(path, self.content(), force=force)

    def content(self) -> dict[str, Any]:
        """Return what `save` writes."""
        reads = [{**asdict(read), "vector": read.vector.tolist()} for read in self.reads]
        return {**CUT.head, **asdict(self.info), "reads": reads}


@dataclass(frozen=True, eq=False, kw_only=True)
class CutModel(ChangedModel):
    """A model some of whose readers no longer see a direction; a `Model` in every other way.

    Attributes
    ----------
    edit : Cut
        What was done to the original.
    original_hash : str
        `weights_hash` of the original.
    """

    edit: Cut

    def card_lines(self) -> list[str]:
        """Return what a model card says of the change."""
        return self.edit.card_lines()

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write an ordinary checkpoint; see `headscan.edit.save.save_changed`."""
        return save_changed(self, path, force=force)


def load_cut(path: str | Path) -> Cut:
    """Return a cut saved by `Cut.save`.

    Raises
    ------
    HeadscanError
        If there is none, or it is damaged.
    """
    content, info, source = read_content(path, CUT)
    try:
        cut = Cut(tuple(ReadDirection(**row) for row in content["reads"]), info)
    except (KeyError, TypeError, ValueError) as error:
        raise HeadscanError(f"{source} is damaged: {json.dumps(str(error))}") from error
    check_unchanged(content, source)
    return cut


def _project_out(tower: Tower, read: ReadDirection, *, rank: int) -> None:
    weights: Any
    if read.side == "input":
        weights = tower.read_mlp_input(read.layer)
        matrix, bias, mine = weights.input, weights.input_bias, slice(None)
    else:
        weights = tower.read_attention(read.layer) if read.side == "value" else tower.read_query_key(read.layer)
        matrix, bias = getattr(weights, read.side), getattr(weights, f"{read.side}_bias")
        mine = slice(read.head * rank, (read.head + 1) * rank)
    if np.any((weights.gain == 0) & (np.abs(read.vector) > 0)):
        raise HeadscanError(f"layer {read.layer} has a layer norm with a gain of zero: nothing can be cut there")
    matrix, bias, raw = matrix.copy(), bias.copy(), read.vector / weights.gain
    seen = read.vector @ (weights.gain[:, None] * matrix[:, mine])
    matrix[:, mine] -= np.outer(raw, seen)
    bias[mine] += (weights.shift @ raw) * seen
    tower.write_read(read.layer, read.side, matrix, bias)
