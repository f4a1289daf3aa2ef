"""Figures: what they draw is what the scan holds; none is shown."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

import headscan as hs
from browser import made_up_scan
from headscan import figures
from tests.report.test_page import WORDS


@pytest.fixture(scope="module")
def scan():
    return made_up_scan(layers=5, heads=3, rank=4, concepts=WORDS)


def rendered(figure):
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_spectra_draw_every_head(scan):
    figure = rendered(figures.spectra(scan))
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == [f"layer {layer}" for layer in range(5)]
    table = scan.table().drop_duplicates(["layer", "head", "index"])
    for layer, panel in enumerate(panels):
        drawn = np.array([line.get_ydata() for line in panel.lines])
        rows = table[table["layer"] == layer].sort_values(["head", "index"])
        np.testing.assert_array_equal(drawn, rows["sigma"].to_numpy().reshape(3, 4))
    assert len(figures.spectra(scan, layers="1-2").axes) == 2
    with pytest.raises(hs.HeadscanError, match="there is no layer 7"):
        figures.spectra(scan, layers=[7])


@pytest.mark.parametrize("by", ["fidelity", "strength"])
def test_maps_hold_each_head(scan, by):
    figure = rendered(figures.head_map(scan, by=by, side="read"))
    values = figure.axes[0].images[0].get_array()
    assert values.shape == (5, 3)
    rows = scan.table().query("layer == 4 and head == 2 and side == 'read'")
    energy = rows["sigma"] ** 2
    expected = {"strength": (energy.sum() / 2) ** 0.5, "fidelity": (energy * rows["fidelity"]).sum() / energy.sum()}
    assert values[4, 2] == pytest.approx(expected[by])
    with pytest.raises(hs.HeadscanError, match="a map is by strength or fidelity, not 'colour'"):
        figures.head_map(scan, by="colour")
    with pytest.raises(hs.HeadscanError, match="the scan has no side 'up'"):
        figures.head_map(scan, side="up")


def test_curves_join_scans_of_one_coherence():
    scans = []
    for k, coherence in ((2, 0.3), (1, 0.3), (1, 0.0)):
        made = made_up_scan(layers=1, heads=1, rank=4, concepts=WORDS, k=k, seed=k)
        scans.append(dataclasses.replace(made, info=dataclasses.replace(made.info, coherence=coherence)))
    lines = rendered(figures.fidelity_curves(scans)).axes[0].lines
    assert [line.get_label() for line in lines] == ["comp, 0", "comp, 0.3"]
    means = [scan.explanations["fidelity"].mean() for scan in scans]
    np.testing.assert_array_equal(lines[1].get_xydata(), [[1, means[1]], [2, means[0]]])
    other = dataclasses.replace(scans[0], info=dataclasses.replace(scans[0].info, weights_hash="f"))
    for bad in ([], [scans[0], other]):
        with pytest.raises(hs.HeadscanError, match="all of one model, dictionary and definition of fidelity"):
            figures.fidelity_curves(bad)


def test_without_matplotlib_the_extra_is_named(scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(hs.HeadscanError, match=r'pip install "headscan\[figures\]"'):
        figures.spectra(scan)


def test_nothing_is_shown_and_nothing_imported_early():
    code = "import sys, headscan.figures; print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False False\n"
