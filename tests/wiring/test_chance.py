"""The null of random subspaces: its moments and tail against draws, and uniform p-values of random weights."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from scipy import stats

import headscan as hs
from headscan.wiring.chance import chance_moments, tail_probability
from headscan.wiring.composition import compositions

WIDTH = 31
SPECTRA = {
    "flat": (np.ones(8), np.ones(8)),
    "steep": (np.arange(1, 9.0) ** -1.5, np.arange(1, 9.0) ** -1.0),
    "of an MLP": (np.linspace(0.2, 1.8, WIDTH), np.ones(8)),
    "one direction each": (np.ones(1), np.ones(1)),
}


def rows(spectrum):
    return (np.eye(WIDTH)[: len(spectrum)] * spectrum[:, None])[None]


@pytest.mark.parametrize("name", SPECTRA)
def test_moments_and_tail_are_those_of_random_subspaces(name):
    first, second = SPECTRA[name]
    drawn = stats.ortho_group(dim=WIDTH, seed=5).rvs(10_000)
    overlap = drawn[:, : len(first), : len(second)]
    squares = np.square(first[:, None] * overlap * second).sum(axis=(1, 2))
    mean, variance, skewness = (moment[0, 0] for moment in chance_moments(rows(first), rows(second), dimension=WIDTH))
    error = squares.std() / 100  # of a mean of 10,000
    assert abs(squares.mean() - mean) < 4 * error
    assert squares.var() == pytest.approx(variance, rel=0.08)
    assert stats.skew(squares) == pytest.approx(skewness, abs=0.25)
    p = tail_probability(squares, *(np.full(len(squares), moment) for moment in (mean, variance, skewness)))
    for level in (0.1, 0.01):  # within 4 standard errors and a tenth
        share = (p < level).mean()
        assert abs(share - level) < 0.1 * level + 4 * np.sqrt(level / len(p))


def test_a_null_that_does_not_vary_calls_nothing_unlikely():
    moments = chance_moments(rows(np.ones(WIDTH)), rows(np.ones(3)), dimension=WIDTH)
    squares = moments[0] * (1 + 1e-12)
    assert tail_probability(squares, *moments) == 1


def test_p_values_of_random_weights_are_uniform():
    """Freshly made towers, gains of one: 8 layers of 4 heads, 3 seeds; no weight depends on another."""
    p = []
    for seed in range(3):
        torch.manual_seed(seed)
        module = open_clip.CLIP(
            embed_dim=32,
            vision_cfg={"image_size": 16, "patch_size": 8, "width": 64, "layers": 8, "head_width": 16},
            text_cfg={"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
        )
        model = hs.load_model(module, tokenizer=lambda texts: np.zeros((len(texts), 8), dtype=np.int64))
        for writer, reader, squares in compositions(model, layers=range(8), parts=("vo", "qk"), tower="image"):
            moments = chance_moments(writer.rows, reader.rows, dimension=63)
            p.append(tail_probability(squares, *moments).ravel())
    together = np.concatenate(p)
    assert len(together) == 3 * 3 * 28 * 16
    assert stats.kstest(together, "uniform").pvalue > 0.01
    assert (together < 0.01).mean() == pytest.approx(0.01, abs=0.006)
