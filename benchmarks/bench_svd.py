"""SVD of every head's W_VO in ViT-B/32, ViT-L/14 and ViT-H/14, and randomized SVD of MLP-like matrices."""

import baselines
import check
import pytest
import torch
from check import check_svd
from data import decaying, vo_factors

import headscan as hs

MODELS = {  # heads, width, rank
    "ViT-B/32": (144, 768, 64),
    "ViT-L/14": (384, 1024, 64),
    "ViT-H/14": (512, 1280, 80),
}
DENSE_HEADS = 2


def _models():
    return [pytest.param(name, marks=[] if name == "ViT-B/32" else pytest.mark.full) for name in MODELS]


@pytest.fixture(scope="module", params=_models())
def factors(request):
    heads, width, rank = MODELS[request.param]
    return f"SVD {heads} heads x {width} x {rank} ({request.param})", *vo_factors(heads, width, rank)


@pytest.mark.parametrize("contender", ["dense", "QR looped", "QR batched", "headscan"])
def test_factored(factors, contender, timed, benchmark, threads):
    benchmark.group, left, right = factors
    slow_left, slow_right = torch.from_numpy(left), torch.from_numpy(right)
    if contender == "dense":
        benchmark.group += f", dense: {DENSE_HEADS} heads only"
        timed(lambda: baselines.svd_dense(slow_left[:DENSE_HEADS], slow_right[:DENSE_HEADS]), slow=True)
        return
    run = {
        "QR looped": lambda: baselines.svd_qr_looped(slow_left, slow_right),
        "QR batched": lambda: baselines.svd_qr_batched(slow_left, slow_right),
        "headscan": lambda: hs.svd_factored(left, right, threads=threads),
    }[contender]
    errors = check.svd_errors(left, right, run())
    if contender == "headscan":
        check_svd(contender, errors)
    timed(run, note=f"sigma error {errors[0]:.1e}, orthogonality {errors[1]:.1e}")


@pytest.fixture(scope="module", params=_models())
def matrices(request):
    _, width, _ = MODELS[request.param]
    name = f"randomized SVD 4 x {width} x {4 * width} rank 64 ({request.param})"
    return name, decaying(4, width, 4 * width)


@pytest.mark.parametrize("contender", ["torch.svd_lowrank", "scikit-learn", "headscan"])
def test_randomized(matrices, contender, timed, benchmark):
    benchmark.group, a = matrices
    if contender == "headscan" and not hasattr(hs, "randomized_svd"):
        pytest.skip("hs.randomized_svd does not exist yet")
    tensor = torch.from_numpy(a)
    run = {
        "torch.svd_lowrank": lambda: baselines.randomized_torch(tensor, 64, 8, 2),
        "scikit-learn": lambda: baselines.randomized_sklearn(a, 64, 8, 2),
        "headscan": lambda: hs.randomized_svd(a, rank=64, oversample=8, iterations=2, seed=0),
    }[contender]
    timed(run, note=f"error {check.low_rank_error(a, run()):.4f} times the least possible")
