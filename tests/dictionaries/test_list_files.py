"""Lists from tables and from ConceptNet's assertions."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

import headscan as hs
from headscan.dictionaries.vocabulary import read_vocabulary

ASSERTIONS = """\
/a/[/r/Antonym/,/c/en/red_fox/n/,/c/en/dog/]\t/r/Antonym\t/c/en/red_fox/n\t/c/en/dog\t{"weight": 1.0}
/a/[/r/Synonym/,/c/fr/renard/,/c/en/red_fox/]\t/r/Synonym\t/c/fr/renard\t/c/en/red_fox\t{"weight": 1.0}
/a/[/r/IsA/,/c/en/ice_cream/,/c/en/food/]\t/r/IsA\t/c/en/ice_cream/n/wn/food\t/c/en/food/n\t{"weight": 1.0}
/a/[/r/ExternalURL/]\t/r/ExternalURL\t/c/en/dog\thttp://example.org/dog\t{"weight": 1.0}
"""


def test_the_english_nodes_of_conceptnet(tmp_path):
    path = tmp_path / "assertions.csv.gz"
    path.write_bytes(gzip.compress(ASSERTIONS.encode()))
    found = read_vocabulary(f"conceptnet:{path}")
    assert found.texts == ("red fox", "dog", "ice cream", "food")
    assert (found.source, found.repeated) == ("assertions.csv.gz", 2)
    path.write_bytes(gzip.compress(b"dog\ncat\n"))
    with pytest.raises(hs.HeadscanError, match="line 1 is not an assertion of ConceptNet: expected 5 fields"):
        read_vocabulary(f"conceptnet:{path}")


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.tsv", "table.parquet"])
def test_a_column_of_a_table(tmp_path, name):
    table = pd.DataFrame({"count": [3, 2, 1], "word": ["red, green", "dog", "dog"]})
    path = tmp_path / name
    if name.endswith("parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    found = read_vocabulary(path, column="word")
    assert (found.texts, found.repeated, found.source) == (("red, green", "dog"), 1, name)
    for column, says in ((None, r"name one of them \(column, --column\)$"), ("words", "not 'words'")):
        with pytest.raises(hs.HeadscanError, match=f"has the columns count, word: .*{says}"):
            read_vocabulary(path, column=column)


def test_the_only_column_needs_no_name(tmp_path):
    (tmp_path / "one.csv").write_text("word\ncat\n\ndog\n")
    found = read_vocabulary(tmp_path / "one.csv")
    assert (found.texts, found.blank) == (("cat", "dog"), 1)


@pytest.mark.parametrize(
    ("name", "data", "column", "says"),
    [
        ("a.txt", b"cat\n", "word", "a column belongs to a table"),
        ("a.csv", b"", None, "a.csv is empty: it holds no concepts"),
        ("a.csv", b"a,b\n1\n", "b", "line 2 has 1 of the columns of its header"),
        ("a.csv", b'a,b\n1,"x"y\n', "b", "line 2 is not CSV"),
        ("a.csv", b"a\n\xff\n", "a", "line 2 is not UTF-8"),
        ("a.parquet", b"PAR1", None, "cannot read"),
        ("a.csv.gz", b"cat", None, "not a whole gzip file"),
        ("a.txt", gzip.compress(b"cat\ndog\n"), None, r"packed by gzip, and its name does not end in \.gz"),
        ("a.txt", "cat\ndog\n".encode("utf-16-le"), None, "UTF-16 without its mark"),
        ("a.txt", b"n01440764 tench\nn01443537 goldfish\n", None, r"begins with a number of WordNet's \(n01440764\)"),
        ("a.json", b"", None, "a.json is empty: it holds no concepts"),
        ("a.yaml", b" \n", None, "a.yaml is empty: it holds no concepts"),
    ],
)
def test_tables_refused_in_one_line(tmp_path, name, data, column, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(hs.HeadscanError, match=says) as caught:
        read_vocabulary(tmp_path / name, column=column)
    assert "\n" not in str(caught.value)


def test_numbers_are_no_concepts(tmp_path):
    pd.DataFrame({"word": [1, 2]}).to_parquet(tmp_path / "numbers.parquet")
    with pytest.raises(hs.HeadscanError, match="1 must be a string, got int"):
        read_vocabulary(tmp_path / "numbers.parquet")
