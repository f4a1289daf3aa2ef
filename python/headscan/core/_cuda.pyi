from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]

def toolkit_version() -> str: ...
def targets() -> str: ...
def devices() -> list[dict[str, Any]]: ...
def fits(layout: dict[str, Any], device: int) -> bool: ...

class Dictionary:
    def __init__(
        self,
        atoms: npt.NDArray[np.float32],
        layout: dict[str, Any],
        rotation: _Array,
        codes: _Array,
        scale: _Array,
        error: _Array,
        beyond: _Array,
        device: int,
        first: int,
        rows: int,
        memory_bytes: int,
    ) -> None: ...
    @property
    def device(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

# Pointers and streams are integers.
def comp_float32(
    x: int, n: int, columns: int, parts: Sequence[Dictionary], k: int, coherence: float, fit_width: int, indices: int,
    coefficients: int, certified: int, rescored: int, stream: int,
) -> None: ...  # fmt: skip
def comp_float64(
    x: int, n: int, columns: int, parts: Sequence[Dictionary], k: int, coherence: float, fit_width: int, indices: int,
    coefficients: int, certified: int, rescored: int, stream: int,
) -> None: ...  # fmt: skip
def svd_factored_float32(
    left: int, right: int, n: int, d: int, r: int, e: int, u: int, s: int, vh: int, device: int, stream: int
) -> None: ...
def svd_factored_float64(
    left: int, right: int, n: int, d: int, r: int, e: int, u: int, s: int, vh: int, device: int, stream: int
) -> None: ...
