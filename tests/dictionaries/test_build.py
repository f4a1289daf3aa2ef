"""Folders of dictionaries: built shard by shard, resumed after any kill, never stale; lists that mean ill."""

from __future__ import annotations

import gzip
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import headscan as hs
from conftest import CONCEPTS, build_module
from headscan.cli.main import main
from headscan.dictionaries import build, encoding


@pytest.fixture
def small_shards(monkeypatch):
    """Several windows and shards of a few thousand concepts."""
    monkeypatch.setattr(encoding, "_WINDOW", 700)
    monkeypatch.setattr(build, "SHARD_ROWS", 1024)


@pytest.fixture
def encoded(monkeypatch):
    """How many texts were encoded, batch by batch."""
    counts = []
    real = encoding.encode_tokens  # type: ignore[attr-defined]

    def counted(module, tokens, **options):
        counts.append(len(tokens.lengths))
        return real(module, tokens, **options)

    monkeypatch.setattr(encoding, "encode_tokens", counted)
    return counts


def many(count):
    return [f"{CONCEPTS[i % 30]} number {i}" for i in range(count)]


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_hold_the_bits_of_a_dictionary_in_memory(model, small_shards, tmp_path):
    texts = many(2500)
    plain = hs.load_dictionary(texts, model=model, cache=False)
    found = hs.encode_dictionary(texts, tmp_path / "shards", model=model)
    assert len(list((tmp_path / "shards" / "shards").iterdir())) == 3
    assert found.texts == plain.texts
    for name in ("codes", "scale", "error", "beyond", "rotation", "atoms"):
        np.testing.assert_array_equal(getattr(found.packed, name), getattr(plain.packed, name))
    for name in ("shift", "largest_norm", "fit_width"):
        assert getattr(found.packed, name) == getattr(plain.packed, name)
    assert not found.atoms.flags.writeable
    x = np.random.default_rng(0).standard_normal((40, 24))
    left, right = hs.comp(x, plain.packed), hs.comp(x, found.packed)
    np.testing.assert_array_equal(left.indices, right.indices)
    np.testing.assert_array_equal(left.coefficients, right.coefficients)


def test_an_encoding_killed_midway_resumes_without_encoding_again(model, bundle, small_shards, encoded, tmp_path):
    texts = tmp_path / "list.txt"
    texts.write_text("\n".join(many(2500)))
    code = (
        "import os, signal, sys; from headscan.cli import main; from headscan.dictionaries import encoding\n"
        "encoding._WINDOW = 700\n"
        "real, calls = encoding.encode_tokens, []\n"
        "def killed(*arguments, **options):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments, **options)\n"
        "encoding.encode_tokens = killed\n"
        "main.main(sys.argv[1:])"
    )
    arguments = ["encode", str(texts), "--model", f"local-dir:{bundle}", "--threads", "2", "--out"]
    run = subprocess.run([sys.executable, "-c", code, *arguments, str(tmp_path / "out")], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert encoded == [700, 400]  # of 700, 700, 700, 400
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_what_changed_is_never_resumed_or_served(model, small_shards, encoded, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    def attempt(texts, with_model=model, **options):
        with monkeypatch.context() as patch:
            patch.setattr(build, "write_shard", interrupted)
            with pytest.raises(KeyboardInterrupt):
                hs.encode_dictionary(texts, tmp_path / "out", model=with_model, **options)
        count = sum(encoded)
        encoded.clear()
        return count

    texts, changed = many(900), build_module()
    changed.ln_final.bias.data[0] += 0.1
    other = hs.load_model(changed)
    assert attempt(texts) == 900
    assert attempt(texts) == 0  # only the shards are left to do
    assert attempt(texts[:-1]) == 899
    assert attempt([*texts[1:], texts[0]]) == 900
    assert attempt(texts, with_model=other) == 900
    assert attempt(texts, template="a {}") == 900
    assert attempt(texts, template=["a {}", "the {}"]) == 1800
    assert attempt(texts, batch_size=100) == 900
    found = hs.encode_dictionary(texts, tmp_path / "out", model=model)
    expected = hs.load_dictionary(texts, model=model, cache=False)
    assert found.hash == expected.hash
    encoded.clear()
    assert hs.encode_dictionary(texts, tmp_path / "out", model=model).hash == expected.hash
    assert encoded == []  # it is there
    assert hs.encode_dictionary(texts, tmp_path / "out", model=other).hash != expected.hash
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_tokenizer_is_another_dictionary(module, encoded):
    texts = many(50)

    def shout(given):
        return model.tokenizer([text.replace("number", "NO.") for text in given])

    model = hs.load_model(module)
    other = hs.load_model(module, tokenizer=shout)
    assert model.text_hash == other.text_hash  # the two agree on the probe
    first, second = (hs.load_dictionary(texts, model=one) for one in (model, other))
    assert encoded == [50, 50]
    assert first.hash != second.hash


def test_two_builders_of_one_folder_take_turns(model, encoded, tmp_path):
    found = []
    run = [
        threading.Thread(target=lambda: found.append(hs.encode_dictionary(CONCEPTS, tmp_path / "out", model=model)))
        for _ in range(3)
    ]
    for thread in run:
        thread.start()
    for thread in run:
        thread.join()
    assert len({one.hash for one in found}) == 1 and len(found) == 3
    assert encoded == [30]


def test_several_templates_are_averaged(model):
    templates = ("a photo of a {}", "a drawing of a {}")
    found = hs.load_dictionary(CONCEPTS, model=model, template=templates, cache=False)
    parts = [model.encode_text([one.replace("{}", text) for text in CONCEPTS]).astype(float) for one in templates]
    average = np.mean([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=0)
    unit = average / np.linalg.norm(average, axis=1, keepdims=True)
    np.testing.assert_allclose(found.mean, unit.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.embeddings(), unit, atol=1e-5)
    assert found.template == "a photo of a {} | a drawing of a {}"
    for bad in ([], ["{}", "{}"], ["a"]):
        with pytest.raises(hs.HeadscanError, match="template"):
            hs.load_dictionary(CONCEPTS, model=model, template=bad)


def test_dictionaries_are_hashed_unless_trusted(model, tmp_path):
    folder = hs.encode_dictionary(CONCEPTS, tmp_path / "out", model=model) and tmp_path / "out"
    codes = folder / "shards/00000/codes.u8"  # type: ignore[operator]
    codes.write_bytes(codes.read_bytes()[:-1] + b"\x01")
    assert len(hs.load_dictionary(folder, model=model, verify=False)) == 30  # type: ignore[arg-type]
    with pytest.raises(hs.HeadscanError, match=r"codes\.u8 is damaged"):
        hs.load_dictionary(folder, model=model)  # type: ignore[arg-type]


# ---- lists that mean ill


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"cat\ndog\x1b[31m\n", r"line 2 holds the control character U\+001B"),
        (b"cat\n" + b"x" * 1_000_000 + b"\ndog\n", "line 2 has more than 65,536 bytes"),
        (b"cat\n\xc3\x28\n", "line 2 is not UTF-8"),
        (b"\xff\xfec\x00a\x00t\x00", "has 1 concept: centring leaves nothing"),
        (b"cat\n" * 50, "has 1 concept: centring leaves nothing"),
        (b"Cat\ncat\nCAT\n", "all the same to the model's tokenizer"),
        (b"", "is empty"),
        (gzip.compress(b"cat\n" * 1_000_000), "has 1 concept: centring leaves nothing"),
        (gzip.compress(b"\0" * 50_000_000), "line 1 has more than 65,536 bytes"),
    ],
    ids=range(9),
)
def test_hostile_lists_leave_one_line_and_nothing_else(bundle, tmp_path, capsys, data, says):
    path = tmp_path / ("list.txt.gz" if data[:2] == b"\x1f\x8b" else "list.txt")
    path.write_bytes(data)
    arguments = ["encode", str(path), "--model", f"local-dir:{bundle}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.search(says, err)
    assert not (tmp_path / "out").exists()


def test_scripts_from_right_to_left_and_emoji_are_concepts_as_they_are(model, tmp_path):
    texts = ["שלום", "سلام", "漢字", "👩\u200d🔬", "e\u0301", "é", "red\u202edog"]
    found = hs.encode_dictionary(texts, tmp_path / "out", model=model)
    assert set(found.texts) <= set(texts)
    assert hs.load_dictionary(tmp_path / "out", model=model).texts == found.texts
    assert len(found) + found.same_tokens == len(texts)


def test_a_million_copies_of_one_line_among_others(model, tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"cat\n" * 1_000_000 + b"dog\nfish\n")
    found = hs.encode_dictionary(path, tmp_path / "out", model=model)
    assert (found.texts, found.repeated) == (("cat", "dog", "fish"), 999_999)
