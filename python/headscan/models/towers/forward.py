"""The forward pass of a vision tower, traced: what each layer reads, and how its heads mix it.

Everything here is computed from the weights that the tower's `Block` names, so that it is the same arithmetic
whichever attention module holds them: head h mixes the tokens by ``softmax(q_h @ k_h.T / sqrt(rank))``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError
from headscan.models.towers.checks import type_name

if TYPE_CHECKING:
    import torch

    from headscan.models.towers.block import Block, Linear
    from headscan.models.towers.tower import Tower


__all__ = [
    "LayerPass",
    "add_to_attention",
    "check_traceable",
    "class_token_values",
    "evaluating",
    "pooled_tokens",
    "trace",
]


@dataclass(frozen=True, eq=False)
class LayerPass:
    """What passed through one layer, float32 or float64.

    Attributes
    ----------
    block : Block
        Where the layer keeps its weights.
    stream : torch.Tensor, shape (n, tokens, width)
        The residual stream before the layer.
    """

    block: Block
    stream: torch.Tensor

    @property
    def normed(self) -> torch.Tensor:
        """The layer norm's output before gain and shift, (n, tokens, width)."""
        from torch.nn.functional import layer_norm

        normed: torch.Tensor = layer_norm(self.stream, self.stream.shape[-1:], eps=self.block.norm.eps)
        return normed

    def shares(self, tokens: slice) -> torch.Tensor:
        """Return how each head mixes all tokens for some of them, (n, heads, chosen, tokens); rows sum to 1."""
        import torch

        read = self._read()
        query, key = self._by_head(self.block.query, read[:, tokens]), self._by_head(self.block.key, read)
        scores = torch.einsum("nqhr,nthr->nhqt", query, key) / query.shape[-1] ** 0.5
        shares: torch.Tensor = scores.softmax(-1)
        return shares

    def mixed_values(self, tokens: slice) -> torch.Tensor:
        """Return each head's values, biases included, mixed for some tokens: (n, chosen, heads, rank)."""
        import torch

        return torch.einsum("nhqt,nthr->nqhr", self.shares(tokens), self._by_head(self.block.value, self._read()))

    def _read(self) -> torch.Tensor:
        from torch.nn.functional import layer_norm

        norm = self.block.norm
        gain, shift = (None if part is None else part.to(self.stream) for part in (norm.weight, norm.bias))
        read: torch.Tensor = layer_norm(self.stream, self.stream.shape[-1:], gain, shift, norm.eps)
        return read

    def _by_head(self, part: Linear, x: torch.Tensor) -> torch.Tensor:
        """Return a projection of rows (n, t, width) as (n, t, heads, rank)."""
        from torch.nn.functional import linear

        weight = part.weight if part.rows is None else part.weight[part.rows]
        bias = part.bias if part.bias is None or part.bias_rows is None else part.bias[part.bias_rows]
        projected: torch.Tensor = linear(x, weight.to(x), None if bias is None else bias.to(x))
        return projected.reshape(*x.shape[:-1], self.block.heads, -1)


def check_traceable(tower: Tower, *, pools: tuple[str, ...] = ("tok",)) -> None:
    """Raise unless a vision tower's forward pass can be traced.

    It has to be open_clip's own, with plain softmax attention, and to pool its tokens in one of the ways given:
    ``"tok"``, a class token, or ``"avg"``, the mean of the others.

    Raises
    ------
    HeadscanError
        If it is not, saying why.
    """
    from open_clip.transformer import VisionTransformer

    visual = _visual(tower)
    if not isinstance(visual, VisionTransformer):
        raise HeadscanError(
            f"the vision tower is a {type_name(visual)}: what its heads read of a picture is traced in open_clip's "
            "own VisionTransformer only"
        )
    pooling = visual.pool_type if visual.attn_pool is None else "attention"
    if pooling not in pools:
        wanted = " or ".join({"tok": "class token", "avg": "averaged tokens"}[pool] for pool in pools)
        raise HeadscanError(f"the vision tower has no {wanted} to read, but the pooling {pooling!r}")
    for number, block in enumerate(tower.blocks):
        if block.qk_refusal is not None:
            raise HeadscanError(
                f"layer {number} of the vision tower {block.qk_refusal}: only plain attention is traced"
            )
        if block.value_norm is not None or block.output_norm is not None:
            raise HeadscanError(
                f"layer {number} of the vision tower has a layer norm inside its attention or after it: only plain "
                "attention is traced"
            )


def trace(
    tower: Tower,
    pixels: torch.Tensor,
    watch: Callable[[int, LayerPass], None],
    *,
    layers: Iterable[int],
    dtype: torch.dtype,
    watch_mlp: Callable[[torch.Tensor], None] | None = None,
    watch_end: Callable[[torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Run a vision tower once, showing what each layer reads as it goes; nothing of it is kept here.

    Parameters
    ----------
    tower : Tower
        One that `check_traceable` lets pass.
    pixels : torch.Tensor, shape (n, 3, height, width)
    watch : callable
        Called with the number of a layer and its `LayerPass`.
    layers : iterable of int
        The layers to watch.
    dtype : torch.dtype
        Of what is shown; the forward pass itself keeps the module's.
    watch_mlp : callable, optional
        Called with what each layer's MLP adds to the stream, (n, tokens, width).
    watch_end : callable, optional
        Called with the stream after the last layer, (n, tokens, width).

    Returns
    -------
    torch.Tensor, shape (n, joint_dim)
        The embeddings.
    """
    import torch

    visual = _visual(tower)
    blocks, first = visual.transformer.resblocks, next(visual.parameters())

    def rows(stream: torch.Tensor) -> torch.Tensor:  # (n, tokens, width), whatever the module's order
        return (stream if visual.transformer.batch_first else stream.transpose(0, 1)).to(dtype)

    with contextlib.ExitStack() as stack:

        def listen(hook: Any) -> None:
            stack.callback(hook.remove)

        for number in layers:

            def read(module: Any, given: Any, layer: int = number) -> None:
                watch(layer, LayerPass(tower.blocks[layer], rows(given[0])))

            listen(blocks[number].register_forward_pre_hook(read))
        if watch_mlp is not None:
            for block in blocks:
                listen(block.ls_2.register_forward_hook(lambda module, given, made: watch_mlp(rows(made))))
        if watch_end is not None:
            listen(blocks[-1].register_forward_hook(lambda module, given, made: watch_end(rows(made))))
        stack.enter_context(evaluating(visual))
        stack.enter_context(torch.inference_mode())
        made = visual(pixels.to(first.device, first.dtype))
    embedding: torch.Tensor = made[0] if isinstance(made, tuple) else made  # some towers give their tokens too
    return embedding


def class_token_values(tower: Tower, pixels: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
    """Return the heads' values, biases included, mixed by the class token's attention.

    Parameters
    ----------
    tower : Tower
        One that `check_traceable` lets pass.
    pixels : torch.Tensor, shape (n, 3, height, width)
    layers : tuple of int

    Returns
    -------
    torch.Tensor, float32 on the CPU, shape (n, layers, heads, rank)
    """
    import torch

    mixed: dict[int, torch.Tensor] = {}

    def watch(layer: int, passed: LayerPass) -> None:
        mixed[layer] = passed.mixed_values(slice(0, 1))[:, 0].cpu()

    trace(tower, pixels, watch, layers=layers, dtype=torch.float32)
    return torch.stack([mixed[layer] for layer in layers], dim=1)


def pooled_tokens(tower: Tower, stream: torch.Tensor, *, eps: float) -> tuple[slice, torch.Tensor]:
    """Return which tokens of one picture are pooled, and each one's share over the last layer norm's deviation.

    `stream` is that after the last layer, (tokens, width).
    """
    visual = _visual(tower)
    tokens = slice(0, 1) if visual.pool_type == "tok" else slice(1, None)
    chosen = stream[tokens]
    if visual.final_ln_after_pool:
        variance = chosen.mean(dim=0).var(correction=0).expand(len(chosen))
    else:
        variance = chosen.var(dim=1, correction=0)
    return tokens, 1 / len(chosen) / (variance + eps).sqrt()


def add_to_attention(tower: Tower, layer: int, written: torch.Tensor) -> None:
    """Let a layer's attention add `written`, (tokens, width), to every picture's stream from now on, by a hook."""
    transformer = _visual(tower).transformer
    added = written if transformer.batch_first else written[:, None]
    part = transformer.resblocks[layer].ls_1  # passes the attention's output into the stream
    part.register_forward_hook(lambda module, given, made: made + added.to(made))


def _visual(tower: Tower) -> Any:
    module = tower.weights.module
    return getattr(module, "visual", module)


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
