"""How near the estimate of the image mean comes to the true one, and how many picks it changes.

    python benchmarks/paper/image_mean.py [--model demo] [--k 5]

For a model that brings its true image mean (the demo model): the cosine of the data-free estimate with it, and a
scan of every head and both poles with the estimate, at several lengths and its own, beside one with the true mean:
the share of picks that the truth's explanation of the same direction does not hold, and the share of explanations
whose first pick is another. Where
../shared holds real CLIP data, the cosine of the true image mean of OpenAI's ViT-B/32 with the mean of 1,408 of its
text embeddings is added: the one estimate that needs no weights.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import interleave
import numpy as np

import headscan as hs
from headscan.models.image_mean import estimate_image_mean

LENGTHS = (0.1, 0.2, 0.3)
REAL = Path(__file__).resolve().parents[3] / "shared/data/real_clip"


def cosine(left, right):
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def scan(model, mean, dictionary, k):
    """Picked atoms (n, k) of every direction and pole, in the scan's order."""
    found = hs.scan(replace(model, image_mean=mean), dictionary, k=k)
    return found.table()[[f"atom_{place}" for place in range(k)]].to_numpy()


def changed(picks, truth):
    """Shares of picks that the truth lacks, and of first picks that differ."""
    lacking = [len(set(one) - set(other)) / len(one) for one, other in zip(picks, truth, strict=True)]
    return float(np.mean(lacking)), float(np.mean(picks[:, 0] != truth[:, 0]))


def rows(model, dictionary, k):
    true = model.image_mean
    truth = scan(model, true, dictionary, k)
    means = {
        "noise": estimate_image_mean(model, length=None),
        "the true mean": true,
        "a random direction": np.random.default_rng(0).standard_normal(len(true)),
    }
    yield row("none", 0.0, None, scan(model, None, dictionary, k), truth)
    for name, mean in means.items():
        own = float(np.linalg.norm(mean))
        for length in (*LENGTHS, own) if name != "a random direction" else LENGTHS:
            picks = scan(model, mean * (length / own), dictionary, k)
            yield row(name, length, cosine(mean, true), picks, truth)


def row(name, length, near, picks, truth):
    picks, first = changed(picks, truth)
    shown = "" if near is None else f"{near:.3f}"
    return f"| {name} | {shown} | {length:.3f} | {100 * picks:.1f} % | {100 * first:.1f} % |"


def real_text():
    if not REAL.is_dir():
        return "- real CLIP: not measured, ../shared is absent"
    text = np.load(REAL / "openai_vit_b32_text.npz")["embeddings"].astype(float)
    mean = (text / np.linalg.norm(text, axis=1, keepdims=True)).mean(axis=0)
    means = np.load(REAL / "image_means.npz")
    near, length = cosine(mean, means["clip_ViT-B-32"]), np.linalg.norm(means["clip_ViT-B-32"])
    return f"- OpenAI's ViT-B/32: cosine of its text mean with its true image mean {near:.3f} (length {length:.3f})"


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--k", type=int, default=5)
    options = parser.parse_args()
    model = hs.load_model(options.model)
    if model.image_mean is None:
        sys.exit(f"{options.model} brings no true image mean to compare with")
    dictionary = hs.load_dictionary("demo" if options.model == "demo" else "wordnet", model=model)
    body = [
        f"- {options.model}, weights {model.weights_hash[:12]}, {interleave.versions()}",
        f"- {len(dictionary):,} concepts, k = {options.k}, every head, both poles, write side",
        f"- the true mean has length {np.linalg.norm(model.image_mean):.3f}",
        real_text(),
        "",
        "| image mean | cosine with the true one | length | picks that differ | first picks that differ |",
        "| --- | --- | --- | --- | --- |",
        *rows(model, dictionary, options.k),
    ]
    interleave.report("image_mean" if options.model == "demo" else None, "Image means", body)


if __name__ == "__main__":
    main()
