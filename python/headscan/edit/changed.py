"""A model whose weights were changed, as edits and cuts leave it; a copy of a model to change."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

from headscan.edit.info import EditInfo
from headscan.models.load import load_model
from headscan.models.model import Model

__all__ = ["Change", "ChangedModel", "fresh_copy"]


class Change(Protocol):
    """What was done to a model: an edit, or a cut."""

    @property
    def info(self) -> EditInfo:
        """Provenance."""

    def content(self) -> dict[str, Any]:
        """Return it as a JSON object."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangedModel(Model):
    """A model with changed weights; a `Model` in every other way.

    Attributes
    ----------
    edit : Change
        All that was done to the original.
    original_hash : str
        `weights_hash` of the original: further changes are given in the original's directions.
    """

    edit: Change
    original_hash: str

    def card_lines(self) -> list[str]:
        """Return what a model card says of the change."""
        raise NotImplementedError


def fresh_copy(model: Model, *, in_place: bool) -> Model:
    """Return the model around a copy of its module, or around its own, free of what was computed of its weights."""
    module = model.module if in_place else copy.deepcopy(model.module)
    made = load_model(
        module, dtype=model.dtype, image_mean=model.image_mean, tokenizer=lambda texts: model.tokenizer(texts)
    )
    kept = ("name", "pretrained", "checkpoint", "folder", "config", "image_mean_of")
    return replace(made, **{name: getattr(model, name) for name in kept})
