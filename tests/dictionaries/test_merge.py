"""Dictionaries filtered and merged: the concepts, the vectors, the history, in memory and in folders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import headscan as hs
from conftest import CONCEPTS, build_module
from headscan.cli.main import main
from headscan.dictionaries import build


def same(left, right):
    assert left.texts == right.texts
    np.testing.assert_allclose(left.atoms, right.atoms, atol=1e-6)
    np.testing.assert_allclose(left.mean, right.mean, atol=1e-7)


def test_embeddings_come_back_from_atoms_and_mean(model, dictionary):
    raw = model.encode_text(CONCEPTS).astype(float)
    np.testing.assert_allclose(dictionary.embeddings(), raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(dictionary.embeddings([3, 5]), dictionary.embeddings()[[3, 5]], atol=1e-12)


def test_what_is_left_is_what_encoding_it_alone_gives(model, dictionary):
    left = [text for text in CONCEPTS if "o" not in text and text != "cat"]
    encoded = hs.load_dictionary(left, model=model, cache=False)
    found = dictionary.filter(drop="o", drop_texts=["cat", "unknown"])
    assert found.texts == encoded.texts
    np.testing.assert_allclose(found.atoms, encoded.atoms, atol=1e-5)  # batches of another size
    assert found.history[0].endswith("matching o")
    assert found.history[1] == f"dropped 1 of {len(left) + 1}: on a list of 2"
    assert dictionary.history == ()


def test_words_that_are_rare(dictionary, tmp_path):
    counts = {word: 10.0 * place for place, word in enumerate(CONCEPTS)}
    kept = tuple(CONCEPTS[20:])
    assert dictionary.filter(counts=counts, at_least=200).texts == kept
    assert dictionary.filter(counts=counts.get, at_least=200).texts == kept
    (tmp_path / "counts.tsv").write_text("".join(f"{word.upper()}\t{count}\n" for word, count in counts.items()))
    assert dictionary.filter(counts=tmp_path / "counts.tsv", at_least=200).texts == kept
    (tmp_path / "bad.tsv").write_text("cat\t3\ndog 4\n")
    with pytest.raises(hs.HeadscanError, match="line 2 is not a word, a tab and a number: 'dog 4'"):
        dictionary.filter(counts=tmp_path / "bad.tsv")


def test_a_concept_counts_as_its_rarest_word(model):
    found = hs.load_dictionary(["red fox", "red dog", "Fox", "dog"], model=model, cache=False)
    assert found.filter(counts={"red": 5, "fox": 1, "dog": 9}, at_least=5).texts == ("red dog", "dog")


def test_scripts_are_told_apart(model):
    texts = ["café", "chat", "собака", "σκύλος", "犬 dog", "4 x 4", "42"]
    found = hs.load_dictionary(texts, model=model, cache=False)
    assert found.filter(scripts=["latin"]).texts == ("café", "chat", "4 x 4", "42")
    assert found.filter(scripts=["cyrillic", "greek"]).texts == ("собака", "σκύλος", "42")
    with pytest.raises(hs.HeadscanError, match="there is no script 'english'"):
        found.filter(scripts=["english"])


@pytest.mark.parametrize("similar", [0.3, 0.6, 0.9])
def test_near_duplicates_by_the_definition(model, similar):
    texts = [f"{colour} {thing}" for thing in CONCEPTS[:15] for colour in ("red", "blue", "green")]
    found = hs.load_dictionary(texts, model=model, cache=False)
    cosines = found.atoms.astype(float) @ found.atoms.T.astype(float)
    kept: list[Any] = []
    for row in range(len(texts)):
        if all(cosines[row, other] < similar for other in kept):
            kept.append(row)
    assert 2 <= len(kept) < len(texts)
    assert found.filter(similar=similar).texts == tuple(texts[row] for row in kept)


def test_a_merger_keeps_order_and_where_it_came_from(model):
    whole = hs.load_dictionary(CONCEPTS, model=model, cache=False)
    first, second = whole.filter(drop_texts=CONCEPTS[20:]), whole.filter(drop_texts=CONCEPTS[:10])
    merged = hs.merge_dictionaries([second, first])
    assert merged.texts == (*CONCEPTS[10:], *CONCEPTS[:10])
    assert merged.repeated == 10
    assert merged.history[-1] == f"merged 20 of texts ({second.hash[:12]}) and 10 of texts ({first.hash[:12]})"
    np.testing.assert_allclose(merged.embeddings(), whole.embeddings([*range(10, 30), *range(10)]), atol=1e-6)


def test_what_does_not_belong_together_is_not_merged(model, dictionary):
    changed = build_module()
    changed.ln_final.bias.data[0] += 0.1
    other = hs.load_dictionary(CONCEPTS, model=hs.load_model(changed), cache=False)
    with pytest.raises(hs.HeadscanError, match="different text towers"):
        hs.merge_dictionaries([dictionary, other])
    with pytest.raises(hs.HeadscanError, match=r"different templates: '{}' and 'a {}'"):
        hs.merge_dictionaries([dictionary, hs.load_dictionary(CONCEPTS, model=model, template="a {}", cache=False)])
    with pytest.raises(hs.HeadscanError, match="no dictionaries"):
        hs.merge_dictionaries([])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "nothing to filter by"),
        ({"drop": "("}, "is not a regular expression"),
        ({"drop": "."}, "leaves 0 of 30 concepts"),
        ({"similar": 0}, "above 0, at most 1"),
        ({"counts": "no-such-file"}, "there is no file of counts"),
    ],
)
def test_choices_refused(dictionary, options, says):
    with pytest.raises(hs.HeadscanError, match=says):
        dictionary.filter(**options)


def test_folders_hold_the_same(dictionary, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SHARD_ROWS", 1024)
    plain, built = (dictionary.filter(drop="o", folder=folder) for folder in (None, tmp_path / "fewer"))
    assert built.hash == plain.hash and built.history == plain.history
    same(
        hs.merge_dictionaries([built, dictionary], folder=tmp_path / "both"),
        hs.merge_dictionaries([plain, dictionary]),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both", "fewer"]


def test_the_command(bundle, model, dictionary, tmp_path, capsys):
    dictionary.save(tmp_path / "one")
    hs.load_dictionary(["fox", "cat", "Owl"], model=model, cache=False).save(tmp_path / "two")
    (tmp_path / "names.txt").write_text("day\nnight\n")
    out = str(tmp_path / "out")
    command = ["vocab", str(tmp_path / "one"), str(tmp_path / "two"), "--drop", "^r", "--out", out]
    assert main([*command, "--drop-list", str(tmp_path / "names.txt"), "--script", "latin"]) == 0
    printed = capsys.readouterr().out
    assert "merged 30 of texts" in printed and "29 concepts in" in printed
    found = hs.load_dictionary(out, model=model)
    assert set(found.texts) == {*CONCEPTS, "fox", "Owl"} - {"red", "day", "night"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["one", "out", "two"]
    assert main(["vocab", str(tmp_path / "one"), str(tmp_path / "two"), "--out", out]) == 0
    assert len(hs.load_dictionary(out, model=model)) == 32
    assert main(["vocab", str(tmp_path / "one"), "--out", out]) == 2
    assert "nothing to filter by" in capsys.readouterr().err
