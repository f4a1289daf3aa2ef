"""Find: scores against the plain sum, by meaning and by words, and the command."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import headscan as hs
from conftest import CONCEPTS, build_module
from headscan.cli import main


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, sides=("write", "read"), k=3, significance=0)


def plain_scores(scan, similarity):
    table = scan.table()
    return sum(table[f"coefficient_{j}"] * table[f"concept_{j}"].map(similarity) for j in range(3))


def query(model, dictionary, text):
    embedding = model.encode_text([text])[0].astype(float)
    centred = embedding / np.linalg.norm(embedding) - dictionary.mean
    return centred / np.linalg.norm(centred)


def test_scores_by_meaning_are_weighted_similarities(scan, model, dictionary):
    similar = dict(zip(dictionary.texts, dictionary.atoms @ query(model, dictionary, "a frozen pond"), strict=True))
    expected = plain_scores(scan, similar).sort_values(ascending=False, kind="stable")
    found = scan.find("a frozen pond", model=model, dictionary=dictionary, count=None)
    np.testing.assert_allclose(found.score, expected[expected > 0], atol=1e-6)  # float32 atoms
    assert list(found.columns) == ["score", "matched", *scan.table().columns]


def test_the_score_is_the_product_of_the_text_with_the_explained_part(scan, model, dictionary):
    best = scan.find("snow", model=model, dictionary=dictionary, count=1).iloc[0]
    rebuilt = sum(best[f"coefficient_{j}"] * dictionary.atoms[best[f"atom_{j}"]] for j in range(3))
    assert best.score == pytest.approx(float(rebuilt @ query(model, dictionary, "snow")), abs=1e-6)


def test_matched_concepts_come_with_what_they_brought(scan, model, dictionary):
    similar = dict(zip(dictionary.texts, dictionary.atoms @ query(model, dictionary, "snow"), strict=True))
    for row in scan.find("snow", model=model, dictionary=dictionary, count=5).to_dict("records"):
        code = {row[f"concept_{j}"]: row[f"coefficient_{j}"] for j in range(3)}
        brought = {concept: weight * similar[concept] for concept, weight in code.items()}
        shown = dict(part.rsplit(" ", 1) for part in row["matched"].split(", "))
        assert shown == {c: f"{b:.2f}" for c, b in brought.items() if b > 0.1 * max(brought.values())}


def test_without_a_model_words_are_matched(scan):
    found = scan.find("Snow", count=None)
    table = scan.table()
    expected = plain_scores(scan, {concept: float(concept == "snow") for concept in CONCEPTS})
    assert len(found) == (expected > 0).sum() > 0
    np.testing.assert_allclose(found.score, expected[expected > 0].sort_values(ascending=False, kind="stable"))
    assert found.matched.str.startswith("snow ").all()
    assert not len(scan.find("sno", count=None))  # whole words
    assert not len(scan.find("snow day", count=None))  # all of them, in one concept
    assert len(table) > len(found)


def test_poles_sides_and_layers(scan, model, dictionary):
    found = scan.find("snow", model=model, dictionary=dictionary, count=None, layers=[1], side="read", pole="-")
    assert set(zip(found.layer, found.side, found.pole, strict=True)) == {(1, "read", "-")}


def test_concepts_of_a_list_are_encoded_once_and_then_found(scan, model, dictionary, monkeypatch):
    used = scan.table()[["concept_0", "concept_1", "concept_2"]].to_numpy().ravel()
    assert set(used) == set(CONCEPTS)  # so the mean, and with it every score, is the dictionary's
    whole = scan.find("snow", model=model, dictionary=dictionary)
    again = scan.find("snow", model=model)
    np.testing.assert_allclose(again.score, whole.score, atol=1e-6)
    monkeypatch.setattr("headscan.dictionaries.encoding.encode_tokens", None)
    np.testing.assert_array_equal(scan.find("snow", model=model).score, again.score)


def test_the_text_goes_through_every_template_of_the_dictionary(model):
    templates = ["a photo of a {}", "{} drawn"]
    dictionary = hs.load_dictionary(CONCEPTS, model=model, template=templates, cache=False)
    scan = hs.scan(model, dictionary, sides=("write", "read"), k=3, significance=0)
    embeddings = model.encode_text(["a photo of a pond", "pond drawn"]).astype(float)
    mean = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).mean(axis=0)
    centred = mean / np.linalg.norm(mean) - dictionary.mean
    similar = dict(zip(CONCEPTS, dictionary.atoms @ (centred / np.linalg.norm(centred)), strict=True))
    expected = plain_scores(scan, similar).sort_values(ascending=False, kind="stable")
    options: tuple[dict[str, Any], ...] = ({"dictionary": dictionary}, {})
    for given in options:
        found = scan.find("pond", model=model, **given)
        np.testing.assert_allclose(found.score, expected.head(10), atol=1e-6)


def test_bad_input(scan, model, dictionary):
    for text in ("", " ", "?!"):
        with pytest.raises(hs.HeadscanError, match="needs at least one word"):
            scan.find(text)
    with pytest.raises(hs.HeadscanError, match="count must be at least 0"):
        scan.find("snow", count=-1)
    with pytest.raises(hs.HeadscanError, match="a dictionary alone cannot encode"):
        scan.find("snow", dictionary=dictionary)
    with pytest.raises(hs.HeadscanError, match="model must be one from load_model"):
        scan.find("snow", model="demo")
    other = hs.load_dictionary(CONCEPTS[:10], model=model, cache=False)
    with pytest.raises(hs.HeadscanError, match="is not the scan's: it has no concept"):
        scan.find("snow", model=model, dictionary=other)
    module = build_module()
    module.visual.proj.data[0, 0] += 1
    with pytest.raises(hs.HeadscanError, match="is not the model of this scan"):
        scan.find("snow", model=hs.load_model(module))


# ---- the command


@pytest.fixture
def saved(bundle, tmp_path):
    model = hs.load_model(f"local-dir:{bundle}")
    dictionary = hs.load_dictionary(["[red]snow[/red]", "snow\u200e", *CONCEPTS], model=model)
    return hs.scan(model, dictionary, k=3, significance=0).save(tmp_path / "out")


def run(capsys, *arguments):
    status = main.main(["find", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_command_finds_by_the_scans_own_model(saved, capsys):
    status, out, err = run(capsys, "snow", saved, "--count", 3)
    assert (status, err) == (0, "")
    assert "nearest to 'snow' by meaning" in out
    model = hs.load_model(hs.load_scan(saved).info.model)
    best = hs.load_scan(saved).find("snow", model=model, count=3)
    for score in best.score:
        assert f"{score:.3f}" in out


def test_the_command_finds_by_words_and_shows_text_as_it_is(saved, capsys):
    status, out, _ = run(capsys, "snow", saved, "--words", "--count", 500, "--layers", "0-2", "--side", "write")
    assert status == 0
    assert "[red]snow[/red]" in out
    assert "\u200e" not in out
    assert run(capsys, "nothingsuch", saved, "--words")[1] == "no direction is about 'nothingsuch' by words\n"


def test_the_command_refuses_in_one_line(saved, tmp_path, capsys, bundle):
    for arguments, says in [
        (["snow", tmp_path / "none"], "there is no scan folder"),
        (["?", saved, "--words"], "needs at least one word"),
        (["snow", saved, "--model", "no-such"], "--words finds without a model"),
        (["snow", saved, "--layers", "9"], "there is no layer 9"),
        (["snow", saved, "--model", "demo"], "is not the model of this scan"),
    ]:
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (2, "")
        assert says in err
        assert err.count("\n") == 1


def test_codes_without_concepts_and_with_negative_ones_are_searched(model, dictionary):
    for method, penalty in (("lasso", 0.4), ("omp", 0.25)):
        scan = hs.scan(model, dictionary, layers=[0], k=4, method=method, penalty=penalty, significance=0)
        table = scan.table()
        assert (table.concept_3 == "").any() == (method == "lasso")
        found = scan.find("snow", model=model, dictionary=dictionary, count=None)
        query = hs.explain(model, dictionary, text="snow")
        unit = query.embedding / np.linalg.norm(query.embedding) - dictionary.mean
        atoms = np.append(dictionary.atoms.astype(float), np.zeros((1, 24)), axis=0)
        codes, weights = (table[[f"{name}_{i}" for i in range(4)]].to_numpy() for name in ("atom", "coefficient"))
        scores = np.einsum("nk,nke,e->n", weights, atoms[codes], unit / np.linalg.norm(unit))
        np.testing.assert_allclose(found.score, np.sort(scores[scores > 0])[::-1], atol=1e-5)
