"""What passes through attention layers in a forward pass, in float64, and what a tower's weights make of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch


class Trace(NamedTuple):
    """Where to look: what enters `x` and `norm`, and what leaves `weights` and `added`."""

    x: torch.nn.Module
    weights: torch.nn.Module
    added: torch.nn.Module
    norm: torch.nn.Module


def traced(traces, run):
    """Run a model and return, for every layer, the arrays that passed there."""
    caught: list[dict[int, Any]] = [{} for _ in traces]
    handles = []
    for trace, keep in zip(traces, caught, strict=True):
        for name in ("x", "norm"):
            enter = lambda part, given, name=name, keep=keep: keep.update({name: given[0].numpy()})  # noqa: E731
            handles.append(getattr(trace, name).register_forward_pre_hook(enter))
        for name in ("weights", "added"):
            leave = lambda part, given, made, name=name, keep=keep: keep.update({name: made.numpy()})  # noqa: E731
            handles.append(getattr(trace, name).register_forward_hook(leave))
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return caught


def deviation(rows, block):
    """Return the standard deviation that a layer norm of a block divides rows by, its epsilon in it."""
    norm = next(norm for norm in (block.output_norm, block.value_norm, block.norm) if norm is not None)
    return np.sqrt(rows.var(axis=-1, keepdims=True) + norm.eps)


def attended(tower, layer, seen):
    """Return what each head writes, (heads, batch, tokens, width), from the stream and the attention's weights."""
    weights, block, x = tower.read_attention(layer), tower.blocks[layer], seen["x"]
    if block.norm is not None:
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + block.norm.eps)
    read = (x * weights.gain + weights.shift) @ weights.value + weights.value_bias
    rows = np.arange(tower.heads * tower.rank).reshape(tower.heads, -1)
    return np.stack(
        [seen["weights"][:, head] @ read[..., mine] @ weights.output[mine] for head, mine in enumerate(rows)]
    )
