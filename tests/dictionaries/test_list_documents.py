"""Concepts in JSON and YAML, in the shapes that people save them in; read as they are or refused."""

from __future__ import annotations

import gzip

import pytest

import headscan as hs
from headscan.dictionaries.vocabulary import read_vocabulary

TWO = ("tench", "goldfish")
COCO = '{"info": {}, "categories": [{"id": 1, "name": "tench"}, {"id": 2, "name": "goldfish"}]}'
IMAGENET = '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'


@pytest.mark.parametrize(
    ("name", "data", "column"),
    [
        ("labels.json", '["tench",\n"goldfish"]', None),
        ("labels.JSON", '\ufeff["tench", null, "goldfish"]', None),
        ("labels.json.gz", gzip.compress(b'["tench", "goldfish"]'), None),
        ("labels.txt", '["tench",\n"goldfish"]', None),
        ("lines.jsonl", '{"text": "tench", "n": 1}\n{"text": "goldfish", "n": 2}\n', "text"),
        ("lines.ndjson", '{"text": "tench"}\n\n{"text": null}\n{"text": "goldfish"}\n', None),
        ("lines.json", '{"text": "tench", "n": 1}\n{"text": "goldfish", "n": 2}\n', "text"),
        ("lines.txt", '{"text": "tench", "n": 1}\n{"text": "goldfish", "n": 2}\n', "text"),
        ("lines.jsonl", '"tench"\n"goldfish"\n', None),
        ("lines.jsonl", '["n01", "tench"]\n["n02", "goldfish"]\n', "2"),
        ("lines.jsonl", '[\n"tench",\n"goldfish"\n]', None),
        ("lines.jsonl", '{"captions": ["tench", "goldfish"], "url": "u"}\n{"url": "u"}\n', "captions"),
        ("index.json", '{"1": "goldfish", "0": "tench"}', None),
        ("index.json", IMAGENET, "2"),
        ("index.json", '{"tench": 0, "goldfish": 1}', None),
        ("index.json", '{"tench": "n01", "goldfish": "n02"}', "keys"),
        ("index.json", '{"n01": "tench", "n02": "goldfish"}', "values"),
        ("nested.json", '{"data": {"labels": ["tench", "goldfish"]}}', None),
        ("nested.json", COCO, "categories.name"),
        ("nested.json", '[{"meta": {"name": "tench"}}, {"meta": {"name": "goldfish"}}]', "meta.name"),
        ("config.json", '{"width": 3, "id2label": {"0": "tench", "1": "goldfish"}}', "id2label"),
        ("objects.json", '[{"name": "tench", "n": 1}, {"name": NaN}, {"n": 2}, {"name": "goldfish"}]', "name"),
        ("python.txt", "{0: 'tench',\n 1: \"goldfish\"}", None),
        ("list.yaml", "# fish\n- tench\n- ~\n- goldfish\n", None),
        ("yolo.yml", "path: data\nnames:\n  0: tench\n  1: goldfish\n", "names"),
        ("yolo.yaml", "path: data\nnames: [tench, goldfish]\n", "names"),
        ("objects.yaml", "- {name: tench, n: 1}\n- {name: goldfish, n: 2}\n", "name"),
    ],
)
def test_documents_are_read_as_what_they_are(tmp_path, name, data, column):
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    found = read_vocabulary(tmp_path / name, column=column)
    assert found.texts == TWO
    assert found.read_as.startswith(("JSON, ", "YAML, "))


def test_words_that_yaml_takes_for_values_are_words(tmp_path):
    (tmp_path / "list.yaml").write_text("- no\n- yes\n- on\n- 2020-01-01\n- 7 dwarfs\n")
    assert read_vocabulary(tmp_path / "list.yaml").texts == ("no", "yes", "on", "2020-01-01", "7 dwarfs")


@pytest.mark.parametrize(
    ("name", "data", "column", "says"),
    [
        (
            "a.jsonl",
            '{"text": "a", "n": 1}\n{"text": "b", "n": 2}\n',
            None,
            "line 1 is an object with the keys text, n",
        ),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', "text", "line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"}\n', "caption", "keys text: name one of them .*, not 'caption'"),
        ("a.json", '["a", "b",\n"c"', None, "line 2 is not JSON"),
        ("a.json", "[1, 2]", None, "item 1 must be a string, got int"),
        ("a.json", '["a", true]', None, "item 2 must be a string, got bool"),
        ("a.json", '["a", "b"]', "text", "item 1 is no object with keys: leave the column out, not 'text'"),
        ("a.json", '{"a": "x", "b": "y"}', None, "keys a, b: name the one that holds the concepts"),
        ("a.json", IMAGENET, None, "item 1 is a list of 2: name one of its fields by number"),
        ("a.json", COCO, "categories", "item 1 is an object with the keys id, name"),
        ("a.json", COCO, None, "keys info, categories"),
        ("a.json", '"dog"', None, "holds a single str: expected a list"),
        ("a.json", "[" * 100_000, None, "nested without end|not JSON"),
        ("a.json", '["a\\ud800", "b\\ud800"]', None, r"item 1 holds the control character U\+D800"),
        ("a.txt", '["a",\n"b', None, "line 2 is not JSON"),
        ("a.yaml", "names: [a, b\n", None, "line . is not YAML"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", None, "line 1 is not YAML"),
        ("a.yaml", "a: b\nc: d\n", None, "keys a, c"),
    ],
)
def test_other_documents_are_refused_in_one_line(tmp_path, name, data, column, says):
    (tmp_path / name).write_text(data)
    with pytest.raises(hs.HeadscanError, match=says) as caught:
        read_vocabulary(tmp_path / name, column=column)
    assert "\n" not in str(caught.value)
