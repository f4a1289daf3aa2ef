"""Circuits: score every pair of parts, and put the channels of those above chance into words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import check_code_options, whole_number
from headscan.core import devices
from headscan.dictionaries.load import Dictionary
from headscan.errors import HeadscanError
from headscan.explanations.directions import explain_directions
from headscan.explanations.null import null_fidelity
from headscan.explanations.significance import p_values, q_values
from headscan.explanations.table import dictionary_facts, make_table, model_facts
from headscan.heads.layers import select_layers
from headscan.models.joint import JointMap, joint_map
from headscan.models.model import check_model
from headscan.wiring.chance import chance_moments, tail_probability
from headscan.wiring.composition import channels_between, compositions
from headscan.wiring.frames import PARTS, SIDES, Frames, layer_frames
from headscan.wiring.result import PAIR, Circuits, CircuitsInfo

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["channel_directions", "circuits", "paired_rows", "score_pairs"]

_FAMILY = ["writer_part", "side"]
_ENDS = ("written", "read")


def circuits(
    model: Model,
    dictionary: Dictionary,
    *,
    tower: str = "image",
    parts: str | Sequence[str] = PARTS,
    layers: str | int | Iterable[int] = "all",
    level: float = 0.05,
    pairs: int = 1000,
    channels: int = 3,
    k: int = 5,
    coherence: float = 0.3,
    significance: int = 1000,
    threads: int = 0,
    device: devices.Device = None,
) -> Circuits:
    """Find which parts write what later parts read, from the weights alone, and say about what.

    Every head's value-output matrix and every MLP's output matrix is a writer; every head's values, queries and
    keys, and every MLP's input, of a later layer a reader. Their products are scored against random subspaces (see
    `headscan.wiring.chance`); those above chance are decomposed into channels (`headscan.wiring.composition`),
    and what is written and read along each is explained as in `scan`. Layer norms are folded in.

    Parameters
    ----------
    model : Model
        From `load_model`.
    dictionary : Dictionary
        From `load_dictionary`, encoded by the same model.
    tower : {"image", "text"}
        Which tower.
    parts : str or sequence of str, default ("vo", "qk", "mlp")
        ``"vo"``: heads as writers and their values as readers; ``"qk"``: queries and keys as readers; ``"mlp"``: MLPs
        as both.
    layers : str, int or iterable of int, default "all"
        At least two, as in `vo_factors`.
    level : float, default 0.05
        Pairs whose q-value is below it are above chance.
    pairs : int, default 1000
        Of those, how many get their channels explained: the strongest.
    channels : int, default 3
        Channels a pair, at most.
    k, coherence, significance, threads, device
        As in `scan`. The norms of the products are taken by NumPy's BLAS, with its own threads.

    Returns
    -------
    Circuits

    Raises
    ------
    HeadscanError
        If an option is out of range, the dictionary is another model's, or a part cannot be read, saying why.
    """
    check_model(model)
    if not isinstance(dictionary, Dictionary):
        raise HeadscanError(f"dictionary must be one from load_dictionary, not {type(dictionary).__qualname__}")
    source = model.get_tower(tower)
    chosen = select_layers(layers, count=source.layers, tower=tower)
    if len(chosen) < 2:
        raise HeadscanError(f"circuits need at least two layers, a writer's and a reader's, not only {chosen[0]}")
    check_code_options(k=k, coherence=coherence, concepts=len(dictionary), threads=threads)
    most, asked = whole_number(pairs, "pairs", least=1), _checked_parts(parts)
    info = CircuitsInfo(
        headscan=files.package_version(),
        created=files.now(),
        **model_facts(model),
        **dictionary_facts(dictionary, model),
        tower=tower,
        parts=asked,
        layers=chosen,
        sides=tuple(side for side, part in SIDES.items() if part in asked),
        poles=("+", "-"),
        k=int(k),
        coherence=float(coherence),
        folded=True,
        significance=whole_number(significance, "significance", least=0),
        level=_checked_level(level),
        per_pair=whole_number(channels, "channels", least=1),
    )
    scored = score_pairs(model, layers=chosen, parts=info.parts, tower=tower, threads=threads)
    above = scored[scored["q_value"] < info.level]
    strongest = above.sort_values("strength", ascending=False, kind="stable").head(most)
    info = replace(info, explained=len(strongest))
    rows, directions = _channels(model, strongest, info, threads=threads)
    joint = joint_map(model) if tower == "image" else JointMap(source.read_final(), dictionary.mean)
    table = _in_words(rows, directions, dictionary, joint=joint, info=info, threads=threads, device=device)
    return Circuits(info=info, pairs=scored, channels=table)


def score_pairs(
    model: Model, *, layers: Sequence[int], parts: Sequence[str], tower: str = "image", threads: int = 0
) -> pd.DataFrame:
    """Return the table of `Circuits.pairs`."""
    import pandas as pd

    dimension = model.get_tower(tower).width - 1  # folded parts neither write nor read along all-ones
    blocks = []
    for writer, reader, squares in compositions(model, layers=layers, parts=parts, tower=tower, threads=threads):
        mean, variance, skewness = chance_moments(writer.rows, reader.rows, dimension=dimension)
        a, b = (axis.ravel() for axis in np.indices(squares.shape))
        block = {
            "writer_part": writer.part,
            "writer_layer": writer.layer,
            "writer_head": np.array(writer.heads)[a],
            "reader_part": reader.part,
            "side": reader.side,
            "reader_layer": reader.layer,
            "reader_head": np.array(reader.heads)[b],
            "strength": np.sqrt(np.divide(squares, mean, out=np.zeros_like(mean), where=mean > 0)).ravel(),
            "p_value": tail_probability(squares, mean, variance, skewness).ravel(),
        }
        blocks.append(pd.DataFrame(block))
    table: pd.DataFrame = pd.concat(blocks, ignore_index=True)
    table["q_value"] = table.groupby(_FAMILY)["p_value"].transform(q_values)
    return table


def _channels(
    model: Model, pairs: pd.DataFrame, info: CircuitsInfo, *, threads: int
) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """Return the channels of some pairs, strongest first, and their directions (n, width), as written and as read."""
    import pandas as pd

    rows, directions = [], {end: [np.empty((0, model.get_tower(info.tower).width))] for end in _ENDS}
    dimension = model.get_tower(info.tower).width - 1
    for pair, written, read in paired_rows(model, pairs, parts=info.parts, tower=info.tower, threads=threads):
        channels = channels_between(written, read, count=info.per_pair)
        unit = np.linalg.norm(written) * np.linalg.norm(read) / np.sqrt(dimension)
        for number, amplitude in enumerate(channels.amplitude):
            cosine = float(channels.written[number] @ channels.read[number])
            rows.append((*pair[: len(PAIR)], number, amplitude, amplitude / unit, *pair[len(PAIR) :], cosine))
        directions["written"].append(channels.written)
        directions["read"].append(channels.read)
    columns = [*PAIR, "channel", "amplitude", "strength", "pair_strength", "p_value", "q_value", "cosine"]
    table = pd.DataFrame(rows, columns=columns)
    order = np.argsort(-table["strength"].to_numpy(dtype=np.float64), kind="stable")
    sorted_table = table.iloc[order].reset_index(drop=True)
    return sorted_table, {end: np.concatenate(directions[end])[order] for end in _ENDS}


def paired_rows(
    model: Model, pairs: pd.DataFrame, *, parts: Sequence[str], tower: str, threads: int
) -> Iterator[tuple[Any, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield each row of a table of pairs, as a tuple, with the frames' rows of its writer and its reader."""
    if len(pairs) == 0:
        return
    written: dict[tuple[Any, ...], NDArray[np.float64]] = {}
    for layer in sorted({*pairs["writer_layer"], *pairs["reader_layer"]}):
        writes, reads = layer_frames(model, layer, parts=parts, tower=tower, threads=threads)
        mine = pairs[pairs["reader_layer"] == layer]
        read = _by_head(reads, side=True)
        for pair in mine.itertuples(index=False, name=None):
            reader = pair[4:7]
            yield pair, written[pair[:3]], read[reader]
        written |= _by_head(writes, side=False)


def channel_directions(
    circuits: Circuits, model: Model, rows: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit directions (n, width) of some rows of `Circuits.table`, as written and as read.

    Raises
    ------
    HeadscanError
        If the model is not that of the circuits.
    """
    check_model(model)
    if model.weights_hash != circuits.info.weights_hash:
        raise HeadscanError(f"the circuits are of {circuits.info.model} with other weights than {model.name} has")
    info, of_pairs = circuits.info, {}
    pairs = rows[list(PAIR)].drop_duplicates()
    for pair, written, read in paired_rows(model, pairs, parts=info.parts, tower=info.tower, threads=0):
        of_pairs[pair] = channels_between(written, read, count=info.per_pair)
    ends = np.empty((2, len(rows), model.get_tower(info.tower).width))
    columns = rows[[*PAIR, "channel", "pole"]].itertuples(index=False, name=None)
    for column, (*pair, number, pole) in enumerate(columns):
        channels, sign = of_pairs[tuple(pair)], 1.0 if pole == "+" else -1.0
        ends[:, column] = sign * channels.written[number], sign * channels.read[number]
    return ends[0], ends[1]


def _by_head(frames: Sequence[Frames], *, side: bool) -> dict[tuple[Any, ...], NDArray[np.float64]]:
    return {
        (frame.side if side else frame.part, frame.layer, head): rows
        for frame in frames
        for head, rows in zip(frame.heads, frame.rows, strict=True)
    }


def _in_words(
    channels: pd.DataFrame,
    directions: dict[str, NDArray[np.float64]],
    dictionary: Dictionary,
    *,
    joint: JointMap,
    info: CircuitsInfo,
    threads: int,
    device: devices.Device,
) -> pd.DataFrame:
    """Return the table of `Circuits.channels`: both poles of every channel, either end explained."""
    import pandas as pd

    options: dict[str, Any] = {
        "joint": joint,
        "k": info.k,
        "coherence": info.coherence,
        "threads": threads,
        "device": device,
    }
    null = null_fidelity(dictionary, count=info.significance, **options) if info.significance else None
    table = channels.loc[channels.index.repeat(2)].reset_index(drop=True)
    table.insert(table.columns.get_loc("channel") + 1, "pole", np.tile(list(info.poles), len(channels)))
    blocks = [table]
    for end in _ENDS:
        vectors = (directions[end][:, None, :] * np.array([1.0, -1.0])[:, None]).reshape(
            len(table), directions[end].shape[1]
        )
        columns = vars(explain_directions(vectors, dictionary, **options))
        if null is not None:
            columns["p_value"] = p_values(columns["fidelity"], null.fidelity)
        blocks.append(make_table(columns, texts=dictionary.texts, k=info.k).add_prefix(f"{end}_"))
    whole: pd.DataFrame = pd.concat(blocks, axis=1)
    return whole


def _checked_parts(parts: str | Sequence[str]) -> tuple[str, ...]:
    asked = [parts] if isinstance(parts, str) else list(parts)
    unknown = [part for part in asked if part not in PARTS]
    if unknown or not {"vo", "mlp"} & {*asked}:
        what = repr(unknown[0]) if unknown else f"{asked!r}, which writes nothing"
        raise HeadscanError(f"parts are vo, qk and mlp, vo or mlp among them, not {what}")
    return tuple(part for part in PARTS if part in asked)


def _checked_level(level: float) -> float:
    if isinstance(level, bool) or not isinstance(level, (int, float, np.floating)) or not 0 < level <= 1:
        raise HeadscanError(f"level is a q-value above 0, at most 1, not {level!r}")
    return float(level)
