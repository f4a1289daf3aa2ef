"""The directions of a layer's parts: singular pairs of its heads and of its MLP, and what its hidden units write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.vectors import normalise
from headscan.core import devices
from headscan.core.randomized_svd import randomized_svd
from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.heads.factors import mlp_output, qk_factors, vo_factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["NO_HEAD", "PARTS", "PartDirections", "checked_parts", "count_directions", "node_name", "part_directions"]

NO_HEAD = -1  # the head of what belongs to none
_MLP_RANK = 64  # singular directions of an MLP's output matrix
_MLP_PARTS = ("mlp_svd", "mlp_neuron")


@dataclass(frozen=True, eq=False)
class PartDirections:
    """Directions of one part of one layer, before poles, ordered by head, index and side."""

    head: NDArray[np.int64]
    index: NDArray[np.int64]
    side: NDArray[np.object_]
    sigma: NDArray[np.float64]
    vectors: NDArray[np.float64]  # (n, width)


def node_name(layer: int, head: int) -> str:
    """Return what a head or an MLP is called: "L3.H2", "L3.MLP"."""
    return f"L{layer}.{'MLP' if head == NO_HEAD else f'H{head}'}"


def checked_parts(parts: str | Sequence[str]) -> tuple[str, ...]:
    """Return the parts asked for in table order, ``"mlp"`` written out as its two.

    Raises
    ------
    HeadscanError
        If one is not known.
    """
    asked = [parts] if isinstance(parts, str) else list(parts)
    known = (*PARTS, "mlp")
    unknown = [part for part in asked if part not in known]
    if unknown or not asked:
        raise HeadscanError(f"parts are {', '.join(known)}, not {unknown[0] if unknown else asked!r}")
    return tuple(part for part in PARTS if part in asked or (part in _MLP_PARTS and "mlp" in asked))


def part_directions(
    model: Model,
    part: str,
    *,
    layer: int,
    tower: str,
    sides: Sequence[str],
    fold: bool,
    threads: int,
    device: devices.Device = None,
) -> PartDirections:
    """Return the directions of one of `PARTS` of a layer.

    ``"vo"``: singular vectors of each head's W_VO, its `sides`. ``"qk"``: those of W_Q W_K^T, sides ``"query"`` (what
    a token that asks is read along) and ``"key"`` (what a token that answers is). ``"mlp_svd"``: the leading right
    singular vectors of the MLP's output matrix (randomized SVD of rank 64, seed 0), which it writes.
    ``"mlp_neuron"``: the rows of that matrix, what each hidden unit writes; sigma is their length. Decompositions run
    on `device`, as in `svd_factored`.
    """
    return PARTS[part](model, layer, tower, sides, fold, threads, device)


def count_directions(model: Model, part: str, *, tower: str, sides: Sequence[str]) -> int:
    """Return how many directions a layer has in a part, before poles."""
    source = model.get_tower(tower)
    if part in ("vo", "qk"):
        return source.heads * source.rank * (len(sides) if part == "vo" else 2)
    hidden = source.hidden
    return hidden if part == "mlp_neuron" else min(_MLP_RANK, hidden, source.width)


def _value_output(
    model: Model, layer: int, tower: str, sides: Sequence[str], fold: bool, threads: int, device: devices.Device
) -> PartDirections:
    left, right = vo_factors(model, layers=[layer], fold=fold, tower=tower)
    if "read" in sides and left.shape[-2] != right.shape[-1]:
        raise HeadscanError(
            f"the heads of {model.name} read {left.shape[-2]} features of convolutions, which have no place of their "
            "own in the joint space: only their side 'write' can be explained"
        )
    u, sigma, vh = svd_factored(left[0], right[0], threads=threads, device=device)
    by_side = {"write": vh, "read": u.transpose(0, 2, 1)}
    return _of_heads({side: by_side[side] for side in sides}, sigma)


def _query_key(
    model: Model, layer: int, tower: str, sides: Sequence[str], fold: bool, threads: int, device: devices.Device
) -> PartDirections:
    left, right = qk_factors(model, layers=[layer], fold=fold, tower=tower)
    u, sigma, vh = svd_factored(left[0], right[0], threads=threads, device=device)
    return _of_heads({"query": u.transpose(0, 2, 1), "key": vh}, sigma)


def _of_heads(by_side: dict[str, NDArray[np.float64]], sigma: NDArray[np.float64]) -> PartDirections:
    """Order singular vectors (heads, rank, width) of some sides by head, index and side."""
    vectors = np.stack(list(by_side.values()), axis=2)
    head, index, side = (axis.ravel() for axis in np.indices(vectors.shape[:3]))
    names = np.array(list(by_side), dtype=object)[side]
    return PartDirections(head, index, names, sigma[head, index], vectors.reshape(len(head), -1))


def _mlp_svd(
    model: Model, layer: int, tower: str, sides: Sequence[str], fold: bool, threads: int, device: devices.Device
) -> PartDirections:
    output = mlp_output(model, layer, fold=fold, tower=tower)
    _, sigma, vh = randomized_svd(output, rank=min(_MLP_RANK, *output.shape), threads=threads, device=device)
    return _of_the_layer(sigma, vh)


def _mlp_neuron(
    model: Model, layer: int, tower: str, sides: Sequence[str], fold: bool, threads: int, device: devices.Device
) -> PartDirections:
    output = mlp_output(model, layer, fold=fold, tower=tower)
    return _of_the_layer(np.linalg.norm(output, axis=1), normalise(output))


def _of_the_layer(sigma: NDArray[np.float64], vectors: NDArray[np.float64]) -> PartDirections:
    rows = len(sigma)
    side = np.full(rows, "write", dtype=object)
    return PartDirections(np.full(rows, NO_HEAD), np.arange(rows), side, sigma, vectors)


_Reader = Callable[["Model", int, str, Sequence[str], bool, int, devices.Device], PartDirections]
PARTS: dict[str, _Reader] = {"vo": _value_output, "qk": _query_key, "mlp_svd": _mlp_svd, "mlp_neuron": _mlp_neuron}
