"""Where work runs: the CPU, or CUDA devices chosen by where the data lives."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headscan.core import _core
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from types import ModuleType


__all__ = ["Device", "Placed", "check_settings", "describe", "devices_for", "engine"]

Device = str | Sequence[str] | None
_DEVICE = re.compile(r"cuda(?::(\d+))?")


@dataclass(frozen=True)
class Placed:
    """Where a call runs.

    Attributes
    ----------
    indices : tuple of int
        CUDA devices; several share out the queries, or the dictionary where it does not fit each of them.
    resident : bool
        The data is there already and the results stay there; else they are copied there and back.
    """

    indices: tuple[int, ...]
    resident: bool


def engine() -> ModuleType:
    """Return the compiled CUDA engine.

    Raises
    ------
    HeadscanError
        If this build has none.
    """
    try:
        return importlib.import_module("headscan.core._cuda")
    except ModuleNotFoundError:
        raise HeadscanError(
            "this build of headscan has no CUDA engine: install it again where nvcc is found, or use device='cpu'"
        ) from None
    except ImportError as error:
        raise HeadscanError(f"the CUDA engine cannot be loaded: {error}") from error


def check_settings() -> None:
    """Raise unless the settings in the environment, such as ``HEADSCAN_ISA``, can be used.

    Raises
    ------
    HeadscanError
        If one cannot, naming it.
    """
    _core.build_info()


def describe() -> dict[str, str]:
    """Say what was built and which devices there are, for `headscan doctor`."""
    try:
        module = engine()
    except HeadscanError as error:
        return {"cuda engine": str(error)}
    lines = {"cuda engine": f"built with CUDA {module.toolkit_version()} for {module.targets()}"}
    try:
        names = [
            f"cuda:{device['index']} {device['name']} (compute {'.'.join(map(str, device['capability']))}, "
            f"{device['memory_bytes'] / 2**30:.0f} GiB)"
            for device in module.devices()
        ]
    except (HeadscanError, RuntimeError) as error:
        return lines | {"cuda devices": f"none: {error}"}
    return lines | {"cuda devices": ", ".join(names) or "none of compute capability 8.0 or higher"}


def devices_for(value: Any, device: Device, name: str) -> Placed | None:
    """Say where a call on `value` runs: None is the CPU.

    Parameters
    ----------
    value : array
        A CUDA tensor runs where it lives; a NumPy array or CPU tensor where `device` says.
    device : str, sequence of str, or None
        "cpu", "cuda", "cuda:1", or several CUDA devices; None leaves the choice to the data.

    Raises
    ------
    HeadscanError
        If the device is unknown, is not there, or the data lives elsewhere.
    """
    lives_on = _cuda_index(value)
    asked = _parsed(device)
    if asked is None and lives_on is not None:
        asked = (lives_on,)
    if not asked:
        return None
    if lives_on is not None and asked != (lives_on,):
        raise HeadscanError(f"{name} is on cuda:{lives_on}, but device asks for {device!r}: leave device out")
    _check_there(asked)
    return Placed(asked, resident=lives_on is not None)


def _cuda_index(value: Any) -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or value.device.type != "cuda":
        return None
    return int(value.device.index)


def _parsed(device: Device) -> tuple[int, ...] | None:
    """Return the CUDA devices named, () for the CPU, None where none is named."""
    if device is None:
        return None
    if device == "cpu":
        return ()
    names = [device] if isinstance(device, str) else list(device)
    matches = [_DEVICE.fullmatch(name) if isinstance(name, str) else None for name in names]
    indices = tuple(int(match[1] or 0) for match in matches if match)
    if not indices or len(indices) < len(names) or len(set(indices)) < len(indices):
        raise HeadscanError(f"device must be 'cpu', 'cuda', 'cuda:N' or several distinct 'cuda:N', not {device!r}")
    return indices


def _check_there(indices: tuple[int, ...]) -> None:
    module = engine()
    try:
        there = [device["index"] for device in module.devices()]
    except (HeadscanError, RuntimeError) as error:
        raise HeadscanError(f"no CUDA device can be used: {error}; use device='cpu'") from error
    missing = [index for index in indices if index not in there]
    if missing:
        known = ", ".join(f"cuda:{index}" for index in there) or "none of compute capability 8.0 or higher"
        raise HeadscanError(f"cuda:{missing[0]} is not there: the devices are {known}")
    import torch

    if not torch.cuda.is_available():
        raise HeadscanError("the installed torch has no CUDA, which holds the engine's memory: install one that has")
