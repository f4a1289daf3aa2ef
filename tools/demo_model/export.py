"""Write the demo CLIP's bundle from a checkpoint of ``train.py``.

Run from this folder::

    python export.py --images FOLDER --checkpoint FILE [--bundle ../../python/headscan/data/demo]

Writes ``open_clip_config.json``, ``open_clip_model.safetensors`` (float16; token rows that training never
touched are zero), ``image_mean.safetensors`` and ``dictionary.txt``. The model card beside them is written
by hand.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import world
from config import MODEL_CONFIG, PREPROCESS_CONFIG
from dictionary import concepts
from evaluate import BUNDLE, Bundle
from safetensors.torch import save_file
from sprites import IMAGES_VARIABLE
from towers import State, build, widen

MEAN_SEED = 5_000_001
MEAN_PICTURES = 4096


def load_state(checkpoint: Path) -> State:
    """Read a checkpoint's weights over the full vocabulary and check that they fit the model."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    used = content["used"].numpy()
    model = build(len(used))
    model.load_state_dict(content["model"])
    return widen(model.state_dict(), used)


def write_model(state: State, folder: Path) -> None:
    """Write configuration and float16 weights."""
    halves = {name: value.half().contiguous() for name, value in state.items() if name != "attn_mask"}
    replace(folder / "open_clip_model.safetensors", lambda path: save_file(halves, path))
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_mean(folder: Path) -> None:
    """Write the mean of the unit image embeddings of training pictures, float32 (e,)."""
    bundle = Bundle(folder)
    total = np.zeros(MODEL_CONFIG["embed_dim"])
    for part in range(MEAN_PICTURES // 256):
        total += bundle.images(world.sample(MEAN_SEED + part, 256)[0]).sum(0)
    mean = torch.from_numpy(total / MEAN_PICTURES).float()
    replace(folder / "image_mean.safetensors", lambda path: save_file({"image_mean": mean}, path))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside, readable by all, then rename it into place."""
    aside = path.with_suffix(".tmp")
    write(aside)
    aside.chmod(0o644)
    aside.replace(path)


def main() -> None:
    """Write the whole bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of packed pictures")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    args = parser.parse_args()
    if args.images:
        os.environ[IMAGES_VARIABLE] = args.images
    args.bundle.mkdir(parents=True, exist_ok=True)
    write_model(load_state(args.checkpoint), args.bundle)
    (args.bundle / "dictionary.txt").write_text("\n".join(concepts()) + "\n", encoding="utf-8")
    write_mean(args.bundle)


if __name__ == "__main__":
    main()
