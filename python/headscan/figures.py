"""Figures of scans with matplotlib (``pip install "headscan[figures]"``): returned, never shown.

Each function gives a `matplotlib.figure.Figure` that belongs to no window: a notebook displays it, and
``figure.savefig("name.svg")`` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.heads.layers import select_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from headscan.explanations.result import Scan

__all__ = ["fidelity_curves", "head_map", "spectra"]

_MAPS = {
    "strength": ("Strength of each head", "Frobenius norm of its W_VO"),
    "fidelity": ("Fidelity of each head's explanations", "mean, weighted by sigma squared"),
}


def spectra(scan: Scan, *, layers: str | int | Iterable[int] = "all") -> Figure:
    """Draw the singular values of each head, a panel per layer and a line per head.

    Parameters
    ----------
    scan : Scan
        The scan.
    layers : str, int or iterable of int, default "all"
        As in `vo_factors`; of the scan's layers.

    Raises
    ------
    HeadscanError
        If matplotlib is absent, or a layer is not in the scan.
    """
    chosen = scan.info.layers if layers == "all" else select_layers(layers, count=max(scan.info.layers) + 1)
    absent = sorted(set(chosen) - set(scan.info.layers))
    if absent:
        raise HeadscanError(f"layer {absent[0]} is not in the scan: its layers are {scan.info.layers}")
    across = min(4, len(chosen))
    down = -(-len(chosen) // across)
    figure = _figure(width=3.0 * across + 0.6, height=2.2 * down + 0.5)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    table = scan.explanations.drop_duplicates(["layer", "head", "index"])
    for panel, layer in zip(panels.flat, chosen, strict=False):
        for _, rows in table[table["layer"] == layer].groupby("head"):
            ordered = rows.sort_values("index")
            panel.plot(ordered["index"], ordered["sigma"], color="C0", alpha=0.7, linewidth=1)
        panel.set_title(f"layer {layer}", fontsize="small")
    for panel in panels.flat[len(chosen) :]:
        panel.set_visible(False)
    figure.supxlabel("singular pair")
    figure.supylabel("sigma")
    return figure


def head_map(scan: Scan, *, by: str = "fidelity", side: str | None = None) -> Figure:
    """Draw layers by heads, coloured by strength or fidelity.

    Parameters
    ----------
    scan : Scan
        The scan.
    by : {"fidelity", "strength"}
        The mean fidelity of a head's explanations, weighted by sigma squared, or the Frobenius norm of its
        W_VO.
    side : {"write", "read"}, optional
        By default the first side that was scanned.

    Raises
    ------
    HeadscanError
        If matplotlib is absent, or `by` or `side` is not one of these.
    """
    from headscan.report.summary import summarise

    if by not in _MAPS:
        raise HeadscanError(f"a map is by {' or '.join(_MAPS)}, not {by!r}")
    wanted = side or scan.info.sides[0]
    records = [record for record in summarise(scan.explanations, k=scan.info.k) if record["side"] == wanted]
    if not records:
        raise HeadscanError(f"the scan has no side {wanted!r}: its sides are {', '.join(scan.info.sides)}")
    values = np.full((len(scan.info.layers), max(record["head"] for record in records) + 1), np.nan)
    for record in records:
        values[scan.info.layers.index(record["layer"]), record["head"]] = record[by]
    figure = _figure(width=0.35 * values.shape[1] + 2.6, height=0.3 * values.shape[0] + 1.4)
    panel = figure.subplots()
    picture = panel.imshow(values, cmap="viridis", aspect="auto")
    panel.set_xticks(range(values.shape[1]))
    panel.set_yticks(range(values.shape[0]), [str(layer) for layer in scan.info.layers])
    _label(panel, title=_MAPS[by][0], x="head", y="layer")
    figure.colorbar(picture, ax=panel, label=_MAPS[by][1])
    return figure


def fidelity_curves(scans: Sequence[Scan], *, side: str | None = None) -> Figure:
    """Draw mean fidelity against k, a line per method and coherence, as the paper's Figure 3 does (arXiv 2603.24653).

    Parameters
    ----------
    scans : sequence of Scan
        Scans of one model with one dictionary, at several k, methods and coherences.
    side : {"write", "read"}, optional
        By default every explanation counts.

    Raises
    ------
    HeadscanError
        If matplotlib is absent, there is no scan, or they differ in model, dictionary or definition of fidelity.
    """
    facts = {(each.info.weights_hash, each.info.dictionary_hash, each.info.fidelity_version) for each in scans}
    if len(facts) != 1:
        raise HeadscanError(
            "fidelity_curves needs at least one scan, all of one model, dictionary and definition of fidelity"
        )
    points: dict[str, list[tuple[int, float]]] = {}
    for scan in scans:
        rows = scan.explanations
        chosen = rows if side is None else rows[rows["side"] == side]
        method = scan.info.method
        name = f"comp, {scan.info.coherence:g}" if method == "comp" else method
        points.setdefault(name, []).append((scan.info.k, float(chosen["fidelity"].mean())))
    figure = _figure(width=5.0, height=3.4)
    panel = figure.subplots()
    for name in sorted(points):
        line = np.array(sorted(points[name]))
        panel.plot(line[:, 0], line[:, 1], marker="o", label=name)
    panel.legend(title="method, coherence")
    _label(panel, title=scans[0].info.model, x="concepts per explanation, k", y="mean fidelity")
    return figure


def _figure(*, width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HeadscanError('figures need matplotlib: pip install "headscan[figures]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def _label(panel: Axes, *, title: str, x: str, y: str, **options: Any) -> None:
    panel.set_title(title, fontsize="medium", **options)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
