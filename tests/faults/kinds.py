"""Every kind of file that headscan reads: how a valid one is made, and how it is read.

A reader returns what came of the file as something that can be compared; a file that cannot be used is a
`headscan.HeadscanError`. `checked` kinds carry a checksum: no mutation of theirs may be accepted and read otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import shutil
import tempfile
import unittest.mock
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

import headscan as hs
from conftest import CONCEPTS, build_module, write_bundle
from faults.saves import small_scan
from headscan.dictionaries import build
from headscan.dictionaries.choices import word_counter
from headscan.dictionaries.dictionary import is_whole, open_dictionary
from headscan.dictionaries.encoding import Window
from headscan.dictionaries.vocabulary import read_vocabulary
from headscan.explanations.null import random_explanations
from headscan.judge import EndpointJudge, Judgement
from headscan.models.pictures import read_picture

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    make : callable
        From an empty folder to the file in it that is mutated.
    read : callable
        From the folder to what came of it.
    checked : bool
        Whether a checksum covers all that is read.
    slow : bool
        Whether one reading takes more than a few milliseconds: fewer mutations in the short run.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    checked: bool = False
    slow: bool = False


def _written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _frame(table: pd.DataFrame) -> Any:
    return table.to_csv()


def _scan_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        small_scan(0).save(folder)
        return folder / name

    return make


def _read_scan(folder: Path) -> Any:
    scan = hs.load_scan(folder)
    return scan.info, _frame(scan.explanations)


def _make_dictionary(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        embeddings = rng.standard_normal((len(CONCEPTS), 8))
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        mean = embeddings.mean(axis=0)
        atoms = embeddings - mean
        atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
        facts: dict[str, Any] = dict.fromkeys(("blank", "repeated", "same_tokens", "truncated"), 0)
        made = hs.Dictionary(
            texts=tuple(CONCEPTS), mean=mean, atoms=atoms.astype(np.float32), source="s", templates=("{}",),
            text_hash="t", history=(), **facts,
        )  # fmt: skip
        made.save(folder / "words")
        return next(path for path in sorted((folder / "words").rglob("*")) if path.match(name))

    return make


def _read_dictionary(folder: Path) -> Any:
    found = open_dictionary(folder / "words", verify=True)
    return found.texts, found.mean.tobytes(), found.atoms.tobytes(), found.source, found.hash


def _build(folder: Path) -> None:
    """Build a small dictionary, or go on with what is left of an interrupted build."""
    rows = np.random.default_rng(0).standard_normal((len(CONCEPTS), 8), dtype=np.float32)
    windows = [Window(CONCEPTS, 0, lambda: rows)]
    counts = dict.fromkeys(("blank", "repeated", "same_tokens", "truncated"), 0)
    record = {"source": "s", "templates": ["{}"], "text_hash": "t", "history": [], **counts}
    make = build.encode_into(lambda: windows, lambda kept, truncated: record, width=8)
    build.build(folder / "words", key="k", make=make, is_whole=is_whole, threads=1, progress=False)


def _unfinished(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        interrupted = unittest.mock.patch.object(build, "seal", side_effect=InterruptedError)
        with (
            interrupted,
            unittest.mock.patch.object(build._WindowRows, "release"),
            contextlib.suppress(hs.HeadscanError),
        ):
            _build(folder)
        (left,) = folder.iterdir()
        return next(path for path in sorted(left.rglob("*")) if path.is_file() and path.match(name))

    return make


def _read_unfinished(folder: Path) -> Any:
    """Go on with a copy of the build."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(folder, scratch, dirs_exist_ok=True)
        _build(Path(scratch))
        return _read_dictionary(Path(scratch))


@functools.cache
def _model_and_words() -> tuple[hs.Model, hs.Dictionary]:
    model = hs.load_model(build_module(), image_mean=np.linspace(-0.1, 0.1, 24))
    return model, hs.load_dictionary(CONCEPTS, model=model, cache=False)


def _random_explanations(folder: Path) -> Any:
    model, words = _model_and_words()
    with unittest.mock.patch.dict(os.environ, HEADSCAN_CACHE=str(folder)):
        explained = random_explanations(words, joint=hs.joint_map(model), k=2, count=20, threads=1)
    return {name: value.tobytes() for name, value in vars(explained).items()}


def _random_file(folder: Path) -> Path:
    _random_explanations(folder)
    (entry,) = (folder / "significance").iterdir()
    return entry


def _circuits(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        hs.circuits(*_model_and_words(), k=2, pairs=3, channels=1, significance=20).save(folder)
        return folder / name

    return make


def _read_circuits(folder: Path) -> Any:
    circuits = hs.load_circuits(folder)
    return circuits.info, _frame(circuits.pairs), _frame(circuits.channels)


def _judge_cache(folder: Path) -> Path:
    judge = _judge(folder)
    for score in (1, 3, 5):
        judge._append(f"key {score}", Judgement(score, "theme"))
    return folder / "judged.jsonl"


def _judge(folder: Path) -> EndpointJudge:
    return EndpointJudge(about="x", url="http://localhost:1/v1", model="m", cache=folder / "judged.jsonl")


def _read_judge_cache(folder: Path) -> Any:
    """Return whether the answers are those that were kept, though some may have to be asked again."""
    kept = {f"key {score}": Judgement(score, "theme") for score in (1, 3, 5)}
    return _judge(folder)._read_cache().items() <= kept.items()


def _edit(folder: Path) -> Path:
    info = small_scan(0).info
    rows = {hs.Direction("vo", 0, 1, index): 0.5 for index in range(4)}
    return hs.Edit(rows, hs.edit.EditInfo.of(hs.Scan(info, pd.DataFrame()), {"made_by": "test"})).save(
        folder / "e.json"
    )


def _read_edit(folder: Path) -> Any:
    edit = hs.load_edit(folder / "e.json")
    return _frame(edit.table())


def _adapter(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        module = "base_model.model.visual.transformer.resblocks.0.attn.lora"
        save_file(
            {f"{module}_A.weight": torch.ones(2, 32), f"{module}_B.weight": torch.ones(96, 2)},
            folder / "adapter_model.safetensors",
        )
        config = {
            "peft_type": "LORA",
            "r": 2,
            "lora_alpha": 6,
            "alpha_pattern": {"attn": 3},
            "peft_version": "0.19.1",
        }
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder / name

    return make


def _read_adapter(folder: Path) -> Any:
    adapter = hs.load_adapter(folder)
    return sorted(adapter.tensors)


def _array(folder: Path) -> Path:
    np.save(folder / "a.npy", np.linspace(-0.1, 0.1, 24))
    return folder / "a.npy"


def _mean_tensors(folder: Path) -> Path:
    save_file({"image_mean": torch.linspace(-0.1, 0.1, 24)}, folder / "m.safetensors")
    return folder / "m.safetensors"


def _read_mean(name: str) -> Callable[[Path], Any]:
    from headscan.models.image_mean import image_mean_for

    model = hs.load_model(build_module())
    return lambda folder: image_mean_for(model, folder / name)[0].tobytes()  # type: ignore[union-attr]


def _parquet(folder: Path) -> Path:
    pd.DataFrame({"word": CONCEPTS}).to_parquet(folder / "l.parquet")
    return folder / "l.parquet"


def _judgements(suffix: str) -> Callable[[Path], Path]:
    rows = [{"layer": 0, "head": 1, "index": index, "pole": "x", "score": 5} for index in range(5)]
    table = pd.DataFrame(rows)
    text = {
        "csv": table.to_csv(index=False),
        "json": json.dumps(rows),
        "jsonl": "\n".join(map(json.dumps, rows)),
    }[suffix]
    return _written(f"j.{suffix}", text.encode())


def _read_judgements(name: str) -> Callable[[Path], Any]:
    from headscan.edit.judgements import _read_table

    return lambda folder: _frame(_read_table(folder / name))


def _model(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return write_bundle(folder, build_module()) / name

    return make


def _read_model(folder: Path) -> Any:
    model = hs.load_model(f"local-dir:{folder}")
    return model.layers, model.heads, hs.vo_factors(model, layers=0).left.tobytes()


def _pickled(folder: Path) -> Path:
    write_bundle(folder, build_module())
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(build_module().state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder / "open_clip_pytorch_model.bin"


def _picture(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p.{suffix}")
        return folder / f"p.{suffix}"

    return make


def _words(name: str) -> Callable[[Path], Any]:
    return lambda folder: read_vocabulary(f"{'conceptnet:' if 'net' in name else ''}{folder / name}").texts


_LINES = "\n".join(CONCEPTS).encode()
_NET = "\n".join(f"/a\t/r/IsA\t/c/en/{word.replace(' ', '_')}/n\t/c/en/thing\t{{}}" for word in CONCEPTS).encode()

KINDS: dict[str, Kind] = {
    "scan manifest": Kind(_scan_file("manifest.json"), _read_scan, checked=True),
    "scan table": Kind(_scan_file("explanations.parquet"), _read_scan, checked=True),
    "dictionary manifest": Kind(_make_dictionary("manifest.json"), _read_dictionary, checked=True),
    "dictionary texts": Kind(_make_dictionary("texts.txt"), _read_dictionary, checked=True),
    "dictionary mean": Kind(_make_dictionary("mean.npy"), _read_dictionary, checked=True),
    "dictionary rotation": Kind(_make_dictionary("rotation.npy"), _read_dictionary, checked=True),
    "dictionary atoms": Kind(_make_dictionary("*atoms*"), _read_dictionary, checked=True),
    "dictionary codes": Kind(_make_dictionary("*codes*"), _read_dictionary, checked=True),
    "dictionary shard": Kind(_make_dictionary("shard.json"), _read_dictionary, checked=True),
    "build plan": Kind(_unfinished("build.json"), _read_unfinished, checked=True, slow=True),
    "build record": Kind(_unfinished("record.json"), _read_unfinished, checked=True, slow=True),
    "build texts": Kind(_unfinished("texts.txt"), _read_unfinished, checked=True, slow=True),
    "build window": Kind(_unfinished("windows/*.npy"), _read_unfinished, checked=True, slow=True),
    "build layout": Kind(_unfinished("layout.json"), _read_unfinished, checked=True, slow=True),
    "build shard": Kind(_unfinished("shard.json"), _read_unfinished, checked=True, slow=True),
    "build codes": Kind(_unfinished("codes.u8"), _read_unfinished, checked=True, slow=True),
    "random explanations": Kind(_random_file, _random_explanations, checked=True, slow=True),
    "circuits manifest": Kind(_circuits("manifest.json"), _read_circuits, checked=True),
    "circuits pairs": Kind(_circuits("pairs.parquet"), _read_circuits, checked=True),
    "circuits channels": Kind(_circuits("channels.parquet"), _read_circuits, checked=True),
    "judge cache": Kind(_judge_cache, _read_judge_cache, checked=True),
    "edit": Kind(_edit, _read_edit),
    "adapter config": Kind(_adapter("adapter_config.json"), _read_adapter),
    "adapter weights": Kind(_adapter("adapter_model.safetensors"), _read_adapter),
    "image mean npy": Kind(_array, _read_mean("a.npy")),
    "image mean safetensors": Kind(_mean_tensors, _read_mean("m.safetensors")),
    "list": Kind(_written("l.txt", _LINES), _words("l.txt")),
    "list gz": Kind(_written("l.txt.gz", gzip.compress(_LINES, mtime=0)), _words("l.txt.gz")),
    "list csv": Kind(_written("l.csv", b"word\n" + _LINES), _words("l.csv")),
    "list tsv": Kind(_written("l.tsv", b"word\n" + _LINES), _words("l.tsv")),
    "list parquet": Kind(_parquet, _words("l.parquet")),
    "list conceptnet": Kind(_written("net.csv", _NET), _words("net.csv")),
    "counts": Kind(_written("c.tsv", b"dog\t12\ncat\t3\n"), lambda folder: word_counter(folder / "c.tsv")[0]("dog")),
    "judgements csv": Kind(_judgements("csv"), _read_judgements("j.csv")),
    "judgements json": Kind(_judgements("json"), _read_judgements("j.json")),
    "judgements jsonl": Kind(_judgements("jsonl"), _read_judgements("j.jsonl")),
    "picture png": Kind(_picture("png"), lambda folder: read_picture(folder / "p.png").size),
    "picture jpeg": Kind(_picture("jpg"), lambda folder: read_picture(folder / "p.jpg").size),
    "picture webp": Kind(_picture("webp"), lambda folder: read_picture(folder / "p.webp").size),
    "model config": Kind(_model("open_clip_config.json"), _read_model, slow=True),
    "model weights": Kind(_model("open_clip_model.safetensors"), _read_model, slow=True),
    "model pickle": Kind(_pickled, _read_model, slow=True),
}
