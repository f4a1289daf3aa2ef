"""Save an edited model as an ordinary checkpoint: the input's own format, keys, shapes and dtypes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files, writing
from headscan.common.terminal import plain
from headscan.edit.changed import ChangedModel
from headscan.edit.files import check_replaced, save_json
from headscan.errors import HeadscanError
from headscan.models.checkpoints import explaining
from headscan.models.tensor_files import is_safetensors, read_state

if TYPE_CHECKING:
    import torch

    from headscan.models.model import Model

__all__ = ["EDIT_FILE", "card", "check_target", "save_changed"]

EDIT_FILE = "edit.json"
_CONFIG, _WEIGHTS, _HF_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors", "model.safetensors"
_NOT_WEIGHTS = ("image_mean.safetensors",)
_COPIED = (".json", ".txt", ".md", ".model", ".jinja", "")  # configuration, tokenizers, cards and licences


def save_changed(model: ChangedModel, path: str | Path, *, force: bool = False) -> Path:
    """Write an edited model where the original's loader reads it, and return its path.

    A path that ends in ``.safetensors`` gets the state dict alone, with the card and the edit beside it. Any other
    path becomes a folder: of the demo, a ``local-dir:``, an ``hf-hub:`` or a transformers model with the files of
    its own folder, but of its weights those alone that were loaded; of an open_clip architecture an open_clip
    ``local-dir``. Values are rounded to the dtype that the original's file has; weights that were pickled, or that
    open_clip converted from another layout, become safetensors. An image mean beside the weights is copied: it is the
    original's.

    Raises
    ------
    HeadscanError
        If the path is taken by something else or part of the original, holds another edit (which `force` replaces),
        cannot be written, or the model is one in memory without a configuration and the path is a folder.
    """
    target = check_target(model, path)
    check_replaced(edit_path(target), model.edit.content(), force=force)
    files.sweep(target if target.suffix != ".safetensors" else edit_path(target))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.module.state_dict().items()}
    try:
        if target.suffix == ".safetensors":
            return _save_file(model, _as_in_checkpoint(model, state), target)
        source = model.folder
        with files.folder_aside(target) as aside:
            if source is not None:
                _copy_folder(source, aside, state, model.checkpoint)
            else:
                _new_folder(model, aside, _as_in_checkpoint(model, state))
            (aside / "README.md").write_text(card(model, original=_card_of(source)), encoding="utf-8")
            save_json(aside / EDIT_FILE, model.edit.content())
    except OSError as error:
        raise HeadscanError(f"cannot write the edited model to {target}: {error.strerror or error}") from error
    return target


def card(model: ChangedModel, *, original: str = "") -> str:
    """Return a model card that lists the edit; the original's card, with its licence, follows."""
    header, body = _front_matter(original)
    lines = [
        f"# {plain(model.name)}, changed with headscan",
        "",
        *model.card_lines(),
        "",
        f"All else is as in the original (SHA-256 of its weights: `{model.original_hash}`), its cost too.",
        f"`{EDIT_FILE}` beside this file holds the edit. How it was made:",
        "",
        *(f"    {json.dumps(_in_card(step), ensure_ascii=False)}" for step in model.edit.info.steps),
    ]
    after = ["", "The original's card follows.", "", body.strip()] if body.strip() else []
    return header + "\n".join([*lines, *after]) + "\n"


def _in_card(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step without its long list of what was chosen, which the edit's file has."""
    return {name: value for name, value in step.items() if name != "chosen"}


def _front_matter(text: str) -> tuple[str, str]:
    """Split a card into its YAML header, with its fences, and the rest."""
    if text.startswith("---\n") and "\n---\n" in text[4:]:
        end = text.index("\n---\n", 4) + len("\n---\n")
        return text[:end], text[end:]
    return "", text


def _card_of(source: Path | None) -> str:
    path = None if source is None else source / "README.md"
    return "" if path is None or not path.is_file() else path.read_text(encoding="utf-8", errors="replace")


def check_target(model: Model, path: str | Path) -> Path:
    """Return where an edited model may be saved, absolute, before anything is done for it.

    Raises
    ------
    HeadscanError
        If the original is there, or something that is not an edited model, or it cannot be written.
    """
    target, source = files.expanded(path).absolute(), model.folder
    single = target.suffix == ".safetensors"
    own = {path.resolve() for path in model.checkpoint} | (set() if source is None else {source.resolve()})
    if target.resolve() in own or (single and target.parent.resolve() in own):
        raise HeadscanError(
            f"will not write over the original, or into its folder, with {target}: choose another path"
        )
    if single:
        beside = (target, target.with_suffix(".md"))
        last = edit_path(target)  # of a save that was killed before this one, it is left aside
        ours = last.is_file() or bool(writing.leftovers(last.parent, last.name))
        taken = next((path for path in beside if path.exists() and not ours), None)
    else:
        empty = target.is_dir() and (not any(target.iterdir()) or (target / EDIT_FILE).is_file())
        taken = target if target.exists() and not empty else None
    if taken is not None:
        raise HeadscanError(f"{taken} exists and is not of an edited model: choose another path")
    files.check_writable(target.parent)
    return target


def edit_path(target: Path) -> Path:
    """Return where the edit lies that belongs to a saved model."""
    return target.with_suffix(".edit.json") if target.suffix == ".safetensors" else target / EDIT_FILE


def _copy_folder(source: Path, aside: Path, state: Mapping[str, torch.Tensor], checkpoint: Sequence[Path]) -> None:
    """Copy a model's folder with `state` for its weights, under the keys and in the dtypes of its files."""
    pickled = any(path.suffix != ".safetensors" for path in checkpoint)
    for path in sorted(source.iterdir()):
        stale = path.name.endswith(".bin.index.json") or (pickled and path.name.endswith(".index.json"))
        if path.is_file() and (path.name in _NOT_WEIGHTS or path.suffix in _COPIED) and not stale:
            shutil.copyfile(path, aside / path.name)
    read = {path.name: _read(path) for path in checkpoint}
    if pickled:
        together = {name: tensor for tensors, _ in read.values() for name, tensor in tensors.items()}
        read = {_WEIGHTS if (source / _CONFIG).is_file() else _HF_WEIGHTS: (together, {"format": "pt"})}
    missing = set(state).difference(*(tensors for tensors, _ in read.values()))
    if missing:
        raise HeadscanError(
            f"the weights in {source} have no tensor {min(missing)}: they are of another layout; save to a "
            ".safetensors file instead"
        )
    for name, (tensors, header) in read.items():
        _write(_in_dtypes_of(tensors, state), aside / name, header)


def _as_in_checkpoint(model: ChangedModel, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return the tensors with the keys and dtypes of the original's file, if it holds them as the model does."""
    original = {name: tensor for path in model.checkpoint for name, tensor in _read(path)[0].items()}
    return _in_dtypes_of(original, state) if state.keys() <= original.keys() else state


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of one file; torch's own are read with ``weights_only``."""
    from safetensors import safe_open

    with explaining(f"{path}, which the model came from, cannot be read any more", checkpoint=True):
        if is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        return read_state(path), {}


def _in_dtypes_of(tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the model's tensors under a file's keys, in its dtypes; what the model has not is kept."""
    tensors_cast = {}
    for name, tensor in tensors.items():
        mine = state.get(name, tensor)
        if mine.shape != tensor.shape:
            raise HeadscanError(
                f"the file's {name} has shape {tuple(tensor.shape)}, the model's {tuple(mine.shape)}: it was resized "
                "when it was loaded; save to a .safetensors file instead"
            )
        cast = mine.to(tensor.dtype).contiguous()
        if cast.is_floating_point() and not bool(cast.isfinite().all()):
            raise HeadscanError(f"the edited {name} does not fit the file's {tensor.dtype}")
        tensors_cast[name] = cast
    return tensors_cast


def _new_folder(model: ChangedModel, aside: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write a model that came without a folder of its own: transformers' way, else as open_clip's local-dir."""
    if hasattr(model.module, "save_pretrained"):
        model.module.save_pretrained(aside, state_dict=dict(state))
        return
    config = model.config
    if config is None:
        raise HeadscanError(
            f"{model.name} has no configuration to save with it: give a path that ends in .safetensors for its "
            "state dict"
        )
    preprocess = getattr(model.module.visual, "preprocess_cfg", {})
    whole = {"model_cfg": dict(config), "preprocess_cfg": dict(preprocess)}
    (aside / _CONFIG).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    _write(state, aside / _WEIGHTS, {"format": "pt"})


def _save_file(model: ChangedModel, state: Mapping[str, torch.Tensor], target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing.files_aside(edit_path(target)) as aside:  # the weights first, the edit last
        _write(state, aside / target.name, {"format": "pt"})
        (aside / target.with_suffix(".md").name).write_text(card(model), encoding="utf-8")
        save_json(aside / edit_path(target).name, model.edit.content())
    return target


def _write(tensors: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as error:
        raise HeadscanError(f"cannot write {path.name}: {error}") from error
