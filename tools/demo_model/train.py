"""Train the demo CLIP on the demo world.

Run from this folder::

    python train.py --images FOLDER --out FOLDER --minutes 60

The loss has two parts. The first is CLIP's over whole captions, with one correction: a caption that is true
of another picture of the batch is no negative for it. The second names each factor by itself: every object,
kind, colour, scenery, count and size is put into words (a random synonym each time), the text tower encodes
those few hundred words, and each picture has to find its own. Both go through the two towers alone, so that
nothing but a CLIP is trained. Hidden matrices are updated by Muon, everything else by AdamW.

A checkpoint is written to ``--out`` every few minutes and at the end, the log beside it. On a busy machine
set ``OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0``: threads that spin while they wait can make a step ten times
slower.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import vocabulary
import world
from open_clip.model import CLIP
from sprites import IMAGES_VARIABLE
from torch import distributed, multiprocessing
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, IterableDataset
from towers import Texts, build, narrow, normalised, used_tokens, widen

log = logging.getLogger("train")


@dataclass(frozen=True)
class Batch:
    """Pictures (n, 3, H, W), captions (n, context), true pairs (n, n), words (m, context), targets (n, 6)."""

    pictures: torch.Tensor
    captions: torch.Tensor
    possible: torch.Tensor
    words: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the world.

    `batch` is one process's; `muon_rate` is Muon's rate in units of AdamW's.

    Over the first `easy_batches` the share of pictures with one large object falls from all to none extra.
    """

    minutes: float = 60.0
    batch: int = 128
    learning_rate: float = 1.8e-3
    muon_rate: float = 1.2
    warmup: float = 0.04
    weight_decay: float = 0.05
    seed: int = 0
    processes: int = 2
    threads: int = 1
    easy_batches: int = 1400


class Batches(IterableDataset[Batch]):
    """An endless stream of batches; batch number b is drawn from seed `recipe seed` million + b."""

    def __init__(self, recipe: Recipe, used: np.ndarray, rank: int) -> None:
        self._recipe = recipe
        self._used = used
        self._rank = rank

    def __iter__(self) -> Iterator[Batch]:
        texts = Texts(self._used)
        first = self._recipe.seed * 1_000_000
        for number in itertools.count(first + self._rank, self._recipe.processes):
            plain = max(0.0, 1 - (number - first) / max(self._recipe.easy_batches, 1))
            pictures, factors = world.sample(number, self._recipe.batch, plain=plain)
            written = world.captions(number, factors)
            possible = torch.from_numpy(world.truth(factors, written, open_natural=True))
            words = vocabulary.words(number)
            targets = torch.from_numpy(vocabulary.targets(factors))
            yield Batch(normalised(pictures), texts([c.text for c in written]), possible, texts(words), targets)


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, possible: torch.Tensor
) -> torch.Tensor:
    """CLIP's symmetric loss over unit embeddings (n, e), leaving out true pairs that are no partners."""
    logits = scale * image @ text.T
    partner = torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(possible & ~partner, -torch.inf)
    labels = torch.arange(len(logits))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def naming_loss(image: torch.Tensor, words: torch.Tensor, scale: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Weighted sum over factors of the cross-entropy of each picture's word among that factor's words.

    Parameters
    ----------
    image, words : torch.Tensor
        Unit embeddings (n, e) and (m, e); words in the order of `vocabulary.words`.
    scale : torch.Tensor
    targets : torch.Tensor
        (n, factors) place of the right word inside its factor, -1 where a picture has none.
    """
    logits = scale * image @ words.T
    parts = logits.split(list(vocabulary.sizes()), dim=1)
    losses = [cross_entropy(part, targets[:, number], ignore_index=-1) for number, part in enumerate(parts)]
    return torch.stack([w * loss for w, loss in zip(vocabulary.WEIGHTS, losses, strict=True)]).sum()


def optimisers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the residual blocks' matrices, AdamW for the rest (decay on its matrices only)."""
    named = list(model.named_parameters())
    hidden = [p for name, p in named if "resblocks" in name and p.ndim == 2]
    rest = [(name, p) for name, p in named if not ("resblocks" in name and p.ndim == 2)]
    plain = [p for name, p in rest if p.ndim < 2 or "embedding" in name]
    matrices = [p for name, p in rest if not (p.ndim < 2 or "embedding" in name)]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    rate = recipe.learning_rate
    muon = torch.optim.Muon(hidden, lr=rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6)]


def schedule(done: float, recipe: Recipe) -> float:
    """Return the learning rate after the share `done` of the time: linear warm-up, then a cosine to 1 %."""
    if done < recipe.warmup:
        return recipe.learning_rate * max(done / recipe.warmup, 0.02)
    share = min((done - recipe.warmup) / (1 - recipe.warmup), 1.0)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def save(model: torch.nn.Module, used: np.ndarray, recipe: Recipe, step: int, out: Path) -> None:
    """Write a checkpoint aside, then rename it."""
    content = {
        "model": model.state_dict(),
        "used": torch.from_numpy(used),
        "recipe": asdict(recipe),
        "step": step,
    }
    torch.save(content, out / "latest.tmp")
    (out / "latest.tmp").replace(out / "latest.pt")


def batch_loss(model: CLIP, batch: Batch) -> torch.Tensor:
    """Return the sum of both losses on one batch."""
    with torch.autocast("cpu", torch.bfloat16):
        image = model.encode_image(batch.pictures)
        text = model.encode_text(torch.cat([batch.captions, batch.words]))
    image, text = normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)
    scale = model.logit_scale.exp().clamp(max=100.0)
    captions, words = text[: len(image)], text[len(image) :]
    return contrastive_loss(image, captions, scale, batch.possible) + naming_loss(image, words, scale, batch.targets)


def start_weights(used: np.ndarray, initial: Path | None) -> CLIP:
    """Build the model, with a checkpoint's weights if one is given."""
    model = build(len(used))
    if initial:
        content = torch.load(initial, weights_only=True)
        model.load_state_dict(narrow(widen(content["model"], content["used"].numpy()), used))
    return model


def share_gradients(model: CLIP, processes: int, elapsed: float) -> float:
    """Average all gradients over the processes, and return the average of their clocks."""
    if processes == 1:
        return elapsed
    parts = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([part.ravel() for part in parts] + [torch.tensor([elapsed])])
    distributed.all_reduce(flat)
    flat /= processes
    for part, values in zip(parts, flat.split([part.numel() for part in parts] + [1]), strict=False):
        part.copy_(values.view_as(part))
    return float(flat[-1])


def train(rank: int, recipe: Recipe, out: Path, initial: Path | None) -> None:
    """Run the recipe for its minutes in one of its processes; the first one logs and saves."""
    start_log(out if rank == 0 else None)
    if recipe.processes > 1:
        place = f"file://{(out / 'rendezvous').resolve()}"
        distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=recipe.processes)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    used = used_tokens()
    model = start_weights(used, initial)
    updates = optimisers(model, recipe)
    batches = Batches(recipe, used, rank)
    loader = iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4))
    log.info(json.dumps({"recipe": asdict(recipe), "tokens": len(used)}))
    batch = next(loader)
    start = saved = time.monotonic()
    losses: list[float] = []
    elapsed = 0.0
    with sdpa_kernel(SDPBackend.MATH):
        while elapsed < recipe.minutes * 60:
            loss = batch_loss(model, batch)
            model.zero_grad()
            loss.backward()
            elapsed = share_gradients(model, recipe.processes, time.monotonic() - start)
            move(model, updates, recipe, elapsed)
            losses.append(float(loss.detach()))
            report(losses, model, elapsed)
            if rank == 0 and time.monotonic() - saved > 180:
                save(model, used, recipe, len(losses), out)
                saved = time.monotonic()
            batch = next(loader)
    if rank == 0:
        save(model, used, recipe, len(losses), out)
    del loader  # ends its worker while the interpreter is whole
    if recipe.processes > 1:
        distributed.destroy_process_group()
    log.info(json.dumps({"finished": True, "step": len(losses)}))


def move(model: CLIP, updates: list[torch.optim.Optimizer], recipe: Recipe, elapsed: float) -> None:
    """Take one step of both optimisers at the rate that the schedule gives for this time."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    rate = schedule(elapsed / (recipe.minutes * 60), recipe)
    for update, factor in zip(updates, (recipe.muon_rate, 1.0), strict=True):
        for group in update.param_groups:
            group["lr"] = rate * factor
        update.step()


def report(losses: list[float], model: CLIP, elapsed: float) -> None:
    """Log the mean loss of every 20 steps."""
    if len(losses) % 20 == 0:
        scale = float(model.logit_scale.detach().exp())
        values = {"step": len(losses), "loss": float(np.mean(losses[-20:])), "scale": scale}
        log.info(json.dumps({k: round(v, 4) for k, v in values.items()} | {"seconds": round(elapsed)}))


def start_log(out: Path | None) -> None:
    """Log to standard error and to a file in `out`; nowhere for processes that are not the first."""
    if out:
        handlers = [logging.StreamHandler(), logging.FileHandler(out / "train.log", mode="w")]
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of packed pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--initial", type=Path, help="checkpoint whose weights to start from")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = vars(parser.parse_args())
    out, images, initial = args.pop("out"), args.pop("images"), args.pop("initial")
    if images:
        os.environ[IMAGES_VARIABLE] = images
    out.mkdir(parents=True, exist_ok=True)
    (out / "rendezvous").unlink(missing_ok=True)
    recipe = Recipe(**args)
    if recipe.processes == 1:
        train(0, recipe, out, initial)
    else:
        multiprocessing.spawn(train, (recipe, out, initial), nprocs=recipe.processes)


if __name__ == "__main__":
    main()
