"""comp against the float64 reference, on every instruction set, and its properties."""

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headscan as hs
from headscan.core import _core
from reference import comp_reference, unit_rows

REAL_CLIP = Path(__file__).parents[3] / "shared" / "data" / "real_clip" / "openai_vit_b32_text.npz"


@pytest.fixture(params=_core.build_info()["instruction_sets"])
def isa(request, monkeypatch):
    monkeypatch.setenv("HEADSCAN_ISA", request.param)
    return request.param


@pytest.fixture(params=["plain", "packed", "cuda"])
def searched(request, monkeypatch):
    """Prepare a dictionary for each of the searches, and have `hs.comp` run there."""
    if request.param == "cuda":
        request.getfixturevalue("cuda_device")
        monkeypatch.setattr(hs, "comp", functools.partial(hs.comp, device="cuda"))
    return (lambda atoms: atoms) if request.param == "plain" else hs.pack


def agrees(x, atoms, k=5, coherence=0.3, searched=lambda atoms: atoms):
    codes = hs.comp(x, searched(atoms), k=k, coherence=coherence)
    indices, coefficients = comp_reference(x, atoms, k, coherence)
    np.testing.assert_array_equal(codes.indices, indices)
    np.testing.assert_allclose(codes.coefficients, coefficients, atol=1e-12)  # float64 fits of condition < 1e3
    assert codes.certified.all()
    return codes


@pytest.mark.parametrize("width", [1, 3, 15, 16, 17, 31, 64, 65])
def test_widths_around_the_vector_length(isa, width, searched):
    rng = np.random.default_rng(width)
    if width == 1:  # two distinct unit rows only: signs decide
        atoms, x = np.array([[-1.0], [1.0]], dtype=np.float32), np.array([[0.5], [-2.0]])
        codes = hs.comp(x, searched(atoms), k=1)
        np.testing.assert_array_equal(codes.indices, [[1], [0]])
        np.testing.assert_allclose(codes.coefficients, [[0.5], [2.0]])
        return
    agrees(unit_rows(rng, 20, width, np.float64), unit_rows(rng, 200, width), k=3, searched=searched)


@pytest.mark.parametrize("rows", [5, 63, 64, 65, 129, 1000])
def test_dictionary_sizes_around_the_block_length(isa, rows, searched):
    rng = np.random.default_rng(rows)
    agrees(unit_rows(rng, 20, 48, np.float64), unit_rows(rng, rows, 48), searched=searched)


@pytest.mark.parametrize("coherence", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("k", [1, 2, 20])
def test_depth_and_coherence(k, coherence, searched):
    rng = np.random.default_rng(k)
    agrees(unit_rows(rng, 30, 32, np.float64), unit_rows(rng, 300, 32), k=k, coherence=coherence, searched=searched)


def test_correlated_atoms(searched):
    """Atoms with a steep spectrum, as text embeddings have: many near-ties and dropped coefficients."""
    rng = np.random.default_rng(0)
    spectrum = 1 / np.arange(1, 65)
    atoms = rng.standard_normal((2000, 64)) * spectrum
    atoms = (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).astype(np.float32)
    x = rng.standard_normal((100, 64)) * spectrum
    codes = agrees(x / np.linalg.norm(x, axis=1, keepdims=True), atoms, k=8, searched=searched)
    assert (codes.coefficients == 0).any()  # the case is there: the refit drops atoms


def test_every_atom_is_picked_when_k_is_all(searched):
    rng = np.random.default_rng(1)
    codes = hs.comp(unit_rows(rng, 4, 12, np.float64), searched(unit_rows(rng, 12, 12)), k=12)
    np.testing.assert_array_equal(np.sort(codes.indices), np.tile(np.arange(12), (4, 1)))


def test_float32_queries_and_empty_batches():
    rng = np.random.default_rng(2)
    atoms = unit_rows(rng, 50, 16)
    agrees(unit_rows(rng, 7, 16), atoms)
    codes = hs.comp(np.empty((0, 16)), atoms)
    assert codes.indices.shape == codes.coefficients.shape == (0, 5) and codes.certified.shape == (0,)


def test_torch_in_torch_out():
    rng = np.random.default_rng(3)
    x, atoms = unit_rows(rng, 6, 16, np.float64), unit_rows(rng, 40, 16)
    codes = hs.comp(torch.from_numpy(x), torch.from_numpy(atoms))
    assert isinstance(codes.indices, torch.Tensor) and codes.certified.dtype == torch.bool
    np.testing.assert_array_equal(codes.indices.numpy(), hs.comp(x, atoms).indices)


def test_threads_and_batch_split_change_nothing():
    rng = np.random.default_rng(4)
    x, atoms = unit_rows(rng, 700, 24, np.float64), unit_rows(rng, 333, 24)
    whole = hs.comp(x, atoms, threads=1)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(hs.comp(x, atoms, threads=threads).coefficients, whole.coefficients)
    parts = [hs.comp(part, atoms) for part in np.array_split(x, 9)]
    np.testing.assert_array_equal(np.concatenate([p.indices for p in parts]), whole.indices)
    np.testing.assert_array_equal(np.concatenate([p.coefficients for p in parts]), whole.coefficients)


class TestHardDictionaries:
    def test_all_atoms_equal(self, isa, searched):
        atoms = np.repeat(unit_rows(np.random.default_rng(5), 1, 20), 300, axis=0)
        codes = hs.comp(atoms[:1].astype(np.float64), searched(atoms))
        np.testing.assert_array_equal(codes.indices, [[0, 1, 2, 3, 4]])
        np.testing.assert_allclose(codes.coefficients.sum(), 1, atol=1e-6)

    def test_atoms_one_ulp_apart(self, isa, searched):
        rng = np.random.default_rng(6)
        atoms = np.repeat(unit_rows(rng, 1, 24), 24, axis=0)
        for i in range(24):
            atoms[i, i] = np.nextafter(atoms[i, i], np.float32(2))
        x = unit_rows(rng, 50, 24, np.float64)
        codes = hs.comp(x, searched(atoms), k=1)
        np.testing.assert_array_equal(codes.indices, comp_reference(x, atoms, 1, 0.3)[0])

    def test_repeated_atom_among_others(self, isa, searched):
        rng = np.random.default_rng(7)
        atoms = unit_rows(rng, 400, 24)
        atoms[100:200] = atoms[37]
        x = np.concatenate([unit_rows(rng, 30, 24, np.float64), atoms[37:38].astype(np.float64)])
        codes = hs.comp(x, searched(atoms))
        np.testing.assert_array_equal(codes.indices, comp_reference(x, atoms, 5, 0.3)[0])

    def test_zero_rows_and_zero_query(self, isa, searched):
        rng = np.random.default_rng(8)
        atoms = unit_rows(rng, 100, 24)
        atoms[::3] = 0
        x = unit_rows(rng, 20, 24, np.float64)
        x[4] = 0
        agrees(x, atoms, searched=searched)

    def test_huge_range_within_a_row(self, isa, searched):
        rng = np.random.default_rng(9)
        atoms = rng.standard_normal((300, 40)) * 10.0 ** rng.integers(-30, 1, (300, 40))
        atoms = (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).astype(np.float32)
        agrees(unit_rows(rng, 30, 40, np.float64), atoms, searched=searched)


@pytest.mark.parametrize(
    ("x", "atoms", "options", "message"),
    [
        (np.ones((2, 4)), np.ones((3, 5), np.float32), {"k": 1}, "rows of the same length"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 4}, "number of atoms"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 0}, "at least 1"),
        (np.full((2, 4), np.nan), np.ones((3, 4), np.float32), {"k": 1}, "row 0 holds NaN"),
        (np.ones((2, 4)), np.full((3, 4), np.inf, np.float32), {"k": 1}, "row 0 holds NaN or inf"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 1, "coherence": -1.0}, "coherence"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 1, "coherence": np.nan}, "coherence"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 1, "threads": -1}, "threads"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 1, "threads": 5000}, "threads"),
        (np.ones((2, 4)), np.ones((3, 4), np.float32), {"k": 2**40}, "number of atoms"),
        (np.full((2, 4), 1e38), np.ones((3, 4), np.float32), {"k": 1}, "row 0: its norm"),
        (np.ones(4), np.ones((3, 4), np.float32), {"k": 1}, "2 dimensions"),
        (np.ones((2, 4)), np.ones((0, 4), np.float32), {"k": 1}, "number of atoms"),
    ],
)
def test_bad_input_is_refused(x, atoms, options, message):
    with pytest.raises(ValueError, match=message):
        hs.comp(x, atoms, **options)


@pytest.mark.parametrize("bad", [np.ones((2, 4), np.int64), [[1.0]], "text"])
def test_bad_kinds_are_refused(bad):
    with pytest.raises(TypeError):
        hs.comp(bad, np.ones((3, 4), np.float32), k=1)
    with pytest.raises(TypeError):
        hs.comp(np.ones((2, 4)), np.ones((3, 4)), k=1)  # float64 atoms


@pytest.mark.parametrize("options", [{"k": 2.5}, {"k": True}, {"k": "2"}, {"threads": 1.5}, {"threads": "2"}])
def test_numbers_that_are_not_whole_are_refused(options):
    with pytest.raises(hs.HeadscanError, match="whole number"):
        hs.comp(np.ones((2, 4)), np.ones((3, 4), np.float32), **({"k": 1} | options))


@pytest.mark.parametrize("scale", [1e-12, 1e-30, 1e-37, 1e10])
def test_short_and_long_rows_stay_exact(isa, searched, scale):
    rng = np.random.default_rng(9)
    x, atoms = unit_rows(rng, 20, 40), unit_rows(rng, 700, 40)
    for queries, rows in ((x * np.float32(scale), atoms), (x, atoms * np.float32(min(scale, 1)))):
        picked = hs.comp(queries, searched(rows), k=1).indices[:, 0]
        best = (queries.astype(np.float64) @ rows.T.astype(np.float64)).argmax(axis=1)
        np.testing.assert_array_equal(picked, best)


@pytest.mark.parametrize("coherence", [1e3, 1e6])
def test_strong_coherence_stays_exact(isa, searched, coherence):
    rng = np.random.default_rng(10)
    agrees(unit_rows(rng, 10, 40, np.float64), unit_rows(rng, 700, 40), coherence=coherence, searched=searched)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"shift": 4}, hs.HeadscanError, "shift"),
        ({"shift": -1}, hs.HeadscanError, "shift"),
        ({"largest_norm": float("nan")}, hs.HeadscanError, "largest norm"),
        ({"fit_width": 9}, hs.HeadscanError, "fit_width must be at most the width of the atoms, 8, got 9"),
        (
            {"codes": np.zeros(100, np.uint8)},
            hs.HeadscanError,
            "codes of the packed dictionary must hold 1024 values",
        ),
        ({"scale": np.zeros(128)}, TypeError, "scale of the .* must be a contiguous array of float32, got float64"),
        ({"rotation": np.eye(8, dtype="f4", order="F")[::2]}, TypeError, "rotation of the packed dictionary must be"),
        ({"beyond": None}, TypeError, "beyond of the packed dictionary must be .* got <class 'NoneType'>"),
    ],
)
def test_what_packing_does_not_make_is_refused_when_it_is_made(change, error, message):
    packed = hs.pack(unit_rows(np.random.default_rng(11), 100, 8))
    with pytest.raises(error, match=message):
        dataclasses.replace(packed, **change)


def test_coherence_that_float32_cannot_bound_is_refused():
    rng = np.random.default_rng(12)
    with pytest.raises(hs.HeadscanError, match=r"from 0 to 1e\+06, got 1e\+38"):
        hs.comp(unit_rows(rng, 3, 8), unit_rows(rng, 10, 8), k=2, coherence=1e38)


def test_threads_that_cannot_start_are_an_error():
    code = (
        "import resource, numpy as np, headscan as hs\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), used + (1 << 28)))\n"
        "try:\n    hs.comp(np.ones((2, 10)), np.eye(10, dtype='f4'), k=2, threads=1000)\n"
        "except (hs.HeadscanError, MemoryError) as error:\n    print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "refused" in done.stdout, done.stdout + done.stderr


def test_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("HEADSCAN_ISA", "quantum")
    with pytest.raises(ValueError, match="HEADSCAN_ISA must be one of"):
        hs.comp(np.ones((2, 4)), np.ones((3, 4), np.float32), k=1)


shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "rows": st.integers(1, 90),
    "width": st.integers(2, 40),
    "k": st.integers(1, 6),
}


@settings(max_examples=60, deadline=None)
@given(**shapes, coherence=st.sampled_from([0.0, 0.3, 1.0]))
def test_properties_of_a_code(seed, rows, width, k, coherence):
    rng = np.random.default_rng(seed)
    k = min(k, rows)
    atoms, x = unit_rows(rng, rows, width), unit_rows(rng, 3, width, np.float64)
    codes = hs.comp(x, atoms, k=k, coherence=coherence)
    gathered = atoms.astype(np.float64)[codes.indices]
    residual = x - np.einsum("nk,nkd->nd", codes.coefficients, gathered)
    slopes = np.einsum("nkd,nd->nk", gathered, residual)
    assert (codes.coefficients >= 0).all()
    assert all(len(set(row)) == k for row in codes.indices.tolist())
    np.testing.assert_allclose(slopes[codes.coefficients > 0], 0, atol=1e-10)  # orthogonal where active
    assert (slopes <= 1e-10).all()  # and no picked atom would still help: the Karush-Kuhn-Tucker conditions
    errors = [
        np.linalg.norm(x - np.einsum("nk,nkd->nd", c.coefficients, atoms.astype(np.float64)[c.indices]), axis=1)
        for c in (hs.comp(x, atoms, k=j, coherence=coherence) for j in range(1, k + 1))
    ]
    assert (np.diff(errors, axis=0) <= 1e-12).all()  # another atom never hurts


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_permuting_the_dictionary_permutes_the_picks(seed, rows, width, k):
    rng = np.random.default_rng(seed)
    atoms, x = unit_rows(rng, rows, width), unit_rows(rng, 3, width, np.float64)
    order = rng.permutation(rows)
    k = min(k, rows)
    direct, permuted = hs.comp(x, atoms, k=k), hs.comp(x, atoms[order], k=k)
    np.testing.assert_array_equal(direct.indices, order[permuted.indices])


@pytest.mark.skipif(not REAL_CLIP.exists(), reason="needs shared/data/real_clip beside the repository")
def test_real_clip_text_embeddings(searched):
    with np.load(REAL_CLIP, allow_pickle=False) as data:
        atoms = data["embeddings"].astype(np.float64)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    atoms -= atoms.mean(axis=0)
    atoms = (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).astype(np.float32)
    rng = np.random.default_rng(0)
    mixed = unit_rows(rng, 200, 512, np.float64) * 0.5 + atoms[rng.integers(0, len(atoms), 200)]
    agrees(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), atoms, searched=searched)
    agrees(unit_rows(rng, 200, 512, np.float64), atoms, k=10, searched=searched)


def test_plain_arrays_need_numpy_alone():
    code = (
        "import sys, numpy as np, headscan as hs; a = np.eye(8, dtype=np.float32)\n"
        "hs.comp(a[:2], hs.pack(a), k=2); hs.comp(a[:2], a, k=2); hs.svd_factored(a[None], a[None])\n"
        "print(*sorted({'torch', 'open_clip', 'timm', 'pandas', 'pyarrow', 'transformers'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("threads", [2, 64])
def test_without_memory_there_is_one_error(threads):
    code = (
        "import resource, sys; import numpy as np; import headscan as hs\n"
        "rows = np.random.default_rng(0).standard_normal((60_000, 64)).astype(np.float32)\n"
        "packed = hs.pack(rows / np.linalg.norm(rows, axis=1, keepdims=True))\n"
        "used, refused = 4096 * int(open('/proc/self/statm').read().split()[0]), 0\n"
        "for step in range(12):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used + (step << 21), resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        hs.comp(rows[:4000], packed, k=5, threads=int(sys.argv[1]))\n"
        "    except MemoryError: refused += 1\n"
        "    except hs.HeadscanError as error: refused += 'cannot start' in str(error)\n"
        "print(refused)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(threads)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 6  # of 12; the rest had enough
