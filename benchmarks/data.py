"""Dictionaries and queries to bench over: Gaussian, structured like real text embeddings, and real ones.

`structured` imitates centred text embeddings. Its covariance has the eigenvalues i^-0.44 exp(-3.5 i / d), a
fit to the 1,408 real CLIP ViT-B/32 text embeddings; topics nest in three levels, and each atom strays from
its innermost group by its own amount, from next to nothing (near-duplicates) to nearly everything. `python
benchmarks/data.py` prints the statistics of all of them side by side.
"""

import sys
from pathlib import Path

import numpy as np

CHUNK = 65536  # rows made at a time: bounds the memory beside the dictionary itself
GROUPS = (3000, 60, 4)  # atoms to a topic, a subtopic, a group, on average
SHARES = (0.15, 0.40, 0.45)  # of a group's variance that its topic, its subtopic and itself bring
REAL_CLIP = Path(__file__).resolve().parents[2] / "shared/data/real_clip/openai_vit_b32_text.npz"


def normalise(rows):
    """Unit rows in place (zero rows stay zero), a chunk at a time."""
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return rows


def centred(rows):
    """Unit rows, minus their mean, unit again, in place: as a dictionary before it is searched."""
    normalise(rows)
    mean = (rows.sum(axis=0, dtype=np.float64) / len(rows)).astype(np.float32)
    for start in range(0, len(rows), CHUNK):
        rows[start : start + CHUNK] -= mean
    return normalise(rows)


def gaussian(rows, width, seed=0):
    return normalise(np.random.default_rng(seed).standard_normal((rows, width), dtype=np.float32))


def spectrum(width):
    """Standard deviations along the principal axes."""
    axis = np.arange(1, width + 1)
    variances = axis**-0.44 * np.exp(-3.5 * axis / width)
    return np.sqrt(variances / variances.sum()).astype(np.float32)


def structured(rows, width, seed=0, out=None):
    """Centred unit atoms (rows, width), float32; fills `out`, an array or a memory map, where given."""
    rng = np.random.default_rng(seed)
    atoms = np.empty((rows, width), dtype=np.float32) if out is None else out
    basis = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    mixing = spectrum(width)[:, None] * basis  # white (., width) -> coloured
    groups = _groups(rows, width, rng)
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        group = (len(groups) * rng.random(count) ** 1.3).astype(np.int64)  # the early ones larger
        stray = rng.beta(1.3, 3.5, (count, 1)).astype(np.float32)  # the atom's own share of the variance
        own = rng.standard_normal((count, width), dtype=np.float32)
        atoms[start : start + count] = (np.sqrt(1 - stray) * groups[group] + np.sqrt(stray) * own) @ mixing
    return centred(atoms)


def _groups(rows, width, rng):
    """White centres of the innermost groups, each within a subtopic, within a topic."""
    centres = np.zeros((1, width), dtype=np.float32)
    for size, share in zip(GROUPS, SHARES, strict=True):
        count = max(2, rows // size)
        own = rng.standard_normal((count, width), dtype=np.float32)
        centres = centres[rng.integers(len(centres), size=count)] + np.sqrt(np.float32(share)) * own
    return centres


def mixtures(atoms, count, seed=0, concept=0.15):
    """Unit queries (count, d) where there is no model: isotropic noise and a little of three atoms.

    `minilm.head_directions` are nearly isotropic over the WordNet dictionary (8 % of their energy in its
    first 32 of 384 axes), but every third or so points at a concept: the share of the variance that the
    atoms bring runs from 0 to `concept`, most of it near 0.
    """
    rng = np.random.default_rng(seed)
    noise = normalise(rng.standard_normal((count, atoms.shape[1]), dtype=np.float32))
    weights = rng.dirichlet((0.5, 0.5, 0.5), size=count).astype(np.float32)
    picked = atoms[rng.integers(len(atoms), size=(count, 3))]
    concepts = normalise((np.sqrt(weights)[:, :, None] * picked).sum(axis=1))
    share = np.float32(concept) * rng.random((count, 1), dtype=np.float32) ** 4
    return normalise(np.sqrt(1 - share) * noise + np.sqrt(share) * concepts)


def directions(queries, count, seed=0):
    """`count` of the rows, drawn without replacement, each with a random pole."""
    rng = np.random.default_rng(seed)
    chosen = queries[rng.choice(len(queries), size=min(count, len(queries)), replace=False)]
    return np.ascontiguousarray(chosen * rng.choice(np.float32([-1, 1]), size=(len(chosen), 1)))


def vo_factors(heads, width, rank, seed=0):
    """Factors with the decaying spectra of trained heads, float32."""
    rng = np.random.default_rng(seed)
    decay = np.linspace(1.0, 0.1, rank, dtype=np.float32)
    left = rng.standard_normal((heads, width, rank), dtype=np.float32) * decay
    return left, rng.standard_normal((heads, rank, width), dtype=np.float32)


def decaying(count, rows, columns, seed=0):
    """Dense matrices with a power-law spectrum, like MLP weights."""
    rng = np.random.default_rng(seed)
    decay = (np.arange(1, rows + 1, dtype=np.float32) ** -0.5)[:, None]
    matrices = np.empty((count, rows, columns), dtype=np.float32)
    for one in matrices:
        left = rng.standard_normal((rows, rows), dtype=np.float32) / rows
        one[:] = left @ (decay * rng.standard_normal((rows, columns), dtype=np.float32))
    return matrices


def dictionary_statistics(atoms, sample=2000, seed=0):
    """Energy in the leading axes, the nearest neighbour's cosine, and how cosines between atoms spread."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(atoms), size=min(sample, len(atoms)), replace=False))
    fit = atoms if len(atoms) <= 100_000 else atoms[:: len(atoms) // 100_000]
    energy = np.cumsum(np.linalg.eigvalsh((fit.T @ fit).astype(np.float64))[::-1])
    cosines = atoms[rows] @ atoms.T
    cosines[np.arange(len(rows)), rows] = -1
    nearest, spread = cosines.max(axis=1), cosines[:, :: max(1, len(atoms) // 5000)]
    return {
        **{f"energy in {axes} axes": energy[axes - 1] / energy[-1] for axes in (32, 64, 128)},
        **{f"nearest cosine, {share} %": np.percentile(nearest, share) for share in (10, 50, 90, 99)},
        "cosine, standard deviation": spread.std(),
        "cosine, 99.9 %": np.percentile(spread, 99.9),
        "atoms within 0.8": (cosines > 0.8).sum(axis=1).mean(),
    }


def query_statistics(queries, atoms, block=256):
    """How the scores of a first round look: the best, its lead, and how many come near it."""
    best, lead, near, deviation = [], [], [], []
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ atoms.T
        top = np.partition(scores, -2, axis=1)[:, -2:]
        best.append(top[:, 1])
        lead.append(top[:, 1] - top[:, 0])
        near.append((scores > 0.9 * top[:, 1:]).sum(axis=1))
        deviation.append(scores.std(axis=1))
    best, lead, near, deviation = (np.concatenate(part) for part in (best, lead, near, deviation))
    return {
        **{f"best score, {share} %": np.percentile(best, share) for share in (10, 50, 90, 99)},
        "best score over the deviation, median": np.median(best / deviation),
        "lead of the best, median": np.median(lead),
        "atoms above 0.9 of the best, mean": near.mean(),
    }


def real_clip():
    """The 1,408 real CLIP text embeddings, centred, or None where shared/ is absent."""
    return centred(np.load(REAL_CLIP)["embeddings"].astype(np.float32)) if REAL_CLIP.exists() else None


def _print_statistics(name, statistics):
    print(f"\n{name}")
    for key, value in statistics.items():
        print(f"  {key:40s} {value:.4g}")


def main():
    import minilm

    clip = real_clip()
    if clip is not None:
        _print_statistics("real CLIP text, 1,408 x 512", dictionary_statistics(clip))
    _print_statistics("structured, 100,000 x 512", dictionary_statistics(structured(100_000, 512)))
    if minilm.available():
        words = centred(minilm.wordnet_minilm())
        _print_statistics(f"WordNet by MiniLM, {words.shape}", dictionary_statistics(words))
        _print_statistics(
            "head directions over it", query_statistics(directions(minilm.head_directions(), 1024), words)
        )
        _print_statistics("mixtures over it", query_statistics(mixtures(words, 1024), words))
    for rows, width in ((147_306, 384), (int(sys.argv[1]) if len(sys.argv) > 1 else 200_000, 768)):
        atoms = structured(rows, width)
        _print_statistics(f"structured, {rows} x {width}", dictionary_statistics(atoms))
        _print_statistics("mixtures over it", query_statistics(mixtures(atoms, 1024), atoms))


if __name__ == "__main__":
    main()
