"""A concept removed, the rest kept: top-1 retrieval of texts by pictures, before and after.

First a whole factor of the demo world (every word for a place, or for a colour), measured on all factors; then single
concepts (each scenery in turn, or each subfolder of `--folder`), measured on the removed one and on the others. The
directions are chosen by explanations alone, by the rule of `Edit.suppress`, in the layers of which at least a tenth
of the explanations are better than chance; concepts nearer to what is to stay count against, and what heads write on
average is kept as estimated from the model's image mean. Held to: the removed concept's top-1 falls by at least half,
that of the rest by at most 2 points on average. Multipliers were looked at on pictures of another seed (32000000).

    python benchmarks/paper/removal.py --images FOLDER                       # the demo world
    python benchmarks/paper/removal.py --model ViT-L-14 --pretrained TAG --folder DIR   # one subfolder a concept
"""

import argparse

import numpy as np

import headscan as hs
from common import RESULTS, TEMPLATES, add_options, demo_world, load, markdown, said_layers, scenery_words, write
from headscan.evaluate import class_embeddings, embed_images, read_image_folder, retrieval

FIRST_SEED = 32_000_010
STRENGTHS = (0.0, -0.5, -1.0)


def draw(world, options):
    """Pictures of all seeds and their factors by name."""
    drawn = [
        world.sample(FIRST_SEED + seed, options.count, split="test", matching=None, images=options.images)
        for seed in range(options.seeds)
    ]
    factors = ("scenery", "colour", "kind", "object")
    labels = {name: np.concatenate([getattr(each, name) for _, each in drawn]) for name in factors}
    return np.concatenate([pictures for pictures, _ in drawn]), labels


def top_1(embedded, labels, texts):
    """Whether each picture's best text is its own; pictures without one are left out."""
    kept = labels < len(texts)
    relevant = labels[kept][:, None] == np.arange(len(texts))
    return retrieval(embedded[kept], texts, relevant).text_hits


def whole_factors(model, dictionary, scan, world, words, pictures, labels):
    """Remove every place, then every colour; top-1 of every factor."""
    colours = [word for name in words.COLOURS for word in (name, *words.COLOUR_SYNONYMS[name])]
    removals = {"scenery": scenery_words(words), "colour": colours}
    names = {name: [value for value in world.names(name) if value != "natural"] for name in labels}
    templates = {"colour": "{} thing"}
    texts = {n: class_embeddings(model, names[n], templates=(templates.get(n, "{}"),)) for n in labels}
    measure = lambda edited: {n: top_1(embed_images(edited, pictures), labels[n], texts[n]).mean() for n in labels}  # noqa: E731
    base = measure(model)
    rows = [["none", "", "", *(f"{100 * base[name]:.1f}" for name in labels), "", ""]]
    chosen = {"layers": said_layers(scan), "dictionary": dictionary}
    for removed, like in removals.items():
        for strength in STRENGTHS:
            edit = hs.Edit.suppress(scan, model, like=like, strength=strength, **chosen)
            after = measure(edit.apply(model, pictures="estimate"))
            lost = float(np.mean([base[name] - after[name] for name in labels if name != removed]))
            held = after[removed] <= base[removed] / 2 and lost <= 0.02
            shares = [f"{100 * after[name]:.1f}" for name in labels]
            rows.append([removed, strength, len(edit), *shares, f"{100 * lost:.1f}", "yes" if held else "no"])
            print(" | ".join(map(str, rows[-1])), flush=True)
    columns = ["removed", "multiplier", "directions", *labels, "the others lose, points", "both bars"]
    return ["Whole factors, top-1 in percent:", "", *markdown(columns, rows)]


def single_concepts(model, dictionary, scan, pictures, labels, names, words, templates, strengths):
    """Remove one concept after the other."""
    texts = class_embeddings(model, names, templates=templates)
    base = top_1(embed_images(model, pictures), labels, texts)
    rows, held = [], {strength: [] for strength in strengths}
    chosen = {"layers": said_layers(scan), "dictionary": dictionary}
    for place, name in enumerate(names):
        mine = labels == place
        unlike = [word for other, others in enumerate(words) if other != place for word in others]
        for strength in strengths:
            edit = hs.Edit.suppress(scan, model, like=words[place], unlike=unlike, strength=strength, **chosen)
            after = top_1(embed_images(edit.apply(model, pictures="estimate"), pictures), labels, texts)
            lost = base[~mine].mean() - after[~mine].mean()
            both = after[mine].mean() <= base[mine].mean() / 2 and lost <= 0.02
            held[strength].append((bool(both), after[mine].mean(), lost))
            shares = [f"{100 * share:.1f}" for share in (base[mine].mean(), after[mine].mean(), lost)]
            rows.append([name, strength, len(edit), *shares, "yes" if both else "no"])
            print(" | ".join(map(str, rows[-1])), flush=True)
    means = {strength: np.array(each).mean(axis=0) for strength, each in held.items()}
    counts = "; ".join(
        f"multiplier {strength}: {both * len(names):.0f} of {len(names)} (on average {100 * after:.1f} after, the "
        f"others lose {100 * lost:.1f})"
        for strength, (both, after, lost) in means.items()
    )
    columns = ["removed", "multiplier", "directions", "before", "after", "the others lose, points", "both bars"]
    return ["", f"Single concepts, top-1 in percent; both bars hold for: {counts}.", "", *markdown(columns, rows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--folder", help="folder of pictures, one subfolder a concept")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, -0.3], help="of single concepts")
    options = parser.parse_args()
    model, dictionary, scan = load(options)
    context = model, dictionary, scan
    if options.folder:
        pictures, labels, names = read_image_folder(options.folder)
        sections = single_concepts(
            *context, pictures, labels, names, [(n,) for n in names], TEMPLATES, options.strengths
        )
    else:
        world, words = demo_world(options)
        pictures, labels = draw(world, options)
        sections = [f"{len(pictures)} pictures of the held-out style.", ""]
        sections += whole_factors(*context, world, words, pictures, labels)
        names = world.names("scenery")
        terms = [words.SCENERIES[name] for name in names]
        sections += single_concepts(*context, pictures, labels["scenery"], names, terms, ("{}",), options.strengths)
    write(options.out or RESULTS / "removal.md", "A concept removed", *context, sections)


if __name__ == "__main__":
    main()
