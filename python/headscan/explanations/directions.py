"""Explain directions of the residual stream: mapped to joint space, coded, judged by fidelity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import check_code_options
from headscan.common.vectors import cosine
from headscan.core import devices
from headscan.core.comp import METHODS, comp
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.core.pack import PackedAtoms
    from headscan.dictionaries.load import Dictionary
    from headscan.models.joint import JointMap

__all__ = ["CODES", "Explanations", "check_method", "explain_directions", "reconstruct"]

CODES = tuple(method for method in METHODS if method != "nearest")  # the pursuits that give codes


@dataclass(frozen=True, eq=False)
class Explanations:
    """Sparse codes of n directions and how well they say them.

    Attributes
    ----------
    indices : ndarray of int64, shape (n, k)
        Dictionary rows, in the order they were picked; -1 where "lasso" needed fewer.
    coefficients : ndarray of float64, shape (n, k)
        Non-negative, but for "omp"; zero where a later pick made an earlier one useless.
    certified : ndarray of bool, shape (n,)
        Whether every pick is proven to be the exact arg-max.
    fidelity : ndarray of float64, shape (n,)
        Cosine between the direction and its reconstruction taken back to the residual stream (`JointMap.to_width`).
    joint_fidelity : ndarray of float64, shape (n,)
        Cosine between the direction's image in joint space and its reconstruction there.
    """

    indices: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    certified: NDArray[np.bool_]
    fidelity: NDArray[np.float64]
    joint_fidelity: NDArray[np.float64]


def explain_directions(
    vectors: NDArray[np.float64],
    dictionary: Dictionary,
    *,
    joint: JointMap,
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    penalty: float = 0.25,
    threads: int = 0,
    device: devices.Device = None,
) -> Explanations:
    """Explain directions of the residual stream with k concepts each (COMP, arXiv 2603.24653).

    Parameters
    ----------
    vectors : ndarray of float64, shape (n, width)
        Directions; ``-v`` is another direction than ``v``, with another explanation.
    dictionary : Dictionary
        From `load_dictionary`, of the same model.
    joint : JointMap
        From `joint_map`.
    k : int, default 5
        Concepts per code.
    coherence : float, default 0.3
        Weight of the picked concepts' similarity to one another; 0 is non-negative orthogonal matching
        pursuit.
    method : {"comp", "nnomp", "top_k", "mp", "omp", "lasso"}
        How concepts are picked and weighed, as in `comp`. "omp" is unconstrained: the paper's OMP is "nnomp".
    penalty : float, default 0.25
        Of "lasso" alone.
    threads : int, default 0
        Worker threads; 0 takes all that the process may use. Results do not depend on it.
    device
        Where the codes are found, as in `comp`.

    Returns
    -------
    Explanations

    Raises
    ------
    HeadscanError
        If dictionary and model have different joint dimensions, or `k`, `coherence` or `method` is out of range.
    """
    check_method(method)
    atoms = dictionary.atoms
    if atoms.shape[1] != joint.final.projection.shape[1]:
        raise HeadscanError(
            f"the dictionary has {atoms.shape[1]} dimensions but the model's joint space "
            f"{joint.final.projection.shape[1]}: encode it with this model"
        )
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    images = joint.to_joint(vectors)
    codes = comp(
        images, dictionary.packed, k=k, coherence=coherence, method=method, penalty=penalty, threads=threads,
        device=device,
    )  # fmt: skip
    rebuilt = reconstruct(codes.indices, codes.coefficients, dictionary.packed)
    return Explanations(
        indices=codes.indices,
        coefficients=codes.coefficients,
        certified=codes.certified,
        fidelity=cosine(vectors, joint.to_width(rebuilt)),
        joint_fidelity=cosine(images, rebuilt),
    )


def check_method(method: str) -> None:
    """Raise unless `method` is one of `CODES`."""
    if method not in CODES:
        raise HeadscanError(f"method must be one of {', '.join(CODES)}, not {method!r}")


def reconstruct(
    indices: NDArray[np.int64], coefficients: NDArray[np.float64], atoms: PackedAtoms
) -> NDArray[np.float64]:
    """Return the codes' reconstructions (n, joint_dim), gathering one atom per code at a time."""
    rebuilt = np.zeros((len(indices), atoms.width))
    for column in range(indices.shape[1]):
        rebuilt += coefficients[:, column, None] * atoms.take(indices[:, column].clip(min=0))  # -1 has coefficient 0
    return rebuilt
