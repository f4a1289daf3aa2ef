"""A headless Chromium, and made-up scans for it to open."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import MISSING, fields

import numpy as np
import pandas as pd

from headscan.explanations.result import Scan
from headscan.explanations.table import ScanInfo, make_table

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium():
    """Return the path of a Chromium, or None."""
    asked = os.environ.get("HEADSCAN_CHROMIUM")
    return asked or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def chromium():
    """Start a Chromium; its contexts are as fresh as incognito windows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        yield browser
        browser.close()


def made_up_scan(*, layers, heads, rank, concepts, k=5, seed=0, chance=False):
    """Return a scan of both sides and poles whose numbers are drawn, over the given concepts."""
    rng = np.random.default_rng(seed)
    layer, head, index, side, pole = (axis.ravel() for axis in np.indices((layers, heads, rank, 2, 2)))
    rows = len(layer)
    indices = (rng.integers(len(concepts), size=(rows, 1)) + np.arange(k)) % len(concepts)
    sigmas = -np.sort(-rng.uniform(0.05, 2.0, (layers, heads, rank)))
    columns = {
        "tower": "image",
        "part": "vo",
        "layer": layer,
        "head": head,
        "index": index,
        "side": np.array(["write", "read"], dtype=object)[side],
        "pole": np.array(["+", "-"], dtype=object)[pole],
        "sigma": sigmas[layer, head, index],
        "fidelity": rng.uniform(-0.1, 0.6, rows),
        "joint_fidelity": rng.uniform(0.3, 0.9, rows),
        "certified": np.ones(rows, dtype=bool),
        "indices": indices,
        "coefficients": rng.uniform(0.01, 0.6, (rows, k)),
    }
    table = make_table(columns, texts=concepts, k=k)
    if chance:
        table["p_value"] = np.where(table["fidelity"] > 0.25, 0.0005, 0.5)
        table["q_value"] = np.where(table["fidelity"] > 0.25, 0.01, 0.5)
    return Scan(info=_info(layers=layers, k=k, concepts=len(concepts)), explanations=pd.DataFrame(table))


def _info(*, layers, k, concepts):
    facts = {
        "headscan": "0",
        "created": "2026-01-01T00:00:00+00:00",
        "model": "made-up",
        "pretrained": None,
        "weights_hash": "0" * 64,
        "image_mean_hash": None,
        "dictionary": "drawn",
        "dictionary_hash": "1" * 64,
        "template": "{}",
        "concepts": concepts,
        "tower": "image",
        "parts": ("vo",),
        "layers": tuple(range(layers)),
        "sides": ("write", "read"),
        "poles": ("+", "-"),
        "k": k,
        "coherence": 0.3,
        "folded": True,
    }
    return ScanInfo(**{field.name: 0 for field in fields(ScanInfo) if field.default is MISSING} | facts)
