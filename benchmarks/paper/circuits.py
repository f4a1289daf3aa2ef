"""Channels cut: does a head write otherwise on pictures that hold what the channel's words say, more than on others?

Of every reader layer the strongest channels into a head's values, queries or keys. Each is projected out of the
reader's input weights, as `hs.Cut` does; what the head writes at the class token changes by a length, picture by
picture. Compared: the mean change on the pictures that hold the channel's concepts over the mean change on all
others, for the channel and for random directions of which the same reader reads as much (``|w W|`` within 2 %). A
picture's score is the weighted mean, over the concepts of the pole whose words fit better, of the share of each
concept's claims (object, kind, colour, count, size, scenery) that are true of it; the top fifth, with ties, holds the
concepts. Pictures are of a drawing style and sceneries that the model never saw. The words come from weights alone:
no picture chose anything.

    python benchmarks/paper/circuits.py --images FOLDER          # -> results/circuits.md
"""

import argparse
import sys

import numpy as np
import torch

import headscan as hs
from common import RESULTS, add_options, demo_world, load, markdown
from headscan.heads.parts import node_name
from headscan.heads.writes import head_writes
from headscan.wiring.circuits import paired_rows
from headscan.wiring.result import PAIR

FIRST_SEED = 41_000_010
TOP, CONTROLS, RESAMPLES, LEAST_HELD = 40, 10, 2000, 20
THIRD = {"query": 0, "key": 1, "value": 2}


def draw(world, options):
    """Pictures as the model takes them, and the factors' labels."""
    import labels
    from towers import normalised

    pictures, factors = world.sample(FIRST_SEED, options.count, split="test", matching=None, images=options.images)
    return normalised(pictures), lambda texts: labels.factors(texts, factors)


class Heads:
    """What every head sees and writes at the class token on some pictures, in float64."""

    def __init__(self, model, pictures):
        self.model, self.blocks, self.known = model, model.module.visual.transformer.resblocks, {}
        seen = [[] for _ in self.blocks]
        hooks = [
            block.ln_1.register_forward_pre_hook(lambda part, given, keep=keep: keep.append(given[0]))
            for block, keep in zip(self.blocks, seen, strict=True)
        ]
        with torch.no_grad():
            for start in range(0, len(pictures), 250):
                model.module.visual(torch.as_tensor(pictures[start : start + 250]))
        for hook in hooks:
            hook.remove()
        self.stream = [torch.cat(each).double() for each in seen]  # (pictures, tokens, width)

    def xhat(self, layer):
        width, eps = self.model.width, self.blocks[layer].ln_1.eps
        return torch.nn.functional.layer_norm(self.stream[layer], (width,), eps=eps)

    def of(self, layer, head):
        """Return xhat, folded weights, queries, keys, values, attention and output weights of a head."""
        if (layer, head) not in self.known:
            tower, rank = self.model.tower, self.model.rank
            value, meeting = tower.read_attention(layer), tower.read_query_key(layer)
            mine = slice(head * rank, (head + 1) * rank)
            x, weights, made = self.xhat(layer), {}, {}
            for side, source in (("query", meeting), ("key", meeting), ("value", value)):
                matrix, bias = getattr(source, side)[:, mine], getattr(source, f"{side}_bias")[mine]
                weights[side] = torch.from_numpy(source.gain[:, None] * matrix)
                made[side] = x @ weights[side] + torch.from_numpy(source.shift @ matrix + bias)
            made["query"] = made["query"][:, 0]
            scores = torch.einsum("nr,ntr->nt", made["query"], made["key"]) / rank**0.5
            self.known[layer, head] = x, weights, made, scores, torch.from_numpy(value.output[mine])
        return self.known[layer, head]

    def change(self, side, layer, head, w):
        """Return how far what the head writes moves, (pictures,), with direction w cut from one side."""
        x, weights, made, scores, output = self.of(layer, head)
        along, taken = x @ torch.from_numpy(w), torch.from_numpy(w) @ weights[side]  # (pictures, tokens), (rank,)
        shares = scores.softmax(-1)
        if side == "value":
            return ((shares * along).sum(1).abs() * (taken @ output).norm()).numpy()
        asked = side == "query"  # of the class token, along its own direction; else each token along its
        less = along[:, :1] * (made["key"] @ taken) if asked else along * (made["query"] @ taken)[:, None]
        moved = (scores - less / self.model.rank**0.5).softmax(-1) - shares
        return (torch.einsum("nt,ntr->nr", moved, made["value"]) @ output).norm(dim=1).numpy()


def check(heads, pictures, side, layer, head, w):
    """Raise unless the shortcut above is what the cut checkpoint does."""
    model = heads.model
    cut = hs.Cut.of(model, [(side, layer, head, w)]).apply(model)
    few = pictures[:200]
    before, after = (head_writes(each, few, layers=[layer])[:, 0, head] for each in (model, cut))
    real = np.linalg.norm(after.astype(np.float64) - before, axis=1)
    short = heads.change(side, layer, head, w)[:200]
    if np.abs(real - short).max() > 1e-3 * max(short.max(), 1e-3):
        raise RuntimeError(f"the cut checkpoint moves by {real.max()}, the shortcut says {short.max()}")


def matched(rows, w, rng):
    """A random direction that the reader reads as strongly: between a random one and one it reads."""
    size = np.linalg.norm(rows @ w)
    axes = np.linalg.svd(rows, full_matrices=False)[2]
    angles = np.linspace(0, np.pi, 361)
    while True:
        outside = rng.standard_normal(len(w))
        inside = (rng.standard_normal(len(axes)) * np.exp(-np.arange(len(axes)) / rng.uniform(1, len(axes)))) @ axes
        pair = [each - each.mean() for each in (outside, inside)]
        pair = [each / np.linalg.norm(each) for each in pair]
        mixed = np.cos(angles)[:, None] * pair[0] + np.sin(angles)[:, None] * pair[1]
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        off = np.abs(np.linalg.norm(mixed @ rows.T, axis=1) / size - 1)
        if off.min() < 0.02:
            return mixed[off.argmin()]


def graded_presence(factors):
    """The share of each concept's claims that hold of each picture, (pictures, concepts)."""
    true, claims = 0.0, 0.0
    for factor in factors:
        allowed = np.vstack([factor.concepts.T, np.zeros(len(factor.concepts), bool)])  # the last row is "none"
        true, claims = true + allowed[factor.pictures].astype(float), claims + factor.concepts.any(axis=1)
    return true / np.maximum(claims, 1)


def top_fifth(score):
    least = np.quantile(score, 0.8)
    held = score >= least
    return held if held.mean() <= 0.5 else score > least


def ratio(change, held):
    return change[held].mean() / change[~held].mean()


def measure(made, heads, pictures, present, atoms):
    """One record a channel: change on pictures that hold its words over that on others, and the controls'."""
    rng, records, checked, skipped = np.random.default_rng(0), [], set(), 0
    plus = made.channels[(made.channels["pole"] == "+") & made.channels["side"].isin(list(THIRD))]
    chosen = plus.groupby("reader_layer", sort=True).head(TOP)
    written, _ = hs.channel_directions(made, heads.model, chosen)
    pairs = chosen[list(PAIR)].drop_duplicates()
    read = {
        pair: rows
        for pair, _, rows in paired_rows(heads.model, pairs, parts=made.info.parts, tower="image", threads=0)
    }
    for w, (place, row) in zip(written, chosen.iterrows(), strict=True):
        poles = made.channels.loc[[place, place + 1]]
        said = poles.loc[poles["written_fidelity"].idxmax()]
        code = np.zeros(atoms)
        for pick in range(made.info.k):
            code[said[f"written_atom_{pick}"]] = said[f"written_coefficient_{pick}"]
        score = present @ code
        held = top_fifth(score)
        if held.sum() < LEAST_HELD:
            skipped += 1
            continue
        pair = tuple(row[list(PAIR)])
        where = row["side"], int(row["reader_layer"]), int(row["reader_head"])
        if where[0] not in checked:
            check(heads, pictures, *where, w)
            checked.add(where[0])
        change = heads.change(*where, w)
        controls = [ratio(heads.change(*where, matched(read[pair], w, rng)), held) for _ in range(CONTROLS)]
        records.append(
            {
                "name": f"{node_name(*pair[1:3])} > {node_name(*pair[5:7])} {pair[4]}, channel {row['channel']}",
                "side": where[0], "layer": where[1], "strength": row["strength"], "p": said["written_p_value"],
                "ratio": ratio(change, held), "controls": controls, "words": said["written_concepts"],
                "held": int(held.sum()),
            }
        )  # fmt: skip
    print(f"{skipped} channels skipped: too few pictures hold their words", flush=True)
    return sorted(records, key=lambda record: -record["strength"])


def interval(values, rng):
    """A geometric mean with its 95 % bootstrap interval over channels."""
    logs = np.log(values)
    drawn = logs[rng.integers(len(logs), size=(RESAMPLES, len(logs)))].mean(axis=1)
    low, high = np.exp(np.quantile(drawn, (0.025, 0.975)))
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})"


def line(records, rng):
    """Cells: channels, their ratio, the controls', the quotient of both, mean share of controls that are lower."""
    own = np.array([record["ratio"] for record in records])
    control = np.array([np.exp(np.mean(np.log(record["controls"]))) for record in records])
    ranks = np.mean([np.mean(record["ratio"] > np.array(record["controls"])) for record in records])
    return [len(records), interval(own, rng), interval(control, rng), interval(own / control, rng), f"{ranks:.0%}"]


def sections(records):
    rng = np.random.default_rng(1)
    columns = ["channels", "cut", "random direction", "cut / random", "above a random one"]
    layers = sorted({record["layer"] for record in records})
    rows = []
    for layer in layers:
        for side in (*THIRD, "all"):
            mine = [each for each in records if each["layer"] == layer and side in (each["side"], "all")]
            if len(mine) >= 3:
                rows.append([layer, side, *line(mine, rng)])
    last = [record for record in records if record["layer"] == layers[-1]]
    curve = [[count, *line(last[:count], rng)[1:]] for count in (3, 5, 10, 20, 30, 40) if count <= len(last)]
    values = [record for record in last if record["side"] == "value"]
    curve += [
        [f"{count} into values", *line(values[:count], rng)[1:]] for count in (3, 5, 10, 20) if count <= len(values)
    ]
    named = [each for each in records if each["p"] < 0.05]
    groups = (("better than chance", named), ("no better", [each for each in records if each["p"] >= 0.05]))
    by_words = [[name, *line(group, rng)] for name, group in groups if len(group) >= 3]
    shown = [
        [
            each["name"], f"{each['strength']:.2f}", f"{each['p']:.3f}", f"{each['ratio']:.2f}",
            f"{np.exp(np.mean(np.log(each['controls']))):.2f}", each["words"],
        ]
        for each in last[:20]
    ]  # fmt: skip
    return [
        "Mean change of what the head writes on pictures that hold the channel's words over that on all others;",
        "geometric means over channels with 95 % bootstrap intervals. 1: cutting it concerns all pictures alike.", "",
        *markdown(["reader's layer", "read as", *columns], rows), "",
        f"The strongest channels into layer {layers[-1]}, from the top:", "",
        *markdown(["strongest", *columns[1:]], curve), "",
        "All layers, by whether the words fit better than those of random directions (p < 0.05):", "",
        *markdown(["words", *columns], by_words), "",
        f"The 20 strongest of layer {layers[-1]}:", "",
        *markdown(["channel", "strength", "p of its words", "cut", "random", "words"], shown),
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    model, dictionary, _ = load(options)
    world, _ = demo_world(options)
    pictures, labelled = draw(world, options)
    made = hs.circuits(model, dictionary, k=options.k, coherence=options.coherence)
    present = graded_presence(labelled(dictionary.texts))
    records = measure(made, Heads(model, pictures), pictures, present, len(dictionary))
    families = made.pairs.assign(above=made.pairs["q_value"] < made.info.level)
    table = families.groupby(["writer_part", "side"], sort=False)["above"].agg(["size", "sum"]).reset_index()
    lines = [
        "# Channels cut", "", "    python benchmarks/paper/circuits.py --images FOLDER", "",
        f"- model {model.name}, weights {model.weights_hash[:12]}; dictionary {dictionary.source}, k = {options.k}",
        f"- {len(pictures)} pictures of the held-out style, seed {FIRST_SEED}; {CONTROLS} random directions each",
        f"- headscan {hs.__version__}, torch {torch.__version__}", "",
        f"{len(made.pairs):,} pairs, {int(families['above'].sum())} above chance (q < {made.info.level}):", "",
        *markdown(["writer", "read as", "pairs", "above chance"], table.to_numpy().tolist()), "",
        *sections(records),
    ]  # fmt: skip
    path = options.out or RESULTS / "circuits.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
