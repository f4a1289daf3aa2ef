"""Scan: explain every singular direction of every head of the chosen layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import check_code_options, whole_number
from headscan.common.terminal import progress_bar
from headscan.core import devices
from headscan.dictionaries.load import Dictionary
from headscan.errors import HeadscanError
from headscan.explanations.directions import Explanations, check_method, explain_directions
from headscan.explanations.families import judge_families
from headscan.explanations.null import RANDOM_DIRECTIONS
from headscan.explanations.result import Scan, load_scan
from headscan.explanations.table import ScanInfo, dictionary_facts, make_table, model_facts
from headscan.heads.layers import select_layers
from headscan.heads.parts import checked_parts, count_directions, part_directions
from headscan.models.joint import JointMap, joint_map
from headscan.models.model import check_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["Scan", "load_scan", "scan"]

_BATCH = 2048  # directions explained at once: bounds the memory, and how long an interrupt waits
_SIDES = ("write", "read")
_POLES = {"both": ("+", "-"), "+": ("+",), "-": ("-",)}


@dataclass(frozen=True, eq=False)
class _Directions:
    """Singular directions, each with its labels: one row per explanation to come."""

    part: NDArray[np.object_]
    layer: NDArray[np.int64]
    head: NDArray[np.int64]
    index: NDArray[np.int64]
    side: NDArray[np.object_]
    pole: NDArray[np.object_]
    sigma: NDArray[np.float64]
    vectors: NDArray[np.float64]  # (n, width), the pole's sign applied

    def __len__(self) -> int:
        return len(self.layer)


def scan(
    model: Model,
    dictionary: Dictionary,
    *,
    tower: str = "image",
    parts: str | Sequence[str] = ("vo",),
    layers: str | int | Iterable[int] = "all",
    sides: str | Sequence[str] = ("write",),
    poles: str = "both",
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    penalty: float = 0.25,
    fold: bool = True,
    significance: int = RANDOM_DIRECTIONS,
    threads: int = 0,
    device: devices.Device = None,
    progress: bool | None = None,
) -> Scan:
    """Explain every singular direction of every head of the chosen layers (arXiv 2603.24653).

    Each head's W_VO is decomposed from its factors; its singular vectors are mapped into the joint image-text
    space and coded as sparse, non-negative, coherent sums of concepts.

    Parameters
    ----------
    model : Model
        From `load_model`.
    dictionary : Dictionary
        From `load_dictionary`, encoded by the same model.
    tower : {"image", "text"}
        Which tower. In the text tower the last layer norm and the text projection lead into the joint space, and
        the dictionary's mean is subtracted there in place of the image mean.
    parts : str or sequence of str, default ("vo",)
        ``"vo"``: each head's value-output matrix; ``"qk"``: its query-key matrix W_Q W_K^T, both sides; ``"mlp"``:
        both ``"mlp_svd"``, the 64 leading singular vectors of the MLP's output matrix, and ``"mlp_neuron"``, what
        each hidden unit writes.
    layers : str, int or iterable of int, default "all"
        As in `vo_factors`.
    sides : str or sequence of str, default ("write",)
        Of part "vo": ``"write"``: right singular vectors, what a head writes; ``"read"``: left ones, what it reads.
    poles : {"both", "+", "-"}
        Which poles of each direction to explain. Signs follow `svd_factored`: the largest-magnitude entry of
        the left singular vector is positive.
    k, coherence, threads
        As in `comp`.
    method, penalty
        As in `explain_directions`: how concepts are picked. Note that "omp" is unconstrained; what the paper calls
        OMP is "nnomp".
    device : str or sequence of str, optional
        As in `comp`: where directions are decomposed and explained.
    fold : bool, default True
        Fold the layer norm and centre, as in `vo_factors`.
    significance : int, default 10,000
        Random directions that the explanations of each part and side are compared with, see
        `headscan.explanations.families`; 0 leaves the columns `p_value`, `q_value`, `local_fdr` and their
        `joint_` namesakes out.
    progress : bool, optional
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Scan
        One row per layer, part, head, index, side and pole, in that order.

    Raises
    ------
    HeadscanError
        If an option is out of range, the dictionary is another model's, or the tower or one of its parts cannot be
        read, saying why.
    """
    check_model(model)
    if not isinstance(dictionary, Dictionary):
        raise HeadscanError(f"dictionary must be one from load_dictionary, not {type(dictionary).__qualname__}")
    source = model.get_tower(tower)
    chosen = select_layers(layers, count=source.layers, tower=tower)
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    check_method(method)
    info = ScanInfo(
        headscan=files.package_version(),
        created=files.now(),
        **model_facts(model),
        **dictionary_facts(dictionary, model),
        tower=tower,
        parts=checked_parts(parts),
        layers=chosen,
        sides=_checked_sides(sides),
        poles=_checked_poles(poles),
        k=whole_number(k, "k"),
        coherence=float(coherence) if method == "comp" else 0.0,
        method=method,
        penalty=float(penalty),
        folded=bool(fold),
        significance=whole_number(significance, "significance", least=0),
    )
    joint = joint_map(model) if tower == "image" else JointMap(source.read_final(), dictionary.mean)
    columns = _explained(model, dictionary, info, joint=joint, threads=threads, device=device, progress=progress)
    if info.significance:
        judged, chance = judge_families(
            columns, model, dictionary, joint=joint, info=info, threads=threads, device=device
        )
        columns, info = columns | judged, replace(info, chance=chance)
    table = make_table(columns, texts=dictionary.texts, k=info.k)
    return Scan(info=info, explanations=table, dictionary=dictionary)


def _explained(
    model: Model,
    dictionary: Dictionary,
    info: ScanInfo,
    *,
    joint: JointMap,
    threads: int,
    device: devices.Device,
    progress: bool | None,
) -> dict[str, Any]:
    """Decompose and explain what `info` asks for, and return the table's columns, significance apart."""
    labels: list[_Directions] = []
    explained: list[Explanations] = []
    in_a_layer = sum(count_directions(model, part, tower=info.tower, sides=info.sides) for part in info.parts)
    total = len(info.layers) * in_a_layer * len(info.poles)
    with progress_bar("explaining directions", total=total, unit="directions", show=progress) as advance:
        for batch in _batches(_layer_directions(model, info, threads=threads, device=device)):
            explained.append(
                explain_directions(
                    batch.vectors,
                    dictionary,
                    joint=joint,
                    k=info.k,
                    coherence=info.coherence,
                    method=info.method,
                    penalty=info.penalty,
                    threads=threads,
                    device=device,
                )
            )
            labels.append(_without_vectors(batch))
            advance(len(batch))
    return {"tower": info.tower} | _gather(labels, skip=("vectors",)) | _gather(explained)


def _layer_directions(model: Model, info: ScanInfo, *, threads: int, device: devices.Device) -> Iterator[_Directions]:
    """Yield each layer's directions, a part at a time, ordered by head, index, side and pole."""
    signs = np.array([1.0 if pole == "+" else -1.0 for pole in info.poles])
    poles = np.array(info.poles, dtype=object)
    for layer, part in itertools.product(info.layers, info.parts):
        decomposed = part_directions(
            model,
            part,
            layer=layer,
            tower=info.tower,
            sides=info.sides,
            fold=info.folded,
            threads=threads,
            device=device,
        )
        rows = len(decomposed.sigma) * len(poles)
        yield _Directions(
            part=np.full(rows, part, dtype=object),
            layer=np.full(rows, layer),
            head=decomposed.head.repeat(len(poles)),
            index=decomposed.index.repeat(len(poles)),
            side=decomposed.side.repeat(len(poles)),
            pole=np.tile(poles, len(decomposed.sigma)),
            sigma=decomposed.sigma.repeat(len(poles)),
            vectors=(decomposed.vectors[:, None, :] * signs[:, None]).reshape(rows, -1),
        )


def _batches(blocks: Iterable[_Directions]) -> Iterator[_Directions]:
    """Regroup blocks into batches of at most `_BATCH` directions, keeping their order."""
    waiting: list[_Directions] = []
    for block in blocks:
        for start in range(0, len(block), _BATCH):
            part = _Directions(**{name: array[start : start + _BATCH] for name, array in vars(block).items()})
            if waiting and sum(map(len, waiting)) + len(part) > _BATCH:
                yield _Directions(**_gather(waiting))
                waiting = []
            waiting.append(part)
    if waiting:
        yield _Directions(**_gather(waiting))


def _without_vectors(batch: _Directions) -> _Directions:
    return _Directions(**{**vars(batch), "vectors": np.empty((len(batch), 0))})


def _gather(parts: Sequence[Any], *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Concatenate the arrays of like dataclasses, field by field."""
    names = [field.name for field in fields(parts[0]) if field.name not in skip]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def _checked_sides(sides: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(sides, Iterable):
        raise HeadscanError(f"sides are 'write' and 'read', not {sides!r}")
    asked = [sides] if isinstance(sides, str) else list(sides)
    unknown = [side for side in asked if side not in _SIDES]
    if unknown or not asked:
        raise HeadscanError(f"sides are 'write' and 'read', not {unknown[0] if unknown else asked!r}")
    return tuple(side for side in _SIDES if side in asked)


def _checked_poles(poles: str) -> tuple[str, ...]:
    if not isinstance(poles, str) or poles not in _POLES:
        raise HeadscanError(f"poles must be 'both', '+' or '-', not {poles!r}")
    return _POLES[poles]
