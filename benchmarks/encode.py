"""Encoding a list: each prefix once, against trimmed batches sorted by length, and against whole padded rows.

    python benchmarks/encode.py [--list wordnet] [--model ViT-L-14] [--templates none|one|seven] [--batches 6]
                                [--batch-size 256] [--rounds 3] [--cpu]

Every contender has its own batches of the whole list: neighbours in the tree of prefixes, texts of like length, rows
in listed order. Some of these, spread evenly, are timed, and the time is scaled by what all of them compute over what
these do: prefixes, tokens, padded tokens. The contenders take turns. Models of
open_clip's list get random weights: the time does not depend on them. Before anything is timed the embeddings of a
batch are compared with the module's own. With --cpu the time is CPU seconds of one thread, for shared machines.
"""

import argparse
import os
import sys
import time

import interleave
import numpy as np
import torch
from memory import resident

import headscan as hs
from headscan.dictionaries.vocabulary import read_vocabulary
from headscan.models.prefixes import _Tree, encode_prefixes, sorted_by_tokens
from headscan.models.text import join, tokenize
from headscan.models.towers.causal import read_causal_tower

LIMIT = 1e-5
TEMPLATES = {
    "none": ["{}"],
    "one": ["a photo of a {}"],
    "seven": [
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ],
}


def random_model(name):
    """A model of open_clip's list with seeded weights; of its vision tower one layer is enough."""
    import open_clip

    config = open_clip.get_model_config(name)
    config["vision_cfg"]["layers"] = 1
    torch.manual_seed(0)
    names = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    module = open_clip.CLIP(**{key: config[key] for key in names if key in config})
    return hs.load_model(module.eval(), tokenizer=open_clip.get_tokenizer(name))


def spread_batches(order, batch_size, count):
    """`count` of the batches of `batch_size` rows, evenly spread, and how many there are."""
    starts = np.arange(0, len(order), batch_size)
    chosen = starts[np.linspace(0, len(starts) - 1, min(count + 2, len(starts))).astype(int)[1:-1]]
    return [order[start : start + batch_size] for start in chosen], len(starts)


def prefixes(list_of_rows, tokens, tower):
    device = torch.device("cpu")
    return [encode_prefixes(tower, tokens.ids[rows], tokens.lengths[rows], device=device) for rows in list_of_rows]


def trimmed(list_of_rows, tokens, tower):
    cut = (tokens.ids[rows, : tokens.lengths[rows].max()] for rows in list_of_rows)
    return [tower.encode(torch.from_numpy(ids)) for ids in cut]


def whole(list_of_rows, tokens, module):
    """The module's own encode_text over whole rows of ids."""
    padded = np.zeros((len(tokens.ids), module.context_length), dtype=np.int64)
    padded[:, : tokens.ids.shape[1]] = tokens.ids * (np.arange(tokens.ids.shape[1]) < tokens.lengths[:, None])
    return [module.encode_text(torch.from_numpy(padded[rows])) for rows in list_of_rows]


def check(found, expected):
    difference = float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())
    if not difference <= LIMIT:
        sys.exit(f"the embeddings differ by {difference:.2g}, relative, more than {LIMIT:g}")
    return difference


def counted(tokens, list_of_rows):
    """Tokens up to the end token, and the prefixes among them, of batches."""
    prefixes = sum(len(_Tree(tokens.ids[rows], tokens.lengths[rows]).tokens) for rows in list_of_rows)
    return sum(int(tokens.lengths[rows].sum()) for rows in list_of_rows), prefixes


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--list", default="wordnet")
    parser.add_argument("--model", default="ViT-L-14", help="demo, or a name of open_clip's list")
    parser.add_argument("--templates", choices=TEMPLATES, default="none")
    parser.add_argument("--batches", type=int, default=6, help="timed, of each contender's")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    if options.cpu:
        torch.set_num_threads(1)
    head = interleave.machine(torch.get_num_threads())
    model = hs.load_model("demo") if options.model == "demo" else random_model(options.model)
    module, tower = model.module, read_causal_tower(model.module)
    texts = read_vocabulary(options.list).texts
    filled = [[one.replace("{}", text) for text in texts] for one in TEMPLATES[options.templates]]
    tokens = join([tokenize(module, model.tokenizer, every).trimmed() for every in filled])
    order = sorted_by_tokens(tokens.ids, tokens.lengths)
    with torch.inference_mode():
        [[rows], _] = spread_batches(order, options.batch_size, 1)
        rows = rows[:64]
        difference = check(prefixes([rows], tokens, tower)[0], whole([rows], tokens, module)[0])
        size, count = options.batch_size, options.batches
        near, _ = spread_batches(order, size, count)
        alike, _ = spread_batches(np.argsort(tokens.lengths, kind="stable"), size, count)
        long, _ = spread_batches(np.arange(len(order)), 32, 1)
        every = [order[start : start + size] for start in range(0, len(order), size)]
        (all_tokens, all_prefixes), some = counted(tokens, every), counted(tokens, near)[1]
        padded = sum(len(rows) * int(tokens.lengths[rows].max()) for rows in alike)
        contenders = [
            interleave.Contender("whole rows, listed order", lambda: whole(long, tokens, module), len(order) / 32),
            interleave.Contender(
                "trimmed, sorted by length", lambda: trimmed(alike, tokens, tower), all_tokens / padded
            ),
            interleave.Contender("each prefix once", lambda: prefixes(near, tokens, tower), all_prefixes / some),
        ]
        for one in contenders:
            one.note = f"{1 / one.scale:.2%} timed, scaled"
        before = resident()["RssAnon"]
        interleave.measure(contenders[1:], options.rounds, warm=True, clock=clock)
        peak = resident()["VmHWM"] - before
        interleave.measure(contenders[:1], options.rounds, warm=False, clock=clock)
    unit = "CPU seconds of one thread" if options.cpu else f"seconds with {torch.get_num_threads()} threads"
    body = [
        *head,
        f"- {len(order):,} texts of {options.list}, templates: {options.templates}; {options.model}, batch size "
        f"{options.batch_size}; {unit}",
        f"- {all_tokens:,} tokens up to the end token, {all_prefixes:,} prefixes computed: "
        f"{all_tokens / all_prefixes:.2f} times fewer",
        f"- largest difference to the module's own embeddings {difference:.1e}, relative",
        f"- memory over model and token ids, at most {peak / 1e6:,.0f} MB",
        "",
        *interleave.table(contenders, contenders[1]),
    ]
    name = None if options.list != "wordnet" else f"encode_{options.model.replace('/', '-')}_{options.templates}"
    interleave.report(name, f"Encoding {len(order):,} texts", body)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
