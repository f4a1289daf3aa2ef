"""Randomized SVD in torch: on the CPU against the compiled engine, on a CUDA device against it too."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.core.test_randomized_svd import DEGENERATE, METHODS, check_bases, residual

import headscan as hs
from headscan.core import cuda, devices


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Everything that a CUDA device does, by torch on the CPU."""
    engine = SimpleNamespace(devices=lambda: [{"index": 0}, {"index": 1}])
    monkeypatch.setattr(devices, "engine", lambda: engine)
    monkeypatch.setattr(cuda, "_torch_device", lambda index: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def matrices(dtype, shape=(3, 70, 110), decay=0.03):
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape)
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return ((u * np.exp(-decay * np.arange(s.shape[1]))) @ vh).astype(dtype)


def agree(there, here, tolerance):
    """The same triplets, though the spectrum decays slowly: both engines drew the same Omega."""
    for result, expected in zip((*there, there.error), (*here, here.error), strict=True):
        assert result.dtype == expected.dtype and result.shape == expected.shape
        np.testing.assert_allclose(np.asarray(result), np.asarray(expected), atol=tolerance)


OPTIONS = [
    {"method": "power"},
    {"method": "power", "iterations": 0, "seed": 2**63 + 5},
    {"method": "krylov"},
    {"method": "krylov", "block": 6, "iterations": 3},
    {"method": "krylov", "oversample": 30, "iterations": 4},  # all directions there are
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-4)])
def test_triplets_are_those_of_the_compiled_engine(on_the_cpu, dtype, tolerance, options):
    a = matrices(dtype)
    there = hs.randomized_svd(a, rank=10, device="cuda", **options)
    agree(there, hs.randomized_svd(a, rank=10, **options), tolerance)
    check_bases(there, 1e-6 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(there.error, residual(a, there), rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_products_and_their_sums(on_the_cpu, method):
    rng = np.random.default_rng(1)
    pairs = [(rng.standard_normal((2, 40, r)), rng.standard_normal((2, r, 50))) for r in (4, 7)]
    tensors = [tuple(map(torch.from_numpy, pair)) for pair in pairs]
    for a in (pairs, pairs[1], [(left[0], right[0]) for left, right in pairs], tensors):
        there, here = (hs.randomized_svd(a, rank=3, method=method, device=device) for device in ("cuda:1", None))
        agree(there, here, 1e-9)
        assert type(there.u) is type(here.u)
    assert hs.randomized_svd(np.empty((0, 6, 5)), rank=2, device="cuda").u.shape == (0, 6, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DEGENERATE)
def test_sparse_and_repetitive_matrices(on_the_cpu, name, method):
    a, rank = DEGENERATE[name](np.random.default_rng(10))
    exact = np.linalg.svd(a, compute_uv=False)[:rank]
    result = hs.randomized_svd(a, rank=rank, method=method, device="cuda")
    check_bases(result, 1e-12)
    np.testing.assert_allclose(result.s, exact, atol=1e-13 * max(exact[0], 1))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_extreme_scales(on_the_cpu, scale):
    rng = np.random.default_rng(8)
    left, right = rng.standard_normal((40, 6)), rng.standard_normal((6, 50))
    exact = np.linalg.svd(left @ right, compute_uv=False)[:6]
    for a in (left @ right * scale, (left * scale, right)):
        np.testing.assert_allclose(hs.randomized_svd(a, rank=6, device="cuda").s / scale, exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("a", "options", "error", "message"),
    [
        (np.ones((4, 3)), {"rank": 4}, ValueError, "rank must be from 1 to 3, the smaller side"),
        (np.full((2, 4, 3), np.nan), {"rank": 2}, ValueError, "^matrix 0 holds NaN or infinity"),
        ((np.ones((4, 3)), np.full((3, 4), np.inf)), {"rank": 2}, ValueError, "the right factor of matrix 0 holds"),
        (
            np.ones((400, 300)),
            {"rank": 260},
            hs.HeadscanError,
            "at most 256 directions are kept, this would keep 268",
        ),
        (np.ones((90, 90)), {"rank": 9, "block": 2}, ValueError, "a block is for the method krylov alone"),
        (np.ones((90, 90)), {"rank": 9, "block": 2, "method": "krylov"}, ValueError, "block of 2 gives 6 directions"),
        (np.ones(3), {}, ValueError, r"a must have shape \(m, n\) or \(b, m, n\), got \(3,\)"),
        (np.ones((4, 3), int), {"rank": 2}, TypeError, "float32 or float64"),
        ([], {}, ValueError, "at least one such pair"),
        ((np.ones((4, 3)), np.ones((3, 4), np.float32)), {"rank": 2}, TypeError, "share a dtype"),
    ],
)
def test_bad_input_is_refused(on_the_cpu, a, options, error, message):
    with pytest.raises(error, match=message):
        hs.randomized_svd(a, device="cuda", **options)


class TestOnADevice:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_triplets_are_those_of_the_cpu(self, cuda_device, options):
        a = matrices(np.float64)
        there = hs.randomized_svd(torch.from_numpy(a).to(cuda_device), rank=10, **options)
        assert {part.device for part in (*there, there.error)} == {cuda_device}
        on_host = hs.RandomizedSVD(*(part.cpu() for part in (*there, there.error)))
        agree(on_host, hs.randomized_svd(torch.from_numpy(a), rank=10, **options), 1e-9)

    def test_what_is_not_finite_spoils_its_own_matrix_alone(self, cuda_device):
        a = torch.from_numpy(matrices(np.float64)).to(cuda_device)
        a[1, 3, 4] = torch.nan
        result = hs.randomized_svd(a, rank=5)
        assert result.s[1].isnan().all() and result.s[[0, 2]].isfinite().all()

    def test_half_the_data_elsewhere_is_refused(self, cuda_device):
        with pytest.raises(hs.HeadscanError, match="one device"):
            hs.randomized_svd((torch.ones((4, 2), device=cuda_device), torch.ones((2, 4))), rank=1)
