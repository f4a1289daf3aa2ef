"""What the three experiments share: the model and its scan, the demo world's pictures, tables with their origin."""

import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch

import headscan as hs
from headscan.edit.codes import read_codes
from headscan.edit.matching import contrast, mean_similarity

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATES = ("a photo of a {}", "a picture of a {}")


def add_options(parser):
    add = parser.add_argument
    add("--model", default="demo", help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    add("--pretrained", help="weights of an open_clip name")
    add("--dictionary", help="default: demo for the demo model, dictionary.txt of a local-dir, else wordnet")
    add("--images", help="folder of the demo world's packed pictures (HEADSCAN_DEMO_IMAGES)")
    add("--layers", type=int, default=4, help="how many of the last layers are edited (default: 4, the paper's)")
    add("-k", type=int, default=5)
    add("--coherence", type=float, default=0.3)
    add("--seeds", type=int, default=5, help="seeds of test pictures (default: 5)")
    add("--count", type=int, default=600, help="pictures a seed (default: 600)")
    add("--out", type=Path, help="default: benchmarks/results/NAME.md")


def load(options):
    """Return model, dictionary and the scan of its last layers."""
    model = hs.load_model(options.model, pretrained=options.pretrained)
    name = options.dictionary
    if name is None:
        beside = Path(options.model.removeprefix("local-dir:")) / "dictionary.txt"
        name = "demo" if options.model == "demo" else str(beside) if beside.is_file() else "wordnet"
    dictionary = hs.load_dictionary(name, model=model)
    return model, dictionary, scan_again(model, dictionary, options)


def scan_again(model, dictionary, options, **changed):
    """Scan the chosen layers, with some settings changed."""
    settings = {
        "k": options.k,
        "coherence": options.coherence,
        "layers": last_layers(model, options.layers),
        **changed,
    }
    return hs.scan(model, dictionary, **settings)


def said_layers(scan):
    """The layers of which at least a tenth of the write side's explanations are better than chance."""
    table = scan.table().query("side == 'write'")
    share = (table["q_value"] <= 0.05).groupby(table["layer"]).mean()
    return [int(layer) for layer in share.index[share >= 0.1]] or list(scan.info.layers)


def last_layers(model, count):
    return list(range(max(model.layers - count, 0), model.layers))


def demo_world(options):
    """Import the world of the demo model's pictures."""
    if options.images:
        os.environ["HEADSCAN_DEMO_IMAGES"] = options.images
    sys.path.insert(0, str(ROOT / "tools" / "demo_model"))
    import words
    import world

    return world, words


def scenery_words(words):
    """Every word of the demo world for a place, those for several places too."""
    return sorted({word for names in words.SCENERIES.values() for word in names} | set(words.SHARED_SCENERY_WORDS))


def heads_by_score(scan, model, dictionary, like):
    """Heads of the scanned layers, the one whose explanations match best first: the mean over both poles' scores,
    weighted by sigma."""
    codes = read_codes(scan, model, dictionary=dictionary, layers=None)
    scores = mean_similarity(codes.indices, codes.coefficients, contrast(model, dictionary, like, ()))
    rows = codes.rows.assign(weighted=scores * codes.rows["sigma"])
    sums = rows.groupby(["layer", "head"])[["weighted", "sigma"]].sum()
    return [tuple(map(int, key)) for key in (sums["weighted"] / sums["sigma"]).sort_values(ascending=False).index]


def spread(values):
    """Mean and range over seeds, in percent."""
    values = 100 * np.asarray(values)
    return f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})"


def write(path, title, model, dictionary, scan, sections):
    """Write a Markdown file: what was measured, on what, by which command, and the tables."""
    given = ["FOLDER" if before == "--images" else each for before, each in zip(sys.argv, sys.argv[1:], strict=False)]
    command = " ".join(["python", f"benchmarks/paper/{Path(sys.argv[0]).name}", *given])
    lines = [
        f"# {title}",
        "",
        f"    {command}",
        "",
        f"- model {model.name}, weights {model.weights_hash[:12]}; {model.layers} layers of {model.heads} heads",
        f"- dictionary {dictionary.source}, {len(dictionary):,} concepts; k = {scan.info.k}, coherence "
        f"{scan.info.coherence}; layers {list(scan.info.layers)}, write side, both poles",
        f"- headscan {hs.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "",
        *sections,
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}\n")


def markdown(columns, rows):
    """Return a Markdown table."""
    return ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(columns)) + " |"] + [
        "| " + " | ".join(map(str, row)) + " |" for row in rows
    ]
