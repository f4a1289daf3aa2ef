"""Concept lists, their encoding and the cache: nothing stale or damaged is ever served."""

from __future__ import annotations

import gzip
import json
import logging
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headscan as hs
from conftest import CONCEPTS, build_module
from headscan.dictionaries import encoding
from headscan.dictionaries.rows import centre
from headscan.dictionaries.vocabulary import PACKAGED, read_vocabulary


@pytest.fixture
def encodings(monkeypatch):
    """Counts how often concepts are really encoded."""
    calls = []
    real = encoding.encode_tokens  # type: ignore[attr-defined]

    def counted(module, tokens, **options):
        calls.append(len(tokens.lengths))
        return real(module, tokens, **options)

    monkeypatch.setattr(encoding, "encode_tokens", counted)
    return calls


def entries(folder):
    return sorted((folder / "dictionaries").iterdir())


# ---- the lists


def test_blank_lines_and_repetitions_are_dropped_and_counted(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffcat\r\n\n  dog \n\t\ncat\nCat\nécureuil\n".encode())
    found = read_vocabulary(path)
    assert found.texts == ("cat", "dog", "Cat", "écureuil")
    assert (found.source, found.blank, found.repeated) == ("list.txt", 2, 1)


def test_a_gzipped_list(tmp_path):
    path = tmp_path / "list.txt.gz"
    path.write_bytes(gzip.compress(b"cat\ndog\n"))
    assert read_vocabulary(path).texts == ("cat", "dog")


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_lists_are_whole(name):
    found = read_vocabulary(name)
    assert found.source == name
    assert len(found.texts) >= (100_000 if name == "wordnet" else 50)
    assert found.repeated == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n\t\n", "is empty"),
        (b"cat\ndog\nb\xff\n", "line 3 is not UTF-8 .byte 0xff"),
        (b"cat\nd\x07og\n", r"line 2 holds the control character U\+0007"),
        (b"cat\nd\tog\n", r"line 2 holds the control character U\+0009"),
        (b"\x00\x01", r"line 1 holds the control character U\+0000"),
        ("cat\nd\x85og\n".encode(), r"line 2 holds the control character U\+0085"),
        (b"cat\n" + b"x" * 5000, "line 2 has 5000 characters, more than 1000"),
        (b"cat\n", "has 1 concept: centring leaves nothing of a single one"),
    ],
)
def test_lists_refused_in_one_line(tmp_path, model, content, says):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(hs.HeadscanError, match=says) as caught:
        hs.load_dictionary(path, model=model)
    assert "\n" not in str(caught.value)


def test_other_sources_refused(tmp_path, model):
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"cat\ndog\n" * 50)[:-9])
    (tmp_path / "plain.txt.gz").write_bytes(b"cat\ndog\n")
    cases = [
        ("no-such-list", "there is no list or dictionary 'no-such-list': .* packaged demo, wordnet"),
        (tmp_path / "cut.txt.gz", "not a whole gzip file"),
        (tmp_path / "plain.txt.gz", "not a whole gzip file"),
        (tmp_path, "holds no manifest.json"),
        (["cat", 3], "text 2 must be a string, got int"),
        ([], "is empty"),
    ]
    for source, says in cases:
        with pytest.raises(hs.HeadscanError, match=says):
            hs.load_dictionary(source, model=model)


def test_too_few_concepts_are_refused_before_encoding(model, encodings):
    with pytest.raises(hs.HeadscanError, match="has 3 concepts: 5 are needed"):
        hs.load_dictionary(["cat", "dog", "fish"], model=model, at_least=5)
    assert encodings == []


@pytest.mark.parametrize("template", ["a photo", "{} and {}", ""])
def test_templates_refused(model, template):
    with pytest.raises(hs.HeadscanError, match=r"a template needs {} once"):
        hs.load_dictionary(CONCEPTS, model=model, template=template)


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        (None, {}, "a dictionary is the name of a list, a file, a saved folder or texts, not NoneType"),
        ("", {}, "a dictionary is the name of a list, a file, a saved folder or texts, not ''"),
        (CONCEPTS, {"batch_size": 1.5}, "batch_size must be a whole number, not 1.5"),
        (CONCEPTS, {"at_least": "x"}, "at_least must be a whole number, not 'x'"),
        (CONCEPTS, {"template": 3}, "a template must be a text, .* not 3"),
        (CONCEPTS, {"template": "\udcff{}"}, r"a template must be a text, .* UTF-8, not '\\udcff{}'"),
        (CONCEPTS, {"model": build_module()}, r"model must be one from load_model, not open_clip\.model\.CLIP"),
    ],
)
def test_options_refused(model, source, options, says):
    with pytest.raises(hs.HeadscanError, match=says):
        hs.load_dictionary(source, **{"model": model, **options})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=12))
def test_any_texts_are_read_or_refused(texts):
    try:
        found = read_vocabulary(texts)
    except hs.HeadscanError as error:
        assert "\n" not in str(error)
        return
    assert len(found.texts) + found.blank + found.repeated == len(texts)
    assert len(set(found.texts)) == len(found.texts)
    assert all(text == text.strip() != "" for text in found.texts)


# ---- the encoding


def test_atoms_are_normalised_centred_and_normalised(model, dictionary):
    raw = model.encode_text(CONCEPTS).astype(np.float64)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert dictionary.texts == tuple(CONCEPTS)
    assert dictionary.atoms.dtype == np.float32
    # The same float32 embeddings; batches may be summed in another order before they are centred.
    np.testing.assert_allclose(dictionary.atoms, expected, atol=1e-5)
    np.testing.assert_allclose(dictionary.mean, unit.mean(axis=0), atol=1e-6)


def test_centring_is_float64_up_to_its_last_rounding():
    raw = np.random.default_rng(1).standard_normal((40_000, 3)).astype(np.float32)  # more than one chunk
    unit = raw.astype(np.float64) / np.linalg.norm(raw.astype(np.float64), axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    atoms = raw.copy()
    mean = centre(atoms)
    np.testing.assert_allclose(mean, unit.mean(axis=0), atol=1e-15)
    np.testing.assert_array_max_ulp(
        atoms, (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32), maxulp=1
    )


def test_a_text_tower_that_says_the_same_of_everything_is_refused():
    with pytest.raises(hs.HeadscanError, match="every concept the same embedding"):
        centre(np.full((5, 3), 2.0, dtype=np.float32))


def test_the_batch_size_changes_nothing_but_rounding(model, dictionary):
    other = hs.load_dictionary(CONCEPTS, model=model, batch_size=3, cache=False)
    np.testing.assert_allclose(other.atoms, dictionary.atoms, atol=1e-5)
    with pytest.raises(hs.HeadscanError, match="batch_size must be at least 1"):
        hs.load_dictionary(CONCEPTS, model=model, batch_size=0)


def test_texts_with_the_same_tokens_are_one_concept(model):
    found = hs.load_dictionary(["Red boat", "red  boat", "RED BOAT", "dog", "cat"], model=model, cache=False)
    assert found.texts == ("Red boat", "dog", "cat")
    assert found.same_tokens == 2
    with pytest.raises(hs.HeadscanError, match="all the same to the model's tokenizer"):
        hs.load_dictionary(["dog", "Dog"], model=model, cache=False)


def test_texts_longer_than_the_context_are_counted_and_told(model, caplog):
    with caplog.at_level(logging.WARNING, logger="headscan"):
        found = hs.load_dictionary(["dog", "cat", "very " * 30 + "long"], model=model, cache=False)
    assert found.truncated == 1
    assert "1 concepts of texts fill the model's context" in caplog.text


def test_the_template_surrounds_the_concept(model):
    found = hs.load_dictionary(["cat", "dog", "{0}"], model=model, template="a photo of a {}", cache=False)
    raw = model.encode_text(["a photo of a cat", "a photo of a dog", "a photo of a {0}"]).astype(np.float64)
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=1e-6)
    assert found.texts == ("cat", "dog", "{0}")


def test_a_text_tower_that_yields_nonsense_is_refused(module):
    model = hs.load_model(module)
    module.text_projection.data[:] = 0.0
    with pytest.raises(hs.HeadscanError, match="no usable embedding for 'cat'"):
        hs.load_dictionary(["cat", "dog"], model=model, cache=False)


# ---- the cache


def test_what_was_encoded_is_found_again(model, encodings, tmp_path):
    first = hs.load_dictionary(CONCEPTS, model=model)
    path = tmp_path / "same.txt"
    path.write_text("\n\n" + "\n".join(CONCEPTS))
    again = hs.load_dictionary(path, model=model)
    assert encodings == [len(CONCEPTS)]
    np.testing.assert_array_equal(again.atoms, first.atoms)
    assert again.hash == first.hash
    assert (again.source, again.blank) == ("same.txt", 2)


def test_other_texts_templates_and_weights_are_encoded_anew(model, encodings):
    hs.load_dictionary(CONCEPTS, model=model)
    hs.load_dictionary(CONCEPTS[:-1], model=model)
    hs.load_dictionary(CONCEPTS[::-1], model=model)
    hs.load_dictionary(CONCEPTS, model=model, template="a {}")
    changed = build_module()
    changed.ln_final.bias.data[0] += 0.1
    hs.load_dictionary(CONCEPTS, model=hs.load_model(changed))
    assert len(encodings) == 5


def test_a_model_with_edited_heads_keeps_its_dictionary(model, encodings):
    hs.load_dictionary(CONCEPTS, model=model)
    edited = build_module()
    edited.visual.transformer.resblocks[0].attn.out_proj.weight.data.mul_(0.5)
    hs.load_dictionary(CONCEPTS, model=hs.load_model(edited))
    assert len(encodings) == 1


def test_the_cache_can_be_elsewhere_or_off(model, encodings, tmp_path):
    for _ in range(2):
        hs.load_dictionary(CONCEPTS, model=model, cache_dir=tmp_path / "mine")
    assert len(entries(tmp_path / "mine")) == 1
    for _ in range(2):
        hs.load_dictionary(CONCEPTS, model=model, cache=False)
    assert len(encodings) == 3


SHARD = "shards/00000"


def truncate(name):
    def cut(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])

    return cut


def flip(name):
    def change(folder):
        content = bytearray((folder / name).read_bytes())
        content[-5] ^= 0x40
        (folder / name).write_bytes(content)

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def edit_manifest(**changes):
    def edit(folder):
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


DAMAGES = {
    "truncated atoms": truncate(f"{SHARD}/atoms.f32"),
    **{f"a flipped bit of {name}": flip(f"{SHARD}/{name}") for name in ("atoms.f32", "codes.u8", "beyond.f32")},
    **{f"a flipped bit of {name}": flip(name) for name in ("texts.txt", "mean.npy", "rotation.npy")},
    "a changed shard": flip(f"{SHARD}/shard.json"),
    "no codes": remove(f"{SHARD}/codes.u8"),
    "no shard": lambda folder: shutil.rmtree(folder / SHARD),
    "no texts": remove("texts.txt"),
    "empty texts": lambda folder: (folder / "texts.txt").write_bytes(b""),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text('{"format": "head'),
    "a list for a manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
    "another format": edit_manifest(format_version=99),
    "another kind": edit_manifest(format="headscan-scan"),
    "a field missing": lambda folder: edit_manifest(hash=None)(folder),
    "a count of text": edit_manifest(same_tokens="x"),
    "no template": edit_manifest(templates=None),
    "another layout": edit_manifest(layout={"rows": 3, "width": 24, "shift": 1}),
    "no layout": edit_manifest(layout=None),
    "a count below zero": edit_manifest(truncated=-1),
    "other concepts": edit_manifest(concepts=3),
    "endless nesting": lambda folder: (folder / "manifest.json").write_text("[" * 200_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_entry_is_noticed_and_replaced(model, encodings, tmp_path, caplog, damage):
    atoms = np.array(hs.load_dictionary(CONCEPTS, model=model).atoms)  # not mapped: the damage would show in them
    (entry,) = entries(tmp_path / "cache")
    DAMAGES[damage](entry)
    with caplog.at_level(logging.WARNING, logger="headscan"):
        again = hs.load_dictionary(CONCEPTS, model=model)
    assert "is damaged and is encoded anew" in caplog.text
    np.testing.assert_array_equal(again.atoms, atoms)
    assert len(encodings) == 2
    hs.load_dictionary(CONCEPTS, model=model)
    assert len(encodings) == 2
    assert entries(tmp_path / "cache") == [entry]  # nothing left beside it


def test_a_cache_that_cannot_be_written_is_only_a_warning(model, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="headscan"):
        found = hs.load_dictionary(CONCEPTS, model=model, cache_dir=tmp_path / "file")
    assert len(found) == len(CONCEPTS)
    assert "the cache cannot be written" in caplog.text


# ---- saved folders


def test_a_saved_dictionary_comes_back_the_same(model, dictionary, tmp_path, encodings):
    folder = dictionary.save(tmp_path / "deep" / "saved")
    again = hs.load_dictionary(folder, model=model)
    assert vars(again).keys() - {"hash"} == vars(dictionary).keys() - {"hash"}
    assert again.packed.row_files is not None
    assert (again.texts, again.hash, again.templates) == (dictionary.texts, dictionary.hash, ("{}",))
    np.testing.assert_array_equal(again.mean, dictionary.mean)
    assert encodings == []


def test_a_saved_dictionary_opens_without_a_model_and_a_list_does_not(model, dictionary, tmp_path):
    folder = dictionary.save(tmp_path / "saved")
    for choice in ({}, {"template": "{}"}):
        assert hs.load_dictionary(folder, **choice).texts == dictionary.texts  # type: ignore[arg-type]
    with pytest.raises(hs.HeadscanError, match=r"was encoded with the template '{}'"):
        hs.load_dictionary(folder, template="a {}")
    for source, says in (("demo", "demo is none"), (CONCEPTS, "a list of texts is none"), (tmp_path, "is none")):
        with pytest.raises(hs.HeadscanError, match=f"only the folder of a dictionary opens without a model.*{says}"):
            hs.load_dictionary(source)


def test_a_saved_dictionary_is_replaced_but_nothing_else_is(model, dictionary, tmp_path):
    folder = dictionary.save(tmp_path / "saved")
    other = hs.load_dictionary(CONCEPTS[:5], model=model, cache=False)
    other.save(folder)
    assert len(hs.load_dictionary(folder, model=model)) == 5
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    for place, says in [
        ("letters", "is not a saved dictionary"),
        ("letters/a.txt", "is not a saved dictionary"),
    ]:
        with pytest.raises(hs.HeadscanError, match=says):
            dictionary.save(tmp_path / place)
    with pytest.raises(hs.HeadscanError, match="is not a folder"):
        dictionary.save(tmp_path / "letters" / "a.txt" / "below")
    assert (tmp_path / "letters" / "a.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters", "saved"]


def test_saved_dictionaries_refused(model, dictionary, tmp_path):
    folder = dictionary.save(tmp_path / "saved")
    changed = build_module()
    changed.ln_final.bias.data[0] += 0.1
    with pytest.raises(hs.HeadscanError, match="was encoded by another text tower"):
        hs.load_dictionary(folder, model=hs.load_model(changed))
    with pytest.raises(hs.HeadscanError, match=r"was encoded with the template '{}'"):
        hs.load_dictionary(folder, model=model, template="a {}")
    with pytest.raises(hs.HeadscanError, match="99 are needed"):
        hs.load_dictionary(folder, model=model, at_least=99)
    for name, damage in DAMAGES.items():
        copy = tmp_path / name.replace(" ", "-")
        shutil.copytree(folder, copy)
        damage(copy)
        with pytest.raises(hs.HeadscanError) as caught:
            hs.load_dictionary(copy, model=model)
        assert "\n" not in str(caught.value)
