"""Forward passes of towers, and what passes through their attention."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from headscan.models.model import Model


__all__ = ["check_class_token", "evaluating", "mixed_values"]


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


def check_traceable(visual: Any) -> None:
    from open_clip.transformer import Attention, VisionTransformer
    from torch import nn

    if not isinstance(visual, VisionTransformer):
        kind = type(visual).__qualname__
        raise HeadscanError(f"contributions need open_clip's own VisionTransformer, and the vision tower is a {kind}")
    if visual.pool_type not in ("tok", "avg"):
        raise HeadscanError(
            f"contributions need a class token or averaged tokens, not the pooling {visual.pool_type!r}"
        )
    for block in visual.transformer.resblocks:
        attention = block.attn
        plain = isinstance(attention, Attention) and isinstance(attention.ln_q, nn.Identity)
        if not (isinstance(attention, nn.MultiheadAttention) or (plain and attention.logit_scale is None)):
            raise HeadscanError("contributions need plain softmax attention, without cosines or normalised queries")


@dataclass(frozen=True, eq=False)
class Trace:
    """One forward pass, float64: the stream before each layer and after the last, what each MLP added."""

    blocks: list[NDArray[np.float64]]  # layers + 1 times (tokens, width)
    mlps: list[NDArray[np.float64]]  # (tokens, width) each
    embedding: NDArray[np.float64]


def trace_image(model: Model, image: torch.Tensor) -> Trace:
    """Run the vision tower once on one image and keep what its blocks saw."""
    import torch

    visual: Any = model.module.visual
    if not isinstance(image, torch.Tensor) or image.ndim != 3 or not image.is_floating_point():
        raise HeadscanError("an image must be a preprocessed floating-point tensor (3, height, width)")
    first = next(visual.parameters())
    blocks: list[NDArray[np.float64]] = []
    mlps: list[NDArray[np.float64]] = []
    with ExitStack() as stack:
        for block in visual.transformer.resblocks:
            before = block.register_forward_pre_hook(lambda module, given: blocks.append(_rows(given[0])))
            after = block.ls_2.register_forward_hook(lambda module, given, made: mlps.append(_rows(made)))
            for hook in (before, after):
                stack.callback(hook.remove)
        last = visual.transformer.resblocks[-1].register_forward_hook(
            lambda module, given, made: blocks.append(_rows(made))
        )
        stack.callback(last.remove)
        stack.enter_context(evaluating(visual))
        stack.enter_context(torch.inference_mode())
        made = visual(image[None].to(device=first.device, dtype=first.dtype))
    embedding = made[0] if isinstance(made, tuple) else made  # some towers give their tokens too
    return Trace(blocks=blocks, mlps=mlps, embedding=_rows(embedding)[0])


def _rows(tensor: torch.Tensor) -> NDArray[np.float64]:
    """Return (1, tokens, width), or (tokens, 1, width), as float64 (tokens, width)."""
    rows: NDArray[np.float64] = tensor.detach().cpu().double().numpy().reshape(-1, tensor.shape[-1])
    return rows


def pooled_rows(visual: Any, stream: NDArray[np.float64], *, eps: float) -> tuple[slice, NDArray[np.float64]]:
    """Return which tokens are pooled, and the factor of each: its share over the last layer norm's deviation."""
    tokens = slice(0, 1) if visual.pool_type == "tok" else slice(1, None)
    chosen = stream[tokens]
    if visual.final_ln_after_pool:
        return tokens, np.full(len(chosen), 1 / len(chosen)) / np.sqrt(chosen.mean(axis=0).var() + eps)
    return tokens, 1 / len(chosen) / np.sqrt(chosen.var(axis=1) + eps)


def read_by_heads(
    model: Model, layer: int, stream: NDArray[np.float64], tokens: slice, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the normalised stream as each head's attention gathers it for the pooled tokens, (heads, width)."""
    visual: Any = model.module.visual
    block = visual.transformer.resblocks[layer]
    attention, weights = block.attn, model.tower.read_attention(layer)
    normed = stream - stream.mean(axis=1, keepdims=True)
    normed /= np.sqrt(np.mean(normed**2, axis=1, keepdims=True) + block.ln_1.eps)
    seen = normed * weights.gain + weights.shift
    width, heads, rank = model.width, model.heads, model.rank
    projection = attention.in_proj_weight.detach().cpu().double().numpy()[: 2 * width]
    bias = (
        0.0 if attention.in_proj_bias is None else attention.in_proj_bias.detach().cpu().double().numpy()[: 2 * width]
    )
    queries, keys = np.split((seen @ projection.T + bias).reshape(len(seen), 2 * heads, rank), 2, axis=1)
    logits = np.einsum("qhr,khr->hqk", queries[tokens], keys) / np.sqrt(rank)
    shares = np.exp(logits - logits.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    gathered: NDArray[np.float64] = np.einsum("q,hqk->hk", scale, shares) @ normed
    return gathered


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off for a while, leaving the caller's module as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
