"""Teach the demo CLIP's text tower the geometry of `geometry`: first of the two stages, needs no pictures.

Run from this folder::

    python train_text.py --out FOLDER --minutes 6

Captions of random pictures' factors go through the text tower, which has to give the vectors that they stand
for (cosine). Writes ``text.pt`` and the log ``text.log``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from captions import Caption, caption, object_terms, scenery_terms
from geometry import caption_vectors
from open_clip.model import CLIP
from towers import Texts, build, used_tokens
from words import COLOUR_SYNONYMS, COLOURS, SCENERIES, SIZES, load_objects

log = logging.getLogger("train_text")
_BATCH = 256
_SINGLE_SHARE = 0.25


def single_words() -> list[Caption]:
    """Return every word of the world as a caption of its own."""
    found = [Caption(word, thing=row) for row, word in enumerate(object_terms().words)]
    found += [Caption(word, scenery=row) for row, word in enumerate(scenery_terms().words)]
    for number, name in enumerate(COLOURS):
        found += [
            Caption(f"{word}{tail}", colour=number)
            for word in (name, *COLOUR_SYNONYMS[name])
            for tail in ("", " thing")
        ]
    for number, words in enumerate(SIZES.values()):
        found += [Caption(f"{word}{tail}", size=number) for word in words for tail in ("", " thing")]
    return found


def draw(rng: np.random.Generator, words: list[Caption]) -> list[Caption]:
    """Draw a batch: mostly captions of random factors, the rest single words."""
    picked = [words[int(rng.integers(len(words)))] for _ in range(int(_SINGLE_SHARE * _BATCH))]
    while len(picked) < _BATCH:
        factors = {
            "obj": int(rng.integers(len(load_objects()))),
            "colour": int(rng.integers(len(COLOURS) + 1)),
            "count": int(rng.integers(1, 4)),
            "size": int(rng.integers(len(SIZES))),
            "scenery": int(rng.integers(len(SCENERIES))),
        }
        picked.append(caption(rng, **factors))
    return picked


def train(model: CLIP, texts: Texts, *, minutes: float, seed: int) -> None:
    """Distil for some minutes; Adam with a cosine schedule."""
    rng = np.random.default_rng(seed)
    words = single_words()
    parameters = [
        p for name, p in model.named_parameters() if not name.startswith("visual") and name != "logit_scale"
    ]
    update = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
    start, step, losses = time.monotonic(), 0, []
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        batch = draw(rng, words)
        with torch.autocast("cpu", torch.bfloat16):
            said = model.encode_text(texts([c.text for c in batch]))
        said = torch.nn.functional.normalize(said.float(), dim=-1)
        loss = (1 - (said * torch.from_numpy(caption_vectors(batch, habitual=True))).sum(-1)).mean()
        update.param_groups[0]["lr"] = (
            2e-3 * min(1, (step + 1) / 50) * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        )
        update.zero_grad()
        loss.backward()
        update.step()
        step += 1
        losses.append(float(loss.detach()))
        if step % 50 == 0:
            record = {
                "step": step,
                "loss": round(float(np.mean(losses[-50:])), 5),
                "seconds": round(time.monotonic() - start),
            }
            log.info(json.dumps(record))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for handler in (logging.StreamHandler(), logging.FileHandler(args.out / "text.log", mode="w")):
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    torch.manual_seed(args.seed)
    used = used_tokens()
    model = build(len(used))
    train(model, Texts(used), minutes=args.minutes, seed=args.seed)
    torch.save({"model": model.state_dict(), "used": torch.from_numpy(used)}, args.out / "text.pt")


if __name__ == "__main__":
    main()
