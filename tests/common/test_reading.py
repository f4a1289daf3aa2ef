"""Files that anybody may have written are read, or refused by name, and nothing is read that is no file."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import headscan as hs
from headscan.common import files
from headscan.common.reading import check_columns, read_array, read_json, read_table, read_text, regular


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, layers=0, k=2, significance=0)


def test_an_array_comes_back_as_it_was(tmp_path):
    for array in (np.arange(6.0).reshape(2, 3), np.empty((0, 4), np.float32), np.asfortranarray(np.eye(3))):
        np.save(tmp_path / "a.npy", array)
        read = read_array(tmp_path / "a.npy", ndim=2)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_every_flipped_byte_of_an_array_is_refused_or_an_array(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    data = path.read_bytes()
    refused = 0
    for place in range(data.index(b"\n") + 1):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            try:
                assert read_array(path).size == 6
            except hs.HeadscanError as error:
                assert str(path) in str(error)
                refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("(1000000000000,)", "its size does not fit"),
        ("(-1,)", "its size does not fit"),
        ("(2, 3, 1)", "an array of"),
    ],
)
def test_a_header_that_promises_more_allocates_nothing(tmp_path, shape, says):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    data = path.read_bytes()
    header = b"(2, 3), }" + b" " * 20
    path.write_bytes(data.replace(header, f"{shape}, }}".ljust(len(header)).encode()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(hs.HeadscanError, match=says):
        read_array(path, ndim=1 if "1000" in shape or "-1" in shape else 2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, says in {
        "pipe": "a pipe, a socket or a device",
        "link": "a pipe, a socket or a device",
        "zero": "a pipe, a socket or a device",
        "loop": "cannot read",
        ".": "a folder",
        "none": "there is no file",
        "a\0b": "cannot read",
    }.items():
        for read in (regular, read_text, read_json, read_array, read_table, files.file_sha256):
            with pytest.raises(hs.HeadscanError, match=says):
                read(tmp_path / name)


def test_a_pipe_for_any_input_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("manifest.json", "explanations.parquet", "adapter_config.json"):
        os.mkfifo(tmp_path / "folder" / name)
    folder = str(tmp_path / "folder")
    code = f"""
import headscan as hs
for call in (
    lambda: hs.load_scan({folder!r}),
    lambda: hs.load_edit({pipe!r}),
    lambda: hs.load_adapter({folder!r}),
    lambda: hs.load_circuits({folder!r}),
):
    try:
        call()
    except hs.HeadscanError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("it is a pipe, a socket or a device, not a file") == 4, done.stdout


def test_a_table_is_as_its_manifest_says(tmp_path):
    path = tmp_path / "a.parquet"
    table = pd.DataFrame({"n": [1, 2], "x": [0.5, 1.5], "t": ["a", "b"], "b": [True, False]})
    table.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path, rows=2), pd.read_parquet(path))
    with pytest.raises(hs.HeadscanError, match="it has 2 rows, its manifest says 3"):
        read_table(path, rows=3)
    kinds = {"n": "int", "x": "float", "t": "text", "b": "bool"}
    check_columns(table, kinds, where=path)
    for name, values in {
        "n": [1.0, 2.0],
        "x": [1.0, float("nan")],
        "t": ["a", None],
        "b": [1, 0],
    }.items():
        with pytest.raises(hs.HeadscanError, match=f"its column {name} is not all {kinds[name]}"):
            check_columns(table.assign(**{name: values}), kinds, where=path)
        with pytest.raises(hs.HeadscanError, match=f"it has no column {name}"):
            check_columns(table.drop(columns=[name]), kinds, where=path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(hs.HeadscanError, match="is damaged"):
        read_table(path)


def test_a_scan_of_other_columns_types_or_layers_is_damaged(scan, tmp_path):
    folder = scan.save(tmp_path / "scan")
    path, manifest = folder / "explanations.parquet", json.loads((folder / "manifest.json").read_text())
    del manifest["seal"]  # as one wrote them before there were seals

    def write(table, **facts):
        table.to_parquet(path)
        said = {"file": path.name, "rows": len(table), "sha256": files.file_sha256(path)}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "explanations": said, **facts}))

    table = scan.table()
    write(table)
    assert hs.load_scan(folder).table().equals(table)
    for other in (
        table.drop(columns=["sigma"]),
        table.assign(layer=table["layer"].astype(str)),
        table.assign(layer=99),
        table.assign(head=10**9),
        table.assign(fidelity=np.nan),
        table.assign(concept_0=1),
        table.assign(certified="yes"),
    ):
        write(other)
        with pytest.raises(hs.HeadscanError, match=r"explanations\.parquet is damaged"):
            hs.load_scan(folder)
    for facts in ({"layers": [9223372036854775808]}, {"layers": [100_000]}, {"k": 1 << 60}, {"explanations": 3}):
        write(table)
        (folder / "manifest.json").write_text(
            json.dumps({**json.loads((folder / "manifest.json").read_text()), **facts})
        )
        with pytest.raises(hs.HeadscanError, match=r"manifest\.json is damaged"):
            hs.load_scan(folder)


@pytest.mark.parametrize("name", ["s3://bucket/scan", "gs://b", "https://host/x", Path("s3://bucket/scan")])
def test_an_address_is_no_folder_of_this_machine(name, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: scan.save(name), lambda: hs.load_scan(name), lambda: scan.report(name)):
        with pytest.raises(hs.HeadscanError, match="is an address, and not a path of this machine"):
            call()
    assert not list(tmp_path.iterdir())
