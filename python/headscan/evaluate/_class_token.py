"""What each attention head adds to the class token, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.heads import select_layers

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models import Model
    from headscan.towers import AttentionWeights

__all__ = ["head_writes"]


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
    blocks = _blocks(model, chosen)
    values = torch.as_tensor(pictures)
    if values.ndim != 4 or values.shape[1] != 3 or not values.is_floating_point():
        raise HeadscanError(
            f"pictures must be floating-point of shape (n, 3, height, width), preprocessed for the model; "
            f"got {values.dtype} of shape {tuple(values.shape)}"
        )
    if batch_size < 1:
        raise HeadscanError(f"batch_size must be at least 1, not {batch_size}")
    weights = [model.tower.read_attention(layer) for layer in chosen]
    written = np.empty((len(values), len(chosen), model.heads, model.width), np.float32)
    caught: dict[int, Any] = {}
    hooks = [
        block.ln_1.register_forward_hook(lambda _, __, output, place=place: caught.update({place: output}))
        for place, block in enumerate(blocks)
    ]
    parameter = next(model.module.parameters())
    training = model.module.training
    model.module.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(values), batch_size):
                part = values[start : start + batch_size].to(parameter.device, parameter.dtype)
                model.module.visual(part)
                for place, block in enumerate(blocks):
                    stream = caught[place] if block.attn.batch_first else caught[place].transpose(0, 1)
                    written[start : start + len(part), place] = _writes(stream, block.attn, weights[place])
    finally:
        model.module.train(training)
        for hook in hooks:
            hook.remove()
    return written


def _blocks(model: Model, layers: tuple[int, ...]) -> list[Any]:
    from open_clip.transformer import VisionTransformer
    from torch import nn

    visual: Any = model.module.visual
    if not isinstance(visual, VisionTransformer):
        raise HeadscanError(
            f"the vision tower is a {type(visual).__name__}: what heads write at the class token is read of "
            "open_clip's own VisionTransformer only"
        )
    blocks = [visual.transformer.resblocks[layer] for layer in layers]
    for layer, block in zip(layers, blocks, strict=True):
        if type(block.attn) is not nn.MultiheadAttention:
            raise HeadscanError(
                f"layer {layer} attends with {type(block.attn).__name__}: only torch's MultiheadAttention is read"
            )
    return blocks


def _writes(stream: torch.Tensor, attention: Any, weights: AttentionWeights) -> NDArray[np.float32]:
    """Return (n, heads, width) from the layer norm's output (n, tokens, width)."""
    import torch

    heads, width = int(attention.num_heads), int(attention.embed_dim)
    rank = width // heads
    inputs = stream.float()
    bias = attention.in_proj_bias
    query, key = (
        torch.nn.functional.linear(rows, attention.in_proj_weight[part].float(), None if bias is None else bias[part])
        for rows, part in ((inputs[:, :1], slice(0, width)), (inputs, slice(width, 2 * width)))
    )
    query, key = (
        rows.reshape(*rows.shape[:-1], heads, rank).transpose(1, 2) for rows in (query, key)
    )  # (n, heads, tokens, r)
    looks = torch.softmax(query @ key.transpose(-1, -2) / rank**0.5, dim=-1)[:, :, 0]  # (n, heads, tokens)
    seen = (looks @ inputs).cpu().numpy()  # (n, heads, width): attention first, then values, which are linear
    value = weights.value.reshape(width, heads, rank)
    mixed = np.einsum("nhw,whr->nhr", seen, value) + weights.value_bias.reshape(heads, rank)
    return np.asarray(np.einsum("nhr,hrw->nhw", mixed, weights.output.reshape(heads, rank, width)), dtype=np.float32)
