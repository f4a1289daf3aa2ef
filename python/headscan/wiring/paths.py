"""Paths: the strongest chains of channels that end in what a head, a direction or a concept reads.

Channel a carries what head A writes into head B's values, channel b what B writes into a later reader C. With B's
singular values S, ``W_A W_B W_C`` holds the chain of both with amplitude ``s_a (Q_a^T S^-1 P_b) s_b`` (P, Q and s as
in `headscan.wiring.composition`): the middle factor is how much of what B takes in along a goes out along b.
Longer chains multiply on, and all chains over all channels of given heads add up to the product of their weights.

This is a linear account. Heads are taken to pass on what they read; attention weights, the division by the stream's
deviation in each layer norm, and all that MLPs do between input and output are left out. So a chain runs through
heads' values, may start in an MLP, and may end in queries, keys or an MLP's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headscan.common.checks import whole_number
from headscan.errors import HeadscanError
from headscan.heads.parts import node_name
from headscan.models.model import check_model
from headscan.wiring.circuits import paired_rows
from headscan.wiring.composition import channels_between
from headscan.wiring.result import PAIR, Circuits

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["circuit_paths"]


class _Edge(NamedTuple):
    """A channel in the graph: where it starts and ends, and its coordinates there, (rank,) each."""

    row: int  # of the channels' table, the pole +
    start: tuple[int, int]  # layer, head
    end: tuple[int, int]
    side: str
    amplitude: float  # over the Frobenius norms of writer and reader
    entry: NDArray[np.float64]  # P, divided by the writer's singular values and multiplied by their norm
    outlet: NDArray[np.float64]  # Q


class _Chain(NamedTuple):
    strength: float
    edges: tuple[int, ...]
    signs: tuple[int, ...]  # of each edge's pole beside that of the last


def circuit_paths(
    circuits: Circuits,
    model: Model,
    *,
    into: str | None = None,
    side: str | None = None,
    index: int | None = None,
    about: str | None = None,
    least: int = 1,
    depth: int = 3,
    count: int = 10,
) -> pd.DataFrame:
    """Return the strongest chains of channels above chance that end in what is asked for, the strongest first.

    Parameters
    ----------
    circuits : Circuits
        Of this model: its channels are the graph's edges.
    model : Model
        From `load_model`.
    into : str, optional
        Where chains end: "L7" (any part of a layer), "L7.H2", "L7.MLP".
    side : {"value", "query", "key", "input"}, optional
        As what their end is read.
    index : int, optional
        A singular direction of the last reader, as in a scan's read side: chains count by what they bring to it.
    about : str, optional
        A text: chains count by how much what is read at their end is about it, by meaning.
    least, depth : int, default 1 and 3
        Channels in a chain, at least and at most. Each multiplies by less than one: long chains are weaker.
    count : int, default 10
        Chains, at most.

    Returns
    -------
    pandas.DataFrame
        `strength`: the chain's amplitude in the product of its parts' weights over the product of their Frobenius
        norms, times what `index` or `about` weigh; `steps`; `path`, "L1.H2 > L3.H0 > L7.H2 query"; `pole` of the
        last channel; `concepts`: what is written at each step, then what is read at the end; `channels`: row numbers
        of each step in `Circuits.channels`.

    Raises
    ------
    HeadscanError
        If the model is not that of the circuits, or an option is out of range.
    """
    import pandas as pd

    check_model(model)
    if model.weights_hash != circuits.info.weights_hash:
        raise HeadscanError(f"the circuits are of {circuits.info.model} with other weights than {model.name} has")
    least = whole_number(least, "least", least=1)
    depth, count = whole_number(depth, "depth", least=least), whole_number(count, "count", least=0)
    ends = circuits.table(reader=into, side=side)  # checks both
    edges = _edges(circuits, model)
    weights = _end_weights(circuits, edges, model, index=index, about=about)
    wanted = set(map(tuple, ends[["reader_layer", "reader_head", "side"]].drop_duplicates().to_numpy()))
    best: list[tuple[float, str, _Chain]] = []
    for edge_index, chains in enumerate(_chains(edges, depth=depth, count=count)):
        if (*edges[edge_index].end, edges[edge_index].side) in wanted:
            for pole, weight in weights[edge_index].items():
                best += [
                    (chain.strength * weight, pole, chain)
                    for chain in chains
                    if weight > 0 and len(chain.edges) >= least
                ]
    best.sort(key=lambda item: -item[0])
    rows = [_described(circuits, edges, *item) for item in best[:count]]
    table: pd.DataFrame = pd.DataFrame(rows, columns=["strength", "steps", "path", "pole", "concepts", "channels"])
    return table


def _edges(circuits: Circuits, model: Model) -> list[_Edge]:
    """Return the channels with their coordinates, decomposed again, ordered by the layer they start in."""
    info, table = circuits.info, circuits.channels
    plus = table[table["pole"] == "+"]
    rows = dict(zip(plus[[*PAIR, "channel"]].itertuples(index=False, name=None), plus.index, strict=True))
    pairs = plus[list(PAIR)].drop_duplicates()
    edges = []
    for pair, written, read in paired_rows(model, pairs, parts=info.parts, tower=info.tower, threads=0):
        channels = channels_between(written, read, count=info.per_pair)
        sigma = np.linalg.norm(written, axis=1)
        size = float(np.linalg.norm(sigma))
        inverse = np.divide(size, sigma, out=np.zeros_like(sigma), where=sigma > 1e-12 * size)
        for number, amplitude in enumerate(channels.amplitude):
            relative = float(amplitude / (size * np.linalg.norm(read)))
            key = (*pair, number)
            entry, outlet = channels.entry[number] * inverse, channels.outlet[number]
            edges.append(_Edge(rows[key], pair[1:3], pair[5:7], pair[4], relative, entry, outlet))
    return sorted(edges, key=lambda edge: edge.start)


def _chains(edges: list[_Edge], *, depth: int, count: int) -> list[list[_Chain]]:
    """Return for each edge the strongest chains that end with it, at most `count` of each length up to `depth`."""
    chains_to: list[list[_Chain]] = []
    into: dict[tuple[int, int], list[int]] = {}
    for number, edge in enumerate(edges):
        if edge.side == "value":
            into.setdefault(edge.end, []).append(number)
    for edge in edges:
        by_length: dict[int, list[_Chain]] = {1: [_Chain(edge.amplitude, (len(chains_to),), (1,))]}
        for before in into.get(edge.start, ()):
            link = float(edges[before].outlet @ edge.entry)
            for chain in chains_to[before]:
                if len(chain.edges) < depth:
                    sign = 1 if link >= 0 else -1
                    signs = (*(sign * one for one in chain.signs), 1)
                    longer = _Chain(
                        chain.strength * abs(link) * edge.amplitude, (*chain.edges, len(chains_to)), signs
                    )
                    by_length.setdefault(len(signs), []).append(longer)
        best = [sorted(chains, key=lambda chain: -chain.strength)[:count] for chains in by_length.values()]
        chains_to.append([chain for chains in best for chain in chains])
    return chains_to


def _end_weights(
    circuits: Circuits, edges: list[_Edge], model: Model, *, index: int | None, about: str | None
) -> list[dict[str, float]]:
    """Return for each edge what its poles count, were it the last of a chain."""
    weights = [{"+": 1.0} for _ in edges]
    if about is not None:
        scores = circuits.scores(circuits.channels, about, model=model, ends=("read",))
        weights = [dict(zip("+-", scores[edge.row : edge.row + 2], strict=True)) for edge in edges]
    if index is not None:
        value = whole_number(index, "index", least=0, most=min(len(edge.outlet) for edge in edges) - 1)
        shares = [abs(float(edge.outlet[value])) for edge in edges]
        weights = [
            {pole: value * share for pole, value in weight.items()}
            for weight, share in zip(weights, shares, strict=True)
        ]
    return weights


def _described(
    circuits: Circuits, edges: list[_Edge], strength: float, pole: str, chain: _Chain
) -> tuple[object, ...]:
    """Return a chain's row of the table of `circuit_paths`."""
    last = edges[chain.edges[-1]]
    flipped = [(sign < 0) != (pole == "-") for sign in chain.signs]
    rows = [edges[number].row + int(flip) for number, flip in zip(chain.edges, flipped, strict=True)]  # - follows +
    names = [node_name(*edges[number].start) for number in chain.edges] + [node_name(*last.end)]
    written = [circuits.channels["written_concepts"].iloc[row] for row in rows]
    words = " > ".join([*written, circuits.channels["read_concepts"].iloc[rows[-1]]])
    return strength, len(rows), f"{' > '.join(names)} {last.side}", pole, words, rows
