"""The CUDA engine on one GPU: answers checked against the CPU engine, then timed beside the published algorithm.

python benchmarks/gpu.py [--quick]        (on a machine with a GPU; benchmarks/gpu.sh runs everything there is to run)
"""

import argparse
import dataclasses
import statistics
import sys

import baselines
import check
import data
import interleave
import numpy as np
import torch
from check import check_svd
from data import decaying, vo_factors
from interleave import Contender

import headscan as hs
from headscan.core import cuda

K, COHERENCE = 5, 0.3
FEW_QUERIES, FEW_HEADS = 256, 4  # what the slow baselines are timed on
MOST_SECONDS_COMP, LEAST_RATIO_COMP, MOST_SECONDS_SVD = 1.0, 100.0, 0.020


def rate(run, operations, repeats=20):
    """Operations a second, by the device's own clock."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    run()
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return repeats * operations / (start.elapsed_time(end) / 1e3)


def peaks(size):
    """Measured matrix-product rates on random data: int8 and fp16."""
    bytes_ = torch.randint(-127, 128, (2, size, size), dtype=torch.int8, device="cuda")
    halves = torch.randn((2, size, size), dtype=torch.float16, device="cuda")
    return {
        "int8": rate(lambda: torch._int_mm(bytes_[0], bytes_[1].T), 2 * size**3),
        "fp16": rate(lambda: halves[0] @ halves[1], 2 * size**3),
    }


def waited(run):
    """Wrap a call so that it is timed to its end."""

    def call():
        result = run()
        torch.cuda.synchronize()
        return result

    return call


def checked_codes(x, atoms, packed):
    """Raise unless a sample has the CPU's codes bit for bit and the float64 reference's picks; the note."""
    codes = hs.comp(torch.from_numpy(x).cuda(), packed, k=K, coherence=COHERENCE)
    rows = np.linspace(0, len(x) - 1, min(64, len(x))).astype(int)
    expected = hs.comp(x[rows], packed, k=K, coherence=COHERENCE)
    for name in ("indices", "coefficients"):
        np.testing.assert_array_equal(getattr(codes, name).cpu().numpy()[rows], getattr(expected, name))
    on_host = hs.SparseCodes(
        *(getattr(codes, name).cpu().numpy() for name in ("indices", "coefficients", "certified"))
    )
    note = check.check_picks(on_host, x, atoms, K, COHERENCE, sample=4)
    rescored = int(codes.counters.rescored) / (K * len(x))
    return f"{note}, {len(rows)} equal to the CPU's bit for bit; {rescored:.0f} atoms rescored a round"


def comp_bar(options, peak):
    """All write directions of ViT-L/14 over a large dictionary."""
    atoms = data.structured(options.atoms, 768)
    x = data.mixtures(atoms, options.queries)
    packed = hs.pack(atoms)
    note = checked_codes(x, atoms, packed)
    queries, rows = torch.from_numpy(x).cuda(), torch.from_numpy(atoms).cuda()
    few = min(FEW_QUERIES, options.queries)
    contenders = [
        Contender(
            f"published, {few} queries scaled to {options.queries}",
            waited(lambda: baselines.comp_published(queries[:few], rows, K, COHERENCE)),
            scale=options.queries / few,
        ),
        Contender("headscan", waited(lambda: hs.comp(queries, packed, k=K, coherence=COHERENCE)), note=note),
    ]
    interleave.measure(contenders, options.rounds)
    contenders[0].note = check.agreement(contenders[0].result.cpu(), contenders[1].result.indices[:few].cpu())
    seconds = statistics.median(contenders[1].seconds)
    achieved = 2 * contenders[1].result.counters.multiply_adds / seconds
    ratio = statistics.median(interleave.ratios(contenders[1], contenders[0]))
    return [
        f"## COMP, {options.queries} queries x {options.atoms} atoms x 768, k = {K}",
        "",
        *interleave.table(contenders, contenders[0]),
        "",
        f"Over everything: {achieved / 1e12:.0f} e12 int8 operations / s, {achieved / peak['int8']:.0%} of the int8 "
        f"peak, {achieved / peak['fp16']:.0%} of the fp16 peak.",
        "",
        f"- at most {MOST_SECONDS_COMP} s: {verdict(seconds <= MOST_SECONDS_COMP)}",
        f"- at least {LEAST_RATIO_COMP:.0f} times the published algorithm: {verdict(ratio >= LEAST_RATIO_COMP)}",
    ]


def streamed_bar(options):
    """The dictionary with its rows in host memory, streamed in chunks, and spread over all GPUs: the same codes."""
    atoms = data.structured(options.atoms, 768)
    queries = torch.from_numpy(data.mixtures(atoms, options.queries)).cuda()
    resident = hs.pack(atoms)
    (whole,) = cuda.upload(resident, (0,))
    contenders = [Contender("all in one GPU's memory", waited(lambda: hs.comp(queries, resident, k=K)))]
    # Codes are a fifth of all: a twentieth makes two buffers for chunks of an eighth of them.
    for name, share in (
        ("rows in host memory", 0.5),
        ("streamed through two buffers, an eighth of the codes each", 0.05),
    ):
        packed = dataclasses.replace(resident)
        (part,) = cuda.upload(packed, (0,), memory_bytes=int(share * whole.nbytes))
        note = f"{part.chunks} chunks, {part.nbytes / 2**20:.0f} MiB of GPU memory"
        contenders.append(Contender(name, waited(lambda packed=packed: hs.comp(queries, packed, k=K)), note=note))
    if torch.cuda.device_count() > 1:
        devices, shared, on_host = (
            tuple(range(torch.cuda.device_count())),
            dataclasses.replace(resident),
            queries.cpu(),
        )
        names = tuple(f"cuda:{index}" for index in devices)
        cuda.upload(shared, devices)
        for name, packed in (("queries", resident), ("dictionary", shared)):
            run = waited(lambda packed=packed: hs.comp(on_host, packed, k=K, device=names))
            contenders.append(Contender(f"{name} shared by {len(names)} GPUs, from and to the host", run))
    interleave.measure(contenders, options.rounds)
    for one in contenders[1:]:
        for field in ("indices", "coefficients"):
            expected, got = getattr(contenders[0].result, field), getattr(one.result, field)
            np.testing.assert_array_equal(got.cpu(), expected.cpu())
    return [
        f"## Dictionaries beyond one GPU's memory, {options.queries} queries x {options.atoms} atoms x 768, k = {K}",
        "",
        *interleave.table(contenders, contenders[0]),
        "",
        "Codes equal bit for bit.",
    ]


def randomized_bar(options):
    """Randomized SVD of MLP-like matrices against torch's own."""
    a = decaying(options.matrices, 1024, 4096)
    there, settings = torch.from_numpy(a).cuda(), (64, 8, 2)
    contenders = [
        Contender("torch.svd_lowrank, batched", waited(lambda: baselines.randomized_torch(there, *settings))),
        Contender("headscan", waited(lambda: hs.randomized_svd(there, rank=64))),
    ]
    interleave.measure(contenders, options.rounds)
    for one in contenders:
        error = check.low_rank_error(a, [part.cpu() for part in tuple(one.result)[:3]])
        one.note = f"error {error:.4f} times the least possible"
    return [
        f"## Randomized SVD, {len(a)} of 1024 x 4096, rank 64",
        "",
        *interleave.table(contenders, contenders[0]),
    ]


def svd_bar(options):
    """All value-output SVDs of ViT-L/14."""
    left, right = vo_factors(options.heads, 1024, 64)
    there, other = torch.from_numpy(left).cuda(), torch.from_numpy(right).cuda()
    few = min(FEW_HEADS, options.heads)
    errors = check.svd_errors(left, right, [part.cpu() for part in hs.svd_factored(there, other)])
    check_svd("headscan on CUDA", errors)
    contenders = [
        Contender(
            f"torch.linalg.svd of products, {few} heads scaled to {options.heads}",
            waited(lambda: baselines.svd_dense(there[:few], other[:few])),
            scale=options.heads / few,
        ),
        Contender("torch QR + small SVD, batched", waited(lambda: baselines.svd_qr_batched(there, other))),
        Contender(
            "headscan",
            waited(lambda: hs.svd_factored(there, other)),
            note=f"sigma error {errors[0]:.1e}, orthogonality {errors[1]:.1e}",
        ),
    ]
    interleave.measure(contenders, options.rounds)
    seconds = statistics.median(contenders[-1].seconds)
    return [
        f"## SVD of {options.heads} heads, factors 1024 x 64",
        "",
        *interleave.table(contenders, contenders[0]),
        "",
        f"- at most {1e3 * MOST_SECONDS_SVD:.0f} ms: {verdict(seconds <= MOST_SECONDS_SVD)}",
    ]


def verdict(met):
    return "met" if met else "NOT met"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=24_576)
    parser.add_argument("--atoms", type=int, default=1_000_000)
    parser.add_argument("--heads", type=int, default=384)
    parser.add_argument("--matrices", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, printed only")
    options = parser.parse_args()
    if options.quick:
        options.queries, options.atoms, options.heads, options.rounds = 1024, 50_000, 24, 2
        options.matrices = 2
    return options


def main():
    options = parse()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device, and torch sees none")
    properties = torch.cuda.get_device_properties(0)
    peak = peaks(2048 if options.quick else 8192)
    head = [
        f"- {properties.name}, compute {properties.major}.{properties.minor}, "
        f"{properties.multi_processor_count} multiprocessors, {properties.total_memory / 2**30:.0f} GiB, "
        f"CUDA of torch {torch.version.cuda}",
        f"- {interleave.versions()}",
        *(f"- peak {name} matrix product: {value / 1e12:.0f} e12 operations / s" for name, value in peak.items()),
    ]
    body = [*head, "", *comp_bar(options, peak)]
    for bar in (svd_bar, streamed_bar, randomized_bar):
        body += ["", *bar(options)]
    interleave.report(None if options.quick else "cuda", "The CUDA engine", body)


if __name__ == "__main__":
    main()
