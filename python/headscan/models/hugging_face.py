"""Models of Hugging Face's transformers: their folders, tokenizers and text embeddings. An optional dependency."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError
from headscan.models.configurations import (
    check_runs_no_code,
    check_unquantised,
    check_whole_model,
    never_asking,
    read_configuration,
)
from headscan.models.hub import shards
from headscan.models.state_dicts import lacks, names_in, under_names
from headscan.models.tensor_files import check_finite, open_tensors
from headscan.models.towers.transformers import MODEL_TYPES, is_transformers
from headscan.models.towers.weights import Weights, empty_parameters

if TYPE_CHECKING:
    import torch

__all__ = ["folder_tokenizer", "image_processor", "is_transformers", "load_folder", "own_tokenizer"]

_CONFIG = "config.json"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".h5", ".msgpack")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise HeadscanError(
            "this is a transformers model and transformers is not installed: pip install 'headscan[hf]'"
        ) from error
    return transformers


def load_folder(folder: Path, *, device: str) -> tuple[Weights, tuple[Path, ...]]:
    """Return the weights of a folder with config.json, and the files that hold them.

    They are left in the files where these hold them as the model does.

    Raises
    ------
    HeadscanError
        If the model is of a kind that is not supported, or its files lack a tensor, naming it.
    """
    check_runs_no_code(folder)
    described = read_configuration(folder / _CONFIG)
    check_unquantised(described, folder)
    check_whole_model(described, folder)
    kind = described.get("model_type")
    if kind not in MODEL_TYPES:
        raise HeadscanError(
            f"{folder} holds a transformers model of type {kind!r}: supported are {', '.join(MODEL_TYPES)}"
        )
    library = _library()
    model_class = getattr(library, MODEL_TYPES[kind])
    with never_asking():
        config = library.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with empty_parameters():
        skeleton = model_class(config).eval()
    paths = _weight_files(folder)
    tensors, wanted = open_tensors(paths), skeleton.state_dict()
    if lacks(names_in(tensors, wanted), wanted):
        module = _converted(model_class, folder, config)
        if module is not None:
            return Weights(module.to(device)), paths
    return Weights(
        skeleton, under_names(tensors, wanted, f"the {MODEL_TYPES[kind]} of its config.json"), device=device
    ), paths


def _converted(model_class: Any, folder: Path, config: Any) -> Any:
    """Return the module as transformers converts it from another layout of names, None where it cannot either."""
    with never_asking():
        module, loading = model_class.from_pretrained(
            folder, config=config, dtype="float32", output_loading_info=True, trust_remote_code=False
        )
    if lacks((), dict.fromkeys(loading["missing_keys"])):  # it would go on with random numbers
        return None
    for name, tensor in module.state_dict().items():
        check_finite(name, tensor)
    return module.eval()


def _weight_files(folder: Path) -> tuple[Path, ...]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return (folder / name,)
        listed = shards(folder / f"{name}.index.json")
        if listed:
            return tuple(folder / shard for shard in listed)
    present = sorted(path.name for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
    raise HeadscanError(
        f"{folder} has no weights that are read (model.safetensors or pytorch_model.bin, in one file or in shards)"
        + (f"; it has {', '.join(present[:4])}" if present else "")
    )


def folder_tokenizer(folder: Path | str, weights: Weights) -> Callable[[list[str]], torch.Tensor]:
    """Return the folder's tokenizer: from texts to ids padded to the text tower's full length."""
    local = Path(folder)
    if (
        local.is_dir()
        and not any((local / name).is_file() for name in _TOKENIZERS)
        and not any(local.glob("*.model"))
    ):
        raise HeadscanError(
            f"{folder} holds no tokenizer ({', '.join(_TOKENIZERS[:3])}): save the base model's beside it, "
            "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER), or pass load_model(..., tokenizer=...)"
        )
    with never_asking():
        tokenizer = _library().AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    context = _context(weights.skeleton.config.text_config, tokenizer)

    def tokenize(texts: list[str]) -> torch.Tensor:
        padded = tokenizer(texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt")
        ids: torch.Tensor = padded["input_ids"]
        return ids

    return tokenize


def _context(text: Any, tokenizer: Any) -> int:
    """Return how many tokens a text has at most: the tower's positions, fewer where its tokenizer says so."""
    positions = int(text.max_position_embeddings)
    if text.model_type in ("roberta", "xlm-roberta", "altclip_text_model"):
        positions -= int(text.pad_token_id) + 1  # their positions count from behind the padding's number
    return min(positions, int(tokenizer.model_max_length))


def own_tokenizer(module: Any) -> Callable[[list[str]], torch.Tensor]:
    """Return the tokenizer of the folder or repository that a model in memory came from.

    Raises
    ------
    HeadscanError
        If it came from none.
    """
    if not module.name_or_path:
        raise HeadscanError(
            f"a {type(module).__name__} in memory that was not loaded from a folder does not say its tokenizer: "
            "pass load_model(..., tokenizer=...)"
        )
    return folder_tokenizer(module.name_or_path, Weights(module))


def image_processor(folder: Path | str) -> Any:
    """Return the image processor of a folder or repository; code of its own is never run.

    Raises
    ------
    Exception
        What transformers raises where there is none.
    """
    with never_asking():
        return _library().AutoImageProcessor.from_pretrained(
            folder, local_files_only=Path(folder).is_dir(), trust_remote_code=False
        )
