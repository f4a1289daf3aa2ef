"""Paths: all chains together are the product of the weights, and the strongest are found."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tests.wiring.test_circuits import found, planted  # noqa: F401 - fixtures

import headscan as hs
from headscan.wiring.paths import _chains, _edges

A, B, C = (0, 1), (1, 2), (2, 3)


@pytest.fixture(scope="module")
def whole(planted):  # noqa: F811
    """Every channel of every pair of heads."""
    options: dict[str, Any] = {
        "parts": ("vo", "qk"),
        "level": 1.0,
        "pairs": 10_000,
        "channels": 99,
        "k": 2,
        "significance": 0,
    }
    made = hs.circuits(planted[0], planted[1], **options)
    assert len(made.channels) == 2 * 8 * made.info.explained
    return made


def test_chains_through_a_head_add_up_to_the_product_of_three_heads(planted, whole):  # noqa: F811
    model = planted[0]
    left, right = hs.vo_factors(model)
    u, _, vh = hs.svd_factored(left.reshape(-1, 32, 8), right.reshape(-1, 8, 32))
    w = left @ right
    size = np.prod([np.linalg.norm(w[place]) for place in (A, B, C)])
    edges = _edges(whole, model)
    product = np.zeros((32, 32))
    for first, second in itertools.product(edges, edges):
        if (first.start, first.end, first.side) == (A, B, "value") and (second.start, second.end) == (B, C):
            if second.side != "value":
                continue
            amplitude = first.amplitude * (first.outlet @ second.entry) * second.amplitude * size
            p, q = whole_entry(whole, model, first), second.outlet
            product += amplitude * np.outer(u[A[0] * 4 + A[1]] @ p, q @ vh[C[0] * 4 + C[1]])
    np.testing.assert_allclose(product, w[A] @ w[B] @ w[C], atol=1e-9 * np.abs(w[A] @ w[B] @ w[C]).max())


def whole_entry(made, model, edge):
    """P of an edge: its entry without the division by the writer's singular values."""
    left, right = hs.vo_factors(model, layers=[edge.start[0]])
    sigma = hs.svd_factored(left[0], right[0])[1][edge.start[1]]
    return edge.entry * sigma / np.linalg.norm(sigma)


def test_the_strongest_chains_are_those_of_an_exhaustive_search(planted, whole):  # noqa: F811
    model = planted[0]
    edges = _edges(whole, model)
    into = [place for place, edge in enumerate(edges) if edge.side == "value"]
    every: list[Any] = [edge.amplitude for edge in edges]
    for first in into:
        every += [
            edges[first].amplitude * abs(edges[first].outlet @ edge.entry) * edge.amplitude
            for edge in edges
            if edge.start == edges[first].end
        ]
    best = hs.circuit_paths(whole, model, count=200, depth=2)
    np.testing.assert_allclose(best["strength"], np.sort(every)[::-1][:200])
    assert sum(map(len, _chains(edges, depth=3, count=1))) >= len(edges)
    longer = hs.circuit_paths(whole, model, least=2, count=5)
    assert (longer["steps"] >= 2).all() and longer["strength"].is_monotonic_decreasing
    assert longer["path"].str.count(">").eq(longer["steps"]).all()


def test_ends_choose_and_weigh(planted, found):  # noqa: F811
    model = planted[0]
    first = hs.circuit_paths(found, model, into="L2.H3", side="value", about="snow").iloc[0]
    assert first["path"] == "L0.H1 > L2.H3 value" and first["concepts"].count("snow") == 2
    row = found.channels.iloc[first["channels"][0]]
    assert row["pole"] == first["pole"] and row["read_concept_0"] == "snow"
    along = hs.circuit_paths(found, model, into="L2.H3", side="value", index=0)
    whole = hs.circuit_paths(found, model, into="L2.H3", side="value")
    assert 0 < along["strength"].iloc[0] <= whole["strength"].iloc[0]
    assert hs.circuit_paths(found, model, into="L1.H0", side="query", count=0).empty


def test_refusals(planted, found, model):  # noqa: F811
    for options, says in (
        ({"depth": 0}, "depth must be"), ({"least": 3, "depth": 2}, "depth must be"), ({"into": "7"}, "a node is"),
        ({"side": "values"}, "side is one of"), ({"index": 99}, "index must be"), ({"count": -1}, "count must be"),
    ):  # fmt: skip
        with pytest.raises(hs.HeadscanError, match=says):
            hs.circuit_paths(found, planted[0], **options)
    with pytest.raises(hs.HeadscanError, match="with other weights"):
        hs.circuit_paths(found, model)
