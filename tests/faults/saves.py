"""What `kills` stops: saves of small results, builds, and whole commands, each with how one is seen to be whole."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headscan.common import files, writing
from headscan.comparison.result import FOLDER, Comparison
from headscan.dictionaries import build, encoding
from headscan.dictionaries.dictionary import is_whole, open_dictionary
from headscan.explanations.result import Scan, load_scan
from headscan.explanations.table import ScanInfo

__all__ = ["KINDS", "Kind", "save_scan", "small_scan"]


@dataclass(frozen=True)
class Kind:
    """What is run, and how its result is seen to be whole.

    Attributes
    ----------
    run : callable
        From a folder and a seed (1 for an earlier result, 0 for the new one) to an exit status.
    check : callable
        Raises unless the folder holds the whole result of one of the seeds.
    """

    run: Callable[[Path, int], int]
    check: Callable[[Path, Sequence[int]], None]


def small_scan(seed: int) -> Scan:
    """Return a scan of a few random rows, as many as the seed says."""
    rng = np.random.default_rng(seed)
    rows = 40 + seed
    columns: dict[str, Any] = dict.fromkeys(("tower", "part", "side", "pole", "concepts"), "x")
    columns |= {"layer": 0, "head": 1, "index": np.arange(rows)}
    columns |= {name: rng.random(rows) for name in ("sigma", "fidelity", "joint_fidelity", "coefficient_0")}
    columns |= {"certified": True, "concept_0": "dog", "atom_0": 3}
    facts: dict[str, Any] = {"headscan": "0", "created": files.now(), "model": "m", "pretrained": None}
    facts |= {"image_mean_hash": None, "dictionary": "d", "dictionary_hash": "h", "template": "{}", "concepts": 9}
    facts |= {"tower": "image", "parts": ("vo",), "layers": (0,), "sides": ("write",), "poles": ("+",)}
    info = ScanInfo(**facts, weights_hash=f"w{seed}", k=1, coherence=0.3, folded=True)
    return Scan(info, pd.DataFrame(columns))


def save_scan(folder: Path, seed: int) -> None:
    """Save a small scan over whatever scan is there."""
    small_scan(seed).save(folder, force=True)


def _comparison(seed: int) -> Comparison:
    names = ("sigma_moved", "write_angle", "read_angle", "reweighted", "mixed", "outside", "norm", "change")
    heads = pd.DataFrame({"layer": [0], "head": [0], "relative": [0.1 + seed], **dict.fromkeys(names, 0.5)})
    table = pd.DataFrame({"layer": [0], "head": [0], "sigma": [0.5], "concepts": ["a"]})
    return Comparison(f"base{seed}", "tuned", heads, table, table)


def _read_comparison(folder: Path) -> float:
    manifest = files.read_manifest(folder / "manifest.json", kind=FOLDER.kind, format_version=FOLDER.version)
    tables = [FOLDER._table(folder, name, manifest) for name in FOLDER.tables]
    return float(tables[0]["relative"][0])


def _save_folder(folder: Path, seed: int) -> None:
    with writing.folder_aside(folder / "inner") as aside:
        (aside / "weights").write_text(f"weights {seed}")
        (aside / "sub").mkdir()
        (aside / "sub" / "card").write_text(f"card {seed}")
    files.sweep(folder / "inner")


def _save_file(folder: Path, seed: int) -> None:
    files.sweep(folder / "page.html")
    with files.write_aside(folder / "page.html") as aside:
        aside.write_text(f"page {seed}")


def _build(folder: Path, seed: int) -> None:
    """Build a dictionary of three windows and three shards."""
    concepts, width, window = 2500, 8, 900
    build.SHARD_ROWS = 1024  # type: ignore[attr-defined]

    def windows() -> Iterator[encoding.Window]:
        for start in range(0, concepts, window):
            count = min(window, concepts - start)
            rows = np.random.default_rng(seed + start).standard_normal((count, width), dtype=np.float32) + 1
            texts = [f"concept {start + number}" for number in range(count)]
            yield encoding.Window(texts, 0, lambda rows=rows: rows)  # type: ignore[misc]

    def record(kept: int, truncated: int) -> dict[str, Any]:
        counts = {"blank": 0, "repeated": 0, "same_tokens": seed, "truncated": truncated}
        return {"source": "generated", "templates": ["{}"], "text_hash": "x", "history": [], **counts}

    make = build.encode_into(windows, record, width=width)
    build.build(folder / "words", key=str(seed), make=make, is_whole=is_whole, threads=1, progress=False)


def _saved(save: Callable[[Path, int], object], read: Callable[[Path], Any], of: Callable[[int], Any]) -> Kind:
    """Return a kind that a call saves, and whose result is read and compared with what its seed gives."""

    def run(folder: Path, seed: int) -> int:
        save(folder, seed)
        return 0

    def check(folder: Path, seeds: Sequence[int]) -> None:
        came = read(folder)
        assert came in [of(seed) for seed in seeds], came

    return Kind(run, check)


class _Commands:
    """Inputs of commands, made once: model folders, lists, a scan, dictionaries."""

    def __init__(self) -> None:
        import torch

        from conftest import CONCEPTS, build_module, write_bundle

        torch.set_num_threads(1)
        self.inputs = Path(tempfile.mkdtemp(prefix="headscan-inputs-"))
        module = build_module()
        write_bundle(self.inputs / "model", module, image_mean=np.linspace(-0.1, 0.1, 24))
        module.visual.transformer.resblocks[1].attn.out_proj.weight.data.mul_(1.5)
        write_bundle(self.inputs / "tuned", module)
        for seed, texts in enumerate((CONCEPTS, CONCEPTS[5:])):
            (self.inputs / f"list{seed}.txt").write_text("\n".join(texts))
            self.run(self.inputs, "encode", self.concepts(seed), "--model", self.model, "--out", f"words{seed}")
            self.run(self.inputs, "scan", self.model, *self.scanned(seed), "--out", f"scan{seed}")

    @property
    def model(self) -> str:
        """Name of the model."""
        return f"local-dir:{self.inputs / 'model'}"

    def concepts(self, seed: int) -> str:
        """Return the path of a list of concepts."""
        return str(self.inputs / f"list{seed}.txt")

    def scanned(self, seed: int) -> list[str]:
        """Return the options of a scan."""
        words = ["--dictionary", self.concepts(seed), "-k", "2", "--layers", "0-1"]
        return [*words, "--significance", "20", "--show", "0"]

    def run(self, folder: Path, *arguments: str) -> int:
        """Run a command in a folder, with a cache there."""
        import os

        from headscan.cli import main

        os.environ["HEADSCAN_CACHE"] = str(folder / "cache")
        given = list(arguments)
        given[given.index("--out") + 1] = str(folder / given[given.index("--out") + 1])
        return main.main([*given, "--quiet"])

    def kind(self, arguments: Callable[[int], list[str]], check: Callable[[Path], object]) -> Kind:
        """Return a kind that a command line makes; every result that can be read is that of a seed."""

        def checked(folder: Path, seeds: Sequence[int]) -> None:
            check(folder)

        return Kind(lambda folder, seed: self.run(folder, *arguments(seed)), checked)


def _command(name: str) -> Kind:
    commands = _Commands()
    inputs, model = commands.inputs, commands.model
    lines: dict[str, Callable[[int], list[str]]] = {
        "encode": lambda seed: ["encode", commands.concepts(seed), "--model", model, "--out", "words"],
        "vocab": lambda seed: [
            "vocab", str(inputs / "words0"), str(inputs / "words1"), "--drop", "ab"[seed], "--out", "words",
        ],
        "scan": lambda seed: ["scan", model, *commands.scanned(seed), "--out", "scan", "--force"],
        "report": lambda seed: ["report", str(inputs / f"scan{seed}"), "--out", "page.html"],
        "compare": lambda seed: [
            "compare", model, f"local-dir:{inputs / 'tuned'}", *commands.scanned(seed)[:6], "--out", "compared",
            "--force", "--show", "0",
        ],
        "edit": lambda seed: [
            "edit", model, "--scan", str(inputs / "scan0"), "--direction", ("2.1.0", "2.1.1")[seed],
            "--out", "edited", "--force", "--show", "0",
        ],
    }  # fmt: skip
    checks: dict[str, Callable[[Path], object]] = {
        "encode": lambda folder: open_dictionary(folder / "words"),
        "vocab": lambda folder: open_dictionary(folder / "words"),
        "scan": lambda folder: load_scan(folder / "scan"),
        "report": lambda folder: (folder / "page.html").read_text().index("</html>"),
        "compare": lambda folder: _read_comparison(folder / "compared"),
        "edit": _check_edited,
    }
    return commands.kind(lines[name], checks[name])


def _check_edited(folder: Path) -> None:
    import headscan as hs

    hs.load_model(f"local-dir:{folder / 'edited'}")
    hs.load_edit(folder / "edited" / "edit.json")


def _text(path: str) -> Callable[[Path], str]:
    return lambda folder: (folder / path).read_text()


KINDS: dict[str, Callable[[], Kind]] = {
    "save of a scan": lambda: _saved(save_scan, lambda folder: len(load_scan(folder)), lambda seed: 40 + seed),
    "save of a comparison": lambda: _saved(
        lambda folder, seed: _comparison(seed).save(folder, force=True), _read_comparison, lambda seed: 0.1 + seed
    ),
    "save of a folder": lambda: _saved(
        _save_folder,
        lambda folder: [_text(f"inner/{name}")(folder) for name in ("weights", "sub/card")],
        lambda seed: [f"weights {seed}", f"card {seed}"],
    ),
    "save of a file": lambda: _saved(_save_file, _text("page.html"), lambda seed: f"page {seed}"),
    "build": lambda: _saved(_build, lambda folder: open_dictionary(folder / "words").same_tokens, lambda seed: seed),
    **{name: functools.partial(_command, name) for name in ("encode", "vocab", "scan", "report", "compare", "edit")},
}
