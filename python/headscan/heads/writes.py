"""What each attention head adds to the class token, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import whole_number
from headscan.errors import HeadscanError
from headscan.heads.layers import select_layers
from headscan.models.pictures import prepared
from headscan.models.towers.forward import check_traceable, class_token_values

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["head_writes", "mean_writes"]


def head_writes(
    model: Model,
    pictures: torch.Tensor | NDArray[np.float32],
    *,
    layers: str | int | Iterable[int] = "all",
    batch_size: int = 128,
) -> NDArray[np.float32]:
    """Return what each head writes into the class token of each picture.

    With ``A`` the class token's attention over all tokens and ``x`` the layer norm's output, head h writes
    ``(A @ x @ W_V[h] + b_V[h]) @ W_O[h]``; the output projection's bias belongs to no head and is left out.

    Parameters
    ----------
    model : Model
        From `load_model`, with open_clip's own vision transformer.
    pictures : float array, shape (n, 3, height, width)
        Preprocessed for the model.
    layers : str, int or iterable of int, default "all"
        As in `vo_factors`.
    batch_size : int, default 128
        Pictures per forward pass.

    Returns
    -------
    ndarray of float32, shape (n, layers, heads, width)

    Raises
    ------
    HeadscanError
        If the vision tower is built otherwise, or `pictures` is not such an array.
    """
    import torch

    chosen = select_layers(layers, count=model.layers)
    check_traceable(model.tower)
    values = torch.as_tensor(pictures)
    if values.ndim != 4 or values.shape[1] != 3 or not values.is_floating_point():
        raise HeadscanError(
            f"pictures must be floating-point of shape (n, 3, height, width), preprocessed for the model; "
            f"got {values.dtype} of shape {tuple(values.shape)}"
        )
    batch_size = whole_number(batch_size, "batch_size", least=1)
    output = _outputs(model, chosen)
    written = np.empty((len(values), len(chosen), model.heads, model.width), np.float32)
    for start in range(0, len(values), batch_size):
        mixed = class_token_values(model.tower, values[start : start + batch_size], chosen).numpy()
        written[start : start + len(mixed)] = np.einsum("nlhr,lhrw->nlhw", mixed, output)
    return written


def mean_writes(
    model: Model,
    pictures: NDArray[np.uint8] | Sequence[str | Path],
    layers: tuple[int, ...],
    *,
    batch_size: int = 128,
) -> NDArray[np.float64]:
    """Return what each head adds to the class token on average over pictures: (layers, heads, width).

    Raises
    ------
    HeadscanError
        If the model has no class token to read, or the pictures cannot be used.
    """
    check_traceable(model.tower)
    batches = prepared(model, pictures, batch_size=batch_size)
    total = sum(class_token_values(model.tower, pixels, layers).double().sum(dim=0).numpy() for pixels in batches)
    return np.asarray(np.einsum("lhr,lhrw->lhw", total / len(pictures), _outputs(model, layers)))


def _outputs(model: Model, layers: Sequence[int]) -> NDArray[np.float64]:
    """Return the heads' parts of the output projections, (layers, heads, rank, width)."""
    output = np.stack([model.tower.read_attention(layer).output for layer in layers])
    return np.asarray(output.reshape(len(layers), model.heads, model.rank, model.width))
