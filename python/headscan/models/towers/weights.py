"""Where the tensors of a module are: in its memory, or still in the files of a checkpoint."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.tensor_files import TensorFiles

__all__ = ["Weights", "empty_parameters"]

_BUILDING = threading.Lock()  # `empty_parameters` changes torch's Module class for a while


class Weights:
    """A module's tensors, read from its checkpoint's files one by one until `module` asks for all of them.

    Parameters
    ----------
    skeleton : torch.nn.Module
        The module. With `files` its parameters may be empty (on torch's meta device).
    files : TensorFiles, optional
        Where the tensors of its state dict are, under the same names.
    device : str, optional
        Where a skeleton filled from files goes.
    changes : mapping of str to callable, optional
        What becomes of a tensor, by its name, when it is read.
    """

    def __init__(
        self,
        skeleton: Any,
        files: TensorFiles | None = None,
        *,
        device: str = "cpu",
        changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> None:
        self.skeleton = skeleton
        self._files = files
        self._device = device
        self._changes = dict(changes or {})

    def changed(self, skeleton: Any, changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> Weights:
        """Return the same weights with some changed when they are read; `skeleton` is a copy of this one's."""
        if self._changes:
            raise HeadscanError("these weights carry an adapter already: save the model with it, and load that")
        return Weights(skeleton, self._files, device=self._device, changes=changes)

    @property
    def module(self) -> Any:
        """The module with all its weights in memory, each tensor read once and kept in the module's own dtype."""
        import torch

        if self._files is not None or self._changes:
            for name, parameter in self.skeleton.named_parameters():
                if self._files is None and name not in self._changes:
                    continue
                value = self._read(name, parameter).to(parameter.dtype)
                filled = torch.nn.Parameter(value.clone(), requires_grad=parameter.requires_grad)
                # Swapped, not replaced: whoever holds the parameter holds its values now.
                torch.utils.swap_tensors(parameter, filled)  # type: ignore[no-untyped-call]
            if self._files is not None:
                for name, buffer in self._saved_buffers():
                    buffer.copy_(self._files.read(name))
                self.skeleton.to(self._device)
            self._files, self._changes = None, {}
        return self.skeleton

    def _saved_buffers(self) -> list[tuple[str, torch.Tensor]]:
        saved = self.skeleton.state_dict(keep_vars=True)
        return [(name, buffer) for name, buffer in self.skeleton.named_buffers() if name in saved]

    @cached_property
    def _names(self) -> dict[int, str]:
        return {id(parameter): name for name, parameter in self.skeleton.named_parameters()}

    def changed_beside(self, parameters: Iterable[torch.Tensor | None]) -> tuple[str, ...]:
        """Return the names of changed tensors that are none of these parameters."""
        own = {self._names.get(id(parameter), "") for parameter in parameters}
        return tuple(sorted(self._changes.keys() - own))

    def state(self, *, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the state dict's names, sorted, and its tensors in the module's dtypes, one in memory at a time.

        Parts of the module whose names are in `skip` are left out.
        """
        own = self.skeleton.state_dict()
        for name in sorted(name for name in own if name.split(".")[0] not in skip):
            yield name, self._read(name, own[name]).to(own[name].dtype)

    def _read(self, name: str, own: torch.Tensor, rows: slice | None = None) -> torch.Tensor:
        """Return a tensor of the state dict, from the files where it is there, with what becomes of it."""
        change = self._changes.get(name)
        part = rows if change is None else None
        value = own.detach() if self._files is None else self._files.read(name, part)
        value = value if change is None else change(value)
        return value if rows is None or (self._files is not None and change is None) else value[rows]

    def tensor(self, parameter: torch.Tensor, rows: slice | None = None) -> torch.Tensor:
        """Return the values of one of the module's parameters, or of some of its rows."""
        name = self._names.get(id(parameter), "")
        if (parameter.is_meta and self._files is not None) or name in self._changes:
            return self._read(name, parameter, rows)
        return parameter.detach() if rows is None else parameter.detach()[rows]

    def array(self, parameter: torch.Tensor, rows: slice | None = None) -> NDArray[np.float64]:
        """Return a parameter's values, or those of some of its rows, in float64."""
        values: NDArray[np.float64] = self.tensor(parameter, rows).cpu().double().numpy()
        return values

    def array_or(
        self, parameter: torch.Tensor | None, default: float, size: int, rows: slice | None = None
    ) -> NDArray[np.float64]:
        """Return a parameter's values, or `default` `size` times where the module has none."""
        return np.full(size, default) if parameter is None else self.array(parameter, rows)

    def double(self, part: torch.nn.Module) -> Any:
        """Return a copy of a part of the module in float64, filled with its weights."""
        import torch

        values = {id(parameter): self.tensor(parameter).cpu().double() for parameter in part.parameters()}
        memo: dict[int, Any] = {key: torch.nn.Parameter(value) for key, value in values.items()}
        return copy.deepcopy(part, memo).double().eval()


@contextlib.contextmanager
def empty_parameters() -> Iterator[None]:
    """Build modules whose parameters take no memory; their buffers are real, and moving them does nothing."""
    from torch import nn

    register, move = nn.Module.register_parameter, nn.Module.to

    def register_empty(self: Any, name: str, parameter: nn.Parameter | None) -> None:
        register(self, name, parameter)
        if parameter is not None:
            self._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    with _BUILDING:
        nn.Module.register_parameter = register_empty  # type: ignore[method-assign,assignment]
        nn.Module.to = lambda self, *arguments, **options: self  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.register_parameter, nn.Module.to = register, move  # type: ignore[method-assign]
