"""Files: the cache folder, manifests, hashes. Writing is `writing`, reading is `reading`."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from headscan.common.reading import read_json, regular
from headscan.common.writing import folder_aside, replace_folder, sweep, write_aside
from headscan.errors import HeadscanError

__all__ = [
    "cache_folder",
    "check_seal",
    "check_types",
    "check_writable",
    "descriptor_sha256",
    "expanded",
    "file_sha256",
    "finite",
    "folder_aside",
    "now",
    "package_version",
    "packaged_folder",
    "read_manifest",
    "read_sealed",
    "replace_folder",
    "seal_of",
    "sweep",
    "write_aside",
    "write_manifest",
    "write_sealed",
]

_CHUNK_BYTES = 1 << 20
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://|(?:s3|gs|gcs|az|abfss?|hdfs|https?|ftp|file|hf):/")  # a Path keeps one /
_MOST, _MOST_NUMBERED = 1 << 48, 100_000  # what a manifest may count, and number: layers, say
_FITS: dict[str, Callable[[Any], bool]] = {  # by the annotation of a dataclass's field
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: type(value) is int and 0 <= value < _MOST,
    "float": lambda value: _FITS["int"](abs(value)) if type(value) is int else _is_finite(value),
    "tuple[int, ...]": lambda value: isinstance(value, list) and all(map(_FITS["int"], value)) and _few(value),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(map(_FITS["str"], value)),
    "tuple[dict[str, Any], ...]": lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value),
}


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _few(numbers: list[int]) -> bool:
    return len(numbers) <= _MOST_NUMBERED and max(numbers, default=0) < _MOST_NUMBERED


def expanded(path: str | Path) -> Path:
    """Return a path with a leading ``~`` or ``~user`` replaced by that home folder.

    Raises
    ------
    HeadscanError
        If there is no such user, or no home folder, or it is an address such as ``s3://bucket/name``.
    """
    if _ADDRESS.match(str(path)):
        raise HeadscanError(f"{path} is an address, and not a path of this machine: copy it here, or mount it, first")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise HeadscanError(f"there is no home folder for {Path(path).parts[0]} in {path}") from error


def cache_folder() -> Path:
    """Return the folder for encoded dictionaries: ``$HEADSCAN_CACHE``, or one in the XDG cache folder."""
    chosen = os.environ.get("HEADSCAN_CACHE")
    if chosen:
        return expanded(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (expanded(base) if base else expanded("~") / ".cache") / "headscan"


def package_version() -> str:
    """Return the installed version of headscan."""
    try:
        return version("headscan")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


def now() -> str:
    """Return the current time as ISO 8601 in UTC, to the second; ``SOURCE_DATE_EPOCH`` sets it, for equal bytes."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    when = datetime.fromtimestamp(int(fixed), timezone.utc) if fixed.isdecimal() else datetime.now(timezone.utc)
    return when.isoformat(timespec="seconds")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with regular(path).open("rb") as file:
        return descriptor_sha256(file.fileno())


def descriptor_sha256(descriptor: int) -> str:
    """Return the SHA-256 of an open file's bytes, in hexadecimal; where it is read next stays as it is."""
    digest, start = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, start):
        digest.update(chunk)
        start += len(chunk)
    return digest.hexdigest()


def check_writable(folder: Path) -> None:
    """Raise unless `folder` could be created, or written into, now.

    Raises
    ------
    HeadscanError
        If `folder` or a parent is not a folder, or cannot be written.
    """
    nearest = folder.absolute()
    try:
        while not nearest.exists():
            if nearest.is_symlink():
                raise HeadscanError(f"cannot write to {folder}: {nearest} is a link to nothing")
            nearest = nearest.parent
        if not nearest.is_dir():
            raise HeadscanError(f"cannot write to {folder}: {nearest} is not a folder")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise HeadscanError(f"cannot write to {folder}: {error.strerror or error}") from error


def finite(content: Any) -> Any:
    """Return content with numbers that JSON cannot hold as null."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, (list, tuple)) else content


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a JSON manifest, aside and then renamed."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that a manifest says, but for the seal itself."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a JSON manifest with the hash of its own content."""
    write_manifest(path, {**manifest, "seal": seal_of(manifest)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Return a JSON manifest that `write_sealed` wrote.

    Raises
    ------
    HeadscanError
        If it cannot be read, or is not what was written.
    """
    manifest = read_json(path)
    check_seal(manifest, where=path)
    return dict(manifest)


def check_seal(manifest: Any, *, where: Path) -> None:
    """Raise unless a manifest holds the hash of its own content.

    Raises
    ------
    HeadscanError
        If it is not what was written.
    """
    if not isinstance(manifest, dict) or manifest.get("seal") != seal_of(manifest):
        raise HeadscanError(f"{where} is damaged: it does not match its hash")


def read_manifest(path: Path, *, kind: str, format_version: int) -> dict[str, Any]:
    """Read a JSON manifest and check that it describes a `kind` (such as "headscan-scan") of this format.

    Raises
    ------
    HeadscanError
        If it is absent, unreadable, not JSON, of another kind or of a newer format.
    """
    if not path.exists():
        raise HeadscanError(f"{path.parent} holds no {path.name}: it is not a {kind} folder")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise HeadscanError(f"{path} was not written as a {kind} manifest")
    if manifest.get("format_version") != format_version:
        raise HeadscanError(
            f"{path} has format {manifest.get('format_version')!r}; this version reads {format_version}"
        )
    return manifest


def check_types(manifest: Mapping[str, Any], types: Mapping[str, Any], *, where: Path) -> None:
    """Raise unless a manifest has every field, of its type: an annotation, as in `dataclasses.Field.type`.

    Raises
    ------
    HeadscanError
        If one is absent, or not of its type; whole numbers are counts, from 0.
    """
    for name, kind in types.items():
        if name not in manifest:
            raise HeadscanError(f"{where} is damaged: {name} is missing")
        if not _FITS[kind](manifest[name]):
            raise HeadscanError(f"{where} is damaged: {name} cannot be {manifest[name]!r}")


def packaged_folder(*parts: str) -> Path:
    """Return the path of data shipped inside the package."""
    return Path(str(importlib.resources.files("headscan").joinpath("data", *parts)))
