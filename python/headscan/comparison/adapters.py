"""Adapters: low-rank changes (LoRA) of attention projections, in the layout that peft saves, never merged."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Adapter", "LowRank", "is_adapter", "load_adapter"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PLACES = (  # module of the base model, and which projections of which layer it holds
    (re.compile(r"(?:.*\.)?visual\.transformer\.resblocks\.(\d+)\.attn"), "in"),
    (re.compile(r"(?:.*\.)?visual\.transformer\.resblocks\.(\d+)\.attn(?:\.base_layer)?\.out_proj"), "output"),
    (re.compile(r"(?:.*\.)?vision_model\.encoder\.layers\.(\d+)\.self_attn\.v_proj"), "value"),
    (re.compile(r"(?:.*\.)?vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj"), "output"),
)
_READ_BY_HEADS = re.compile(  # weights that decide a head's W_VO, were they replaced as a whole
    r"(?:.*\.)?(visual\.transformer\.resblocks|vision_model\.encoder\.layers)\.\d+\."
    r"(ln_1|layer_norm1|ls_1|attn|self_attn)\..*weight"
)
_VARIANTS = (  # settings under which the change is not scale * B A
    "use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "layer_replication", "target_parameters",
    "alora_invocation_tokens", "kasa_config", "monteclora_config",
)  # fmt: skip
_WRAPPED = ".base_layer."  # in the names of what peft wraps inside nn.MultiheadAttention
_ONCE_FROM = (0, 21, 3)  # earlier versions of peft add a wrapped out_proj's change twice (huggingface/peft#3774)
_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change the base weights too


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change ``down @ up`` of a weight W in the convention x W: (inputs, r) and (r, outputs), float64."""

    down: NDArray[np.float64]
    up: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a LoRA adapter changes of a vision tower's heads; made by `load_adapter`.

    Attributes
    ----------
    name : str
        Its folder.
    value, output : dict from layer to LowRank
        Changes of the value and output projections of all heads of a layer, the scale multiplied in.
    unused : tuple of str
        Modules that it changes too and that have no part in a head's W_VO (queries, keys, MLPs, text).
    """

    name: str
    value: dict[int, LowRank] = field(default_factory=dict)
    output: dict[int, LowRank] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def is_adapter(source: object) -> bool:
    """Whether this is the path of a folder with an adapter's configuration."""
    return isinstance(source, (str, Path)) and (files.expanded(source) / _CONFIG).is_file()


def load_adapter(folder: str | Path) -> Adapter:
    """Read a LoRA adapter in peft's layout: adapter_config.json and adapter_model.safetensors.

    Known are open_clip's attention (``visual.transformer.resblocks.N.attn``, whose input projection is one for
    queries, keys and values) and transformers' (``vision_model.encoder.layers.N.self_attn.v_proj`` and
    ``.out_proj``).

    The change is ``scale * B A``; for the output projection inside ``nn.MultiheadAttention`` it is twice that where
    peft 0.21.2 or earlier saved the adapter: those versions add it twice, in training as in merging
    (huggingface/peft#3774), so that is the model which was tuned.

    Raises
    ------
    HeadscanError
        If it is no LoRA adapter, of a variant whose change is not a product, or changes no head.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    source = files.expanded(folder)
    config = _config(source)
    try:
        tensors = {name: value.double().numpy() for name, value in load_file(source / _WEIGHTS).items()}
    except FileNotFoundError as error:
        raise HeadscanError(f"{source} holds no {_WEIGHTS}") from error
    except (OSError, SafetensorError) as error:
        raise HeadscanError(f"cannot read {source / _WEIGHTS}: {error}") from error
    found: dict[str, dict[int, LowRank]] = {"value": {}, "output": {}}
    unused = []
    for name in tensors:
        module, kind = _split(name)
        if kind == "lora_A.weight":
            change = _change(tensors, name, module, config)
            place, layer = _place(module)
            if place == "in":  # rows of up: queries, keys, values
                change = LowRank(change.down, np.split(change.up, 3, axis=1)[2])
                place = "value"
            if place:
                found[place][layer] = change
            else:
                unused.append(module)
        elif kind != "lora_B.weight":
            if _READ_BY_HEADS.fullmatch(f"{module}.{kind}"):
                raise HeadscanError(f"{source} replaces {module}.{kind} as a whole: merge it, and compare the models")
            unused.append(f"{module}.{kind}")
    if not found["value"] and not found["output"]:
        raise HeadscanError(
            f"{source} changes no value or output projection of a vision tower; it changes "
            f"{', '.join(sorted(unused)[:4]) or 'nothing'}"
        )
    return Adapter(name=str(folder), unused=tuple(sorted(unused)), **found)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HeadscanError(f"{folder} holds no {_CONFIG}: it is not an adapter folder") from error
    except (OSError, ValueError) as error:
        raise HeadscanError(f"cannot read {folder / _CONFIG}: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise HeadscanError(f"{folder} is an adapter of type {kind!r}: only LORA is read; merge it, and compare")
    variant = next((name for name in _VARIANTS if config.get(name)), None)
    start = str(config.get("init_lora_weights", True)).lower()
    if variant is None and start.startswith(_STARTS):
        variant = f"init_lora_weights={start}"
    if variant is not None:
        raise HeadscanError(f"{folder} uses {variant}, so its change is not B A alone: merge it, and compare")
    return config


def _split(name: str) -> tuple[str, str]:
    """Split a tensor's name into the base model's module and what the tensor is to it."""
    name = name.removeprefix(_PREFIX)
    found = re.fullmatch(r"(.*)\.(lora_[AB]\.weight)", name)
    module, _, kind = name.rpartition(".")
    return (found[1], found[2]) if found else (module, kind)


def _place(module: str) -> tuple[str, int]:
    for pattern, place in _PLACES:
        found = pattern.fullmatch(module)
        if found:
            return place, int(found[1])
    return "", -1


def _change(tensors: dict[str, Any], name: str, module: str, config: dict[str, Any]) -> LowRank:
    """Return one module's change, ``scale * (B A)^T``, the scale of peft: alpha / r, or alpha / sqrt(r)."""
    other = name.replace("lora_A.weight", "lora_B.weight")
    a, b = tensors[name], tensors.get(other)
    if b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        came = "nothing" if b is None else f"{b.shape}"
        raise HeadscanError(f"the adapter is damaged: {name} {a.shape} has {came} as its lora_B")
    wrapped, module = _WRAPPED in module, module.split(_WRAPPED)[0]  # patterns name the wrapping module
    alphas = config.get("alpha_pattern") or {}
    alpha = next((alphas[key] for key in alphas if re.match(rf"(.*\.)?({key})$", module)), config.get("lora_alpha"))
    if not isinstance(alpha, (int, float)):
        raise HeadscanError(f"the adapter's lora_alpha must be a number, not {alpha!r}")
    scale = alpha / (math.sqrt(len(a)) if config.get("use_rslora") else len(a))
    if wrapped and _version(config) < _ONCE_FROM:
        scale *= 2
    return LowRank(down=a.T, up=scale * b.T)


def _version(config: dict[str, Any]) -> tuple[int, ...]:
    """Return the version of peft that saved an adapter; the first ones did not say, and count as the lowest."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", str(config.get("peft_version")))
    return tuple(map(int, found.groups())) if found else (0, 0, 0)
