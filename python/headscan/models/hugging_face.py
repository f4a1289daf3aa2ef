"""Models of Hugging Face's transformers: their folders, tokenizers and text embeddings. An optional dependency."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError
from headscan.models.tensor_files import check_finite, open_tensors
from headscan.models.towers.transformers import MODEL_TYPES, is_transformers
from headscan.models.towers.weights import Weights, empty_parameters

if TYPE_CHECKING:
    import torch

__all__ = ["fetch", "folder_tokenizer", "is_transformers", "load_folder", "own_tokenizer"]

_FETCHED = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors"]


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise HeadscanError(
            "this is a transformers model and transformers is not installed: pip install 'headscan[hf]'"
        ) from error
    return transformers


def fetch(repository: str) -> Path:
    """Return the folder of a repository of the Hugging Face hub, from the local cache or downloaded into it."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repository, allow_patterns=_FETCHED))
    if not (folder / "config.json").is_file():
        raise HeadscanError(f"hf-hub:{repository} has neither open_clip_config.json nor config.json")
    return folder


def load_folder(folder: Path, *, device: str) -> tuple[Weights, tuple[Path, ...]]:
    """Return the weights of a folder with config.json, and the files that hold them.

    They are left in the files where these hold them as the model does.

    Raises
    ------
    HeadscanError
        If the model is of a kind that is not supported, or its files lack a tensor, naming it.
    """
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in MODEL_TYPES:
        raise HeadscanError(
            f"{folder} holds a transformers model of type {kind!r}: supported are {', '.join(MODEL_TYPES)}"
        )
    library = _library()
    model_class = getattr(library, MODEL_TYPES[kind])
    config = library.AutoConfig.from_pretrained(folder)
    with empty_parameters():
        skeleton = model_class(config).eval()
    paths = _weight_files(folder)
    files = open_tensors(paths)
    shapes = {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    if files is not None and shapes.items() <= files.shapes.items():
        return Weights(skeleton, files, device=device), paths
    module, loading = model_class.from_pretrained(folder, dtype="float32", output_loading_info=True)
    lacking = sorted(loading["missing_keys"])
    if lacking:  # transformers would go on with random numbers
        raise HeadscanError(
            f"the layout of the weights in {folder} is not known: there is no tensor {lacking[0]} "
            f"({len(lacking)} of the {len(shapes)} that {MODEL_TYPES[kind]} has are missing)"
        )
    for name, tensor in module.state_dict().items():
        check_finite(name, tensor)
    return Weights(module.eval().to(device)), paths


def _weight_files(folder: Path) -> tuple[Path, ...]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return tuple(folder / Path(shard).name for shard in sorted(set(shards)))
    raise HeadscanError(f"{folder} has no weights (model.safetensors or pytorch_model.bin)")


def folder_tokenizer(folder: Path | str, weights: Weights) -> Callable[[list[str]], torch.Tensor]:
    """Return the folder's tokenizer: from texts to ids padded to the text tower's full length."""
    tokenizer = _library().AutoTokenizer.from_pretrained(folder)
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
