"""The other methods of comp against plain float64 NumPy, over both searches."""

import numpy as np
import pytest
from scipy.optimize import nnls

import headscan as hs
from reference import comp_reference, scores, unit_rows


def dictionary(rng, rows=300, width=24):
    atoms = rng.standard_normal((rows, width)) * (1 + np.arange(width)) ** -0.3
    return (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=["plain", "packed"])
def case(request):
    rng = np.random.default_rng(11)
    atoms, x = dictionary(rng), unit_rows(rng, 40, 24, np.float64)
    return x, atoms.astype(np.float64), hs.pack(atoms) if request.param == "packed" else atoms


def greedy(x, atoms, k, *, score, fit):
    """Indices and coefficients of a pursuit: `score` of an inner product decides, `fit` gives the coefficients."""
    indices, coefficients = [], []
    for target in x:
        picked: list[int] = []
        weights = np.zeros(0)
        for _ in range(k):
            residual = target - atoms[picked].T @ weights
            values = score(scores(atoms, residual))
            values[picked] = -np.inf
            picked.append(int(values.argmax()))
            weights = fit(atoms[picked], target, residual, weights)
        indices.append(picked)
        coefficients.append(weights)
    return np.array(indices), np.array(coefficients)


def check(codes, indices, coefficients):
    np.testing.assert_array_equal(codes.indices, indices)
    np.testing.assert_allclose(codes.coefficients, coefficients, atol=1e-11)
    assert codes.certified.all()


def test_nnomp_is_comp_without_coherence(case):
    x, atoms, searched = case
    check(hs.comp(x, searched, method="nnomp", k=6, coherence=9.0), *comp_reference(x, atoms, 6, 0.0))


def test_top_k_refits_the_nearest_atoms(case):
    x, atoms, searched = case
    products = x @ atoms.T
    order = np.argsort(-products, axis=1, kind="stable")[:, :7]
    fitted = np.array([nnls(atoms[picked].T, target)[0] for picked, target in zip(order, x, strict=True)])
    assert (fitted == 0).any()
    check(hs.comp(x, searched, method="top_k", k=7), order, fitted)
    expected = np.maximum(np.take_along_axis(products, order, axis=1), 0) / (atoms[order] ** 2).sum(axis=2)
    check(hs.comp(x, searched, method="nearest", k=7), order, expected)


def test_mp(case):
    x, atoms, searched = case

    def fit(rows, target, residual, weights):
        return np.append(weights, max(0.0, rows[-1] @ residual / (rows[-1] @ rows[-1])))

    check(hs.comp(x, searched, method="mp", k=6), *greedy(x, atoms, 6, score=np.asarray, fit=fit))


def test_omp(case):
    x, atoms, searched = case

    def fit(rows, target, residual, weights):
        return np.linalg.lstsq(rows.T, target, rcond=None)[0]

    indices, coefficients = greedy(x, atoms, 6, score=np.abs, fit=fit)
    assert (coefficients < 0).any()
    check(hs.comp(x, searched, method="omp", k=6), indices, coefficients)


@pytest.mark.parametrize("penalty", [0.2, 0.4])
def test_lasso_satisfies_the_optimality_conditions(case, penalty):
    x, atoms, searched = case
    codes = hs.comp(x, searched, method="lasso", k=24, penalty=penalty)
    assert codes.certified.all() and (codes.indices == -1).any()
    for target, indices, weights in zip(x, codes.indices, codes.coefficients, strict=True):
        picked = indices[indices >= 0]
        assert (weights >= 0).all() and (weights[indices < 0] == 0).all()
        slopes = atoms @ (target - atoms[picked].T @ weights[: len(picked)])
        assert slopes.max() <= penalty + 1e-10
        np.testing.assert_allclose(slopes[picked][weights[: len(picked)] > 0], penalty, atol=1e-10)


def test_lasso_says_where_k_is_not_enough(case):
    x, _, searched = case
    codes = hs.comp(x, searched, method="lasso", k=1, penalty=0.05)
    assert not codes.certified.all()
    whole = hs.comp(x, searched, method="lasso", k=1, penalty=5.0)
    assert whole.certified.all() and (whole.indices == -1).all()


def test_coherence_may_be_measured_between_other_embeddings():
    rng = np.random.default_rng(12)
    atoms, others, x = dictionary(rng), dictionary(rng, width=10), unit_rows(rng, 30, 24, np.float64)
    wide, small = atoms.astype(np.float64), others.astype(np.float64)
    indices = []
    for target in x:
        picked: list[int] = []
        residual = target
        for _ in range(5):
            values = scores(wide, residual)
            if picked:
                values = values + 0.3 / len(picked) * scores(small, small[picked].sum(axis=0))
            values[picked] = -np.inf
            picked.append(int(values.argmax()))
            weights, _ = nnls(wide[picked].T, target)
            residual = target - wide[picked].T @ weights
        indices.append(picked)
    np.testing.assert_array_equal(hs.comp(x, atoms, coherence_atoms=others).indices, indices)
    packed = hs.pack(atoms, coherence_atoms=others)
    np.testing.assert_array_equal(hs.comp(x, packed).indices, indices)
    with pytest.raises(ValueError, match="one row an atom"):
        hs.pack(atoms, coherence_atoms=others[:5])
    with pytest.raises(ValueError, match="go into pack"):
        hs.comp(x, packed, coherence_atoms=others)
    with pytest.raises(ValueError, match="method comp"):
        hs.comp(x, packed, method="omp")


def test_codes_of_64_atoms_equal_the_reference():
    rng = np.random.default_rng(13)
    atoms, x = dictionary(rng, rows=1500, width=96), unit_rows(rng, 6, 96, np.float64)
    check(hs.comp(x, hs.pack(atoms), k=64), *comp_reference(x, atoms, 64, 0.3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of comp, nnomp"),
        ({"method": "lasso", "penalty": -1.0}, "penalty must be finite"),
        ({"method": "lasso", "penalty": np.nan}, "penalty must be finite"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hs.comp(np.ones((1, 4)), np.ones((3, 4), np.float32), k=1, **options)
