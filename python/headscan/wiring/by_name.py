"""Circuits of a model by name: what a command or a batch job calls once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headscan.common import files
from headscan.dictionaries.by_name import Sources
from headscan.explanations.table import model_facts
from headscan.heads.layers import select_layers
from headscan.wiring.circuits import circuits
from headscan.wiring.frames import PARTS
from headscan.wiring.paths import circuit_paths
from headscan.wiring.result import FOLDER, Circuits, parse_node

if TYPE_CHECKING:
    import pandas as pd

    from headscan.models.model import Model

__all__ = ["CircuitsRun", "circuits_by_name"]


@dataclass(frozen=True, eq=False)
class CircuitsRun:
    """Circuits, the folder that holds them, the channels asked for, and the paths."""

    circuits: Circuits
    model: Model
    folder: Path
    channels: pd.DataFrame
    paths: pd.DataFrame


def circuits_by_name(
    sources: Sources,
    folder: str | Path,
    *,
    tower: str = "image",
    parts: str | Sequence[str] = PARTS,
    layers: str = "all",
    level: float = 0.05,
    pairs: int = 1000,
    channels: int = 3,
    k: int = 5,
    coherence: float = 0.3,
    significance: int = 1000,
    about: str | None = None,
    writer: str | None = None,
    reader: str | None = None,
    side: str | None = None,
    paths: int = 0,
    depth: int = 3,
    force: bool = False,
) -> CircuitsRun:
    """Find the circuits of a model by name, save them in a folder and look into them.

    Parameters
    ----------
    sources, folder, tower, parts, layers, level, pairs, channels, k, coherence, significance
        As in `headscan.circuits`.
    about, writer, reader, side
        Which channels, as in `Circuits.table`; `about` by meaning.
    paths, depth : int
        How many paths into `reader` and `about`, of how many channels at most, as in `circuit_paths`.

    Raises
    ------
    HeadscanError
        As `load_model`, `load_dictionary`, `headscan.circuits` and `Circuits.save` do.
    """
    target = files.expanded(folder)
    known = {"tower": tower, "k": k, "coherence": coherence, "level": level, "significance": significance}
    FOLDER.check_destination(target)
    FOLDER.check_replaced(target, known, force=force)
    for node in (writer, reader):
        if node is not None:
            parse_node(node)
    sources.check()
    model = sources.load_model()
    FOLDER.check_replaced(target, model_facts(model), force=force)
    select_layers(layers, count=model.get_tower(tower).layers, tower=tower)  # before the dictionary is encoded
    dictionary = sources.load_dictionary(model, at_least=k)
    made = circuits(
        model, dictionary, tower=tower, parts=parts, layers=layers, level=level, pairs=pairs, channels=channels, k=k,
        coherence=coherence, significance=significance, threads=sources.threads, device=sources.cuda,
    )  # fmt: skip
    saved = made.save(target, force=force)
    rows = made.table(about=about, writer=writer, reader=reader, side=side, model=model if about else None)
    best = circuit_paths(made, model, into=reader, side=side, about=about, depth=depth, count=paths)
    return CircuitsRun(made, model, saved, rows, best)
