"""Significance: how often a random direction is explained as well, over the same map and dictionary.

A pursuit over many concepts finds something to say about anything. How well it says a random direction is the
measure that an explanation has to exceed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headscan.common import files
from headscan.common.checks import check_code_options, whole_number
from headscan.common.vectors import normalise
from headscan.core import devices
from headscan.explanations.directions import explain_directions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.models.joint import JointMap

__all__ = ["NullFidelity", "null_fidelity", "p_values", "q_values"]

_log = logging.getLogger(__name__)
_BATCH = 2048  # directions explained at once
_FORMAT = "headscan-null 2"


@dataclass(frozen=True, eq=False)
class NullFidelity:
    """How well random directions are explained: float64 arrays of one length, each sorted, smallest first."""

    fidelity: NDArray[np.float64]
    joint_fidelity: NDArray[np.float64]


def null_fidelity(
    dictionary: Dictionary,
    *,
    joint: JointMap,
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    penalty: float = 0.25,
    count: int = 1000,
    centred: bool = True,
    seed: int = 0,
    threads: int = 0,
    device: devices.Device = None,
    cache: bool = True,
) -> NullFidelity:
    """Explain random directions of the residual stream and keep their fidelities.

    Directions are isotropic Gaussian, without a part along all-ones where `centred` (a folded head neither reads
    nor writes one), so they serve the write side and the read side alike.

    Parameters
    ----------
    dictionary, joint, k, coherence, method, penalty, threads, device
        As in `explain_directions`.
    count : int, default 1000
        Directions. No p-value gets below ``1 / (count + 1)``.
    centred : bool, default True
        Whether the directions to be judged are centred.
    seed : int, default 0
        Of the directions.
    cache : bool, default True
        Keep the result in the cache folder, under a hash of map, dictionary and parameters, and look for it there.

    Returns
    -------
    NullFidelity

    Raises
    ------
    HeadscanError
        If an option is out of range.
    """
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    whole_number(count, "count", least=1)
    whole_number(seed, "seed", least=0)
    code = [dictionary.hash, int(k), float(coherence), method, float(penalty)]
    parameters = [_FORMAT, *code, int(count), bool(centred), int(seed)]
    entry = files.cache_folder() / "significance" / f"{_key(joint, parameters)}.npy" if cache else None
    found = _from_cache(entry, count) if entry is not None else None
    if found is None:
        width, rng = len(joint.final.gain), np.random.default_rng(seed)
        parts = []
        for start in range(0, count, _BATCH):
            drawn = rng.standard_normal((min(_BATCH, count - start), width))
            if centred:
                drawn -= drawn.mean(axis=1, keepdims=True)
            said = explain_directions(
                normalise(drawn),
                dictionary,
                joint=joint,
                k=k,
                coherence=coherence,
                method=method,
                penalty=penalty,
                threads=threads,
                device=device,
            )
            parts.append(np.stack([said.fidelity, said.joint_fidelity]))
        found = np.sort(np.concatenate(parts, axis=1), axis=1)
        if entry is not None:
            _to_cache(found, entry)
    return NullFidelity(fidelity=found[0], joint_fidelity=found[1])


def p_values(values: ArrayLike, null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of random values that are at least as high, ``(r + 1) / (n + 1)``, in (0, 1].

    Counting the judged value among the n + 1 keeps the test exact: under the null, ``p <= a`` has at most
    probability a (Davison and Hinkley 1997, section 4.2.3).

    Parameters
    ----------
    values : array of float, shape (m,)
    null : ndarray of float64, shape (n,)
        Sorted, smallest first: a field of `NullFidelity`.

    Returns
    -------
    ndarray of float64, shape (m,)
    """
    reached = len(null) - np.searchsorted(null, np.asarray(values, dtype=np.float64), side="left")
    return np.asarray((reached + 1) / (len(null) + 1), dtype=np.float64)


def q_values(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values corrected for how many were looked at (Benjamini and Hochberg 1995).

    Taking every row with ``q <= a`` makes at most a share a of them false discoveries in expectation, where the
    p-values are independent or positively dependent.

    Parameters
    ----------
    p : array of float, shape (m,)

    Returns
    -------
    ndarray of float64, shape (m,)
        ``min over larger or equal p_(i) of m p_(i) / i``, at most 1.
    """
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given)
    scaled = given[order] * len(given) / np.arange(1, len(given) + 1)
    q = np.empty_like(given)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1.0)
    return q


def _key(joint: JointMap, parameters: list[object]) -> str:
    """Return the SHA-256 of the map's weights and of everything else that decides the result."""
    final = joint.final
    mean = np.empty(0) if joint.image_mean is None else joint.image_mean
    digest = hashlib.sha256(json.dumps([*parameters, final.eps, list(final.projection.shape)]).encode())
    for array in (final.gain, final.shift, final.projection, mean):
        digest.update(np.ascontiguousarray(array, dtype="<f8").data)
    return digest.hexdigest()


def _from_cache(entry: Path, count: int) -> NDArray[np.float64] | None:
    try:
        found = np.load(entry, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError) as error:
        _log.warning("fidelities of random directions in the cache are damaged and are made anew: %s", error)
        return None
    whole = isinstance(found, np.ndarray) and found.shape == (2, count) and found.dtype == np.float64
    if not (whole and np.isfinite(found).all()):
        _log.warning("fidelities of random directions in the cache are damaged and are made anew")
        return None
    return np.asarray(found)


def _to_cache(found: NDArray[np.float64], entry: Path) -> None:
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with files.write_aside(entry) as aside, aside.open("wb") as file:
            np.save(file, found)
    except OSError as error:
        _log.warning("fidelities of random directions are not kept, the cache cannot be written: %s", error)
