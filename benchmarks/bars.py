"""The figures headscan is held to: contenders interleaved, ratios round by round, peaks measured beside.

python benchmarks/bars.py comp|pass|svd|randomized|all [--threads 2] [--rounds 5] [--quick]
"""

import argparse
import os
import time

import baselines
import check
import data
import interleave
import minilm
import numpy as np
import peaks
import threadpoolctl
import torch
from check import check_svd
from data import decaying, vo_factors
from interleave import Contender

import headscan as hs

COHERENCE = 0.3


def dictionary(kind, rows, width):
    if kind == "wordnet":
        return data.centred(minilm.wordnet_minilm())
    return {"structured": data.structured, "gaussian": data.gaussian}[kind](rows, width)


def queries_for(kind, atoms, count):
    """Head directions where the dictionary is the model's own, otherwise mixtures that score like them."""
    if kind == "wordnet":
        return data.directions(minilm.head_directions(), count)
    return data.mixtures(atoms, count)


def pack(atoms):
    """The packed dictionary and a note with what packing took."""
    start = time.perf_counter()
    packed = hs.pack(atoms)
    return packed, f"packed once in {time.perf_counter() - start:.1f} s"


def counter(codes, name):
    counters = codes.counters
    return counters[name] if isinstance(counters, dict) else getattr(counters, name)


def spent(codes, x, atoms):
    """Full passes, rescored candidates and fall-backs, for a note."""
    passes = counter(codes, "multiply_adds") / (len(x) * atoms.size)
    rescored = counter(codes, "rescored") / len(x)
    fallbacks = counter(codes, "fallbacks")
    return f"{passes:.3f} full passes, {rescored:.0f} rescored a query, {fallbacks} fall-backs"


def quicker_batch(x, atoms, batches=(64, 128, 256, 512, 1024)):
    """The batch at which comp_folded is fastest over a tenth of the dictionary."""
    part, seconds = atoms[: max(1000, len(atoms) // 10)], {}
    for batch in [size for size in batches if size <= len(x)] or [len(x)]:
        start = time.perf_counter()
        baselines.comp_folded(x, part, 2, COHERENCE, batch)
        seconds[batch] = time.perf_counter() - start
    return min(seconds, key=seconds.get)


def comp_bar(options):
    """COMP at k rounds against the published algorithm; picks checked against float64."""
    atoms = dictionary(options.kind, options.atoms, options.width)
    x = queries_for(options.kind, atoms, options.queries)
    packed, note = pack(atoms)
    slow_x, slow_atoms, k = torch.from_numpy(x), torch.from_numpy(atoms), options.k
    batch = quicker_batch(slow_x, slow_atoms)
    checked = check.check_picks(hs.comp(x, packed, k=k, coherence=COHERENCE), x, atoms, k, COHERENCE)
    contenders = [
        Contender("published", lambda: baselines.comp_published(slow_x, slow_atoms, k, COHERENCE)),
        Contender("folded, batch 64", lambda: baselines.comp_folded(slow_x, slow_atoms, k, COHERENCE)),
        Contender(f"folded, batch {batch}", lambda: baselines.comp_folded(slow_x, slow_atoms, k, COHERENCE, batch)),
        Contender("headscan", lambda: hs.comp(x, packed, k=k, coherence=COHERENCE, threads=options.threads)),
    ]
    *slow, fast = interleave.measure(contenders, options.rounds, warm=not options.quick)
    for one in slow:
        one.note = check.agreement(one.result, fast.result.indices)
    fast.note = f"{checked}; {spent(fast.result, x, atoms)}; {note}"
    heading = f"COMP, {len(x)} queries x {len(atoms)} {options.kind} atoms x {atoms.shape[1]}, k={k}"
    return heading, interleave.table(contenders, contenders[0])


def pass_bar(options):
    """One fused search pass (k=1) against the int8 peak of the same round, torch and faiss."""
    atoms = dictionary(options.kind, options.pass_atoms, options.width)
    x = queries_for(options.kind, atoms, options.queries)
    packed, note = pack(atoms)
    checked = check.check_picks(hs.comp(x, packed, k=1), x, atoms, 1, 0.0)
    torch_x, torch_atoms = torch.from_numpy(x), torch.from_numpy(atoms)
    flat = baselines.faiss_index(atoms, options.threads)
    rates = []

    def measure_peak():
        rates.append(peaks.peak("int8_multiply_adds", options.threads, 0.3))

    contenders = [
        Contender("torch matmul + arg-max", lambda: baselines.search_torch(torch_x, torch_atoms)),
        Contender("faiss IndexFlatIP", lambda: baselines.search_faiss(x, flat)),
        Contender("int8 peak before", measure_peak),
        Contender("headscan", lambda: hs.comp(x, packed, k=1, threads=options.threads)),
        Contender("int8 peak after", measure_peak),
    ]
    interleave.measure(contenders, options.rounds)
    *slow, _, fast, _ = contenders
    for one in slow:
        one.note = check.agreement(np.asarray(one.result)[:, None], fast.result.indices)
    fast.note = f"{checked}; {spent(fast.result, x, atoms)}; {note}"
    lines = interleave.table([*slow, fast], contenders[0])
    if rates[-1]:
        done = counter(fast.result, "multiply_adds")
        measured = np.reshape(rates[-2 * options.rounds :], (-1, 2)).mean(axis=1)  # the clock drifts
        shares = [100 * done / seconds / rate for seconds, rate in zip(fast.seconds, measured, strict=True)]
        lines += ["", f"Share of the int8 peak measured in the same round, %: {interleave.spread(shares, 1)}"]
    return f"One pass, {len(x)} queries x {len(atoms)} {options.kind} atoms x {atoms.shape[1]}", lines


def svd_bar(options):
    """The VO SVDs of ViT-L/14 against torch; the dense one timed on a few heads and scaled."""
    left, right = vo_factors(options.heads, 1024, 64)
    few = min(options.dense_heads, options.heads)
    slow_left, slow_right = torch.from_numpy(left), torch.from_numpy(right)
    contenders = [
        Contender(
            f"torch.linalg.svd of products, {few} heads scaled to {options.heads}",
            lambda: baselines.svd_dense(slow_left[:few], slow_right[:few]),
            scale=options.heads / few,
        ),
        Contender("torch QR + small SVD, looped", lambda: baselines.svd_qr_looped(slow_left, slow_right)),
        Contender("torch QR + small SVD, batched", lambda: baselines.svd_qr_batched(slow_left, slow_right)),
        Contender("headscan", lambda: hs.svd_factored(left, right, threads=options.threads)),
    ]
    check_svd("headscan", check.svd_errors(left, right, contenders[-1].run()))
    interleave.measure(contenders, options.rounds)
    for one in contenders:
        done = len(one.result[1])
        sigma, orthogonality = check.svd_errors(left[:done], right[:done], one.result)
        one.note = f"sigma error {sigma:.1e}, orthogonality {orthogonality:.1e}"
    lines = interleave.table(contenders, contenders[0])
    for slow in contenders[1:3]:
        ratio = interleave.spread(interleave.ratios(contenders[-1], slow))
        lines += ["", f"headscan over {slow.name}: {ratio} times"]
    return f"SVD of {options.heads} heads, factors 1024 x 64", lines


def randomized_bar(options):
    """Randomized SVD against torch and scikit-learn: the same settings, and narrow blocks that reach their error."""
    a = decaying(options.matrices, 1024, 4096)
    slow_a, settings = torch.from_numpy(a), (64, 8, 2)
    rank, oversample, iterations = settings
    ours = {"rank": rank, "oversample": oversample, "iterations": iterations, "seed": 0, "threads": options.threads}
    narrow = {**ours, "method": "krylov", "block": 32, "iterations": 3}
    contenders = [
        Contender("torch.svd_lowrank, batched", lambda: baselines.randomized_torch(slow_a, *settings)),
        Contender(
            "torch.svd_lowrank, looped",
            lambda: tuple(zip(*(baselines.randomized_torch(one, *settings) for one in slow_a), strict=True)),
        ),
        Contender("scikit-learn randomized_svd", lambda: baselines.randomized_sklearn(a, *settings)),
        Contender("headscan, power", lambda: hs.randomized_svd(a, **ours)),
        Contender("headscan, krylov in blocks of 32", lambda: hs.randomized_svd(a, **narrow)),
    ]
    interleave.measure(contenders, options.rounds)
    errors = [check.low_rank_error(a, one.result) for one in contenders]
    for one, error in zip(contenders, errors, strict=True):
        one.note = f"error {error:.4f} times the least possible"
    for one, error in zip(contenders[3:], errors[3:], strict=True):
        if error > 1.001 * errors[0]:
            raise AssertionError(f"{one.name}: error {error:.4f} is above torch's {errors[0]:.4f}")
    fastest = min(contenders[:2], key=lambda one: sum(one.seconds))
    return f"Randomized SVD, {len(a)} of 1024 x 4096, rank {rank}", interleave.table(contenders, fastest)


BARS = {"comp": comp_bar, "pass": pass_bar, "svd": svd_bar, "randomized": randomized_bar}
SIZES = {"threads": 2, "rounds": 5, "queries": 1024, "atoms": 200_000, "pass_atoms": 1_000_000, "width": 768}
SIZES |= {"k": 5, "heads": 384, "dense_heads": 4, "matrices": 24}
QUICK = {"rounds": 2, "queries": 128, "atoms": 20_000, "pass_atoms": 50_000}
QUICK |= {"heads": 48, "dense_heads": 1, "matrices": 2}


def parse():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("bars", nargs="+", choices=[*BARS, "all"])
    parser.add_argument("--kind", choices=["structured", "gaussian", "wordnet"], default="structured")
    parser.add_argument("--quick", action="store_true", help="small sizes; prints, writes nothing")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    options = parser.parse_args()
    if options.quick:
        for name, size in QUICK.items():
            setattr(options, name, min(size, getattr(options, name)))
    return options


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    threadpoolctl.threadpool_limits(options.threads)
    if {"pass", "all"} & set(options.bars):  # before faiss is imported
        os.environ["OPENBLAS_CORETYPE"], _ = baselines.fastest_coretype(options.threads)
    for name in BARS if "all" in options.bars else options.bars:
        head = interleave.machine(options.threads)
        heading, lines = BARS[name](options)
        suffix = "" if options.kind == "structured" else f"_{options.kind}"
        suffix += f"_k{options.k}" if name == "comp" and options.k != SIZES["k"] else ""
        interleave.report(None if options.quick else f"{name}{suffix}", heading, [*head, "", *lines])


if __name__ == "__main__":
    main()
