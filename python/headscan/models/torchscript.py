"""TorchScript archives, as OpenAI published CLIP: the tensors of the module alone, none of the archive's code.

Such an archive holds, beside its code, a pickle of the module's attributes (``data.pkl``) and the bytes of each
tensor (``data/0``, ...). torch.load refuses archives with ``weights_only``, and torch.jit.load compiles the
code. So the pickle is read by the very interpreter behind ``weights_only``, which can make tensors and containers and
nothing else; the archive's own classes, whose names all begin with ``__torch__.``, are made as `_Part`, a bare holder
of attributes. No name leads to any other Python object.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch

__all__ = ["is_torchscript", "read_torchscript"]

_OWN = "__torch__."


class _Part:
    """A module of the archive: its attributes."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def is_torchscript(path: Path) -> bool:
    """Say whether a file is a TorchScript archive: a zip with code beside its data."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the tensors of an archive by their names in the module, and whether it computes with QuickGELU.

    Raises
    ------
    HeadscanError
        If its pickle holds anything but modules, tensors and plain values.
    """
    from torch import serialization
    from torch._weights_only_unpickler import Unpickler

    parts: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        try:
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            data = _stored(archive, pickled)
            parts = {name: type("_Part", (_Part,), {}) for name in _names(data)}
            reader: Any = Unpickler(io.BytesIO(data), encoding="utf-8")
            reader.persistent_load = lambda key: _storage(archive, pickled.removesuffix(".pkl"), key)
            with serialization.safe_globals([(part, name) for name, part in parts.items()]):
                tensors = dict(_tensors(reader.load(), ""))
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise HeadscanError(
                f"{path} is a TorchScript archive whose tensors cannot be read without running its code ({reason}): "
                "load it where you trust it, and save its state_dict()"
            ) from error
    return tensors, any(name.rpartition(".")[2] == "QuickGELU" for name in parts)


def _names(data: bytes) -> list[str]:
    """Return the names of the archive's own classes that a pickle refers to."""
    named = [str(value).replace(" ", ".", 1) for code, value, _ in pickletools.genops(data) if code.name == "GLOBAL"]
    return [name for name in named if name.startswith(_OWN)]


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes; torch stores them as they are, so that none is larger than the archive."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{name} is compressed")
    return archive.read(member)


def _storage(archive: zipfile.ZipFile, folder: str, key: Any) -> Any:
    """Return the storage that a pickle refers to: ("storage", its type, its file, device, number of values)."""
    import torch

    _, kind, file, _, count = key
    dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
    data = _stored(archive, f"{folder}/{file}")
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"{folder}/{file} has {len(data)} bytes, expected {count * dtype.itemsize}")
    values = torch.frombuffer(bytearray(data) or bytearray(1), dtype=torch.uint8)
    typed: Any = torch.storage.TypedStorage
    return typed(wrap_storage=values.untyped_storage(), dtype=dtype, _internal=True)


def _tensors(part: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    for key, value in vars(part).items():
        if isinstance(value, torch.Tensor):
            yield f"{name}{key}", value.detach()
        elif isinstance(value, _Part):
            yield from _tensors(value, f"{name}{key}.")
