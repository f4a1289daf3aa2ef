"""Repositories of the Hugging Face hub: the files of one commit, from the local cache or downloaded into it."""

from __future__ import annotations

import re
from pathlib import Path

from headscan.common.reading import read_json
from headscan.errors import HeadscanError

__all__ = ["fetch", "shards"]

_OPEN_CLIP_CONFIG, _CONFIG = "open_clip_config.json", "config.json"
_SMALL = ["*.json", "*.txt", "*.model", "*.md", "LICENSE*"]
_OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(name: str) -> tuple[Path, str]:
    """Return the folder of ``org/repo`` or ``org/repo@revision``, and the same name with the commit it holds.

    Of the weights one set is fetched: safetensors where there are some, else what torch saved; in shards too.

    Raises
    ------
    HeadscanError
        If it is no such name, or the repository holds no model.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")) or name.endswith("@"):
        raise HeadscanError(
            f"'hf-hub:{name}' is not of the form hf-hub:organisation/repository, or that with @revision"
        )
    folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=_SMALL))
    commit = folder.name if _COMMIT.fullmatch(folder.name) else revision or None
    candidates: tuple[str, ...]
    if (folder / _OPEN_CLIP_CONFIG).is_file():
        candidates = _OPEN_CLIP_WEIGHTS
    elif (folder / _CONFIG).is_file():
        candidates = _WEIGHTS
    else:
        raise HeadscanError(f"hf-hub:{name} has neither {_OPEN_CLIP_CONFIG} nor {_CONFIG}: it holds no model")
    for candidate in candidates:
        wanted = shards(folder / f"{candidate}.index.json") or [candidate]
        snapshot_download(repository, revision=commit, allow_patterns=wanted)
        if all((folder / file).is_file() for file in wanted):
            break
    return folder, repository if commit is None else f"{repository}@{commit}"


def shards(index: Path) -> list[str]:
    """Return the files that an index of shards lists, none where there is no index.

    Raises
    ------
    HeadscanError
        If it lists none.
    """
    if not index.is_file():
        return []
    content = read_json(index)
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(listed, dict):
        raise HeadscanError(f"{index} lists no shards of weights: a weight_map is expected")
    return sorted({Path(str(shard)).name for shard in listed.values()})
