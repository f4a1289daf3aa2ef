from collections.abc import Sequence
from typing import Any

from headscan.core._core import CompOptions, PackedDictionary

def toolkit_version() -> str: ...
def targets() -> str: ...
def devices() -> list[dict[str, Any]]: ...

class Dictionary:
    def __init__(
        self, dictionary: PackedDictionary, *, device: int, first: int = 0, rows: int = 0, memory_bytes: int = 0
    ) -> None: ...
    @property
    def device(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

def fits(dictionary: PackedDictionary, *, device: int) -> bool: ...

class DeviceArray:
    def __init__(self, *, address: int, shape: Sequence[int], dtype: str) -> None: ...

def comp(
    x: DeviceArray,
    parts: Sequence[Dictionary],
    *,
    options: CompOptions,
    indices: DeviceArray,
    coefficients: DeviceArray,
    certified: DeviceArray,
    rescored: DeviceArray,
    stream: int = 0,
) -> None: ...
def svd_factored(
    left: DeviceArray,
    right: DeviceArray,
    *,
    u: DeviceArray,
    s: DeviceArray,
    vh: DeviceArray,
    device: int,
    stream: int = 0,
) -> None: ...
