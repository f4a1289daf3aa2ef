"""Train the demo CLIP's vision tower against the taught text geometry.

Run from this folder, after ``pool.py``::

    python train.py --pool FOLDER ... --initial BUNDLE --out RUN --minutes 80

All layers start from the earlier bundle. Four terms make the loss (weights in `Recipe`):

* captions: CLIP's over whole captions, where a caption that is true of another picture is no negative for it;
* naming: each factor by itself, among all words for it;
* heads: what the heads of the last two layers write at the class token has to name the shared factors by
  itself (not the objects), so that the layers that are explained take part in saying what is there;
* words: each value channel of those heads is drawn to write along one word's direction, to read a
  direction of its own and to differ from its neighbours, so that singular vectors fall on words.

Texts enter as the vectors of `geometry`, which the text tower is taught to give (``train_text.py``). The last
layer norm starts with gain one and shift zero and stays so, and the projection is a rotation: directions have
the same angles in the residual stream and in the joint space. Nothing of the losses is left in the model.

Muon moves the blocks' matrices, AdamW the rest. On a busy machine set ``OMP_WAIT_POLICY=PASSIVE
GOMP_SPINCOUNT=0``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import vocabulary
from open_clip.model import CLIP
from pictures import Batch, Pool
from torch.nn.functional import cross_entropy, linear, normalize
from towers import build, used_tokens

log = logging.getLogger("train")
EXPLAINED = 2
Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the world, the pool and the text tower."""

    minutes: float = 80.0
    batch: int = 256
    learning_rate: float = 3e-3
    muon_rate: float = 1.2
    warmup: float = 0.03
    weight_decay: float = 0.05
    captions: float = 0.3
    heads: float = 0.5
    words: float = 1.0
    seed: int = 0


def see(model: CLIP, pictures: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run the vision tower.

    Parameters
    ----------
    pictures : torch.Tensor
        (n, 3, H, W), normalised.

    Returns
    -------
    image : torch.Tensor
        (n, e), unit rows: the tower's own output (after the last layer only the class token is carried on).
    written : list of torch.Tensor
        What the attention of each of the last two layers adds to the class token, in the joint space, unit rows.
    """
    blocks = list(model.visual.transformer.resblocks)
    written = []
    with torch.autocast("cpu", torch.bfloat16):
        patches = model.visual.conv1(pictures).flatten(2).transpose(1, 2)
        first = model.visual.class_embedding.expand(len(pictures), 1, -1)
        stream = torch.cat([first, patches.float()], dim=1) + model.visual.positional_embedding
        stream = model.visual.ln_pre(stream)
        for block in blocks:
            added = attention(block, stream, last=block is blocks[-1])
            written.append(added[:, 0].float())
            stream = stream[:, : added.shape[1]] + added
            stream = stream + block.mlp(block.ln_2(stream))
    image = model.visual.ln_post(stream[:, 0].float()) @ model.visual.proj
    rotated = [(w - w.mean(-1, keepdim=True)) @ model.visual.proj for w in written[-EXPLAINED:]]
    return normalize(image, dim=-1), [normalize(w, dim=-1) for w in rotated]


def attention(block: torch.nn.Module, stream: torch.Tensor, *, last: bool) -> torch.Tensor:
    """Return what the block's attention adds, (n, tokens, width); for the class token alone in the last layer."""
    layer, width = block.attn, block.attn.embed_dim
    seen = block.ln_1(stream).bfloat16()
    query = linear(seen[:, :1] if last else seen, layer.in_proj_weight[:width], layer.in_proj_bias[:width])
    key, value = linear(seen, layer.in_proj_weight[width:], layer.in_proj_bias[width:]).chunk(2, dim=-1)
    query, key, value = (x.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    with torch.autocast("cpu", enabled=False):  # autocast would take the softmax's large arrays through float32
        weights = torch.softmax(query * layer.head_dim**-0.5 @ key.transpose(2, 3), dim=-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
    return linear(mixed, layer.out_proj.weight, layer.out_proj.bias)


def naming_loss(
    image: torch.Tensor,
    words: list[torch.Tensor],
    targets: torch.Tensor,
    scale: torch.Tensor,
    weights: tuple[float, ...],
) -> torch.Tensor:
    """Weighted sum over factors of the cross-entropy of each picture's word among that factor's words.

    `image` has unit rows (n, e), `words` one unit (values, e) per factor, `targets` is (n, factors) with -1
    where a picture has no value.
    """
    parts = [
        weight * cross_entropy(scale * image @ table.T, targets[:, number], ignore_index=-1)
        for number, (table, weight) in enumerate(zip(words, weights, strict=True))
        if weight
    ]
    return torch.stack(parts).sum()


def caption_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss over unit embeddings (n, e), leaving out true pairs that are no partners."""
    logits = scale * image @ text.T
    partner = torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(true & ~partner, -torch.inf)
    labels = torch.arange(len(logits))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def word_loss(model: CLIP, blocks: list[torch.nn.Module], words: torch.Tensor) -> torch.Tensor:
    """How far the value channels are from writing single words (m, e) and reading directions of their own."""
    losses = []
    for block in blocks:
        width, heads = block.attn.embed_dim, block.attn.num_heads
        value = (block.attn.in_proj_weight[-width:] * block.ln_1.weight).view(heads, -1, width)
        output = block.attn.out_proj.weight.T.reshape(heads, -1, width)
        value = normalize(value - value.mean(-1, keepdim=True), dim=-1)
        output = normalize((output - output.mean(-1, keepdim=True)) @ model.visual.proj, dim=-1)
        nearest = (output @ words.T).square().amax(-1)
        losses.append((1 - nearest).mean() + _overlap(value) + _overlap(output))
    return torch.stack(losses).mean()


def _overlap(rows: torch.Tensor) -> torch.Tensor:
    """Mean over rows of the summed squared cosines with the other rows of the head."""
    gram = rows @ rows.transpose(1, 2)
    return (gram.square().sum(-1) - 1).mean()


def start_model(initial: Path) -> tuple[CLIP, torch.Tensor]:
    """Build the model from an earlier bundle's vision tower, or from a checkpoint of this script.

    The heads of the last two layers are set to write along words.
    """
    used = used_tokens()
    model = build(len(used))
    if initial.is_dir():
        old, _, _ = open_clip.create_model_and_transforms(f"local-dir:{initial}")
        model.visual.load_state_dict(old.visual.state_dict())
    else:
        model.load_state_dict(torch.load(initial, weights_only=True)["model"])
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    _, shared = vocabulary.directions()
    for block in list(model.visual.transformer.resblocks)[-EXPLAINED:]:
        write_words(block, shared @ model.visual.proj.T)
    fixed = (*model.visual.ln_post.parameters(), model.visual.proj)
    for parameter in (model.logit_scale, *model.visual.parameters()):
        parameter.requires_grad_(all(parameter is not one for one in fixed))
    return model, torch.from_numpy(used)


def write_words(block: torch.nn.Module, words: torch.Tensor) -> None:
    """Let each head write along the words (m, width) that it writes along most, and keep what it does there."""
    layer, width, heads = block.attn, block.attn.embed_dim, block.attn.num_heads
    value = layer.in_proj_weight[-width:].view(heads, -1, width)
    output = layer.out_proj.weight.T.reshape(heads, -1, width)
    for head in range(heads):
        product = value[head].T @ output[head]  # (width, width)
        most = (product @ words.T).norm(dim=0).topk(value.shape[1]).indices
        new = normalize(words[most] - words[most].mean(-1, keepdim=True), dim=-1)
        reading = product @ torch.linalg.pinv(new)  # (width, rank)
        share = (reading.norm() / new.norm()).sqrt()
        value[head] = (reading / share).T
        output[head] = new * share
    layer.out_proj.weight.copy_(output.reshape(-1, width).T)
    layer.in_proj_bias[-width:] = 0


def optimisers(model: CLIP, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the residual blocks' matrices, AdamW for the rest (no decay)."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if "resblocks" in n and p.ndim == 2]
    rest = [p for n, p in named if not ("resblocks" in n and p.ndim == 2)]
    rate = recipe.learning_rate
    muon = torch.optim.Muon(hidden, lr=rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)]


def schedule(done: float, recipe: Recipe) -> float:
    """Return the learning rate after the share `done` of the time: linear warm-up, then a cosine to 1 %."""
    if done < recipe.warmup:
        return recipe.learning_rate * max(done / recipe.warmup, 0.02)
    share = min((done - recipe.warmup) / (1 - recipe.warmup), 1.0)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def losses(batch: Batch, image: torch.Tensor, written: list[torch.Tensor], model: CLIP, recipe: Recipe) -> Losses:
    """Return every term of the loss on one batch, weighted; `image` (n, e) and `written` have unit rows."""
    scale = model.logit_scale.exp().clamp(max=100.0)
    tables = batch.tables
    named = [naming_loss(w, tables, batch.targets, scale, vocabulary.SHARED_WEIGHTS) for w in written]
    return {
        "naming": naming_loss(image, tables, batch.targets, scale, vocabulary.WEIGHTS),
        "captions": recipe.captions * caption_loss(image, batch.captions, scale, batch.true),
        "heads": recipe.heads * torch.stack(named).sum(),
    }


def train(model: CLIP, pool: Pool, recipe: Recipe, out: Path, used: torch.Tensor) -> None:
    """Run the recipe for its minutes; a checkpoint every two."""
    rng = np.random.default_rng(recipe.seed)
    tables, shared = vocabulary.directions()
    blocks, updates = list(model.visual.transformer.resblocks)[-EXPLAINED:], optimisers(model, recipe)
    start = saved = time.monotonic()
    means: dict[str, list[float]] = {}
    step, done = 0, 0.0
    while done < 1:
        rows = rng.integers(len(pool), size=recipe.batch)
        batch = pool.batch(rows, rng, tables)
        image, written = see(model, batch.pictures)
        parts = losses(batch, image, written, model, recipe)
        parts["words"] = recipe.words * word_loss(model, blocks, shared)
        model.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        move(model, updates, recipe, done)
        step += 1
        done = (time.monotonic() - start) / (60 * recipe.minutes)
        for name, part in parts.items():
            means.setdefault(name, []).append(float(part.detach()))
        if step % 50 == 0:
            record = {"step": step, "seconds": round(time.monotonic() - start)}
            log.info(json.dumps(record | {name: round(float(np.mean(part)), 4) for name, part in means.items()}))
            means = {}
        if time.monotonic() - saved > 120 or done >= 1:
            save(model, used, recipe, step, out)
            saved = time.monotonic()
    log.info(json.dumps({"finished": True, "step": step}))


def move(model: CLIP, updates: list[torch.optim.Optimizer], recipe: Recipe, done: float) -> None:
    """Take one step of both optimisers at the rate that the schedule gives for this time."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for update, factor in zip(updates, (recipe.muon_rate, 1.0), strict=True):
        for group in update.param_groups:
            group["lr"] = schedule(done, recipe) * factor
        update.step()


def save(model: CLIP, used: torch.Tensor, recipe: Recipe, step: int, out: Path) -> None:
    """Write a checkpoint aside, then rename it."""
    content = {"model": model.state_dict(), "used": used, "recipe": asdict(recipe), "step": step}
    torch.save(content, out / "latest.tmp")
    (out / "latest.tmp").replace(out / "latest.pt")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, nargs="+", help="folders written by pool.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--initial", type=Path, required=True, help="bundle or checkpoint to start from")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = vars(parser.parse_args())
    pools, out, initial = args.pop("pool"), args.pop("out"), args.pop("initial")
    recipe = Recipe(**args)
    out.mkdir(parents=True, exist_ok=True)
    for handler in (logging.StreamHandler(), logging.FileHandler(out / "train.log", mode="w")):
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    torch.manual_seed(recipe.seed)
    model, used = start_model(initial)
    log.info(json.dumps({"recipe": asdict(recipe)}))
    train(model, Pool(pools), recipe, out, used)


if __name__ == "__main__":
    main()
