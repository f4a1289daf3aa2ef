"""What headscan is measured against, as fast as each goes in float32 without changing what it is.

COMP: queries x (n, d), atoms (M, d), torch tensors; returns indices (n, k).
SVD: left (n, d, r), right (n, r, e); returns u, s, vh of the products.
"""

import json
import os
import subprocess
import sys
import warnings

import torch

SWEEPS, TOLERANCE = 100, 1e-7  # of the coordinate descent: at most, and the largest move that ends it


def nonnegative_fit(support, targets):
    """Non-negative least squares by coordinate descent; support (n, s, d), targets (n, d)."""
    gram, right = support @ support.mT, (support @ targets[:, :, None])[:, :, 0]
    diagonal = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-12)
    fit = torch.zeros_like(right)
    for _ in range(SWEEPS):
        before = fit.clone()
        for j in range(fit.shape[1]):
            gradient = right[:, j] - (gram[:, j] * fit).sum(dim=1)
            fit[:, j] = (fit[:, j] + gradient / diagonal[:, j]).clamp_min(0)
        if (fit - before).abs().max() < TOLERANCE:
            break
    return fit


@torch.inference_mode()
def comp_published(x, atoms, k, coherence, batch=64):
    """SITH's COMP as published: a round is three products with the dictionary, a mask and codes of B x M."""
    picks = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    transposed = atoms.T
    for rows, picked in zip(x.split(batch), picks.split(batch), strict=True):
        selected = torch.zeros(len(rows), len(atoms), dtype=torch.bool, device=x.device)
        codes = torch.zeros(len(rows), len(atoms), device=x.device)
        residual = rows
        for size in range(k):
            scores = residual @ transposed
            if size:
                scores.add_(atoms[picked[:, :size]].mean(dim=1) @ transposed, alpha=coherence)
            picked[:, size] = scores.masked_fill_(selected, -torch.inf).argmax(dim=1)
            selected.scatter_(1, picked[:, size : size + 1], True)
            fit = nonnegative_fit(atoms[picked[:, : size + 1]], rows)
            residual = rows - codes.scatter_(1, picked[:, : size + 1], fit) @ atoms
    return picks


@torch.inference_mode()
def comp_folded(x, atoms, k, coherence, batch=64):
    """The same picks from one product a round: one folded query, the residual from gathered rows."""
    picks = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    transposed = atoms.T
    for rows, picked in zip(x.split(batch), picks.split(batch), strict=True):
        query = rows
        for size in range(k):
            scores = query @ transposed
            if size:
                scores.scatter_(1, picked[:, :size], -torch.inf)
            picked[:, size] = scores.argmax(dim=1)
            support = atoms[picked[:, : size + 1]]
            fit = nonnegative_fit(support, rows)
            query = rows - (fit[:, None] @ support)[:, 0] + coherence * support.mean(dim=1)
    return picks


@torch.inference_mode()
def search_torch(queries, atoms, batch=1024, block=8192):
    """Arg-max of one product, in tiles of batch x block whose scores stay in cache; (n,) indices."""
    best = torch.full((len(queries),), -torch.inf)
    index = torch.zeros(len(queries), dtype=torch.int64)
    for start in range(0, len(atoms), block):
        tile = atoms[start : start + block].T
        for first in range(0, len(queries), batch):
            value, place = (queries[first : first + batch] @ tile).max(dim=1)
            kept, kept_index = best[first : first + batch], index[first : first + batch]
            better = value > kept
            kept_index[better] = place[better] + start
            torch.maximum(kept, value, out=kept)
    return index


def search_faiss(queries, flat):
    """faiss IndexFlatIP, k=1; its OpenBLAS as set by `fastest_coretype`."""
    return flat.search(queries, 1)[1][:, 0]


def faiss_index(atoms, threads):
    import faiss

    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(atoms.shape[1])
    flat.add(atoms)
    return flat


CORETYPES = ("SKYLAKEX", "COOPERLAKE", "ZEN", "HASWELL", "")  # "": what the OpenBLAS detects
PROBE = """
import time, json, numpy as np, faiss
faiss.omp_set_num_threads({threads})
rng = np.random.default_rng(0)
atoms, queries = (rng.standard_normal((n, 768), dtype=np.float32) for n in (20000, 512))
flat = faiss.IndexFlatIP(768)
flat.add(atoms)
seconds = []
for _ in range(4):
    start = time.perf_counter()
    flat.search(queries, 1)
    seconds.append(time.perf_counter() - start)
print(json.dumps(min(seconds)))
"""


def fastest_coretype(threads):
    """OPENBLAS_CORETYPE under which faiss searches fastest, and the seconds of each (in fresh processes)."""
    seconds = {}
    for coretype in CORETYPES:
        environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
        if coretype:
            environment["OPENBLAS_CORETYPE"] = coretype
        command = [sys.executable, "-c", PROBE.format(threads=threads)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            seconds[coretype] = json.loads(result.stdout)
    return min(seconds, key=seconds.get), seconds


def comp_sklearn_omp(x, atoms, k):
    """scikit-learn's orthogonal matching pursuit: absolute maximum, no coherence term, no sign constraint."""
    from sklearn.linear_model import orthogonal_mp

    with warnings.catch_warnings():  # it stops early where a float32 inner product is below 3e-4, and says so
        warnings.simplefilter("ignore", RuntimeWarning)
        return orthogonal_mp(atoms.T, x.T, n_nonzero_coefs=k).T  # dense codes (n, M)


@torch.inference_mode()
def svd_dense(left, right):
    """torch.linalg.svd of each d x e product, as the official code does."""
    rank, parts = left.shape[2], []
    for one, other in zip(left, right, strict=True):
        u, s, vh = torch.linalg.svd(one @ other, full_matrices=False)
        parts.append((u[:, :rank], s[:rank], vh[:rank]))
    return tuple(torch.stack(part) for part in zip(*parts, strict=True))


@torch.inference_mode()
def svd_qr_batched(left, right):
    """Householder QR of both factors and the SVD of the r x r core, through torch's batched calls."""
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.mT)
    u, s, vh = torch.linalg.svd(r_left @ r_right.mT)
    return q_left @ u, s, vh @ q_right.mT


@torch.inference_mode()
def svd_qr_looped(left, right):
    """The same, a head at a time."""
    parts = [svd_qr_batched(one, other) for one, other in zip(left, right, strict=True)]
    return tuple(torch.stack(part) for part in zip(*parts, strict=True))


@torch.inference_mode()
def randomized_torch(a, rank, oversample, iterations):
    """torch.svd_lowrank, batched."""
    torch.manual_seed(0)
    u, s, v = torch.svd_lowrank(a, q=rank + oversample, niter=iterations)
    return u[..., :rank], s[..., :rank], v[..., :rank].mT


def randomized_sklearn(a, rank, oversample, iterations):
    """scikit-learn's randomized_svd, a matrix at a time; NumPy in and out."""
    from sklearn.utils.extmath import randomized_svd

    settings = {"n_oversamples": oversample, "n_iter": iterations, "random_state": 0, "flip_sign": False}
    parts = [randomized_svd(one, rank, **settings) for one in a]
    return tuple(zip(*parts, strict=True))
