"""The mathematics in plain float64 NumPy: what every backend must reproduce."""

import numpy as np
from scipy.optimize import nnls


def scores(atoms, query):
    """Inner products summed row by row in one order, so that equal atoms tie exactly."""
    return (atoms * query).sum(axis=1)


def comp_reference(x, atoms, k, coherence):
    """COMP (arXiv 2603.24653): indices (n, k) and coefficients (n, k) for x (n, d) over atoms (M, d)."""
    atoms = np.asarray(atoms, dtype=np.float64)
    indices = np.empty((len(x), k), dtype=np.int64)
    coefficients = np.empty((len(x), k))
    for row, target in enumerate(np.asarray(x, dtype=np.float64)):
        picked: list[int] = []
        residual = target
        for _ in range(k):
            query = residual.copy()
            if picked:
                query += coherence / len(picked) * atoms[picked].sum(axis=0)
            round_scores = scores(atoms, query)
            round_scores[picked] = -np.inf
            picked.append(int(round_scores.argmax()))
            fit, _ = nnls(atoms[picked].T, target)
            residual = target - atoms[picked].T @ fit
        indices[row], coefficients[row] = picked, fit
    return indices, coefficients


def unit_rows(rng, rows, width, dtype=np.float32):
    values = rng.standard_normal((rows, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)
