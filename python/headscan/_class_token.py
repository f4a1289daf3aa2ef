"""What each attention head adds to the class token, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.heads import select_layers
from headscan.pictures import prepared
from headscan.text import evaluating

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models import Model

__all__ = ["check_class_token", "head_writes", "mean_writes", "mixed_values"]


_BATCH = 128


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
    check_class_token(model)
    values = torch.as_tensor(pictures)
    if values.ndim != 4 or values.shape[1] != 3 or not values.is_floating_point():
        raise HeadscanError(
            f"pictures must be floating-point of shape (n, 3, height, width), preprocessed for the model; "
            f"got {values.dtype} of shape {tuple(values.shape)}"
        )
    if batch_size < 1:
        raise HeadscanError(f"batch_size must be at least 1, not {batch_size}")
    output = _outputs(model, chosen)
    written = np.empty((len(values), len(chosen), model.heads, model.width), np.float32)
    for start in range(0, len(values), batch_size):
        mixed = mixed_values(model, values[start : start + batch_size], chosen).numpy()
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
    check_class_token(model)
    batches = prepared(model, pictures, batch_size=_BATCH)
    total = sum(mixed_values(model, pixels, layers).double().sum(dim=0).numpy() for pixels in batches)
    return np.asarray(np.einsum("lhr,lhrw->lhw", total / len(pictures), _outputs(model, layers)))


def _outputs(model: Model, layers: Sequence[int]) -> NDArray[np.float64]:
    """Return the heads' parts of the output projections, (layers, heads, rank, width)."""
    output = np.stack([model.tower.read_attention(layer).output for layer in layers])
    return np.asarray(output.reshape(len(layers), model.heads, model.rank, model.width))


def mixed_values(model: Model, pixels: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
    """Return the heads' values, biases included, mixed by the class token's attention.

    Parameters
    ----------
    model : Model
        One that `check_class_token` lets pass.
    pixels : torch.Tensor, shape (n, 3, height, width)
    layers : tuple of int

    Returns
    -------
    torch.Tensor, float32 on the CPU, shape (n, layers, heads, rank)
    """
    import torch

    visual: Any = model.module.visual
    first = next(visual.parameters())
    found: dict[int, torch.Tensor] = {}
    with ExitStack() as stack:
        for layer in layers:

            def read(attention: Any, arguments: tuple[Any, ...], layer: int = layer) -> None:
                found[layer] = _mixed(attention, arguments[0], rank=model.rank).cpu()

            hook = visual.transformer.resblocks[layer].attn.register_forward_pre_hook(read)
            stack.callback(hook.remove)
        stack.enter_context(evaluating(visual))
        stack.enter_context(torch.inference_mode())
        visual(pixels.to(first.device, first.dtype))
    return torch.stack([found[layer] for layer in layers], dim=1)


def _mixed(attention: Any, x: torch.Tensor, *, rank: int) -> torch.Tensor:
    """Return the class token's attention over the values: x (n, tokens, width) -> (n, heads, rank)."""
    import torch
    from torch.nn.functional import linear

    x = (x if attention.batch_first else x.transpose(0, 1)).float()
    weights = attention.in_proj_weight.float().chunk(3)
    biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.float().chunk(3)
    query, key, value = (
        linear(tokens, weight, bias).reshape(*tokens.shape[:-1], -1, rank)
        for tokens, weight, bias in zip((x[:, 0], x, x), weights, biases, strict=True)
    )  # (n, heads, rank), then twice (n, tokens, heads, rank)
    scores = torch.einsum("nhr,nthr->nht", query, key) / rank**0.5
    return torch.einsum("nht,nthr->nhr", scores.softmax(-1), value)


def check_class_token(model: Model) -> None:
    """Raise unless the vision tower is open_clip's own, with a class token and torch's own attention.

    Raises
    ------
    HeadscanError
        If it is not.
    """
    from open_clip.transformer import VisionTransformer
    from torch import nn

    visual: Any = getattr(model.module, "visual", None)
    if not isinstance(visual, VisionTransformer):
        raise HeadscanError(
            f"the vision tower of {model.name} is a {type(visual).__name__}: what heads write at the class token is "
            "read of open_clip's own VisionTransformer only"
        )
    if visual.pool_type != "tok":
        raise HeadscanError(f"the vision tower of {model.name} has no class token to read: it pools otherwise")
    for number, block in enumerate(visual.transformer.resblocks):
        if type(block.attn) is not nn.MultiheadAttention:
            kind = type(block.attn).__qualname__
            raise HeadscanError(f"layer {number} attends with {kind}: only torch's MultiheadAttention is read")
