"""What random directions are explained by, over the same map and dictionary: kept in the cache, with a checksum.

A pursuit over many concepts finds something to say about anything. How well it says random directions is the measure
that an explanation has to exceed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import check_code_options, whole_number
from headscan.common.vectors import normalise
from headscan.core import devices
from headscan.explanations.directions import Explanations, explain_directions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.models.joint import JointMap

__all__ = ["RANDOM_DIRECTIONS", "NullFidelity", "null_fidelity", "random_explanations"]

_log = logging.getLogger(__name__)
RANDOM_DIRECTIONS = 10_000
_BATCH = 2048  # directions explained at once
_FORMAT = "headscan-null 3"
_DIGEST = 32  # bytes of SHA-256 before the arrays


@dataclass(frozen=True, eq=False)
class NullFidelity:
    """How well random directions are explained: float64 arrays of one length, each sorted, smallest first."""

    fidelity: NDArray[np.float64]
    joint_fidelity: NDArray[np.float64]


def null_fidelity(
    dictionary: Dictionary,
    *,
    joint: JointMap,
    profiles: NDArray[np.float64] | None = None,
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    penalty: float = 0.25,
    count: int = RANDOM_DIRECTIONS,
    centred: bool = True,
    seed: int = 0,
    threads: int = 0,
    device: devices.Device = None,
    cache: bool = True,
) -> NullFidelity:
    """Explain random directions and return their fidelities, sorted; parameters as in `random_explanations`."""
    explained = random_explanations(
        dictionary, joint=joint, profiles=profiles, k=k, coherence=coherence, method=method, penalty=penalty,
        count=count, centred=centred, seed=seed, threads=threads, device=device, cache=cache,
    )  # fmt: skip
    return NullFidelity(np.sort(explained.fidelity), np.sort(explained.joint_fidelity))


def random_explanations(
    dictionary: Dictionary,
    *,
    joint: JointMap,
    profiles: NDArray[np.float64] | None = None,
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    penalty: float = 0.25,
    count: int = RANDOM_DIRECTIONS,
    centred: bool = True,
    seed: int = 0,
    threads: int = 0,
    device: devices.Device = None,
    cache: bool = True,
) -> Explanations:
    """Explain random directions of the residual stream.

    Directions are Gaussian, without a part along all-ones where `centred` (a folded head neither reads nor writes
    one).

    Parameters
    ----------
    dictionary, joint, k, coherence, method, penalty, threads, device
        As in `explain_directions`.
    profiles : ndarray of float64, shape (layers, width), optional
        Standard deviations of the coordinates, layer by layer (`headscan.explanations.families`): each direction
        takes one layer's, drawn at random. By default all are alike.
    count : int, default 10,000
        Directions.
    centred : bool, default True
        Whether the directions to be judged are centred.
    seed : int, default 0
        Of the directions.
    cache : bool, default True
        Keep the result in the cache folder, under a hash of map, dictionary and parameters, and look for it there.

    Raises
    ------
    HeadscanError
        If an option is out of range.
    """
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    whole_number(count, "count", least=1)
    whole_number(seed, "seed", least=0)
    code: dict[str, Any] = {"k": int(k), "coherence": float(coherence), "method": method, "penalty": float(penalty)}
    parameters = [_FORMAT, dictionary.hash, *code.values(), int(count), bool(centred), int(seed)]
    entry = files.cache_folder() / "significance" / _key(joint, profiles, parameters) if cache else None
    cached = _from_cache(entry, count, int(k)) if entry is not None else None
    if cached is not None:
        return cached
    rng = np.random.default_rng(seed)
    layers = None if profiles is None else rng.integers(len(profiles), size=count)
    batches = []
    for start in range(0, count, _BATCH):
        drawn = rng.standard_normal((min(_BATCH, count - start), len(joint.final.gain)))
        if profiles is not None and layers is not None:
            drawn *= profiles[layers[start : start + _BATCH]]
        if centred:
            drawn -= drawn.mean(axis=1, keepdims=True)
        options: dict[str, Any] = {"threads": threads, "device": device}
        batches.append(explain_directions(normalise(drawn), dictionary, joint=joint, **code, **options))
    names = [field.name for field in fields(Explanations)]
    explained = Explanations(**{name: np.concatenate([getattr(each, name) for each in batches]) for name in names})
    if entry is not None:
        _to_cache(explained, entry)
    return explained


def _key(joint: JointMap, profiles: NDArray[np.float64] | None, parameters: list[Any]) -> str:
    """Return the SHA-256 of the map's weights and of everything else that decides the result."""
    final = joint.final
    arrays = [final.gain, final.shift, final.projection, joint.image_mean, profiles]
    shapes = [None if array is None else list(array.shape) for array in arrays]
    digest = hashlib.sha256(json.dumps([*parameters, final.eps, shapes]).encode())
    for array in arrays:
        if array is not None:
            digest.update(np.ascontiguousarray(array, dtype="<f8").data)
    return digest.hexdigest()


def _from_cache(entry: Path, count: int, k: int) -> Explanations | None:
    """Return what the cache holds; None where there is nothing, or it is not what was written."""
    try:
        content = entry.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("explanations of random directions in the cache cannot be read and are made anew: %s", error)
        return None
    if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
        try:
            with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as arrays:
                explained = Explanations(**arrays)
            if explained.indices.shape == (count, k):
                return explained
        except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile):
            pass
    _log.warning("explanations of random directions in the cache are damaged and are made anew")
    return None


def _to_cache(explained: Explanations, entry: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **vars(explained))
    content = buffer.getvalue()
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        files.sweep(entry)
        with files.write_aside(entry) as aside:
            aside.write_bytes(hashlib.sha256(content).digest() + content)
    except OSError as error:
        _log.warning("explanations of random directions are not kept, the cache cannot be written: %s", error)
