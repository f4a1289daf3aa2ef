"""How well the dictionary says the demo CLIP's directions, beside random directions.

Needs the installed headscan and no pictures::

    python fidelity.py [--model demo] [--random 2000] [--seed 0]

Prints one JSON object for each set of directions: means of fidelity (in the residual stream) and of joint
fidelity (in the joint space), and the share of directions above the 95th percentile of random ones.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

import headscan as hs


def random_directions(count: int, width: int, seed: int) -> np.ndarray:
    """Return unit directions orthogonal to all-ones, as every head's are, (n, width)."""
    drawn = np.random.default_rng(seed).standard_normal((count, width))
    drawn -= drawn.mean(axis=1, keepdims=True)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def summary(name: str, values: dict[str, np.ndarray], bars: dict[str, float]) -> dict[str, str | int | float]:
    """Return one printed line: number of directions, and mean and share above the bar of each measure."""
    line: dict[str, str | int | float] = {"directions": name, "count": len(values["fidelity"])}
    for measure, column in values.items():
        line[f"mean {measure}"] = round(float(column.mean()), 4)
        line[f"{measure} above random's 95th percentile"] = round(float((column > bars[measure]).mean()), 4)
    return line


def main() -> None:
    """Scan every head, both sides and both poles, and compare with random directions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = hs.load_model(args.model)
    dictionary = hs.load_dictionary("demo", model=model)
    drawn = random_directions(args.random, model.width, args.seed)
    said = hs.explain_directions(drawn, dictionary, joint=hs.joint_map(model))
    random = {name: getattr(said, name) for name in ("fidelity", "joint_fidelity")}
    bars = {name: float(np.quantile(values, 0.95)) for name, values in random.items()}
    table = hs.scan(model, dictionary, sides=("write", "read")).table()
    late = table["layer"] >= model.layers - 2
    sets = {
        "random": random,
        "write, all layers": table[table["side"] == "write"],
        "write, last two layers": table[(table["side"] == "write") & late],
        "read, all layers": table[table["side"] == "read"],
    }
    for name, part in sets.items():
        line = summary(name, {measure: np.asarray(part[measure]) for measure in random}, bars)
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
