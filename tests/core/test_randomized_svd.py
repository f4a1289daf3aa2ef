"""randomized_svd against numpy.linalg.svd: dense, factored, sums of products; both methods, every instruction set."""

from typing import Any

import numpy as np
import pytest
import torch

import headscan as hs
from headscan.core import _core

METHODS: tuple[Any, ...] = ("power", "krylov")


@pytest.fixture(params=_core.build_info()["instruction_sets"])
def isa(request, monkeypatch):
    monkeypatch.setenv("HEADSCAN_ISA", request.param)
    return request.param


def with_spectrum(rng, m, n, spectrum, dtype=np.float64):
    k = len(spectrum)
    u = np.linalg.qr(rng.standard_normal((m, k)))[0]
    v = np.linalg.qr(rng.standard_normal((n, k)))[0]
    return (u * spectrum @ v.T).astype(dtype)


def check_bases(result, tolerance):
    u, s, vh = (np.asarray(part, dtype=np.float64) for part in result)
    identity = np.broadcast_to(np.eye(s.shape[-1]), (*s.shape, s.shape[-1]))
    np.testing.assert_allclose(np.swapaxes(u, -1, -2) @ u, identity, atol=tolerance)
    np.testing.assert_allclose(vh @ np.swapaxes(vh, -1, -2), identity, atol=tolerance)
    assert (np.take_along_axis(u, np.abs(u).argmax(axis=-2)[..., None, :], axis=-2) > 0).all()
    assert (np.diff(s) <= 0).all()


def residual(a, result):
    u, s, vh = (np.asarray(part, dtype=np.float64) for part in result)
    return np.linalg.norm(a.astype(np.float64) - (u * s[..., None, :]) @ vh, axis=(-2, -1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dtype", "sigma_tolerance", "orthogonality"), [(np.float32, 1e-6, 1e-6), (np.float64, 1e-12, 1e-13)]
)
def test_a_decaying_spectrum_is_found_to_rounding(isa, method, dtype, sigma_tolerance, orthogonality):
    rng = np.random.default_rng(0)
    spectrum = np.exp(-np.arange(60) / 2.5)
    a = np.stack([with_spectrum(rng, 90, 130, spectrum, dtype) for _ in range(3)])
    result = hs.randomized_svd(a, rank=12, oversample=9, iterations=3, method=method)
    exact = np.linalg.svd(a.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(result.s, exact[:, :12], rtol=sigma_tolerance)
    check_bases(result, orthogonality)
    best = np.sqrt((exact[:, 12:] ** 2).sum(axis=1))
    np.testing.assert_allclose(residual(a, result), best, rtol=1e-3)
    np.testing.assert_allclose(result.error, best, rtol=1e-2)
    assert all(part.dtype == dtype for part in (*result, result.error))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (5, 5), (16, 17), (15, 161), (161, 15), (81, 79), (133, 520)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_full_sample_is_the_whole_svd(isa, method, shape, dtype):
    rng = np.random.default_rng(shape[1])
    a = rng.standard_normal((2, *shape)).astype(dtype)
    rank = min(shape)
    result = hs.randomized_svd(a, rank=rank, iterations=1, method=method)
    tolerance = 2e-6 if dtype == np.float32 else 1e-13 * max(shape)  # products in the dtype, sums of 128 at a time
    exact = np.linalg.svd(a.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(result.s, exact, atol=tolerance * exact.max())
    np.testing.assert_allclose(residual(a, result), 0, atol=tolerance * np.linalg.norm(exact))
    check_bases(result, max(tolerance, 1e-12))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [0, 1, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_deficient_matrices(method, rank, dtype):
    rng = np.random.default_rng(rank)
    a = (rng.standard_normal((2, 60, rank)) @ rng.standard_normal((2, rank, 300))).astype(dtype)
    result = hs.randomized_svd(a, rank=8, oversample=4, method=method)
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    norm = max(np.linalg.norm(a[0]), 1.0)
    np.testing.assert_allclose(residual(a, result), 0, atol=tolerance * norm)  # type: ignore[operator]
    np.testing.assert_allclose(result.error, 0, atol=tolerance * norm)  # type: ignore[operator]
    np.testing.assert_allclose(result.s[:, rank:], 0, atol=tolerance * norm)  # type: ignore[operator]
    check_bases(result, max(tolerance, 1e-12))


def corner_block(rng):
    a = np.zeros((64, 64))
    a[:8, :8] = rng.standard_normal((8, 8))
    return a


# Where the products soon show nothing new, so that the basis must be completed; (matrix, rank). Each has a numerical
# rank below the sample or one singular value, so that any sample shows it to rounding.
DEGENERATE = {
    "ones": lambda rng: (np.ones((60, 70)), 5),
    "one entry": lambda rng: (np.eye(40, 50) * (np.arange(50) == 0), 5),
    "one row": lambda rng: (np.eye(40, 1) * rng.standard_normal(50), 5),
    "corner block": lambda rng: (corner_block(rng), 8),
    "repeated rows": lambda rng: (np.repeat(rng.standard_normal((4, 50)), 15, 0), 5),
    "identity": lambda rng: (np.eye(50), 20),
    "permutation": lambda rng: (np.eye(50)[rng.permutation(50)][:, :45], 45),
    "powers of ten": lambda rng: (np.diag(10.0 ** -np.arange(60)), 30),
    "wide powers of ten": lambda rng: (np.diag(10.0 ** -(5.0 * np.arange(60))), 30),
    "few distinct values": lambda rng: (np.diag(np.repeat([3.0, 2.0, 0.0], [10, 15, 35])), 25),
    "zeros": lambda rng: (np.zeros((30, 40)), 5),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", DEGENERATE)
def test_sparse_and_repetitive_matrices(name, dtype, method):
    a, rank = DEGENERATE[name](np.random.default_rng(10))
    a = a.astype(dtype)
    exact = np.linalg.svd(a.astype(np.float64), compute_uv=False)[:rank]
    # Products round in the dtype; float64 bases are orthogonal to rounding, the output rounded to the dtype.
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    for iterations in (0, 1, 2, 6):
        result = hs.randomized_svd(a, rank=rank, oversample=8, iterations=iterations, method=method)
        check_bases(result, tolerance)
        np.testing.assert_allclose(result.s, exact, atol=tolerance * max(exact[0], 1))


def test_the_ends_of_the_range():
    a = np.zeros((20, 30))
    for value in (1.5e308, 1e-310, 2.0**-1070):
        a[3, 4] = value
        for method in METHODS:
            np.testing.assert_allclose(
                hs.randomized_svd(a, rank=2, method=method).s, np.array([value, 0]), rtol=1e-13
            )


@pytest.mark.parametrize("exponent", [0, 3, 6, 9, 12])
def test_condition_numbers(exponent):
    rng = np.random.default_rng(exponent)
    spectrum = np.logspace(0, -exponent, 16)
    a = with_spectrum(rng, 80, 200, spectrum)
    for method in METHODS:
        result = hs.randomized_svd(a, rank=16, oversample=4, method=method)
        np.testing.assert_allclose(result.s, spectrum, atol=1e-13)
        check_bases(result, 1e-12)


def test_krylov_is_the_more_exact_on_a_slow_spectrum():
    rng = np.random.default_rng(4)
    a = with_spectrum(rng, 200, 300, np.arange(1, 201) ** -0.5)
    best = np.sqrt((1 / np.arange(11, 201)).sum())
    power, krylov = (hs.randomized_svd(a, rank=10, iterations=3, method=method) for method in METHODS)
    excess = [float(residual(a, result)) - best for result in (power, krylov)]
    assert 0 <= excess[1] < excess[0] / 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factored_and_sums_of_products_are_as_their_product(isa, method, dtype):
    rng = np.random.default_rng(5)
    pairs = [
        (rng.standard_normal((3, 70, r)).astype(dtype), rng.standard_normal((3, r, 110)).astype(dtype))
        for r in (4, 7, 1)
    ]
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    for a, terms in ((pairs[1], pairs[1:2]), (pairs, pairs), (pairs[:1], pairs[:1])):
        product = sum(left.astype(np.float64) @ right for left, right in terms)
        exact = np.linalg.svd(product, compute_uv=False)[:, :5]
        result = hs.randomized_svd(a, rank=5, oversample=10, method=method)
        np.testing.assert_allclose(result.s, exact, atol=tolerance * exact.max())
        check_bases(result, max(tolerance, 1e-12))
        true = residual(product, result)
        slack = 10 * tolerance * exact.max()  # and five standard deviations of the estimate's square
        assert (result.error <= np.sqrt(3.5) * true + slack).all()
        assert (true <= 4 * result.error + slack).all()


def test_the_error_of_factored_input_is_unbiased():
    rng = np.random.default_rng(6)
    left, right = rng.standard_normal((60, 40)), rng.standard_normal((40, 90))
    ratios = []
    for seed in range(60):
        result = hs.randomized_svd((left, right), rank=6, seed=seed)
        ratios.append(float(result.error / residual(left @ right, result)) ** 2)
    assert abs(np.mean(ratios) - 1) < 0.1  # 60 times 8 probes of about 25 directions


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_and_batch_split_change_nothing(isa, method, dtype):
    rng = np.random.default_rng(7)
    a = rng.standard_normal((5, 170, 700)).astype(dtype)
    options = {"rank": 11, "method": method, "seed": 3}
    whole = hs.randomized_svd(a, **options, threads=1)
    runs = [hs.randomized_svd(a, **options, threads=threads) for threads in (2, 3, 8)]
    single = [hs.randomized_svd(a[i], **options, threads=2) for i in range(5)]
    for name in ("u", "s", "vh", "error"):
        for run in runs:
            np.testing.assert_array_equal(getattr(run, name), getattr(whole, name))
        np.testing.assert_array_equal(np.stack([getattr(r, name) for r in single]), getattr(whole, name))
    assert (hs.randomized_svd(a, rank=11, method=method, seed=4).s != whole.s).any()


@pytest.mark.parametrize(
    ("dtype", "scales"), [(np.float32, (1e-38, 1e-30, 1e30, 1e36)), (np.float64, (1e-300, 1e-160, 1e160, 1e300))]
)
def test_extreme_scales(dtype, scales):
    rng = np.random.default_rng(8)
    left, right = rng.standard_normal((40, 6)), rng.standard_normal((6, 50))
    exact = np.linalg.svd(left @ right, compute_uv=False)[:6]
    for scale in scales:
        tolerance = 1e-4 if scale == 1e-38 else 1e-5 if dtype == np.float32 else 1e-12  # 1e-38: subnormal entries
        dense = hs.randomized_svd((left @ right * scale).astype(dtype), rank=6)
        factored = hs.randomized_svd(((left * scale).astype(dtype), right.astype(dtype)), rank=6)
        for result in (dense, factored):
            np.testing.assert_allclose(result.s.astype(np.float64) / scale, exact, rtol=tolerance)


def test_torch_comes_back_and_single_matrices_have_no_batch_axis():
    rng = np.random.default_rng(9)
    a = rng.standard_normal((30, 20))
    result = hs.randomized_svd(torch.from_numpy(a), rank=4)
    assert all(isinstance(part, torch.Tensor) for part in (*result, result.error))
    u, s, vh = result
    assert u.shape == (30, 4) and s.shape == (4,) and vh.shape == (4, 20) and result.error.shape == ()
    np.testing.assert_array_equal(hs.randomized_svd(a, rank=4).s, s.numpy())
    np.testing.assert_array_equal(hs.randomized_svd(np.asfortranarray(a), rank=4).s, s.numpy())
    assert isinstance(
        hs.randomized_svd((torch.from_numpy(a), torch.eye(20, dtype=torch.float64)), rank=2).s, torch.Tensor
    )


def test_empty_batch():
    result = hs.randomized_svd(np.empty((0, 6, 5)), rank=2)
    assert [part.shape for part in (*result, result.error)] == [(0, 6, 2), (0, 2), (0, 2, 5), (0,)]


@pytest.mark.parametrize(
    ("a", "options", "error", "message"),
    [
        (np.ones(3), {}, ValueError, r"a must have shape \(m, n\) or \(b, m, n\), got \(3,\)"),
        (np.ones((4, 3)), {"rank": 4}, ValueError, "rank must be from 1 to 3, the smaller side"),
        (np.ones((4, 3)), {"rank": 0}, ValueError, "rank must be at least 1"),
        (np.ones((4, 3)), {"rank": 2.0}, ValueError, "rank must be a whole number"),
        (np.ones((4, 3)), {"rank": 2, "oversample": -1}, ValueError, "oversample must be at least 0"),
        (np.ones((4, 3)), {"rank": 2, "iterations": -1}, ValueError, "iterations must be at least 0"),
        (np.ones((4, 3)), {"rank": 2, "seed": -1}, ValueError, "seed must be at least 0"),
        (np.ones((4, 3)), {"rank": 2, "threads": -1}, ValueError, "threads must be at least 0"),
        (np.ones((4, 3)), {"rank": 2, "method": "lanczos"}, ValueError, "method must be 'power' or 'krylov'"),
        (np.full((2, 4, 3), np.nan), {"rank": 2}, ValueError, "matrix . holds NaN or infinity"),
        (np.full((2, 4, 3), -np.inf, np.float32), {"rank": 2}, ValueError, "matrix . holds NaN or infinity"),
        ((np.ones((4, 3)), np.full((3, 4), np.inf)), {"rank": 2}, ValueError, "right factor of matrix 0 holds"),
        ((np.ones((4, 3)), np.ones((4, 3))), {"rank": 2}, ValueError, r"got \(4, 3\) @ \(4, 3\)"),
        ([(np.ones((4, 3)), np.ones((3, 4))), (np.ones((5, 3)), np.ones((3, 4)))], {}, ValueError, "one b, m and n"),
        ((np.ones((4, 3)), np.ones((3, 4), np.float32)), {"rank": 2}, TypeError, "share a dtype"),
        ([], {}, ValueError, "at least one such pair"),
        ((np.ones((4, 3)),), {}, ValueError, "must be a pair"),
        (np.ones((4, 3), int), {"rank": 2}, TypeError, "float32 or float64"),
    ],
)
def test_bad_input_is_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        hs.randomized_svd(a, **options)
