"""Checkpoint files whose tensors are read one at a time: safetensors, and torch's zip files mapped into memory.

Nothing is unpickled: torch's files are read with ``weights_only``, and TorchScript archives by `torchscript`.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common.reading import regular
from headscan.errors import HeadscanError
from headscan.models.torchscript import is_torchscript, read_torchscript

if TYPE_CHECKING:
    import torch

__all__ = ["TensorFiles", "check_finite", "is_safetensors", "open_tensors", "read_state"]

_KEYS = (  # under which training code saves a state dict, the one that is taken first
    "state_dict", "model_state_dict", "model", "module", "net", "network", "clip", "weights", "params",
    "student", "model_ema", "state_dict_ema", "ema_state_dict", "ema", "teacher",
)  # fmt: skip
_DEEPEST = 3
_LFS = b"version https://git-lfs"  # begins the files that Git LFS puts in the place of large ones
_log = logging.getLogger(__name__)
_OPENAI = ("input_resolution", "context_length", "vocab_size")  # in state dicts of OpenAI's archives, no others


class TensorFiles:
    """The tensors of a checkpoint, by name.

    Attributes
    ----------
    source : str
        The file or files, for messages.
    shapes, dtypes : dict
        The shape and the torch dtype of each tensor, by name.
    quick_gelu : bool
        Whether the files say that their model computes with QuickGELU.
    """

    def __init__(
        self,
        source: str,
        shapes: dict[str, tuple[int, ...]],
        dtypes: dict[str, torch.dtype],
        read: Callable[[str, slice | None], torch.Tensor],
        *,
        quick_gelu: bool = False,
    ) -> None:
        self.source = source
        self.shapes = shapes
        self.dtypes = dtypes
        self.quick_gelu = quick_gelu
        self._read = read

    @classmethod
    def of(cls, source: str, state: Mapping[str, torch.Tensor]) -> TensorFiles:
        """Return tensors in memory."""
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        dtypes = {name: tensor.dtype for name, tensor in state.items()}
        return cls(source, shapes, dtypes, lambda name, rows: state[name] if rows is None else state[name][rows])

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

    def renamed(self, names: Mapping[str, str], others: Mapping[str, torch.Tensor]) -> TensorFiles:
        """Return some of these tensors under other names, from new to old, and some that are in no file."""

        def read(name: str, rows: slice | None) -> torch.Tensor:
            if name in names:
                return self._read(names[name], rows)
            return others[name] if rows is None else others[name][rows]

        shapes = {new: self.shapes[old] for new, old in names.items()}
        dtypes = {new: self.dtypes[old] for new, old in names.items()}
        shapes |= {name: tuple(tensor.shape) for name, tensor in others.items()}
        dtypes |= {name: tensor.dtype for name, tensor in others.items()}
        return TensorFiles(self.source, shapes, dtypes, read, quick_gelu=self.quick_gelu)


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


def open_tensors(paths: Iterable[str | Path]) -> TensorFiles:
    """Return the tensors of a checkpoint's files.

    Raises
    ------
    HeadscanError
        If a file holds something else than tensors, saying what.
    Exception
        What safetensors or torch raise where a file is damaged.
    """
    stored: dict[str, tuple[Any, Any, Callable[[slice | None], Any]]] = {}
    quick = False
    listed = [regular(Path(path)) for path in paths]
    for path in listed:
        if is_safetensors(path):
            stored |= _safetensors(path)
        else:
            state, quick_here = _torch_state(path, mmap=True)
            quick = quick or quick_here
            stored |= {name: (tensor.shape, tensor.dtype, _reader(tensor)) for name, tensor in state.items()}
    source = str(listed[0]) if len(listed) == 1 else f"{listed[0]} and {len(listed) - 1} more"
    shapes = {name: tuple(shape) for name, (shape, _, _) in stored.items()}
    dtypes = {name: dtype for name, (_, dtype, _) in stored.items()}
    return TensorFiles(source, shapes, dtypes, lambda name, rows: stored[name][2](rows), quick_gelu=quick)


def is_safetensors(path: Path) -> bool:
    """Say whether a file is safetensors: by its first bytes, where they tell, else by its name.

    Raises
    ------
    HeadscanError
        If it only stands for a file that has not been fetched, or is one of torch's by the name of another.
    """
    with path.open("rb") as file:
        head = file.read(len(_LFS))
    if head == _LFS:
        raise HeadscanError(f"{path} is a pointer of Git LFS in the place of the weights: fetch them (git lfs pull)")
    if head[8:9] == b"{":
        return True
    if path.suffix == ".safetensors" and head.startswith((b"PK", b"\x80")):
        raise HeadscanError(f"{path} is a file of torch's under another name: rename it to {path.stem}.pt")
    return path.suffix == ".safetensors"


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of one of torch's own files, whatever it is kept under."""
    return _torch_state(path, mmap=False)[0]


def _safetensors(path: Path) -> dict[str, tuple[Any, Any, Any]]:
    from safetensors import safe_open

    def reader(name: str) -> Callable[[slice | None], Any]:
        def read(rows: slice | None) -> Any:
            with safe_open(path, framework="pt") as file:  # opened anew: closing it gives the mapped pages back
                return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]

        return read

    stored = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            piece = file.get_slice(name)
            stored[name] = (piece.get_shape(), _dtype(piece.get_dtype()), reader(name))
    return stored


def _dtype(name: str) -> torch.dtype:
    """Return torch's dtype for a name of the safetensors format; uint8 for those that torch cannot hold."""
    import torch

    names = {
        "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "BOOL": "bool",
    }  # fmt: skip
    dtype: torch.dtype = getattr(torch, names.get(name, "uint8"))
    return dtype


def _reader(tensor: torch.Tensor) -> Callable[[slice | None], torch.Tensor]:
    return lambda rows: tensor if rows is None else tensor[rows]


def _torch_state(path: Path, *, mmap: bool) -> tuple[dict[str, torch.Tensor], bool]:
    """Return a torch file's state dict, and whether it is known to be of a model with QuickGELU."""
    import torch

    if is_torchscript(path):
        tensors, quick = read_torchscript(path)
        return tensors, quick
    try:
        with torch.serialization.safe_globals(_harmless()):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except Exception as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise
        raise HeadscanError(
            f"{path} holds a {refused[1]}, which only unpickling would make, and headscan never unpickles. Where you "
            "trust the file, save its tensors alone: loaded = torch.load(FILE, weights_only=False); torch.save(the "
            "state dict in it, or loaded.state_dict() of a whole module, 'weights.pt')"
        ) from error
    state = _state_dict_of(loaded, path)
    for name, tensor in state.items():
        if tensor.layout is not torch.strided:
            layout = str(tensor.layout).removeprefix("torch.")
            raise HeadscanError(f"{path} holds {name} as a {layout} tensor: save it dense (tensor.to_dense())")
    return state, set(_OPENAI) <= state.keys()


def _harmless() -> list[Any]:
    """Return what training code keeps beside weights and what making is harmless: numbers, options and paths."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")  # of NumPy 2, and before
    codes = np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"
    kinds = {type(np.dtype(code)) for code in codes}
    encode = (_encode, "_codecs.encode")
    return [*((scalar, name) for name in names), np.dtype, *kinds, argparse.Namespace, pathlib.PosixPath, encode]


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes of a NumPy scalar, which pickles hold as text."""
    if encoding != "latin1":
        raise ValueError(f"bytes are pickled as latin1, not {encoding!r}")
    return text.encode("latin-1")


def _state_dict_of(loaded: Any, path: Path, depth: int = 0) -> dict[str, Any]:
    """Return the tensors by name, from under whatever key they were saved."""
    import torch

    if isinstance(loaded, Mapping) and depth <= _DEEPEST:
        nested = {key: value for key, value in loaded.items() if isinstance(value, Mapping) and _holds_tensors(value)}
        chosen = next((key for key in _KEYS if key in nested), None)
        tensors = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        if chosen is None and not tensors and len(nested) == 1:
            chosen = next(iter(nested))
        if chosen is not None:
            others = [str(key) for key in nested if key != chosen and key in _KEYS]
            if others:
                _log.warning("%s: what is under %s is read, not what is under %s", path, chosen, ", ".join(others))
            return _state_dict_of(nested[chosen], path, depth + 1)
        if tensors and all(isinstance(name, str) for name in tensors):
            return tensors
    keys = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise HeadscanError(
        f"{path} holds no state dict that is known: it holds {keys or 'nothing'}, and tensors by name were expected, "
        "or those under state_dict, model_state_dict, model or module; save model.state_dict()"
    )


def _holds_tensors(value: Mapping[Any, Any], depth: int = 0) -> bool:
    import torch

    return any(
        (isinstance(name, str) and isinstance(inner, torch.Tensor))
        or (isinstance(inner, Mapping) and depth < _DEEPEST and _holds_tensors(inner, depth + 1))
        for name, inner in value.items()
    )
