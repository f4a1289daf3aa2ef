from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict, overload

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]
_Decomposed = tuple[_Array, _Array, _Array, _Array]
_Codes = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_], _Counts]

class _Counts(TypedDict):
    multiply_adds: int
    rescored: int
    fallbacks: int

class _Packed(TypedDict):
    codes: npt.NDArray[np.uint8]
    scale: _Floats
    error: _Floats
    beyond: _Floats
    shift: int
    largest_norm: float

def build_info() -> dict[str, Any]: ...

class Method:
    __members__: ClassVar[dict[str, Method]]
    comp: ClassVar[Method]

class CompOptions:
    def __init__(
        self, *, k: int = 5, coherence: float = 0.3, method: Method = ..., penalty: float = 0.25, threads: int = 0
    ) -> None: ...
    @property
    def k(self) -> int: ...
    @property
    def coherence(self) -> float: ...
    @property
    def method(self) -> Method: ...
    @property
    def penalty(self) -> float: ...
    @property
    def threads(self) -> int: ...

class PackedDictionary:
    def __init__(
        self,
        *,
        atoms: _Floats,
        rotation: _Floats,
        codes: npt.NDArray[np.uint8],
        scale: _Floats,
        error: _Floats,
        beyond: _Floats,
        shift: int,
        largest_norm: float,
        fit_width: int = 0,
        descriptors: Sequence[int] = (),
        file_rows: int = 0,
    ) -> None: ...

@overload
def comp(x: _Array, atoms: _Floats, *, options: CompOptions) -> _Codes: ...
@overload
def comp(x: _Array, dictionary: PackedDictionary, *, options: CompOptions) -> _Codes: ...
def pack(atoms: _Floats, rotation: _Floats, *, shift: int = -1, threads: int = 0) -> _Packed: ...

class RangeMethod:
    __members__: ClassVar[dict[str, RangeMethod]]
    power: ClassVar[RangeMethod]
    krylov: ClassVar[RangeMethod]

class RandomizedSvdOptions:
    def __init__(
        self,
        *,
        oversample: int = 8,
        iterations: int = 2,
        method: RangeMethod = ...,
        block: int = 0,
        seed: int = 0,
        threads: int = 0,
    ) -> None: ...
    @property
    def oversample(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def method(self) -> RangeMethod: ...
    @property
    def block(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def threads(self) -> int: ...

def svd_factored(left: _Array, right: _Array, *, threads: int = 0) -> tuple[_Array, _Array, _Array]: ...
@overload
def randomized_svd(a: _Array, *, rank: int, options: RandomizedSvdOptions) -> _Decomposed: ...
@overload
def randomized_svd(left: _Array, right: _Array, *, rank: int, options: RandomizedSvdOptions) -> _Decomposed: ...
def is_intact(mapped: npt.NDArray[Any]) -> bool: ...
def map_files(descriptors: list[int], bytes: list[int]) -> npt.NDArray[np.uint8]: ...
