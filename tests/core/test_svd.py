"""svd_factored against numpy.linalg.svd of the product."""

import functools

import numpy as np
import pytest
import torch

import headscan as hs
from headscan.core import _core


@pytest.fixture(params=[*_core.build_info()["instruction_sets"], "cuda"])
def isa(request, monkeypatch):
    if request.param == "cuda":
        request.getfixturevalue("cuda_device")
        monkeypatch.setattr(hs, "svd_factored", functools.partial(hs.svd_factored, device="cuda"))
    else:
        monkeypatch.setenv("HEADSCAN_ISA", request.param)
    return request.param


def check(left, right, tolerance):
    u, s, vh = hs.svd_factored(left, right)
    product = left.astype(np.float64) @ right.astype(np.float64)
    r = left.shape[2]
    largest = max(s.max(), 1e-300)
    identity = np.eye(r)
    np.testing.assert_allclose((u * s[:, None]) @ vh, product, atol=tolerance * largest)
    np.testing.assert_allclose(s, np.linalg.svd(product, compute_uv=False)[:, :r], atol=tolerance * largest)
    np.testing.assert_allclose(np.swapaxes(u, 1, 2) @ u, np.broadcast_to(identity, (len(u), r, r)), atol=tolerance)
    np.testing.assert_allclose(vh @ np.swapaxes(vh, 1, 2), np.broadcast_to(identity, (len(u), r, r)), atol=tolerance)
    extremes = np.take_along_axis(u, np.abs(u).argmax(axis=1)[:, None], axis=1)
    assert (extremes > 0).all() and (np.diff(s) <= 0).all()
    assert u.dtype == s.dtype == vh.dtype == left.dtype


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 2, 9), (7, 7, 7), (8, 8, 20), (33, 9, 12), (100, 16, 64), (65, 17, 31)]
)
def test_shapes(isa, shape):
    d, r, e = shape
    rng = np.random.default_rng(d)
    check(rng.standard_normal((4, d, r)), rng.standard_normal((4, r, e)), 1e-13 * max(shape))


def test_float32(isa):
    rng = np.random.default_rng(0)
    left = rng.standard_normal((5, 64, 16)).astype(np.float32)
    check(left, rng.standard_normal((5, 16, 64)).astype(np.float32), 1e-6)  # float64 inside, rounded once


@pytest.mark.parametrize("exponent", [0, 3, 6, 8, 10, 12])
def test_condition_numbers(isa, exponent):
    rng = np.random.default_rng(exponent)
    q = np.linalg.qr(rng.standard_normal((3, 80, 16)))[0]
    spectrum = np.logspace(0, -exponent, 16)
    mix = np.linalg.qr(rng.standard_normal((3, 16, 16)))[0]
    check(q * spectrum @ mix, rng.standard_normal((3, 16, 80)), 1e-12)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_rank_deficient_factors(isa, rank):
    rng = np.random.default_rng(rank)
    left = rng.standard_normal((3, 40, rank)) @ rng.standard_normal((3, rank, 12))
    check(left, rng.standard_normal((3, 12, 30)), 1e-12)
    check(rng.standard_normal((3, 40, 12)), np.swapaxes(left, 1, 2), 1e-12)


@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e30, 1e160])
def test_extreme_scales(isa, scale):
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((2, 20, 6)) * scale, rng.standard_normal((2, 6, 20))
    u, s, vh = hs.svd_factored(left, right)
    np.testing.assert_allclose((u * s[:, None]) @ vh / scale, left @ right / scale, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 1e300])
def test_subnormal_factors(isa, scale):
    rng = np.random.default_rng(3)
    small = np.full((1, 5, 2), 1e-310)
    small[0, :, 1] *= np.arange(5)
    large = rng.standard_normal((1, 2, 7)) * scale
    exact = np.linalg.svd(small * 2.0**1000 @ (large / scale), compute_uv=False)[:, :2] * (scale / 2.0**1000)
    for left, right in ((small, large), (large.transpose(0, 2, 1), small.transpose(0, 2, 1))):
        u, s, vh = hs.svd_factored(left, right)
        np.testing.assert_allclose(s, exact, rtol=1e-12, atol=1e-323)  # twice the least subnormal
        np.testing.assert_allclose(u.transpose(0, 2, 1) @ u, np.eye(2)[None], atol=1e-13)
        np.testing.assert_allclose(vh @ vh.transpose(0, 2, 1), np.eye(2)[None], atol=1e-13)


def test_singular_values_below_the_range_are_zero(isa):
    left, right = np.zeros((1, 4, 2)), np.zeros((1, 2, 3))
    left[0, 0, 0] = right[0, 0, 0] = 1e-200
    np.testing.assert_array_equal(hs.svd_factored(left, right)[1], [[0, 0]])


def test_columns_whose_squares_are_subnormal(isa):
    rng = np.random.default_rng(4)
    left = rng.standard_normal((1, 30, 12)) * 10.0 ** -np.r_[0, 155:166]
    check(left, rng.standard_normal((1, 12, 20)), 1e-13)


def test_threads_change_nothing_and_torch_comes_back():
    rng = np.random.default_rng(2)
    left, right = rng.standard_normal((9, 30, 8)), rng.standard_normal((9, 8, 30))
    one = hs.svd_factored(left, right, threads=1)
    for threads in (2, 3, 8):
        for a, b in zip(one, hs.svd_factored(left, right, threads=threads), strict=True):
            np.testing.assert_array_equal(a, b)
    tensors = hs.svd_factored(torch.from_numpy(left), torch.from_numpy(right))
    assert all(isinstance(t, torch.Tensor) for t in tensors)
    np.testing.assert_array_equal(tensors[1].numpy(), one[1])


def test_empty_batch():
    u, s, vh = hs.svd_factored(np.empty((0, 5, 2)), np.empty((0, 2, 5)))
    assert u.shape == (0, 5, 2) and s.shape == (0, 2) and vh.shape == (0, 2, 5)


@pytest.mark.parametrize(
    ("left", "right", "error", "message"),
    [
        (np.ones((1, 3, 4)), np.ones((1, 4, 3)), ValueError, r"expected left \(n, d, r\)"),
        (np.ones((1, 4, 3)), np.ones((2, 3, 4)), ValueError, r"got \(1, 4, 3\) and \(2, 3, 4\)"),
        (np.ones((4, 3)), np.ones((3, 4)), ValueError, "3 dimensions"),
        (np.full((1, 4, 3), np.nan), np.ones((1, 3, 4)), ValueError, "left factor of matrix 0 holds NaN"),
        (np.ones((1, 4, 3)), np.ones((1, 3, 4), np.float32), TypeError, "share a dtype"),
        (np.ones((1, 4, 3), int), np.ones((1, 3, 4), int), TypeError, "float32 or float64"),
    ],
)
def test_bad_input_is_refused(left, right, error, message):
    with pytest.raises(error, match=message):
        hs.svd_factored(left, right)


def test_products_that_overflow_are_refused():
    rng = np.random.default_rng(13)
    left, right = (1e30 * rng.standard_normal(shape).astype(np.float32) for shape in ((1, 8, 2), (1, 2, 8)))
    with pytest.raises(hs.HeadscanError, match="singular values overflow"):
        hs.svd_factored(left.astype(np.float32), right.astype(np.float32))
    with pytest.raises(hs.HeadscanError, match="singular values overflow"):
        hs.randomized_svd((left.astype(np.float32), right.astype(np.float32)), rank=2)
