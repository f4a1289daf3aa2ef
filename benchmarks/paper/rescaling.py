"""Directions rescaled by their relevance for a classification task, by the published rule and by another.

Published: class names and concepts are not centred, and of the concepts the class names alone are left out. The other
rule, headscan's first, centres both and leaves out every concept that holds a class name.

For each class set: zero-shot accuracy before and after `Edit.for_classes`, the paired change with its normal 95 %
interval, and the same multipliers at random directions of the same layers.

    python benchmarks/paper/rescaling.py --images FOLDER     # class sets of the demo world
    python benchmarks/paper/rescaling.py --model ViT-L-14 --pretrained TAG --folder flowers dtd aircraft
"""

import argparse
from pathlib import Path

import numpy as np

import headscan as hs
from common import RESULTS, TEMPLATES, add_options, demo_world, load, markdown, write
from headscan.evaluate import embed_images, read_image_folder, zero_shot
from headscan.evaluate.intervals import paired_interval

FIRST_SEED = 33_000_000
RULES = {
    "published": {"centred": False, "exclude": "exact"},
    "centred": {"centred": True, "exclude": "containing"},
}
SETS = ("object", "kind", "scenery", "colour")


def demo_sets(options):
    """Name, pictures, labels, class names and templates of each class set."""
    world, _ = demo_world(options)
    drawn = [
        world.sample(FIRST_SEED + seed, options.count, split="test", matching=None, images=options.images)
        for seed in range(options.seeds)
    ]
    pictures = np.concatenate([pictures for pictures, _ in drawn])
    for name in SETS:
        classes = [value for value in world.names(name) if value != "natural"]
        labels = np.concatenate([getattr(factors, name) for _, factors in drawn])
        kept = labels < len(classes)
        yield name, pictures[kept], labels[kept], classes, ("{} thing",) if name == "colour" else ("{}",)


def folder_sets(options):
    for folder in options.folder:
        paths, labels, classes = read_image_folder(folder)
        yield Path(folder).name, paths, labels, list(classes), TEMPLATES


def hits(model, task):
    """Which pictures of a class set are classified rightly."""
    _, pictures, labels, classes, templates = task
    return zero_shot(model, embed_images(model, pictures), labels, classes, templates=templates).hits


def measured(model, dictionary, scan, task, rule, options):
    """One row of the table: a class set rescaled by one rule, with random edits of the same size beside it."""
    name, _, labels, classes, _ = task
    settings = {"offset": options.offset, "floor": options.floor, "sparsity": options.sparsity, **RULES[rule]}
    edit = hs.Edit.for_classes(scan, model, classes, dictionary=dictionary, **settings)
    before, after = hits(model, task), hits(edit.apply(model, pictures="estimate"), task)
    change, low, high = paired_interval(before, after)
    shuffled = [edit.shuffled(model, seed=seed) for seed in range(options.random)]
    random = [hits(each.apply(model, pictures="estimate"), task).mean() for each in shuffled]
    chance = np.array(random) - before.mean()
    values = list(edit.multipliers.values()) or [1.0]
    return [
        name, len(classes), len(labels), f"{100 * before.mean():.1f}", f"{100 * after.mean():.1f}",
        f"{100 * change:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
        f"{100 * np.mean(chance):+.2f} ({100 * min(chance):+.2f} to {100 * max(chance):+.2f})",
        f"{min(values):.2f}, {np.median(values):.2f}, {max(values):.2f}",
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--folder", nargs="+", help="folders of pictures, one subfolder a class")
    parser.add_argument("--random", type=int, default=3, help="random edits of the same size (default: 3)")
    parser.add_argument("--offset", type=float, default=0.3)
    parser.add_argument("--floor", type=float, default=0.8)
    parser.add_argument("--sparsity", type=int, default=10)
    options = parser.parse_args()
    model, dictionary, scan = load(options)
    rows = []
    for task in folder_sets(options) if options.folder else demo_sets(options):
        for rule in RULES:
            rows.append([rule, *measured(model, dictionary, scan, task, rule, options)])
            print(" | ".join(map(str, rows[-1])), flush=True)
    columns = [
        "rule", "class set", "classes", "pictures", "before, %", "after, %", "change, points (95 %)",
        f"{options.random} random edits, points (range)", "multipliers: least, median, largest",
    ]  # fmt: skip
    write(
        options.out or RESULTS / "rescaling.md",
        "Classification rescaling",
        model,
        dictionary,
        scan,
        markdown(columns, rows),
    )


if __name__ == "__main__":
    main()
