"""Answers, checked before anything is timed: float64 references that fit a million atoms."""

import numpy as np
from scipy.optimize import nnls

CHUNK = 65536
NEAR_TIE = 1e-11  # far above a float64 product's rounding: what lies this close is scored again, in one order


def best_atoms(queries, atoms, picked):
    """Exact float64 arg-max of each query over the atoms it has not picked; ties to the lowest index."""
    candidates = [[] for _ in queries]
    highest = np.full(len(queries), -np.inf)
    for start in range(0, len(atoms), CHUNK):
        scores = queries @ atoms[start : start + CHUNK].astype(np.float64).T
        for row, indices in enumerate(picked):
            inside = [index - start for index in indices if start <= index < start + CHUNK]
            scores[row, inside] = -np.inf
        highest = np.maximum(highest, scores.max(axis=1))
        for row, limit in enumerate(highest - NEAR_TIE):
            candidates[row] += [start + index for index in np.flatnonzero(scores[row] >= limit)]
    found = []
    for query, indices in zip(queries, candidates, strict=True):
        exact = (atoms[indices].astype(np.float64) * query).sum(axis=1)
        found.append(indices[int(exact.argmax())])
    return found


def comp_reference(x, atoms, k, coherence):
    """COMP picks (n, k) in float64, a chunk of the dictionary at a time."""
    targets = np.asarray(x, dtype=np.float64)
    queries, picked = targets.copy(), [[] for _ in targets]
    for _ in range(k):
        for indices, index in zip(picked, best_atoms(queries, atoms, picked), strict=True):
            indices.append(index)
        for row, indices in enumerate(picked):
            support = atoms[indices].astype(np.float64)
            fit, _ = nnls(support.T, targets[row])
            queries[row] = targets[row] - fit @ support + coherence * support.mean(axis=0)
    return np.array(picked)


def check_picks(codes, x, atoms, k, coherence, sample=8):
    """Raise unless all queries are certified and a sample's picks are the reference's; return a note."""
    if not np.all(codes.certified):
        raise AssertionError(f"{np.sum(~np.asarray(codes.certified))} of {len(x)} queries are not certified")
    rows = np.linspace(0, len(x) - 1, min(sample, len(x))).astype(int)
    expected, got = comp_reference(x[rows], atoms, k, coherence), np.asarray(codes.indices)[rows]
    if not np.array_equal(got, expected):
        raise AssertionError(f"picks differ from the float64 reference:\n{got}\nexpected\n{expected}")
    return f"all certified; {len(rows)} queries checked"


def agreement(picks, reference):
    """Share of queries whose picks are the same, for the note of a float32 baseline."""
    same = (np.asarray(picks) == np.asarray(reference)).all(axis=-1)
    return f"same picks for {100 * same.mean():.1f} % of queries"


def svd_errors(left, right, result, sample=8):
    """Largest relative error of a singular value, largest entry of |U^T U - I| and |V V^T - I|; a sample."""
    sigma_error = orthogonality = 0.0
    u, s, vh = (np.asarray(part, dtype=np.float64) for part in result)
    for head in np.linspace(0, len(s) - 1, min(sample, len(s))).astype(int):
        _, r_left = np.linalg.qr(np.asarray(left[head], dtype=np.float64))
        _, r_right = np.linalg.qr(np.asarray(right[head], dtype=np.float64).T)
        exact = np.linalg.svd(r_left @ r_right.T, compute_uv=False)
        sigma_error = max(sigma_error, float((abs(s[head] - exact) / exact).max()))
        eye = np.eye(len(exact))
        for gram in (u[head].T @ u[head], vh[head] @ vh[head].T):
            orthogonality = max(orthogonality, float(abs(gram - eye).max()))
    return sigma_error, orthogonality


def low_rank_error(a, result, sample=2):
    """Frobenius error of the approximation over the least possible at its rank; worst of a sample."""
    worst = 0.0
    for index in np.linspace(0, len(a) - 1, min(sample, len(a))).astype(int):
        u, s, vh = (np.asarray(part[index], dtype=np.float64) for part in result)
        exact = np.asarray(a[index], dtype=np.float64)
        gram = np.linalg.eigvalsh(exact @ exact.T)[::-1]
        worst = max(worst, float(np.linalg.norm(exact - (u * s) @ vh) / np.sqrt(gram[len(s) :].sum())))
    return worst


def check_svd(name, errors, limit=1e-6):
    if max(errors) > limit:
        raise AssertionError(f"{name}: sigma error, orthogonality {errors}, limit {limit:.0e}")
