"""Tables as people have them: separators, headers or none, quotes, encodings, parts; read as they are or refused."""

from __future__ import annotations

import gzip
import logging

import pandas as pd
import pytest

import headscan as hs
from headscan.dictionaries.vocabulary import read_vocabulary

THREE = ("dog", "cat", "snow")


@pytest.fixture
def read(tmp_path):
    def run(name, data, column=None, **options):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return read_vocabulary(path, column=column, **options)

    return run


@pytest.mark.parametrize(
    ("name", "data", "column"),
    [
        ("german_excel.csv", "concept;count\r\ndog;12\r\ncat;10\r\nsnow;4\r\n", "concept"),
        ("decimal_comma.csv", "concept;weight\ndog;1,5\ncat;2,5\nsnow;0,25\n", "concept"),
        ("decimal_comma_no_header.csv", "dog;1,5\ncat;2,5\nsnow;0,25\n", "1"),
        ("excel_says.csv", "sep=;\r\nconcept;weight\r\ndog;1,5\r\ncat;2,5\r\nsnow;2,5\r\n", "concept"),
        ("no_header.csv", "dog\ncat\nsnow\n", None),
        ("no_header.csv", "dog,1\ncat,2\nsnow,3\n", "1"),
        ("no_header.tsv", "1\tdog\n2\tcat\n3\tsnow\n", "2"),
        ("UPPER.CSV", "concept,count\ndog,12\ncat,10\nsnow,4\n", "concept"),
        ("case.csv", "URL,TEXT\nu,dog\nu,cat\nu,snow\n", "text"),
        ("bars.csv", "concept|count\ndog|12\ncat|10\nsnow|4\n", "concept"),
        ("tabs.csv", "concept\tcount\ndog\t12\ncat\t10\nsnow\t4\n", "concept"),
        ("mark.csv", b"\xef\xbb\xbfconcept,count\r\ndog,12\r\ncat,10\r\nsnow,4\r\n", "concept"),
        ("utf16.csv", "concept\tcount\r\ndog\t12\r\ncat\t10\r\nsnow\t4\r\n".encode("utf-16"), "concept"),
        ("utf16.txt", "dog\r\ncat\r\nsnow\r\n".encode("utf-16"), None),
        ("old_mac.csv", "concept,count\rdog,12\rcat,10\rsnow,4\r", "concept"),
        ("pandas_index.csv", ",concept\n0,dog\n1,cat\n2,snow\n", None),
        ("twice.csv", "text,text\ndog,chien\ncat,chat\nsnow,neige\n", "1"),
        ("packed.CSV.GZ", gzip.compress(b"concept,count\ndog,12\ncat,10\nsnow,4\n"), "concept"),
        ("empty_at_the_end.csv", "concept,count\ndog,12,\ncat,10,\nsnow,4,\n", "concept"),
        ("missing.csv", "concept,count\ndog,12\nNaN,10\n,3\ncat,10\nsnow,4\n", "concept"),
        ("header_like.csv", "class_id_name\ndog\ncat\nsnow\n", None),
    ],
)
def test_tables_are_read_as_what_they_are(read, name, data, column):
    assert read(name, data, column).texts == THREE


def test_quotes_and_what_they_hold(read):
    data = 'n,concept\n1,"shark, white"\n2,"boat\non the sea"\n3,"a ""big"" dog"\n4,sn\tow\n'
    found = read("quoted.csv", data, "concept")
    assert found.texts == ("shark, white", "boat on the sea", 'a "big" dog', "sn ow")
    assert found.read_as == (
        "column `concept` of 2, commas between them, 4 lines, 2 with line breaks or tabs, now spaces"
    )
    with pytest.raises(hs.HeadscanError, match=r"quoted.csv, line 4 holds the control character U\+000A"):
        read("quoted.csv", data, "concept", strict=True)
    found = read("quoted.tsv", 'concept\tn\n"a ""big"" dog"\t1\n"hello" he says\t2\n', "concept")
    assert found.texts == ('a "big" dog', '"hello" he says')


@pytest.mark.parametrize(
    ("name", "data", "column", "says"),
    [
        ("a.csv", "concept\nshark, white, big\ntiger, x\n", None, "line 2 has 3 fields, more than the 1"),
        ("a.csv", "concept\nwhite shark, shark\ntiger shark, x\n", None, "line 2 has 2 fields between commas"),
        ("a.csv", "concept\ndog;12\ncat;10\n", None, "line 2 has 2 fields between semicolons"),
        ("a.csv", "concept,n\ndog,1\ncat, or so,2\n", "concept", "line 3 has 3 fields, more than the 2 of line 1"),
        ("a.csv", "concept;count\ndog;12\n", None, "has the columns concept, count: name one of them"),
        ("a.csv", "dog,12\ncat,10\n", None, r"no header \(line 1 is dog, 12\): name one by its number"),
        ("a.csv", "dog,12\ncat,10\n", "concept", "no header .* not 'concept'"),
        ("a.csv", "text,text\ndog,chien\n", "text", "2 columns 'text': name one by its number, 1 or 2"),
        ("a.csv", "concept,count\ndog,12\ncat,10\n", "count", "holds numbers where concepts are expected"),
        ("a.csv", "count\n12\n10\n", None, "holds numbers"),
        ("a.csv", "concept\ncafé\n".encode("latin-1"), None, r"line 2 is not UTF-8 \(byte 0xe9\): save the file"),
        ("a.csv", b"PK\x03\x04\x14\0", None, "a zip archive or an Excel workbook"),
        ("a.txt", "concept,count\ndog,12\ncat,10\n", None, "looks like a table"),
        ("a.txt", "0\ttench\n1\tgoldfish\n", None, "looks like a table"),
        ("a.txt", "a\ttench\nb\tgoldfish\n", None, r"line 1 holds the control character U\+0009, a tab: .*\.tsv"),
        ("a.txt", "<!DOCTYPE html>\n<html>403</html>\n", None, "is a web page"),
        ("a.xlsx", b"PK\x03\x04\x14\0", None, "a zip archive or an Excel workbook"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_refused_with_its_line(read, name, data, column, says):
    with pytest.raises(hs.HeadscanError, match=says) as caught:
        read(name, data, column)
    assert "\n" not in str(caught.value)


def test_what_was_read_is_logged_once_and_recorded(model, tmp_path, caplog):
    path = tmp_path / "yfcc.parquet"
    texts = ["a dog", "snow", "cat", None, "boat\non the sea", "x " * 600]
    pd.DataFrame({"URL": ["u"] * 6, "TEXT": texts}).to_parquet(path)
    with caplog.at_level(logging.INFO, logger="headscan"):
        found = hs.encode_dictionary(path, tmp_path / "out", model=model, column="TEXT")
    says = (
        "read yfcc.parquet: column `TEXT` of 2, 6 rows, 1 empty, 1 with line breaks or tabs, now spaces, 1 left out "
        "(row 6 has 1199 characters, more than 1000: that is not a concept)"
    )
    assert found.texts == ("a dog", "snow", "cat", "boat on the sea")
    assert (found.history, found.blank) == ((says,), 1)
    assert [record.message for record in caplog.records].count(says) == 1
    assert hs.load_dictionary(tmp_path / "out", model=model).history == (says,)
    with pytest.raises(hs.HeadscanError, match=r"row 5 holds the control character U\+000A"):
        hs.encode_dictionary(path, tmp_path / "strict", model=model, column="TEXT", strict=True)


def test_parquet_lists_parts_and_indices(tmp_path):
    pd.DataFrame({"TEXT": [["a dog", "two dogs"], ["a cat"], None, []]}).to_parquet(tmp_path / "coco.parquet")
    found = read_vocabulary(tmp_path / "coco.parquet")
    assert (found.texts, found.blank) == (("a dog", "two dogs", "a cat"), 2)
    parts = tmp_path / "parts"
    (parts / "deeper").mkdir(parents=True)
    for name, texts in (("part-1.parquet", ["snow"]), ("part-0.parquet", ["dog", "cat"])):
        pd.DataFrame({"TEXT": texts}, index=[7] * len(texts)).to_parquet(parts / name)
    (parts / "deeper" / "._part-2.parquet").write_bytes(b"Mac OS X")
    (parts / "_SUCCESS").touch()
    found = read_vocabulary(parts, column="TEXT")
    assert (found.texts, found.read_as) == (THREE, "column `TEXT` of 1 in 2 parts, 3 rows")
    pd.DataFrame({"other": ["x"]}).to_parquet(parts / "part-2.parquet")
    with pytest.raises(hs.HeadscanError, match=r"part-2.parquet has the columns other: .* not 'TEXT'"):
        read_vocabulary(parts, column="TEXT")


def test_a_list_of_which_most_rows_are_no_concepts_is_refused(read):
    with pytest.raises(hs.HeadscanError, match=r"line 2 has 2000 characters.*; in all 2 of 3 lines are no concepts"):
        read("prose.txt", "a dog\n" + "x" * 2000 + "\n" + "y" * 2000 + "\n")
