"""Packed dictionaries: the certified search equals the plain one, mapped or in memory."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headscan as hs
from reference import unit_rows


def clustered(rng, rows, width):
    """Atoms in tight groups with a falling spectrum: many near-ties, as among text embeddings."""
    centres = rng.standard_normal((max(1, rows // 40), width))
    atoms = centres[rng.integers(0, len(centres), rows)] + 0.3 * rng.standard_normal((rows, width))
    atoms *= (1 + np.arange(width)) ** -0.4
    return (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).astype(np.float32)


def same_codes(left, right):
    np.testing.assert_array_equal(left.indices, right.indices)
    np.testing.assert_array_equal(left.coefficients, right.coefficients)
    assert right.certified.all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 700),
    width=st.integers(1, 90),
    k=st.integers(1, 12),
    coherence=st.sampled_from([0.0, 0.3, 1.5]),
)
def test_equals_the_plain_search(seed, rows, width, k, coherence):
    rng = np.random.default_rng(seed)
    atoms, x = clustered(rng, rows, width), unit_rows(rng, 9, width, np.float64)
    options = {"k": min(k, rows), "coherence": coherence}
    same_codes(hs.comp(x, atoms, **options), hs.comp(x, hs.pack(atoms), **options))


def test_reuse_between_rounds_is_cheap_and_counted():
    rng = np.random.default_rng(0)
    atoms, x = clustered(rng, 20_000, 128), unit_rows(rng, 256, 128, np.float64)
    packed = hs.pack(atoms)
    codes = hs.comp(x, packed)
    same_codes(hs.comp(x, atoms), codes)
    blocks = -(-20_000 // 64) * 64
    assert 258 * blocks * 128 <= codes.counters.multiply_adds < 5 * 258 * blocks * 128  # groups of six: 258
    assert codes.counters.rescored > 0


def test_splits_and_threads_change_nothing():
    rng = np.random.default_rng(1)
    atoms, x = clustered(rng, 3000, 48), unit_rows(rng, 400, 48, np.float64)
    packed = hs.pack(atoms)
    whole = hs.comp(x, packed, k=9, threads=1)
    for threads in (2, 3, 8):
        same_codes(whole, hs.comp(x, packed, k=9, threads=threads))
        np.testing.assert_array_equal(hs.pack(atoms, threads=threads).codes, packed.codes)
    parts = [hs.comp(part, packed, k=9) for part in np.array_split(x, 7)]
    np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), whole.indices)


def test_many_equal_atoms_fall_back_to_the_plain_scan():
    atoms = np.repeat(unit_rows(np.random.default_rng(2), 1, 32), 3000, axis=0)
    codes = hs.comp(atoms[:2].astype(np.float64), hs.pack(atoms))
    np.testing.assert_array_equal(codes.indices, [[0, 1, 2, 3, 4]] * 2)
    assert codes.counters.fallbacks > 0 and codes.certified.all()


def test_large_raw_batches_are_packed_in_passing():
    rng = np.random.default_rng(3)
    atoms, x = clustered(rng, 2000, 16), unit_rows(rng, 50, 16, np.float64)
    assert hs.comp(x, atoms).counters.rescored > 0  # only the packed search counts those
    assert hs.comp(x[:2], atoms).counters.rescored == 0


class TestMapped:
    """Over a dictionary's folder, which opens without a model."""

    @pytest.fixture
    def atoms(self):
        return clustered(np.random.default_rng(4), 500, 40)

    @pytest.fixture
    def folder(self, atoms, tmp_path):
        texts = tuple(f"concept {row}" for row in range(500))
        record: dict[Any, Any] = {"source": "made", "templates": ("{}",), "text_hash": ""}
        return hs.Dictionary(texts=texts, atoms=atoms, mean=np.zeros(40), **record).save(tmp_path / "words")

    def test_rows_outlive_the_name_and_the_first_owner(self, atoms, folder, tmp_path):
        x = unit_rows(np.random.default_rng(8), 30, 40, np.float64)
        packed = hs.load_dictionary(folder).packed
        shutil.rmtree(folder)
        copies = [copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))]
        same_codes(hs.comp(x, atoms), hs.comp(x, packed))
        del packed
        np.save(tmp_path / "other.npy", np.zeros((500, 40), np.float32))
        other = np.load(tmp_path / "other.npy", mmap_mode="r")
        for one in copies:
            same_codes(hs.comp(x, atoms), hs.comp(x, one))
        assert other.shape == atoms.shape

    def test_rows_are_taken_from_the_file_or_the_array(self, atoms, folder):
        wanted = np.array([499, 3, 3, 0, 64])
        mapped = hs.load_dictionary(folder).packed
        for source in (hs.pack(atoms), mapped):
            np.testing.assert_array_equal(source.take(wanted), atoms[wanted])
            assert source.take(wanted[:0]).shape == (0, 40)
        rows = folder / "shards" / "00000" / "atoms.f32"
        os.truncate(rows, rows.stat().st_size - 4)
        with pytest.raises(hs.HeadscanError, match="ends before row 499"):
            mapped.take(wanted)

    def test_the_folder_needs_numpy_alone(self, atoms, folder):
        code = (
            "import sys; own = set(sys.modules); import numpy as np, headscan as hs\n"
            f"words = hs.load_dictionary({str(folder)!r})\n"
            "codes = hs.comp(words.packed.take(np.array([7, 499])), words.packed, k=2)\n"
            "print(*(words.texts[row] for row in codes.indices[:, 0]), codes.certified.all(), sep=',')\n"
            "new = {name: str(getattr(sys.modules[name], '__file__', '')) for name in sys.modules.keys() - own}\n"
            "print(*sorted({name.partition('.')[0] for name, home in new.items() if 'site-packages' in home}))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        picked, loaded = done.stdout.splitlines()
        expected = hs.comp(atoms[[7, 499]], atoms, k=2).indices[:, 0]
        assert picked.split(",") == [*(f"concept {row}" for row in expected), "True"]
        assert set(loaded.split()) <= {"numpy", "headscan", "headscan_command"}


def test_a_private_map_is_searched_as_it_is_in_memory(tmp_path):
    atoms = clustered(np.random.default_rng(4), 500, 40)
    np.save(tmp_path / "raw.npy", 3 * atoms)
    private = np.load(tmp_path / "raw.npy", mmap_mode="c")
    private /= 3
    x = unit_rows(np.random.default_rng(9), 30, 40, np.float64)
    same_codes(hs.comp(x, np.array(private)), hs.comp(x, hs.pack(private)))


@pytest.mark.parametrize(
    ("atoms", "error", "message"),
    [
        (np.full((3, 4), np.nan, np.float32), ValueError, "row 0 holds NaN"),
        (np.ones((0, 4), np.float32), ValueError, "shape"),
        (np.ones(4, np.float32), ValueError, "shape"),
        (np.ones((3, 4)), TypeError, "float32"),
        (np.full((3, 4), 1e30, np.float32), ValueError, "too long"),
    ],
)
def test_bad_atoms_are_refused(atoms, error, message):
    with pytest.raises(error, match=message):
        hs.pack(atoms)


def test_a_nan_past_the_sample_is_found():
    atoms = unit_rows(np.random.default_rng(7), 120_001, 4)
    atoms[60_001, 2] = np.nan
    with pytest.raises(ValueError, match="row 60001 holds NaN"):
        hs.pack(atoms)
