"""Write the demo CLIP's bundle from the checkpoints of ``train.py`` and ``train_text.py``.

Run from this folder::

    python export.py --pool FOLDER --checkpoint FILE --text FILE [--bundle ../../python/headscan/data/demo]

Writes ``open_clip_config.json``, ``open_clip_model.safetensors`` (float16; token rows that training never
touched are zero), ``image_mean.safetensors`` and ``dictionary.txt``. The model card beside them is written
by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from config import MODEL_CONFIG, PREPROCESS_CONFIG
from dictionary import concepts
from safetensors.torch import save_file
from towers import State, build, widen

from evaluate import BUNDLE, Bundle

MEAN_PICTURES = 4096


def load_state(checkpoint: Path, text: Path) -> State:
    """Join the two stages' towers, over the full vocabulary, and check that they fit the model."""
    vision, taught = (torch.load(path, map_location="cpu", weights_only=True) for path in (checkpoint, text))
    model = build(len(taught["used"]))
    state = {name: value for name, value in taught["model"].items() if not name.startswith("visual.")}
    seen = {name: value for name, value in vision["model"].items() if name.startswith("visual.")}
    model.load_state_dict(state | seen | {"logit_scale": vision["model"]["logit_scale"]})
    return widen(model.state_dict(), taught["used"].numpy())


def write_model(state: State, folder: Path) -> None:
    """Write configuration and float16 weights."""
    halves = {name: value.half().contiguous() for name, value in state.items() if name != "attn_mask"}
    replace(folder / "open_clip_model.safetensors", lambda path: save_file(halves, path))
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_mean(folder: Path, pool: Path) -> None:
    """Write the mean of the unit image embeddings of the pool's first pictures, float32 (e,)."""
    seen = Bundle(folder).images(np.load(pool / "pictures.npy", mmap_mode="r")[:MEAN_PICTURES])
    mean = torch.from_numpy(seen.mean(axis=0, dtype=np.float64)).float()
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
    parser.add_argument("--pool", type=Path, required=True, help="folder written by pool.py, for the image mean")
    parser.add_argument("--checkpoint", type=Path, required=True, help="vision tower, from train.py")
    parser.add_argument("--text", type=Path, required=True, help="text tower, from train_text.py")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    args = parser.parse_args()
    args.bundle.mkdir(parents=True, exist_ok=True)
    write_model(load_state(args.checkpoint, args.text), args.bundle)
    (args.bundle / "dictionary.txt").write_text("\n".join(concepts()) + "\n", encoding="utf-8")
    write_mean(args.bundle, args.pool)


if __name__ == "__main__":
    main()
