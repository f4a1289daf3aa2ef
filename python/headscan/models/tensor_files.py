"""Checkpoint files whose tensors are read one at a time: safetensors, and torch's zip files mapped into memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch

__all__ = ["TensorFiles", "check_finite", "open_tensors", "unpickled"]

_MAPPED = (".pt", ".pth", ".bin", ".ckpt")


class TensorFiles:
    """The tensors of a checkpoint, by name.

    Attributes
    ----------
    shapes : dict
        The shape of each tensor, by name.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], read: Callable[[str, slice | None], torch.Tensor]) -> None:
        self.shapes = shapes
        self._read = read

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """Return a tensor or some of its rows; nothing else is read.

        Raises
        ------
        HeadscanError
            If there is none of that name, or it holds NaN or infinite values.
        """
        if name not in self.shapes:
            raise HeadscanError(f"the checkpoint has no tensor {name}")
        values = self._read(name, rows)
        check_finite(name, values)
        return values


def check_finite(name: str, tensor: torch.Tensor) -> None:
    """Raise if a tensor of weights holds NaN or infinite values.

    Raises
    ------
    HeadscanError
        Naming the tensor.
    """
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        kind = "NaN" if bool(tensor.isnan().any()) else "infinite values"
        raise HeadscanError(f"the weights hold {kind}: tensor {name}, shape {tuple(tensor.shape)}")


def open_tensors(paths: Iterable[str | Path]) -> TensorFiles | None:
    """Return the tensors of a checkpoint's files, or None where one is of a kind that has to be read as a whole.

    Nothing is unpickled: torch's files are read with ``weights_only``.

    Raises
    ------
    Exception
        What safetensors or torch raise where a file is damaged.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for path in map(Path, paths):
        if path.suffix == ".safetensors":
            found |= _safetensors(path)
        elif path.suffix in _MAPPED and zipfile.is_zipfile(path):
            found |= _mapped(path)
        else:
            return None
    shapes = {name: tuple(shape) for name, (shape, _) in found.items()}
    return TensorFiles(shapes, lambda name, rows: found[name][1](rows))


def _safetensors(path: Path) -> dict[str, tuple[Any, Any]]:
    from safetensors import safe_open

    def reader(name: str) -> Callable[[slice | None], Any]:
        def read(rows: slice | None) -> Any:
            with safe_open(path, framework="pt") as file:  # opened anew: closing it gives the mapped pages back
                return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]

        return read

    with safe_open(path, framework="pt") as file:
        return {name: (file.get_slice(name).get_shape(), reader(name)) for name in file.keys()}  # noqa: SIM118


def unpickled(path: Path, *, mmap: bool = False) -> dict[str, torch.Tensor]:
    """Return the state dict of one of torch's own files, read with ``weights_only``."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    state = state.get("state_dict", state)
    if all(name.startswith("module.") for name in state):  # saved from torch's DistributedDataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def _mapped(path: Path) -> dict[str, tuple[Any, Any]]:
    def reader(tensor: Any) -> Callable[[slice | None], Any]:
        return lambda rows: tensor if rows is None else tensor[rows]

    return {name: (tensor.shape, reader(tensor)) for name, tensor in unpickled(path, mmap=True).items()}
