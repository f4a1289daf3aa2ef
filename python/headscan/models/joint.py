"""The joint image-text space: where singular vectors meet the dictionary, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.vectors import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model
    from headscan.models.towers import FinalWeights

__all__ = ["JointMap", "joint_map"]

_GRAM_CONDITION = 1e6  # leaves ten digits of the sixteen


@dataclass(frozen=True, eq=False)
class JointMap:
    """The map from the residual stream into the centred joint space, all in float64.

    Attributes
    ----------
    final : FinalWeights
        The last layer norm and the projection.
    image_mean : ndarray, shape (joint_dim,), or None
        Mean of the model's normalised image embeddings, or None where there is none.
    """

    final: FinalWeights
    image_mean: NDArray[np.float64] | None

    def to_joint(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return unit vectors in joint space, centred on the image mean.

        Final layer norm, projection, normalise, subtract the image mean, normalise (arXiv 2603.24653).

        The layer norm is the module's own, with its normalisation, gain, shift and epsilon, so the image of
        ``-v`` is not minus the image of ``v``: each pole is mapped by itself.

        Parameters
        ----------
        vectors : ndarray, shape (n, width)
            Directions of the residual stream.

        Returns
        -------
        ndarray, shape (n, joint_dim)
            Float64 rows of unit length; a row that vanishes stays zero.
        """
        joint = normalise(self.final.apply(vectors))
        return joint if self.image_mean is None else normalise(joint - self.image_mean)

    def to_width(self, joint: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return directions of the residual stream for rows of the centred joint space.

        The row is normalised, the image mean added back, the sum normalised and taken through the pseudo-inverse
        of the projection (arXiv 2603.24653, fidelity, as its code has it). The final layer norm is not undone.

        Parameters
        ----------
        joint : ndarray, shape (n, joint_dim)
            Rows such as reconstructions from a dictionary, of any length.

        Returns
        -------
        ndarray, shape (n, width)
            Float64 rows, not normalised.
        """
        row = normalise(joint)
        whole = row if self.image_mean is None else normalise(row + self.image_mean)
        return np.asarray(whole @ self._inverse)

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        return _pseudo_inverse(self.final.projection)  # (joint_dim, width)


def _pseudo_inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Moore-Penrose inverse: (P^T P)^-1 P^T of a tall P, or by an SVD where that would lose digits.

    The Gram matrix squares the condition, so its own decides; a solve takes a tenth of an SVD's time.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = tall.T @ tall
    try:
        inverse = np.linalg.inv(gram)
        condition = np.linalg.norm(gram, 1) * np.linalg.norm(inverse, 1)
    except np.linalg.LinAlgError:
        condition = np.inf
    if not condition <= _GRAM_CONDITION:
        return np.asarray(np.linalg.pinv(matrix), dtype=np.float64)
    product = inverse @ tall.T
    return np.asarray(product if tall is matrix else product.T, dtype=np.float64)


def joint_map(model: Model) -> JointMap:
    """Return the model's `JointMap`."""
    return JointMap(final=model.tower.read_final(), image_mean=model.image_mean)
