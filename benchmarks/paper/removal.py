"""One concept removed, the others kept: retrieval of texts by pictures before and after, for every concept in turn.

The directions are chosen by explanations alone: those nearer to the removed concept's words than to the other
concepts', by the rule of `Edit.suppress`. Held to: top-1 retrieval of the removed concept falls by at least half,
that of the others by at most 2 points on average.

    python benchmarks/paper/removal.py --images FOLDER                       # the demo world: each of its sceneries
    python benchmarks/paper/removal.py --model ViT-L-14 --pretrained TAG --folder DIR   # one subfolder a concept
"""

import argparse

import numpy as np
from common import RESULTS, TEMPLATES, add_options, demo_world, load, markdown, write

import headscan as hs
from headscan.evaluate import class_embeddings, embed_images, read_image_folder, retrieval

FIRST_SEED = 32_000_000
STRENGTHS = (0.0, -2.0, -4.0)


def demo_task(options):
    """Pictures with the place of their scenery among the names, the names, and each one's words."""
    world, words = demo_world(options)
    names = world.names("scenery")
    drawn = [
        world.sample(FIRST_SEED + seed, options.count, split="test", matching=None, images=options.images)
        for seed in range(options.seeds)
    ]
    pictures = np.concatenate([pictures for pictures, _ in drawn])
    labels = np.concatenate([factors.scenery for _, factors in drawn])
    return pictures, labels, names, [words.SCENERIES[name] for name in names], ("{}",)


def measure(model, pictures, labels, names, templates):
    """Top-1 hits of texts by pictures, and the share of a text's ten best pictures that show it."""
    relevant = labels[:, None] == np.arange(len(names))
    texts = class_embeddings(model, names, templates=templates)
    return retrieval(embed_images(model, pictures), texts, relevant, k=10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--folder", help="folder of pictures, one subfolder a concept")
    parser.add_argument("--chance", type=float, default=0.05)
    options = parser.parse_args()
    model, dictionary, scan = load(options)
    if options.folder:
        pictures, labels, names = read_image_folder(options.folder)
        words, templates = [(name,) for name in names], TEMPLATES
    else:
        pictures, labels, names, words, templates = demo_task(options)
    task = (pictures, labels, names, templates)
    base = measure(model, *task)
    rows, held = [], dict.fromkeys(STRENGTHS, 0)
    for place, name in enumerate(names):
        mine = labels == place
        unlike = [word for other, texts in enumerate(words) if other != place for word in texts]
        for strength in STRENGTHS:
            edit = hs.Edit.suppress(
                scan, model, like=words[place], unlike=unlike, strength=strength, chance=options.chance,
                dictionary=dictionary,
            )  # fmt: skip
            after = measure(edit.apply(model), *task)
            other = base.text_hits[~mine].mean() - after.text_hits[~mine].mean()
            halved = after.text_hits[mine].mean() <= base.text_hits[mine].mean() / 2
            held[strength] += bool(halved and other <= 0.02)
            shares = (base.text_hits[mine].mean(), after.text_hits[mine].mean(), other)
            found = [f"{100 * share:.1f}" for share in shares]
            precision = f"{100 * base.image_precision[place]:.0f} to {100 * after.image_precision[place]:.0f}"
            rows.append([name, strength, len(edit), *found, precision, "yes" if halved and other <= 0.02 else "no"])
            print(" | ".join(map(str, rows[-1])), flush=True)
    columns = [
        "removed", "multiplier", "directions", "top-1 before", "top-1 after", "others lose, points",
        "its ten best pictures right, %", "both bars",
    ]  # fmt: skip
    counts = "; ".join(f"multiplier {strength}: {count} of {len(names)}" for strength, count in held.items())
    summary = [f"{len(labels)} pictures. Concepts for which both bars hold: {counts}.", "", *markdown(columns, rows)]
    write(options.out or RESULTS / "removal.md", "One concept removed", model, dictionary, scan, summary)


if __name__ == "__main__":
    main()
