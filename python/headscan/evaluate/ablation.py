"""Removal of whole heads, the coarse alternative to editing directions (TextSpan, arXiv 2310.05916)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headscan.common.checks import whole_number
from headscan.errors import HeadscanError
from headscan.models.load import load_model
from headscan.models.model import Model, check_model
from headscan.models.pictures import embed_images
from headscan.models.towers.weights import Weights

if TYPE_CHECKING:
    import torch

__all__ = ["without_heads"]


def without_heads(model: Model, heads: Sequence[tuple[int, int]], *, pictures: Any = None) -> Model:
    """Return a copy of a model with some heads of its open_clip vision transformer removed.

    Parameters
    ----------
    model : Model
    heads : sequence of (layer, head)
    pictures : array or paths, optional
        As in `embed_images`. With them each head's output is replaced by its mean over these pictures, token by
        token (mean ablation); without, by nothing (zero ablation).

    Returns
    -------
    Model
        For comparison: a mean is added by a hook, which no checkpoint holds.

    Raises
    ------
    HeadscanError
        If a head does not exist, the tower is not open_clip's own, or `pictures` are none.
    """
    import torch

    check_model(model)
    try:
        heads = [(whole_number(layer, "layer"), whole_number(head, "head")) for layer, head in heads]
    except (TypeError, ValueError) as error:
        raise HeadscanError(f"heads must be a list of pairs (layer, head); got {heads!r:.80}") from error
    for layer, head in heads:
        if not (0 <= layer < model.layers and 0 <= head < model.heads):
            raise HeadscanError(f"there is no head {head} in layer {layer} of {model.name}")
    module = copy.deepcopy(model.module)
    blocks = getattr(getattr(getattr(module, "visual", None), "transformer", None), "resblocks", None)
    if blocks is None:
        raise HeadscanError("heads are only removed from open_clip's own vision transformers")
    layers = sorted({layer for layer, _ in heads})
    for layer in layers:  # upwards: the mean of a layer is that of the model without the heads below
        attention = blocks[layer].attn
        kept = _columns(attention, [head for where, head in heads if where == layer], rank=model.rank)
        mean = None
        if pictures is not None:
            with _observed(attention, kept) as means:
                embed_images(replace(model, weights=Weights(module)), pictures)
            mean = torch.stack(means).sum(dim=0) / len(pictures)
        attention.out_proj.weight.data *= kept
        if mean is not None:
            attention.register_forward_hook(_adder(mean))
    loaded = load_model(
        module, dtype=model.dtype, image_mean=model.image_mean, tokenizer=lambda texts: model.tokenizer(texts)
    )
    return replace(loaded, name=f"{model.name} without {len(heads)} heads", pretrained=model.pretrained)


def _columns(attention: Any, heads: Sequence[int], *, rank: int) -> torch.Tensor:
    """Return what multiplies the output projection's columns: 0 for the heads, 1 for all others."""
    import torch

    weight = attention.out_proj.weight
    kept = torch.ones(weight.shape[1], dtype=weight.dtype, device=weight.device)
    for head in heads:
        kept[head * rank : (head + 1) * rank] = 0
    return kept


@contextmanager
def _observed(attention: Any, kept: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Collect, batch by batch, the sum over pictures of what the other columns' heads write, (tokens, width)."""
    probe = copy.deepcopy(attention)
    probe.out_proj.weight.data *= 1 - kept
    if probe.out_proj.bias is not None:
        probe.out_proj.bias.data.zero_()
    sums: list[torch.Tensor] = []

    def observe(module: Any, arguments: Any, options: Any, output: Any) -> None:
        written = probe(*arguments, **options)
        sums.append((written[0] if isinstance(written, tuple) else written).sum(dim=0))

    handle = attention.register_forward_hook(observe, with_kwargs=True)
    try:
        yield sums
    finally:
        handle.remove()


def _adder(mean: torch.Tensor) -> Any:
    def add(module: Any, arguments: Any, output: Any) -> Any:
        return (output[0] + mean, *output[1:]) if isinstance(output, tuple) else output + mean

    return add
