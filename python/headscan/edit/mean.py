"""What heads write at the class token on average: over pictures, or guessed from the model's image mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headscan.errors import HeadscanError
from headscan.heads.factors import vo_factors
from headscan.heads.writes import mean_writes
from headscan.models.image_mean import noise_pictures
from headscan.models.joint import joint_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["ESTIMATE", "average_writes"]

ESTIMATE = "estimate"


def average_writes(
    model: Model, pictures: NDArray[np.uint8] | Sequence[str | Path] | str, layers: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return what each head adds to the class token on average, (layers, heads, width).

    `pictures` is `ESTIMATE`, or as in `headscan.evaluate.embed_images`.

    A guess takes what a head reads to have no preferred direction. Then what it writes has the covariance ``W_VO^T
    W_VO``, and what is expected of it, knowing the embedding along the mean ``mu`` and leaving the rest to all else
    that writes, is in proportion to ``W_VO^T W_VO p``, ``p`` being ``mu`` taken back through the last layer norm's
    gain and the projection. One factor for all heads gives them the length that they have on pictures of noise.

    Raises
    ------
    HeadscanError
        If the model has no class token to read, the pictures cannot be used, or a guess has no image mean to go by.
    """
    if not isinstance(pictures, str):
        return mean_writes(model, pictures, layers)
    if pictures != ESTIMATE:
        raise HeadscanError(f"pictures are an array, a list of paths or {ESTIMATE!r}, not {pictures!r}")
    if model.image_mean is None:
        raise HeadscanError(
            f"{model.name} has no image mean to estimate from: load it with image_mean=, or give pictures"
        )
    written = mean_writes(model, noise_pictures(), layers)
    final = joint_map(model).final
    target = final.gain * (final.projection @ model.image_mean)
    factors = vo_factors(model, layers=layers)
    read = np.einsum("lhdr,lhds->lhrs", factors.left, factors.left)
    guess = np.einsum("lhrw,w,lhrs,lhsv->lhv", factors.right, target, read, factors.right, optimize=True)
    length = np.linalg.norm(written - written.mean(axis=-1, keepdims=True))
    return np.asarray(guess * (length / max(np.linalg.norm(guess), 1e-300)))
