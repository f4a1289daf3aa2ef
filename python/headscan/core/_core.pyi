from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Codes = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.uint8], int, int, int]

def build_info() -> dict[str, Any]: ...
def svd_factored(left: _Array, right: _Array, threads: int) -> tuple[_Array, _Array, _Array]: ...
def randomized_svd(
    a: _Array, rank: int, oversample: int, iterations: int, krylov: bool, block: int, seed: int, threads: int
) -> tuple[_Array, _Array, _Array, _Array]: ...
def randomized_svd_factored(
    left: _Array,
    right: _Array,
    rank: int,
    oversample: int,
    iterations: int,
    krylov: bool,
    block: int,
    seed: int,
    threads: int,
) -> tuple[_Array, _Array, _Array, _Array]: ...

class Method:
    __members__: dict[str, Method]

def comp(x: _Array, atoms: _Array, options: dict[str, Any]) -> _Codes: ...
def comp_packed(
    x: _Array,
    atoms: _Array,
    layout: dict[str, Any],
    rotation: _Array,
    codes: _Array,
    scale: _Array,
    error: _Array,
    beyond: _Array,
    descriptors: list[int],
    file_rows: int,
    offset_bytes: int,
    options: dict[str, Any],
) -> _Codes: ...
def pack(
    atoms: _Array, rotation: _Array, threads: int, shift: int = ...
) -> tuple[dict[str, Any], _Array, _Array, _Array, _Array]: ...
def map_files(descriptors: list[int], bytes: list[int]) -> npt.NDArray[np.uint8]: ...
