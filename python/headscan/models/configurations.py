"""What the configurations of a model folder may say: never code to run, no quantisation, both towers.

A folder of open_clip or transformers is data that a stranger may have written. transformers runs Python from it where
a configuration names some (``auto_map``, ``trust_remote_code``), or asks on standard input whether to. Here such a
folder is refused before either library sees it, and no question is ever asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headscan.common.reading import read_json
from headscan.errors import HeadscanError

__all__ = ["check_runs_no_code", "check_unquantised", "check_whole_model", "never_asking", "read_configuration"]

_RUNS_CODE = (
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "custom_pipeline",
    "custom_generate",
    "code_revision",
)
_ALONE = (  # endings of the classes that are no two-tower model, and what they lack
    ("ForImageClassification", "a classifier on a vision tower: it has no text tower to encode a dictionary with"),
    ("VisionModelWithProjection", "a vision tower alone: it has no text tower to encode a dictionary with"),
    ("VisionModel", "a vision tower alone: it has no text tower and no joint space"),
    ("VisionTransformer", "a vision tower alone: it has no text tower and no joint space"),
    ("TextModelWithProjection", "a text tower alone: it has no vision tower whose heads could be explained"),
    ("TextModel", "a text tower alone: it has no vision tower whose heads could be explained"),
    ("ForConditionalGeneration", "a language model that reads pictures: it has no joint space of images and texts"),
    ("ForCausalLM", "a language model: it has no joint space of images and texts"),
)
_PUT_IN = ", or put these weights into it (model.vision_model.load_state_dict) and save it"


def read_configuration(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file.

    Raises
    ------
    HeadscanError
        If it cannot be read, is no JSON object, or names code that a library would run.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise HeadscanError(f"the configuration {path} must be a JSON object, not a {type(config).__name__}")
    _check_keys(config, path)
    return config


def check_runs_no_code(folder: Path) -> None:
    """Raise if a configuration in a transformers folder names code that the library would run.

    Raises
    ------
    HeadscanError
        Naming the file and the key.
    """
    for path in sorted(folder.glob("*config*.json")):
        if path.is_file():
            read_configuration(path)


def _check_keys(value: Any, path: Path) -> None:
    inner: list[Any] = []
    if isinstance(value, dict):
        key = next((key for key in _RUNS_CODE if value.get(key)), None)
        if key is not None:
            raise HeadscanError(
                f"{path} asks for code of its own to be run ({key}), which headscan never does: if you trust the "
                f"model, and it is an ordinary one, take {key} out of that file"
            )
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    for part in inner:
        _check_keys(part, path)


def check_unquantised(config: Mapping[str, Any], where: Path) -> None:
    """Raise if a model's configuration says that its weights are quantised.

    Raises
    ------
    HeadscanError
        Naming the method.
    """
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        quantised = part.get("quantization_config")
        if quantised:
            method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else quantised
            raise HeadscanError(
                f"the weights in {where} are quantised (quantization_config: {method}): only plain floating-point "
                "weights are read; load the model that was quantised, or save it dequantised"
            )


def check_whole_model(config: Mapping[str, Any], where: Path) -> None:
    """Raise if a transformers folder holds one tower alone, or a tower inside something else.

    Raises
    ------
    HeadscanError
        Naming the class, what it lacks, and what to load.
    """
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    lack = next((lack for ending, lack in _ALONE if name.endswith(ending)), None)
    if lack is not None:
        raise HeadscanError(f"{where} holds a {name}, {lack}; load the two-tower model that it came from{_PUT_IN}")


@contextlib.contextmanager
def never_asking() -> Iterator[None]:
    """Keep transformers from asking on standard input whether to run a model's code: it refuses at once."""
    try:
        from transformers import dynamic_module_utils
    except ImportError:
        yield
        return
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before
