"""Encoding a list trimmed and sorted by length against untrimmed in listed order, at the same batch size.

    python benchmarks/encode.py [--list wordnet] [--model demo] [--texts N] [--batch-size 256] [--rounds 3]

Both contenders start from the same token ids, in windows of 65,536 texts, and take turns. The largest difference
between their embeddings, scaled to unit length, is checked before anything is reported.
"""

import argparse
import sys

import interleave
import numpy as np

import headscan as hs
from headscan.common.vectors import unit
from headscan.dictionaries.vocabulary import read_vocabulary
from headscan.models.text import encode_tokens, tokenize

WINDOW, LIMIT = 65_536, 1e-5


def untrimmed(model, windows, batch_size):
    """The module's own encode_text over whole rows of ids, in the order of the list."""
    import torch

    parts = []
    with torch.inference_mode():
        for tokens in windows:
            for first in range(0, len(tokens.ids), batch_size):
                parts.append(
                    model.module.encode_text(torch.from_numpy(tokens.ids[first : first + batch_size])).numpy()
                )
    return np.concatenate(parts)


def trimmed(model, windows, batch_size):
    return np.concatenate([encode_tokens(model.module, tokens, batch_size=batch_size) for tokens in windows])


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--list", default="wordnet")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pretrained")
    parser.add_argument("--texts", type=int, help="only so many, spread over the list")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = hs.load_model(options.model, pretrained=options.pretrained)
    texts = read_vocabulary(options.list).texts
    step = max(1, len(texts) // (options.texts or len(texts)))
    texts = texts[::step][: options.texts]
    windows = [
        tokenize(model.module, model.tokenizer, list(texts[first : first + WINDOW]))
        for first in range(0, len(texts), WINDOW)
    ]
    head = interleave.machine(interleave.os.cpu_count())
    contenders = [
        interleave.Contender("untrimmed, listed order", lambda: untrimmed(model, windows, options.batch_size)),
        interleave.Contender("trimmed, sorted", lambda: trimmed(model, windows, options.batch_size)),
    ]
    interleave.measure(contenders, options.rounds, warm=False)
    difference = float(np.abs(unit(contenders[0].result) - unit(contenders[1].result)).max())
    if not difference <= LIMIT:
        sys.exit(f"the embeddings differ by {difference:.2g}, more than {LIMIT:g}")
    for one in contenders:
        one.note = f"{len(texts) / min(one.seconds):,.0f} texts/s at best"
    lengths = np.concatenate([tokens.lengths for tokens in windows])
    body = [
        *head,
        f"- {len(texts):,} texts of {options.list}, {options.model}, context {windows[0].ids.shape[1]}, mean length "
        f"{lengths.mean():.2f} tokens, batch size {options.batch_size}; largest difference {difference:.1e}",
        "",
        *interleave.table(contenders, contenders[0]),
    ]
    full = (options.list, options.model, options.texts) == ("wordnet", "demo", None)
    interleave.report("encode" if full else None, f"Encoding {len(texts):,} texts", body)


if __name__ == "__main__":
    main()
