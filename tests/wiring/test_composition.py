"""Compositions from factors against d x d products in float64, for every family of models."""

from __future__ import annotations

import numpy as np
import pytest

import headscan as hs
from architectures import BERT_TEXTS, OPEN_CLIP, TRANSFORMERS, shrunk, transformers_model
from headscan.wiring.composition import channels_between, compositions
from headscan.wiring.frames import SIDES, layer_frames

TOWERS = [*((name, "image") for name in OPEN_CLIP if name != "ViTamin-S"), ("ViT-L-14", "text")]
TOWERS += [(name, tower) for name in TRANSFORMERS for tower in ("image", "text") if name not in BERT_TEXTS]
TOWERS += [(name, "image") for name in BERT_TEXTS]


def loaded(name):
    module = transformers_model(name) if name in TRANSFORMERS else shrunk(name)
    return hs.load_model(module, tokenizer=lambda texts: np.zeros((len(texts), 8), dtype=np.int64))


def whole_products(tower, writer, reader, *, parts):
    """W_A W_B for every writer and reader, in full: written out from the tower's weights, folded and centred here."""
    width, rank = tower.width, tower.rank
    centre = np.eye(width) - 1 / width
    source = tower.read_attention(writer.layer)
    if writer.part == "vo":
        value = centre @ (source.gain[:, None] * source.value)
        written = [value[:, mine(h, rank)] @ source.output[mine(h, rank)] @ centre for h in writer.heads]
    else:
        written = [tower.read_mlp(writer.layer).output @ centre]
    if reader.side == "value":
        later = tower.read_attention(reader.layer)
        value = centre @ (later.gain[:, None] * later.value)
        read = [value[:, mine(h, rank)] @ later.output[mine(h, rank)] @ centre for h in reader.heads]
    elif reader.part == "qk":
        later = tower.read_query_key(reader.layer)
        query, key = (centre @ (later.gain[:, None] * side) for side in (later.query, later.key))
        read = [query[:, mine(h, rank)] @ key[:, mine(h, rank)].T for h in reader.heads]
        read = [product.T for product in read] if reader.side == "key" else read
    else:
        later = tower.read_mlp_input(reader.layer)
        read = [centre @ (later.gain[:, None] * later.input)]
    return np.array([[a @ b for b in read] for a in written])


def mine(head, rank):
    return slice(head * rank, (head + 1) * rank)


@pytest.mark.parametrize(("name", "kind"), TOWERS)
def test_compositions_are_those_of_whole_products(name, kind):
    model = loaded(name)
    tower = model.get_tower(kind)
    parts = ("vo", "mlp") if name.startswith("PE-") else ("vo", "qk", "mlp")
    seen = set()
    for writer, reader, squares in compositions(model, layers=range(tower.layers), parts=parts, tower=kind):
        products = whole_products(tower, writer, reader, parts=parts)
        scale = (products**2).sum(axis=(2, 3))
        np.testing.assert_allclose(squares, scale, rtol=1e-9)
        for a, b in np.ndindex(scale.shape):
            found = channels_between(writer.rows[a], reader.rows[b], count=5)
            whole = np.linalg.svd(products[a, b], compute_uv=False)
            np.testing.assert_allclose(
                found.amplitude, whole[: len(found.amplitude)], rtol=1e-9, atol=1e-9 * whole[0]
            )
        seen.add((writer.part, reader.side))
    assert seen == {(part, side) for part in ("vo", "mlp") for side, of in SIDES.items() if of in parts}


def test_channels_rebuild_the_product(model):
    """U A B^T V'^T from its channels: entries and outlets are coordinates in the singular bases of the two heads."""
    left, right = hs.vo_factors(model)
    writer = layer_frames(model, 0, parts=("vo",), tower="image")[0][0]
    reader = layer_frames(model, 2, parts=("vo",), tower="image")[1][0]
    found = channels_between(writer.rows[1], reader.rows[3], count=99)
    assert len(found.amplitude) == model.rank
    u = hs.svd_factored(left[0], right[0])[0][1]
    vh = hs.svd_factored(left[2], right[2])[2][3]
    rebuilt = (u @ found.entry.T * found.amplitude) @ found.outlet @ vh
    whole = left[0, 1] @ right[0, 1] @ left[2, 3] @ right[2, 3]
    np.testing.assert_allclose(rebuilt, whole, atol=1e-9 * np.abs(whole).max())
    assert (np.einsum("cd,cd->c", found.written, found.read) >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.written, axis=1), 1)
    sent = found.entry @ writer.rows[1]
    received = found.outlet @ reader.rows[3]
    np.testing.assert_allclose(sent @ received.T, np.diag(found.amplitude), atol=1e-9 * found.amplitude[0])
