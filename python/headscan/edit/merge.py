"""Adapters merged: a model with a LoRA adapter's change in its weights, saved as an ordinary checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from headscan.common import files
from headscan.edit.changed import ChangedModel
from headscan.edit.files import MERGE, check_replaced
from headscan.edit.info import EditInfo
from headscan.edit.save import check_target, edit_path, save_changed
from headscan.errors import HeadscanError
from headscan.models.adapters import Adapter, load_adapter
from headscan.models.load import load_model
from headscan.models.model import Model, check_model

__all__ = ["Merge", "MergedModel", "merge_adapter", "merge_by_name"]


@dataclass(frozen=True, eq=False)
class Merge:
    """What was merged: lies beside the merged weights, as an `Edit` beside edited ones.

    Attributes
    ----------
    adapter : str
        The adapter's folder or repository.
    adapter_hash : str
        SHA-256 over the names and float64 bytes of its tensors, names sorted, and its alphas.
    modules : tuple of str
        What it changes.
    info : EditInfo
        Provenance, with the base's name and hash.
    """

    adapter: str
    adapter_hash: str
    modules: tuple[str, ...]
    info: EditInfo

    def content(self) -> dict[str, Any]:
        """Return what lies beside the merged weights."""
        facts = {"adapter": self.adapter, "adapter_hash": self.adapter_hash, "modules": list(self.modules)}
        return {**MERGE.head, **asdict(self.info), **facts}


@dataclass(frozen=True, eq=False, kw_only=True)
class MergedModel(ChangedModel):
    """A model with an adapter's change in its weights; a `Model` in every other way.

    Attributes
    ----------
    edit : Merge
        What was done to the original.
    original_hash : str
        `weights_hash` of the base.
    """

    edit: Merge
    original_hash: str

    def card_lines(self) -> list[str]:
        """Return what a model card says of the change."""
        return [
            f"The LoRA adapter {self.edit.adapter} is merged: it changes {len(self.edit.modules)} modules.",
            "",
            *(f"- `{module}`" for module in self.edit.modules),
        ]

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write an ordinary checkpoint; see `headscan.edit.save.save_changed`."""
        return save_changed(self, path, force=force)


def merge_adapter(model: Model, adapter: Adapter) -> MergedModel:
    """Return the model with an adapter's change in its weights, in memory; `model` is left as it is.

    Raises
    ------
    HeadscanError
        If the adapter does not fit the model; see `Adapter.apply`.
    """
    check_model(model)
    if not isinstance(adapter, Adapter):
        raise HeadscanError(f"an adapter comes from load_adapter, not a {type(adapter).__qualname__}")
    merged = adapter.apply(model)
    step = {"made_by": "merge_adapter", "adapter": adapter.name, "modules": len(adapter.modules)}
    info = EditInfo(files.package_version(), files.now(), model.name, model.weights_hash, False, (step,))
    edit = Merge(adapter.name, _hash(adapter), adapter.modules, info)
    parts = {field.name: getattr(merged, field.name) for field in fields(Model)}
    return MergedModel(**{**parts, "name": model.name}, edit=edit, original_hash=model.weights_hash)


def merge_by_name(
    model: str, adapter: str, out: str | Path, *, pretrained: str | None = None, force: bool = False
) -> tuple[MergedModel, Path]:
    """Merge an adapter into a model by name, save it, and return it with its path.

    Parameters
    ----------
    model, pretrained : str
        The base, as in `load_model`.
    adapter : str
        As in `load_adapter`.
    out : path
        A folder, or a file that ends in .safetensors.
    force : bool
        Replace another merged or edited model that is there.

    Raises
    ------
    HeadscanError
        As `load_model`, `load_adapter`, `merge_adapter` and `MergedModel.save` do.
    """
    change = load_adapter(adapter)
    base = load_model(model, pretrained=pretrained)
    target = check_target(base, out)
    merged = merge_adapter(base, change)
    check_replaced(edit_path(target), merged.edit.content(), force=force)
    return merged, merged.save(target, force=force)


def _hash(adapter: Adapter) -> str:
    names = ("lora_alpha", "alpha_pattern", "use_rslora")
    digest = hashlib.sha256(repr([adapter.config.get(name) for name in names]).encode())
    for module in adapter.modules:
        for kind, tensor in sorted(adapter.tensors[module].items()):
            digest.update(f"{module} {kind} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
