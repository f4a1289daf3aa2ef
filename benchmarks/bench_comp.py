"""COMP over dictionaries of 1e4, 1e5 and 1e6 atoms in the joint spaces of ViT-B/32, ViT-L/14 and ViT-H/14."""

import inspect

import baselines
import check
import data
import numpy as np
import pytest
import torch
from bars import spent

import headscan as hs

QUERIES, K, COHERENCE = 256, 5, 0.3
JOINT = {"ViT-B/32": 512, "ViT-L/14": 768, "ViT-H/14": 1024}
DICTIONARIES = (
    ("structured", 10_000),
    ("gaussian", 10_000),
    ("structured", 100_000),
    ("structured", 1_000_000),
)
CONTENDERS = ("published", "folded", "scikit-learn OMP", "headscan, raw atoms", "headscan")
METHODS = ("comp", "nnomp", "top_k", "mp", "omp", "lasso")


def _cases():
    for kind, rows in DICTIONARIES:
        for model in JOINT:
            marks = [] if rows == 10_000 and model == "ViT-B/32" else pytest.mark.full
            yield pytest.param((model, kind, rows), id=f"{model}-{kind}-{rows}", marks=marks)


@pytest.fixture(scope="module", params=_cases())
def case(request):
    """Name, queries, atoms and packed atoms; the last ones are dropped before the next are made."""
    model, kind, rows = request.param
    atoms = {"structured": data.structured, "gaussian": data.gaussian}[kind](rows, JOINT[model])
    name = f"COMP {QUERIES} x {rows} {kind} x {JOINT[model]} ({model})"
    return name, data.mixtures(atoms, QUERIES), atoms, hs.pack(atoms)


@pytest.mark.parametrize("contender", CONTENDERS)
def test_comp(case, contender, timed, benchmark, threads):
    benchmark.group, x, atoms, packed = case
    slow_x, slow_atoms = torch.from_numpy(x), torch.from_numpy(atoms)
    if contender == "scikit-learn OMP":
        if len(atoms) > 10_000:
            pytest.skip(f"scikit-learn's OMP takes minutes over {len(atoms)} atoms")
        timed(lambda: baselines.comp_sklearn_omp(x, atoms, K), slow=True, note="unconstrained, no coherence")
    elif contender == "published":
        timed(lambda: baselines.comp_published(slow_x, slow_atoms, K, COHERENCE), slow=True)
    elif contender == "folded":
        timed(lambda: baselines.comp_folded(slow_x, slow_atoms, K, COHERENCE, QUERIES), slow=True)
    else:
        given = packed if contender == "headscan" else atoms
        codes = hs.comp(x, given, k=K, coherence=COHERENCE, threads=threads)
        checked = check.check_picks(codes, x, atoms, K, COHERENCE)
        note = f"{checked}; {spent(codes, x, atoms)}"
        timed(lambda: hs.comp(x, given, k=K, coherence=COHERENCE, threads=threads), note=note)


@pytest.mark.parametrize("contender", METHODS)
def test_methods(case, contender, timed, benchmark, threads):
    """Every method over the one engine, same queries."""
    if "method" not in inspect.signature(hs.comp).parameters:
        pytest.skip("hs.comp has no method= yet")
    name, x, _, packed = case
    benchmark.group = name.replace("COMP", "methods", 1)
    settings = {"method": contender, "k": K, "threads": threads}
    codes = timed(lambda: hs.comp(x, packed, **settings), slow=contender == "lasso")
    assert np.asarray(codes.indices).shape == (len(x), K)


@pytest.mark.parametrize("contender", ["k=1", "k=5", "k=10"])
def test_rounds(case, contender, timed, benchmark, threads):
    """What more rounds cost: full passes are in the note."""
    name, x, atoms, packed = case
    k = int(contender[2:])
    benchmark.group = name.replace("COMP", "rounds", 1)
    codes = hs.comp(x, packed, k=k, coherence=COHERENCE, threads=threads)
    note = f"{check.check_picks(codes, x, atoms, k, COHERENCE, sample=4)}; {spent(codes, x, atoms)}"
    timed(lambda: hs.comp(x, packed, k=k, coherence=COHERENCE, threads=threads), note=note)
