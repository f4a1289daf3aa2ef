"""From a model's name to its weights: names, tags, downloads, and saying what went wrong.

Models come into the house through here alone: this module and `hugging_face` may download. Weights are never
unpickled: checkpoints are read as safetensors or with torch's ``weights_only`` loader.
"""

from __future__ import annotations

import difflib
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headscan.common import files
from headscan.common.files import packaged_folder
from headscan.common.reading import check_sizes, read_json
from headscan.common.terminal import one_line, plain
from headscan.errors import HeadscanError
from headscan.models import hub, hugging_face
from headscan.models.configurations import check_unquantised, read_configuration
from headscan.models.in_memory import check_module
from headscan.models.open_clip_weights import open_weights, tokenizer_for
from headscan.models.towers import Weights

__all__ = ["DEMO", "LoadedModel", "explaining", "load_by_name", "take_module"]

DEMO = "demo"
_LOCAL, _HUB = "local-dir:", "hf-hub:"
_OPEN_CLIP_CONFIG = "open_clip_config.json"
_TAGS_SHOWN = 6
_CLIP_VOCABULARY = 49408  # of open_clip's own byte-pair tokenizer


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model's weights and what belongs to them."""

    name: str
    pretrained: str | None
    weights: Weights
    make_tokenizer: Callable[[], Any]
    checkpoint: tuple[Path, ...] = ()
    image_mean: Path | None = None
    folder: Path | None = None
    config: Mapping[str, Any] | None = None


def load_by_name(name: str, *, pretrained: str | Path | None, device: str) -> LoadedModel:
    """Load a model by name; see `headscan.load_model`."""
    if not name.startswith((_LOCAL, _HUB)) and name != DEMO:
        return _load_architecture(name, pretrained=pretrained, device=device)
    if pretrained is not None:
        raise HeadscanError(f"pretrained belongs to an architecture name: {name} brings its own weights")
    if name.startswith(_HUB):
        return _load_hub(name, device=device)
    if name.startswith(_LOCAL):
        return _load_folder(files.expanded(name[len(_LOCAL) :]).absolute(), name=name, device=device)
    folder = packaged_folder(DEMO)
    if not folder.is_dir():
        raise HeadscanError("the demo model is missing from this installation of headscan: reinstall it")
    return _load_folder(folder, name=DEMO, device=device)


def take_module(module: Any, *, pretrained: str | Path | None, device: str | None) -> LoadedModel:
    """Accept a model of open_clip or transformers in memory, without changing or moving it."""
    from torch import nn

    module = _unwrapped(check_module(module))
    own = isinstance(module, nn.Module) and hasattr(module, "visual") and hasattr(module, "encode_text")
    foreign = hugging_face.is_transformers(module)
    if not own and not foreign:
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        inner = ": pass its .module" if hasattr(module, "module") else ""
        raise HeadscanError(
            f"a model must be a name or a CLIP model of open_clip or transformers, not a {kind}{inner}"
        )
    if pretrained is not None:
        raise HeadscanError("pretrained belongs to an architecture name: a model in memory has its weights already")
    first = next(module.parameters(), None)
    if first is None or first.is_meta:
        raise HeadscanError("the model in memory has no weights (it is on the meta device or empty)")
    if device is not None and first.device.type != device.split(":")[0]:
        raise HeadscanError(
            f"the model in memory is on {first.device}: move it to {device} yourself, or leave device out"
        )
    name = f"{type(module).__name__} in memory"
    make = hugging_face.own_tokenizer if foreign else _default_tokenizer
    return LoadedModel(name, None, Weights(module), lambda: make(module))


def _unwrapped(module: Any) -> Any:
    """Return the CLIP inside a model of transformers that adds a task's head to it, else the given module."""
    inner = getattr(module, str(getattr(module, "base_model_prefix", None) or ""), None)
    outside = hugging_face.is_transformers(module) or not hugging_face.is_transformers(inner)
    return module if outside else inner


def _default_tokenizer(module: Any) -> Any:
    import open_clip

    vocabulary = getattr(module, "vocab_size", None)
    if vocabulary != _CLIP_VOCABULARY or not hasattr(module, "context_length"):
        raise HeadscanError(
            f"a model in memory with a vocabulary of {vocabulary} tokens does not say its tokenizer: "
            "pass load_model(..., tokenizer=...)"
        )
    return open_clip.SimpleTokenizer(context_length=module.context_length)


def _load_folder(folder: Path, *, name: str, device: str) -> LoadedModel:
    from open_clip.factory import _find_checkpoint_in_dir

    if not folder.is_dir():
        raise HeadscanError(f"there is no model folder {folder}")
    for file in (folder / _OPEN_CLIP_CONFIG, folder / "config.json"):
        if file.is_file():
            check_sizes(read_json(file), where=file)
    mean = folder / "image_mean.safetensors"
    mean_or_none = mean if mean.is_file() else None
    if not (folder / _OPEN_CLIP_CONFIG).is_file():
        if not (folder / "config.json").is_file():
            raise HeadscanError(
                f"{folder} has no {_OPEN_CLIP_CONFIG} and no config.json: it is neither an open_clip nor a "
                "transformers model folder"
            )
        with explaining(f"the model in {folder} cannot be loaded", checkpoint=True):
            weights, read = hugging_face.load_folder(folder, device=device)
        make_tokenizer = lambda: hugging_face.folder_tokenizer(folder, weights)  # noqa: E731
        return LoadedModel(name, None, weights, make_tokenizer, read, mean_or_none, folder)
    weight_files = _weight_files(folder)
    if not weight_files:
        raise HeadscanError(f"{folder} has no weights (.safetensors, .bin or .pth)")
    identifier = f"{_LOCAL}{folder}"
    with explaining(f"the model in {folder} cannot be loaded (weights: {', '.join(weight_files)})"):
        described = read_configuration(folder / _OPEN_CLIP_CONFIG)
        config = described.get("model_cfg", described)
        check_unquantised(config, folder)
        checkpoint = Path(_find_checkpoint_in_dir(folder))
        weights, config = open_weights(identifier, checkpoint, device=device, config=config)
    make = lambda: tokenizer_for(identifier, config, named=name.startswith(_HUB))  # noqa: E731
    return LoadedModel(name, None, weights, make, (checkpoint,), mean_or_none, folder, config)


def _weight_files(folder: Path) -> list[str]:
    present = [
        file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pth") and file.is_file()
    ]
    return sorted(file.name for file in present if file.name != "image_mean.safetensors")


def _load_hub(name: str, *, device: str) -> LoadedModel:
    with explaining(f"{name} cannot be loaded from the Hugging Face hub{_offline_note()}"):
        folder, pinned = hub.fetch(name[len(_HUB) :])
        loaded = _load_folder(folder, name=f"{_HUB}{pinned}", device=device)
    return replace(loaded, image_mean=None)


def _load_architecture(name: str, *, pretrained: str | Path | None, device: str) -> LoadedModel:
    import open_clip
    import torch

    known = open_clip.list_models()
    architecture = name.replace("/", "-")
    if architecture not in known:
        raise HeadscanError(_unknown_model(name, known))
    tags = [tag for model, tag in open_clip.list_pretrained() if model == architecture]
    if pretrained is None:
        few = ", ".join(tags[:_TAGS_SHOWN]) + (f" ({len(tags)} in all)" if len(tags) > _TAGS_SHOWN else "")
        offered = f"one of {few}, " if tags else ""
        raise HeadscanError(
            f"{architecture} is an architecture: say which weights with pretrained: {offered}a checkpoint "
            "file, or 'random' for meaningless ones"
        )
    wanted = str(pretrained)
    built = open_clip.get_model_config(architecture)
    if wanted == "random":
        with torch.random.fork_rng(devices=[]), explaining(f"{architecture} cannot be built"):
            torch.manual_seed(0)
            module = open_clip.create_model(architecture, device=device, pretrained_text=False).eval()
        make = lambda: tokenizer_for(architecture, built, named=True)  # noqa: E731
        return LoadedModel(architecture, wanted, Weights(module), make, config=built)
    config = open_clip.pretrained.get_pretrained_cfg(architecture, wanted)
    if not config and not Path(wanted).is_file():
        near = difflib.get_close_matches(wanted.lower(), tags, n=3, cutoff=0.4) or tags[:_TAGS_SHOWN]
        raise HeadscanError(
            f"{architecture} has no weights {wanted!r}, neither a file nor a tag"
            + (f"; its tags include {', '.join(near)}" if near else "")
        )
    _check_offline(config)
    quick = _needs_quick_gelu(architecture, wanted, config)
    what = f"{architecture} with {wanted} cannot be loaded" + (_offline_note() if config else "")
    with explaining(what, checkpoint=True):
        checkpoint = Path(open_clip.pretrained.download_pretrained(config) if config else wanted).absolute()
        options = {"pretrained": wanted, "force_quick_gelu": quick}
        weights, built = open_weights(architecture, checkpoint, device=device, config=built, **options)
    make = lambda: tokenizer_for(architecture, built, named=True)  # noqa: E731
    return LoadedModel(architecture, wanted, weights, make, (checkpoint,), config=built)


def _needs_quick_gelu(architecture: str, tag: str, config: dict[str, Any]) -> bool:
    """Say whether weights trained with QuickGELU meet an architecture without; refuse the opposite."""
    import open_clip

    quick = bool((open_clip.get_model_config(architecture) or {}).get("quick_gelu", False))
    if config and quick and not config.get("quick_gelu", False):
        plain = architecture.replace("-quickgelu", "")
        raise HeadscanError(
            f"the weights {tag} were trained without QuickGELU: use {plain} instead of {architecture}"
        )
    return bool(config.get("quick_gelu", False)) and not quick


def _check_offline(config: dict[str, Any]) -> None:
    """Refuse weights that open_clip would fetch by plain URL while the user asked to stay offline."""
    url = config.get("url", "")
    if not _offline() or not url or config.get("hf_hub"):
        return
    cached = Path("~/.cache/clip").expanduser() / url.rsplit("/", 1)[-1]
    if not cached.is_file():
        raise HeadscanError(f"HF_HUB_OFFLINE is set and {cached} is absent: download {url} there, or go online")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _offline_note() -> str:
    if _offline():
        return " (HF_HUB_OFFLINE is set: only the local cache was searched; unset it, or pass a checkpoint file)"
    return " (looked in the local cache, then online: check the connection, or pass a downloaded checkpoint)"


def _unknown_model(name: str, known: list[str]) -> str:
    if Path(name).is_dir():
        return f"there is no model {name!r}; for the folder of that name, write {_LOCAL}{name}"
    names = {model.lower(): model for model in [DEMO, *known]}
    near = [names[match] for match in difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.5)]
    hint = (
        f"did you mean {', '.join(near)}?" if near else "'demo', hf-hub:org/repo and local-dir:path also name models"
    )
    return f"there is no model {name!r}: {hint}"


@contextmanager
def explaining(what: str, *, checkpoint: bool = False) -> Iterator[None]:
    """Turn whatever open_clip, torch or the hub raise while loading (nothing but a checkpoint) into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries' remarks about their own internals
            yield
    except (HeadscanError, MemoryError):
        raise
    except Exception as error:
        raise HeadscanError(f"{what}: {_reason(error, checkpoint=checkpoint)}") from error


def _reason(error: Exception, *, checkpoint: bool) -> str:
    """Say what went wrong, without the advice that torch gives to unpickle what it refused."""
    misread = (KeyError, AttributeError, IndexError, TypeError) if checkpoint else ()
    torn = "PytorchStreamReader" in str(error)
    if torn or isinstance(error, (pickle.UnpicklingError, EOFError, *misread)):
        return (
            "the weights are damaged or of another kind: expected a .safetensors file, or a state dict that "
            "torch.load reads with weights_only=True"
        )
    lines = [line for line in str(error).splitlines() if line.strip()]
    return plain(one_line(" ".join(lines[:3]), longest=600)) or f"unreadable ({type(error).__name__})"
