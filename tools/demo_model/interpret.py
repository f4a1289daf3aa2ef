"""Do the demo CLIP's explanations say what drives its directions? On the held-out style and scenery seeds.

Needs the installed headscan. Run from this folder::

    python interpret.py --images FOLDER [--bundle ../../python/headscan/data/demo] [--pictures 2000]

Prints one JSON object a way of explaining (COMP, NNOMP, top-k; COMP of random directions): of the strongest
eight write directions of every head in the last two layers, better pole by fidelity, the share that name one
factor and the median rank correlations with a 95 % bootstrap interval (over directions); then every direction.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import labels
import numpy as np
import world
from sprites import IMAGES_VARIABLE
from towers import normalised

import headscan as hs
from evaluate import BUNDLE, SEED, figure
from headscan.evaluate.interpretability import Interpretability, interpretability

_RESAMPLES = 2000


def interval(values: np.ndarray, of: Callable[..., np.ndarray] = np.median) -> list[float]:
    """Return the median, or another mean, and its 95 % bootstrap interval over directions."""
    rng = np.random.default_rng(0)
    drawn = of(values[rng.integers(len(values), size=(_RESAMPLES, len(values)))], axis=1)
    return [round(float(v), 3) for v in (of(values, axis=0), *np.quantile(drawn, (0.025, 0.975)))]


def lines(measured: Interpretability) -> list[dict[str, object]]:
    """Return one printed line for each way of explaining."""
    found: list[dict[str, object]] = []
    comp = measured.table.query("method == 'comp'")["predicted"].to_numpy()
    for method, part in measured.table.groupby("method", sort=False):
        named = figure("names one factor", (part["factor"] != "").to_numpy(), 0.0)
        driven = part["driven"].dropna().to_numpy()
        found.append(
            {
                "method": method,
                "directions": len(part),
                "names one factor": [named.share, named.low, named.high],
                "its presence": interval(driven) if len(driven) else None,
                "predicted": interval(part["predicted"].to_numpy()),
                "shuffled": interval(part["shuffled"].to_numpy()),
                "predicted less shuffled": interval((part["predicted"] - part["shuffled"]).to_numpy()),
                "COMP better by (mean)": interval(comp - part["predicted"].to_numpy(), np.mean),
                "mean joint fidelity": round(float(part["joint_fidelity"].mean()), 3),
            }
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of packed pictures")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--pictures", type=int, default=2000)
    args = parser.parse_args()
    if args.images:
        os.environ[IMAGES_VARIABLE] = args.images
    model = hs.load_model(f"local-dir:{args.bundle}")
    dictionary = hs.load_dictionary(args.bundle / "dictionary.txt", model=model)
    pictures, factors = world.sample(SEED + 2, args.pictures, split="test")
    measured = interpretability(model, dictionary, normalised(pictures), labels.factors(dictionary.texts, factors))
    for line in lines(measured):
        sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.write(measured.table[measured.table["method"] == "comp"].to_csv(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
