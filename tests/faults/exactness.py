"""Compare COMP and the SVD with their float64 references on adversarial inputs, on every instruction set.

    PYTHONPATH=python:tests python tests/faults/exactness.py comp 20000 [first seed]
    PYTHONPATH=python:tests python tests/faults/exactness.py svd 1500 [first seed]

Each seed is a configuration: for COMP a dictionary of a hard kind with queries, k and coherence, searched plain and
packed; for the SVD factors of a hard kind. The reference sums in another order and has another solver: picks may
differ from it where the scores do by no more than that (`_TIE`, and the distance of the two fits, at most `_FIT`),
which is counted; anything else is printed with its seed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import headscan as hs
from headscan.core import _core
from reference import comp_reference

Array = NDArray[Any]
_TIE = 1e-14  # of scores, in units of the norms: float64 sums in another order
_FIT = 1e-7  # of the fits, in units of the query's norm: both solvers stop there where atoms nearly coincide
_ROUNDING = 1e-15  # of a sum's terms
_SETS = _core.build_info()["instruction_sets"]


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.asarray((rows / np.where(lengths > 0, lengths, 1)).astype(np.float32))


def _random(rng: np.random.Generator, count: int, width: int) -> Array:
    return rng.standard_normal((count, width))


def _steep(rng: np.random.Generator, count: int, width: int) -> Array:
    return _random(rng, count, width) / np.arange(1, width + 1) ** rng.uniform(0, 3)


def _cone(rng: np.random.Generator, count: int, width: int) -> Array:
    return _random(rng, 1, width) + 10.0 ** rng.uniform(-7, 0) * _random(rng, count, width)


def _clusters(rng: np.random.Generator, count: int, width: int) -> Array:
    centres = _random(rng, max(1, count // 8), width)
    spread = 10.0 ** rng.uniform(-8, -1)
    return centres[rng.integers(len(centres), size=count)] + spread * _random(rng, count, width)


def _repeated(rng: np.random.Generator, count: int, width: int) -> Array:
    return _random(rng, max(1, count // 5), width)[rng.integers(max(1, count // 5), size=count)]


def _grid(rng: np.random.Generator, count: int, width: int) -> Array:
    return rng.integers(-1, 2, (count, width)).astype(np.float64)


def _sparse(rng: np.random.Generator, count: int, width: int) -> Array:
    return _random(rng, count, width) * (rng.random((count, width)) < 0.1)


def _ranges(rng: np.random.Generator, count: int, width: int) -> Array:
    return _random(rng, count, width) * 10.0 ** rng.integers(-30, 1, (count, width))


def _neighbours(rng: np.random.Generator, count: int, width: int) -> Array:
    """Rows that differ in the last place of one value."""
    rows = np.repeat(_unit(_random(rng, 1, width)), count, axis=0)
    column = rng.integers(width, size=count)
    at = (np.arange(count), column)
    rows[at] = np.nextafter(rows[at], np.float32(2))
    return rows


_KINDS: tuple[Callable[[np.random.Generator, int, int], Array], ...] = (
    _random, _steep, _cone, _clusters, _repeated, _grid, _sparse, _ranges, _neighbours,
)  # fmt: skip


def _dictionary(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return unit rows and queries."""
    width = int(rng.choice((2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65)))
    count = int(rng.choice((1, 2, 5, 63, 64, 65, 127, 128, 129, 300, 1100)))
    kind = _KINDS[rng.integers(len(_KINDS))]
    atoms = kind(rng, count, width)
    atoms = atoms if kind is _neighbours else _unit(atoms)
    if rng.random() < 0.1:
        atoms[rng.integers(count, size=max(1, count // 9))] = 0
    queries = np.concatenate([_random(rng, 2, width), kind(rng, 2, width), atoms[rng.integers(count, size=1)]])
    queries = _unit(queries) if rng.random() < 0.5 else np.asarray(queries, dtype=np.float64)
    return np.asarray(atoms), queries


def _fit(atoms: Array, code: tuple[Array, Array]) -> tuple[Array, float]:
    """Return what a code says, and how far rounding its sum may take that off."""
    indices, coefficients = code
    terms = coefficients[:, None] * atoms[indices].astype(np.float64)
    return terms.sum(axis=0), float(_ROUNDING * np.abs(coefficients).sum())


def _differs(
    x: Array, atoms: Array, code: tuple[Array, Array], expected: tuple[Array, Array], coherence: float
) -> str:
    """Return what is wrong with one query's code: "" if nothing, "tie" if scores are the same but for the fits."""
    length = float(np.linalg.norm(x))
    same = code[0] == expected[0]
    if same.all():
        (fit, off), (wanted, wanted_off) = _fit(atoms, code), _fit(atoms, expected)
        return "" if np.linalg.norm(fit - wanted) <= _FIT * length + off + wanted_off else "another fit"
    first = int(np.flatnonzero(~same)[0])
    picked, query, bound = expected[0][:first], x.astype(np.float64), _TIE * (length + coherence)
    if first:  # as both had it before the round in which they part
        options: dict[str, Any] = {"k": first, "coherence": coherence}
        codes = hs.comp(x[None], atoms, threads=1, **options)
        reference = comp_reference(x[None], atoms, first, coherence)
        (fit, off), (wanted, wanted_off) = (
            _fit(atoms, (codes.indices[0], codes.coefficients[0])),
            _fit(atoms, (reference[0][0], reference[1][0])),
        )
        apart = float(np.linalg.norm(fit - wanted))
        if not (codes.indices[0] == picked).all() or apart > _FIT * length + off + wanted_off:
            return f"round {first}: another fit before"
        query = query - wanted + coherence / first * atoms[picked].astype(np.float64).sum(axis=0)
        bound += apart + off + wanted_off
    rows = [atoms[row].astype(np.longdouble) for row in (code[0][first], expected[0][first])]
    scores = [float(np.dot(row, query)) for row in rows]
    return "tie" if abs(scores[0] - scores[1]) <= bound else f"round {first}: {scores[0]!r} for {scores[1]!r}"


def comp(seed: int) -> list[str]:
    """Return what differs in one configuration, over instruction sets and searches."""
    rng = np.random.default_rng(seed)
    atoms, queries = _dictionary(rng)
    k = int(min(len(atoms), rng.choice((1, 2, 5, 9))))
    coherence = float(rng.choice((0.0, 0.1, 0.3, 2.0, 1000.0)))
    indices, coefficients = comp_reference(queries, atoms, k, coherence)
    wrong = []
    for name in _SETS:
        os.environ["HEADSCAN_ISA"] = name
        for searched in (atoms, hs.pack(atoms, threads=1)):
            codes = hs.comp(queries, searched, k=k, coherence=coherence, threads=1)
            for row, x in enumerate(queries):
                code = codes.indices[row], codes.coefficients[row]
                problem = _differs(x, atoms, code, (indices[row], coefficients[row]), coherence)
                if not codes.certified[row]:
                    problem = "not certified"
                if problem:
                    wrong.append(problem if problem == "tie" else f"{name} {type(searched).__name__} {problem}")
    return wrong


def _factors(rng: np.random.Generator) -> tuple[Array, Array]:
    rank = int(rng.choice((1, 2, 3, 7, 8, 9, 16, 17, 32, 64)))
    outer = [int(rank + rng.choice((0, 1, 5, 31, 64, 100))) for _ in range(2)]
    left, right = rng.standard_normal((2, outer[0], rank)), rng.standard_normal((2, rank, outer[1]))
    way = rng.integers(7)
    if way == 1:  # steep
        left *= 10.0 ** -np.linspace(0, rng.uniform(0, 15), rank)
    elif way == 2:  # of lower rank
        left[:, :, rng.integers(rank) :] = 0
    elif way == 3:  # equal columns
        left[:, :, rank // 2 :] = left[:, :, : rank - rank // 2]
    elif way == 4:  # of an extreme scale
        left, right = left * 10.0 ** rng.uniform(-100, 100), right * 10.0 ** rng.uniform(-100, 100)
    elif way == 5:  # whole numbers, with equal singular values
        left, right = np.round(left), np.round(right)
    elif way == 6:  # rows and columns that vanish
        left[:, rng.random(outer[0]) < 0.5] = 0
    return left, right


def svd(seed: int) -> list[str]:
    """Return what differs from NumPy's SVD of the product, over instruction sets."""
    left, right = _factors(np.random.default_rng(seed))
    scales = [max(float(np.abs(side).max()), 1e-300) for side in (left, right)]
    product = (left / scales[0]) @ (right / scales[1])
    rank, whole = left.shape[2], scales[0] * scales[1]
    expected = np.linalg.svd(product, compute_uv=False)[:, :rank]
    size = max(float(expected.max()), 1e-300)
    tolerance = 1e-13 * max(*product.shape[1:], 10)
    wrong = []
    for name in _SETS:
        os.environ["HEADSCAN_ISA"] = name
        u, s, vh = hs.svd_factored(left, right, threads=1)
        errors = {
            "singular values": np.abs(s / whole - expected).max() / size,
            "product": np.abs((u * (s / whole)[:, None]) @ vh - product).max() / size,
            "u": np.abs(np.swapaxes(u, 1, 2) @ u - np.eye(rank)).max(),
            "vh": np.abs(vh @ np.swapaxes(vh, 1, 2) - np.eye(rank)).max(),
            "order": float((np.diff(s) > 0).any()),
        }
        wrong += [f"{name} {part}: off by {error:.1e}" for part, error in errors.items() if not error <= tolerance]
    return wrong


def main(what: str, count: int, first: int) -> int:
    """Run a campaign and return the number of findings."""
    compare = {"comp": comp, "svd": svd}[what]
    findings = ties = 0
    for seed in range(first, first + count):
        problems = compare(seed)
        ties += problems.count("tie")
        for problem in problems:
            if problem != "tie":
                findings += 1
                sys.stdout.write(f"seed {seed}: {problem}\n")
    sys.stdout.write(f"{what}: {count} configurations on {', '.join(_SETS)}, {findings} wrong, {ties} ties\n")
    return findings


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)))
