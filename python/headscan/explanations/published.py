"""Decompositions of the published code (arXiv 2603.24653) as scans: codes of one pole, a file a layer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.vectors import cosine
from headscan.dictionaries.dictionary import Dictionary
from headscan.errors import HeadscanError
from headscan.explanations.directions import reconstruct
from headscan.explanations.result import Scan
from headscan.explanations.table import ScanInfo, dictionary_facts, make_table, model_facts
from headscan.heads.parts import part_directions
from headscan.models.joint import JointMap, joint_map
from headscan.models.model import Model, check_model
from headscan.models.published import read_saved

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["layer_of", "load_published_scan"]

_NAME = re.compile(r"layer-(\d{1,4})_(left|right)-?_?(foldln|nofoldln)_(.+)_([^_]+)_sparsity-(\d{1,4})")
_METHODS = {"omp": "nnomp", "mp": "mp", "topk": "top_k"}  # published names, all non-negative
_SIDES = {"right": "write", "left": "read"}


@dataclass(frozen=True)
class _File:
    """A decomposition's file, and what its name says."""

    path: Path
    layer: int
    side: str
    folded: bool
    method: str
    coherence: float
    k: int

    @property
    def settings(self) -> tuple[bool, str, float, int]:
        """What files must share to be one scan."""
        return self.folded, self.method, self.coherence, self.k


def load_published_scan(
    source: str | Path | Iterable[str | Path],
    *,
    model: Model,
    dictionary: Dictionary,
    rows: NDArray[np.int64] | None = None,
) -> Scan:
    """Read decompositions as the published ``decompose.py`` saves them.

    Parameters
    ----------
    source : path or iterable of path
        ``layer-20_right_foldln_conceptnet_comp-0.3_sparsity-5.pt`` and the like, or a folder of them: scores and
        indices (heads, rank, k) or (heads * rank, k). Their names say layer, side, folding, method and k.
    model : Model
        The model that was decomposed, with the image mean that was subtracted.
    dictionary : Dictionary
        What the indices point into.
    rows : ndarray of int64, optional
        From `load_published_dictionary`, where lines were dropped: a published row's row in `dictionary`.

    Returns
    -------
    Scan
        Explanations of the + pole, which is all that the published code explains; their fidelities are computed anew.
        None is certified: the published coefficients need not have converged.

    Raises
    ------
    HeadscanError
        If the files are of different settings, or do not fit model and dictionary.
    """
    check_model(model)
    given = sorted((_described(path) for path in _paths(source)), key=lambda file: (file.layer, file.side))
    first = given[0]
    for file in given:
        if file.settings != first.settings:
            raise HeadscanError(f"{file.path.name} and {first.path.name} have different settings: read them apart")
        if file.layer >= model.layers:
            raise HeadscanError(f"{file.path.name} is of a layer that {model.name} has not: it has {model.layers}")
    joint = joint_map(model)
    columns = [_columns(file, model, dictionary, rows, joint=joint) for file in given]
    gathered = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    info = ScanInfo(
        headscan=files.package_version(), created=files.now(), **model_facts(model),
        **dictionary_facts(dictionary, model), tower="image", parts=("vo",),
        layers=tuple(sorted({file.layer for file in given})), sides=tuple(sorted({file.side for file in given})),
        poles=("+",), k=first.k, coherence=first.coherence, method=first.method, folded=first.folded,
    )  # fmt: skip
    table = make_table(gathered, texts=dictionary.texts, k=first.k)
    return Scan(info=info, explanations=table, dictionary=dictionary)


def _columns(
    file: _File, model: Model, dictionary: Dictionary, rows: NDArray[np.int64] | None, *, joint: JointMap
) -> dict[str, Any]:
    """Return the table's columns of one published file."""
    directions = part_directions(
        model, "vo", layer=file.layer, tower="image", sides=(file.side,), fold=file.folded, threads=0
    )
    scores, indices = _codes(file, model, dictionary, rows)
    kept = directions.index < len(scores) // model.heads
    vectors = directions.vectors[kept]
    rebuilt = reconstruct(indices, scores, dictionary.packed)
    return {
        "layer": np.full(len(scores), file.layer),
        "head": directions.head[kept],
        "index": directions.index[kept],
        "side": directions.side[kept],
        "sigma": directions.sigma[kept],
        "pole": np.full(len(scores), "+", dtype=object),
        "indices": indices,
        "coefficients": scores,
        "fidelity": cosine(vectors, joint.to_width(rebuilt)),
        "joint_fidelity": cosine(joint.to_joint(vectors), rebuilt),
        "certified": np.zeros(len(scores), dtype=bool),
        "tower": np.full(len(scores), "image", dtype=object),
        "part": np.full(len(scores), "vo", dtype=object),
    }


def layer_of(path: Path) -> int:
    """Return the layer that a published file's name says."""
    return _described(path).layer


def _paths(source: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(source, (str, Path)):
        path = files.expanded(source)
        paths = sorted(path.glob("layer-*.pt")) if path.is_dir() else [path]
    else:
        paths = [files.expanded(path) for path in source]
    if not paths:
        raise HeadscanError(f"{source} holds no decompositions (layer-20_right_foldln_..._sparsity-5.pt)")
    return paths


def _described(path: Path) -> _File:
    match = _NAME.fullmatch(path.stem)
    method = match[5] if match else ""
    coherence = re.fullmatch(r"comp-(\d+(?:\.\d+)?)", method)
    if match is None or (coherence is None and method not in _METHODS):
        raise HeadscanError(
            f"the name of {path} must say layer, side, folding, dictionary, method and k, as in "
            "layer-20_right_foldln_conceptnet_comp-0.3_sparsity-5"
        )
    return _File(
        path=path, layer=int(match[1]), side=_SIDES[match[2]], folded=match[3] == "foldln",
        method="comp" if coherence else _METHODS[method], coherence=float(coherence[1]) if coherence else 0.0,
        k=int(match[6]),
    )  # fmt: skip


def _saved(file: _File) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import torch

    saved = read_saved(file.path, "the decomposition")
    pair: list[Any] = [saved.get(name) for name in ("scores", "indices")] if isinstance(saved, dict) else []
    if len(pair) != 2 or not all(isinstance(value, torch.Tensor) for value in pair):
        raise HeadscanError(f"{file.path} must hold the tensors scores and indices")
    scores, indices = (value.reshape(-1, value.shape[-1]) if value.ndim else value for value in pair)
    whole = not indices.is_floating_point() and indices.dtype != torch.bool
    if scores.shape != indices.shape or scores.ndim != 2 or scores.shape[1] != file.k or not whole:
        raise HeadscanError(
            f"{file.path}: scores {tuple(pair[0].shape)} and indices {tuple(pair[1].shape)} must both be "
            f"(heads, rank, {file.k}), indices whole numbers"
        )
    return scores.double().numpy(), indices.long().numpy()


def _codes(
    file: _File, model: Model, dictionary: Dictionary, rows: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return scores and rows of the dictionary (heads * rank, k)."""
    scores, indices = _saved(file)
    rank, rest = divmod(len(scores), model.heads)
    if rest or not 1 <= rank <= model.rank:
        raise HeadscanError(
            f"{file.path} holds {len(scores)} codes: {model.name} has {model.heads} heads of rank {model.rank}"
        )
    count = len(dictionary) if rows is None else len(rows)
    if not np.isfinite(scores).all() or indices.min() < 0 or indices.max() >= count:
        raise HeadscanError(
            f"{file.path}: indices must be from 0 to {count - 1}, the dictionary's rows; scores finite"
        )
    mapped = indices if rows is None else rows[indices]
    if (mapped[scores != 0] < 0).any():
        raise HeadscanError(f"{file.path} uses a blank line of the dictionary")
    return scores, np.where(mapped < 0, 0, mapped)
