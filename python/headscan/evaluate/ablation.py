"""Removal of whole heads, the coarse alternative to editing directions (TextSpan, arXiv 2310.05916)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headscan.common.checks import whole_number
from headscan.errors import HeadscanError
from headscan.models.load import load_model
from headscan.models.model import Model, check_model
from headscan.models.pictures import prepared
from headscan.models.towers.forward import LayerPass, add_to_attention, check_traceable, trace

if TYPE_CHECKING:
    import torch

__all__ = ["without_heads"]

_BATCH = 16  # pictures; every token's attention is held: 0.2 GB of 257 tokens and 16 heads


def without_heads(model: Model, heads: Sequence[tuple[int, int]], *, pictures: Any = None) -> Model:
    """Return a copy of a model with some heads of its vision tower removed.

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
        If a head does not exist, or there are `pictures` and the tower is not open_clip's own.
    """
    check_model(model)
    try:
        heads = [(whole_number(layer, "layer"), whole_number(head, "head")) for layer, head in heads]
    except (TypeError, ValueError) as error:
        raise HeadscanError(f"heads must be a list of pairs (layer, head); got {heads!r:.80}") from error
    for layer, head in heads:
        if not (0 <= layer < model.layers and 0 <= head < model.heads):
            raise HeadscanError(f"there is no head {head} in layer {layer} of {model.name}")
    removed = load_model(
        copy.deepcopy(model.module),
        dtype=model.dtype,
        image_mean=model.image_mean,
        tokenizer=lambda texts: model.tokenizer(texts),
    )
    if pictures is not None:
        check_traceable(removed.tower, pools=("tok", "avg"))
    for layer in sorted({layer for layer, _ in heads}):  # upwards: what heads write without those below
        _remove(removed, layer, sorted({head for where, head in heads if where == layer}), pictures)
    return replace(removed, name=f"{model.name} without {len(heads)} heads", pretrained=model.pretrained)


def _remove(model: Model, layer: int, heads: list[int], pictures: Any) -> None:
    """Set the heads' part of a layer's output projection to zero; with pictures, let a hook add their mean."""
    import torch

    weights = model.tower.read_attention(layer)
    output = weights.output.copy()
    rows = output.reshape(model.heads, model.rank, model.width)  # a view
    if pictures is not None:
        mean = torch.einsum(
            "thr,hrw->tw", _mean_values(model, layer, pictures)[:, heads], torch.from_numpy(rows[heads])
        )
        add_to_attention(model.tower, layer, mean)
    rows[heads] = 0
    model.tower.write_attention_output(layer, output, weights.output_bias)


def _mean_values(model: Model, layer: int, pictures: Any) -> torch.Tensor:
    """Return what the heads' attention mixes for each token, on average over pictures: (tokens, heads, rank)."""
    import torch

    sums: list[torch.Tensor] = []

    def watch(_: int, passed: LayerPass) -> None:
        sums.append(passed.mixed_values(slice(None)).double().sum(dim=0).cpu())

    for pixels in prepared(model, pictures, batch_size=_BATCH):
        trace(model.tower, pixels, watch, layers=[layer], dtype=torch.float32)
    return torch.stack(sums).sum(dim=0) / len(pictures)
