"""LoRA adapters, in the layout that peft saves: weights with an adapter's changes on top, read lazily, never merged.

An adapter changes a weight W (outputs, inputs) of a module to ``W + scale * B A``, with ``scale = alpha / r``, or
``alpha / sqrt(r)`` (rslora). With DoRA the sum's rows are then brought to trained lengths,
``m * (W + scale * B A) / |W + scale * B A|``. Modules to save and trained biases are replaced as a whole. The changes
are added in float64 when a tensor is read, so everything that reads a `Model` reads an adapted one.
"""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files
from headscan.common.patterns import compiled
from headscan.common.reading import read_json
from headscan.errors import HeadscanError
from headscan.models.checkpoints import explaining
from headscan.models.model import Model
from headscan.models.tensor_files import open_tensors
from headscan.models.towers import read_tower

if TYPE_CHECKING:
    import torch

__all__ = ["Adapter", "is_adapter", "load_adapter"]

_CONFIG, _WEIGHTS, _PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_PREFIX, _HUB = "base_model.model.", "hf-hub:"
_UNREAD = (  # settings under which the change is another than the module's text says
    "use_qalora", "use_bdlora", "fan_in_fan_out", "layer_replication", "target_parameters",
    "alora_invocation_tokens", "kasa_config", "monteclora_config",
)  # fmt: skip
_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change the base weights too
_ONCE_FROM = (0, 21, 3)  # earlier versions of peft add a wrapped out_proj's change twice (huggingface/peft#3774)
_WRAPPED = ".base_layer"  # in the names of what peft wraps inside nn.MultiheadAttention
_KINDS = re.compile(
    r"(.*)\.(lora_A\.weight|lora_B\.(?:weight|bias)|lora_embedding_[AB]|lora_magnitude_vector(?:\.weight)?)"
)
_OF_TRANSFORMERS = {  # names in transformers' CLIP, and in open_clip's own ViT, for adapters tuned there
    r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj": r"visual.transformer.resblocks.\1.attn#\2",
    r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj": r"visual.transformer.resblocks.\1.attn.out_proj",
    r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc1": r"visual.transformer.resblocks.\1.mlp.c_fc",
    r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc2": r"visual.transformer.resblocks.\1.mlp.c_proj",
}
_log = logging.getLogger(__name__)
Change = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a LoRA adapter changes; made by `load_adapter`, put on a model by `apply`.

    Attributes
    ----------
    name : str
        Its folder or repository.
    config : mapping
        Its adapter_config.json.
    tensors : mapping of str to tensor
        Its tensors, float64, by the base model's module (without peft's prefix) and what they are to it.
    """

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, torch.Tensor]]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules and tensors that it changes, sorted."""
        return tuple(sorted(self.tensors))

    def apply(self, model: Model) -> Model:
        """Return the model with the adapter on top; `model` is left as it is.

        Raises
        ------
        HeadscanError
            If the adapter changes something that the model does not have, in another shape, or nothing that it has.
        """
        skeleton = copy.deepcopy(model.weights.skeleton)
        weights = model.weights.changed(skeleton, _changes(self, skeleton, model.name))
        tower = read_tower(skeleton, weights=weights)
        return replace(model, name=f"{model.name} with {self.name}", weights=weights, tower=tower)


def is_adapter(source: object) -> bool:
    """Whether this is the path of a folder with an adapter's configuration, or with folders of named ones."""
    if not isinstance(source, (str, Path)) or str(source).startswith(_HUB):
        return False
    folder = files.expanded(str(source).removeprefix("local-dir:"))
    return (folder / _CONFIG).is_file() or bool(_named(folder))


def load_adapter(folder: str | Path) -> Adapter:
    """Read a LoRA adapter in peft's layout: adapter_config.json and adapter_model.safetensors (or .bin).

    Parameters
    ----------
    folder : str or path
        The folder, or ``"hf-hub:org/repo"`` (``@revision`` may follow).

    Returns
    -------
    Adapter

    Raises
    ------
    HeadscanError
        If it is no LoRA adapter, damaged, or of a variant whose change is not ``scale * B A`` (or DoRA's). A folder
        that holds named adapters is refused with their names.
    """
    if str(folder).startswith(_HUB):
        source = _fetch(str(folder))
    else:
        source = files.expanded(str(folder).removeprefix("local-dir:"))
    config = _config(source)
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in _read(source):
        name = name.removeprefix(_PREFIX)
        parts = _KINDS.fullmatch(name)
        module, kind = (parts[1], parts[2].removesuffix(".weight")) if parts else (name, "whole")
        tensors.setdefault(module, {})[kind] = value
    for module, given in tensors.items():
        _check_pair(source, module, given)
    return Adapter(name=str(folder), config=config, tensors=tensors)


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(_HUB).partition("@")
    with explaining(f"the adapter {name} cannot be fetched"):
        patterns = [_CONFIG, _WEIGHTS, _PICKLED]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))


def _read(source: Path) -> Iterable[tuple[str, torch.Tensor]]:
    path = next((source / name for name in (_WEIGHTS, _PICKLED) if (source / name).is_file()), None)
    if path is None:
        raise HeadscanError(f"{source} holds no {_WEIGHTS}")
    try:
        opened = open_tensors([path])
    except HeadscanError:
        raise
    except Exception as error:  # what safetensors and torch raise has no common base
        raise HeadscanError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    for name in opened.shapes:
        value = opened.read(name)
        if not value.is_floating_point() or value.element_size() < 2:
            raise HeadscanError(f"{path} holds {name} as {value.dtype}: quantised adapters are not read")
        yield name, value.double()


def _named(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{_CONFIG}")) if folder.is_dir() else []


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / _CONFIG).exists():
        named = _named(folder)
        if named:
            ways = " or ".join(str(folder / name) for name in named)
            raise HeadscanError(f"{folder} holds adapters by name: give {ways}")
        raise HeadscanError(f"{folder} holds no {_CONFIG}: it is not an adapter folder")
    config = read_json(folder / _CONFIG)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise HeadscanError(f"{folder} is an adapter of type {kind!r}: only LORA is read; merge it, and compare")
    variant = next((name for name in _UNREAD if config.get(name)), None)
    start = str(config.get("init_lora_weights", True)).lower()
    if variant is None and start.startswith(_STARTS):
        variant = f"init_lora_weights={start}"
    if variant is not None:
        raise HeadscanError(f"{folder} uses {variant}, so its change is not B A alone: merge it, and compare")
    patterns = config.get("alpha_pattern")
    if patterns is not None and not isinstance(patterns, dict):
        raise HeadscanError(f"{folder / _CONFIG}: alpha_pattern must be an object of numbers, not {patterns!r:.80}")
    return config


def _check_pair(source: Path, module: str, given: Mapping[str, torch.Tensor]) -> None:
    if "whole" in given:
        return
    kinds = ("lora_embedding_A", "lora_embedding_B") if "lora_embedding_A" in given else ("lora_A", "lora_B")
    a, b = (given.get(kind) for kind in kinds)
    if a is None or b is None or a.ndim < 2 or a.ndim != b.ndim or a.shape[0] != b.shape[1]:
        came = ["nothing" if one is None else tuple(one.shape) for one in (a, b)]
        raise HeadscanError(
            f"the adapter {source} is damaged: {module} has {came[0]} as its {kinds[0]}, {came[1]} as its {kinds[1]}"
        )


def _changes(adapter: Adapter, skeleton: Any, base: str) -> dict[str, Change]:
    """Return the change of each parameter of the base that the adapter changes, by the parameter's name."""
    parameters = {name: tuple(value.shape) for name, value in skeleton.named_parameters()}
    changes: dict[str, Change] = {}
    strange = []
    for module, given in adapter.tensors.items():
        if "whole" in given:
            name = _resolve(module.replace(_WRAPPED, "").replace(".modules_to_save", ""), parameters)
            if name is not None:
                _check_shape(adapter, name, parameters[name], tuple(given["whole"].shape))
                changes[name] = _replaced(given["whole"])
            else:  # a classifier, say: of the fine-tuned model alone
                _log.warning("the adapter %s brings %s, which %s has not: left out", adapter.name, module, base)
            continue
        name, rows = _target(module, parameters)
        if name is None:
            strange.append(module)
            continue
        update = _update(adapter.config, module, given)
        shape = parameters[name] if rows is None else (parameters[name][0] // 3, *parameters[name][1:])
        _check_shape(adapter, module, shape, tuple(update.shape))
        changes[name] = _after(changes.get(name), _added(update, rows, given.get("lora_magnitude_vector")))
        if "lora_B.bias" in given:
            bias = f"{name.removesuffix('weight')}bias"
            changes[bias] = _added(_scale(adapter.config, module, given) * given["lora_B.bias"], None, None)
    if strange or not changes:
        raise HeadscanError(
            f"the adapter {adapter.name} does not fit {base}: "
            + (f"there is no {strange[0]} in the model" if strange else "it changes nothing that the model has")
            + f"; the model's names are like {', '.join(list(parameters)[-3:])}"
        )
    return changes


def _target(module: str, parameters: Mapping[str, tuple[int, ...]]) -> tuple[str | None, slice | None]:
    """Return the parameter that an adapted module changes, and which rows of it."""
    plain = module.replace(_WRAPPED, "")
    for wanted in (f"{plain}.weight", f"{plain}.in_proj_weight", plain):
        name = _resolve(wanted, parameters)
        if name is not None:
            return name, None
    for pattern, other in _OF_TRANSFORMERS.items():
        match = re.fullmatch(rf"(?:.*\.)?{pattern}", plain)
        if match:
            inside, _, part = match.expand(other).partition("#")
            name = _resolve(f"{inside}.in_proj_weight" if part else f"{inside}.weight", parameters)
            if name is not None:
                third = parameters[name][0] // 3
                return name, slice("qkv".index(part) * third, ("qkv".index(part) + 1) * third) if part else None
    return None, None


def _resolve(wanted: str, parameters: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the parameter of a name, or the only one whose name ends in it or that it ends in."""
    if wanted in parameters:
        return wanted
    ends = [name for name in parameters if name.endswith(f".{wanted}") or wanted.endswith(f".{name}")]
    if len(ends) > 1:
        raise HeadscanError(f"the adapter's {wanted} may be {ends[0]} or {ends[1]}: load the model it was tuned on")
    return ends[0] if ends else None


def _check_shape(adapter: Adapter, name: str, wanted: tuple[int, ...], came: tuple[int, ...]) -> None:
    if wanted != came:
        raise HeadscanError(
            f"the adapter {adapter.name} does not fit: its change of {name} is {came}, expected {wanted}"
        )


def _update(config: Mapping[str, Any], module: str, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return ``scale * B A`` in the shape of the weight: (outputs, inputs), or a convolution's (o, i, h, w)."""
    scale = _scale(config, module, given)
    if "lora_embedding_A" in given:
        return scale * (given["lora_embedding_B"] @ given["lora_embedding_A"]).T
    a, b = given["lora_A"], given["lora_B"]
    if a.ndim == 2:
        return scale * (b @ a)
    return scale * (b.flatten(1) @ a.flatten(1)).reshape(len(b), *a.shape[1:])


def _scale(config: Mapping[str, Any], module: str, given: Mapping[str, torch.Tensor]) -> float:
    """Return peft's factor: alpha / r, or alpha / sqrt(r)."""
    rank = len(given["lora_embedding_A"] if "lora_embedding_A" in given else given["lora_A"])
    wrapped, plain = f"{_WRAPPED}." in module, module.split(_WRAPPED)[0]  # patterns name the wrapping module
    alphas = config.get("alpha_pattern") or {}
    alpha = next(
        (alphas[key] for key in alphas if compiled(rf"(.*\.)?({key})").fullmatch(plain)), config.get("lora_alpha")
    )
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise HeadscanError(f"the adapter's lora_alpha must be a number, not {alpha!r}")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return scale * (2 if wrapped and _version(config) < _ONCE_FROM else 1)


def _version(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the version of peft that saved an adapter; the first ones did not say, and count as the lowest."""
    match = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", str(config.get("peft_version")))
    return tuple(map(int, match.groups())) if match else (0, 0, 0)


def _replaced(value: torch.Tensor) -> Change:
    return lambda weight: value


def _after(first: Change | None, then: Change) -> Change:
    return then if first is None else lambda weight: then(first(weight))


def _added(update: torch.Tensor, rows: slice | None, magnitude: torch.Tensor | None) -> Change:
    def change(weight: torch.Tensor) -> torch.Tensor:
        weight = weight.double().clone()
        part = weight if rows is None else weight[rows]
        part += update
        if magnitude is not None:  # DoRA (arXiv 2402.09353, equation 5): the rows' lengths are trained apart
            norms = part.flatten(1).norm(dim=1)
            part *= (magnitude.flatten() / norms).reshape(-1, *[1] * (part.ndim - 1))
        return weight

    return change
