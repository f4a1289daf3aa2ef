"""Scan: explain every singular direction of every head of the chosen layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan import _files, cuda
from headscan.dictionary import Dictionary
from headscan.errors import HeadscanError
from headscan.explain import Explanations, check_code_options, explain_directions, whole_number
from headscan.heads import select_layers, vo_factors
from headscan.joint import joint_map
from headscan.models import check_model
from headscan.results import Scan, ScanInfo, load_scan, make_table
from headscan.svd import svd_factored
from headscan.terminal import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models import Model

__all__ = ["Scan", "load_scan", "scan"]

_BATCH = 2048  # directions explained at once: bounds the memory, and how long an interrupt waits
_SIDES = ("write", "read")
_POLES = {"both": ("+", "-"), "+": ("+",), "-": ("-",)}


@dataclass(frozen=True, eq=False)
class _Directions:
    """Singular directions, each with its labels: one row per explanation to come."""

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
    layers: str | int | Iterable[int] = "all",
    sides: str | Sequence[str] = ("write",),
    poles: str = "both",
    k: int = 5,
    coherence: float = 0.3,
    fold: bool = True,
    threads: int = 0,
    device: cuda.Device = None,
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
    layers : str, int or iterable of int, default "all"
        As in `vo_factors`.
    sides : str or sequence of str, default ("write",)
        ``"write"``: right singular vectors, what a head writes; ``"read"``: left ones, what it reads.
    poles : {"both", "+", "-"}
        Which poles of each direction to explain. Signs follow `svd_factored`: the largest-magnitude entry of
        the left singular vector is positive.
    k, coherence, threads, device
        As in `comp`.
    fold : bool, default True
        Fold the layer norm and centre, as in `vo_factors`.
    progress : bool, optional
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Scan
        One row per layer, head, index, side and pole, in that order.

    Raises
    ------
    HeadscanError
        If an option is out of range or the dictionary is another model's.
    """
    check_model(model)
    if not isinstance(dictionary, Dictionary):
        raise HeadscanError(f"dictionary must be one from load_dictionary, not {type(dictionary).__qualname__}")
    chosen = select_layers(layers, count=model.layers)
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    info = ScanInfo(
        headscan=_files.package_version(),
        created=_files.now(),
        **_model_facts(model),
        **_dictionary_facts(dictionary, model),
        layers=chosen,
        sides=_checked_sides(sides),
        poles=_checked_poles(poles),
        k=whole_number(k, "k"),
        coherence=float(coherence),
        folded=bool(fold),
    )
    joint = joint_map(model)
    labels: list[_Directions] = []
    explained: list[Explanations] = []
    total = len(chosen) * model.heads * model.rank * len(info.sides) * len(info.poles)
    with progress_bar("explaining directions", total=total, unit="directions", show=progress) as advance:
        for batch in _batches(_layer_directions(model, info, threads=threads, device=device)):
            explained.append(
                explain_directions(
                    batch.vectors,
                    dictionary,
                    joint=joint,
                    k=info.k,
                    coherence=info.coherence,
                    threads=threads,
                    device=device,
                )
            )
            labels.append(_without_vectors(batch))
            advance(len(batch))
    columns = _gather(labels, skip=("vectors",)) | _gather(explained)
    return Scan(info=info, explanations=make_table(columns, texts=dictionary.texts, k=info.k))


def _layer_directions(model: Model, info: ScanInfo, *, threads: int, device: cuda.Device) -> Iterator[_Directions]:
    """Yield each layer's directions, ordered by head, index, side and pole."""
    for layer in info.layers:
        factors = vo_factors(model, layers=[layer], fold=info.folded)
        u, sigma, vh = svd_factored(factors.left[0], factors.right[0], threads=threads, device=device)
        by_side = {"write": vh, "read": u.transpose(0, 2, 1)}  # each (heads, rank, width)
        signs = np.array([1.0 if pole == "+" else -1.0 for pole in info.poles])
        stacked = np.stack([by_side[side] for side in info.sides], axis=2)  # (heads, rank, sides, width)
        vectors = stacked[:, :, :, None, :] * signs[:, None]  # (heads, rank, sides, poles, width)
        shape = vectors.shape[:-1]
        head, index, side, pole = (axis.ravel() for axis in np.indices(shape))
        yield _Directions(
            layer=np.full(head.size, layer),
            head=head,
            index=index,
            side=np.array(info.sides, dtype=object)[side],
            pole=np.array(info.poles, dtype=object)[pole],
            sigma=sigma[head, index],
            vectors=vectors.reshape(-1, model.width),
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


def _model_facts(model: Model) -> dict[str, Any]:
    mean = model.image_mean
    return {
        "model": model.name,
        "pretrained": model.pretrained,
        "weights_hash": model.weights_hash,
        "image_mean_hash": None if mean is None else hashlib.sha256(mean.astype("<f8").tobytes()).hexdigest(),
    }


def _dictionary_facts(dictionary: Dictionary, model: Model) -> dict[str, Any]:
    if dictionary.text_hash != model.text_hash:
        raise HeadscanError(
            f"the dictionary {dictionary.source} was encoded by another text tower than that of "
            f"{model.name}: load it with this model"
        )
    return {
        "dictionary": dictionary.source,
        "dictionary_hash": dictionary.hash,
        "template": dictionary.template,
        "concepts": len(dictionary),
    }


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
