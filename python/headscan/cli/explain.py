"""``headscan explain``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from headscan.cli.options import Commands, add_command, at_least, concept_list, limit_threads

_EXAMPLES = """\
examples:
  headscan explain --text "a red boat on the sea" demo
  headscan explain --image dog.png ViT-L-14 --pretrained laion2b_s32b_b82k --show 20
  headscan explain --vector embedding.npy local-dir:my-clip --dictionary concepts.txt -k 10
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    from headscan.common.checks import MAX_THREADS

    explain = add_command(
        commands,
        "explain",
        _run,
        summary="explain an image, a text or an embedding in concepts",
        description="Explain an embedding as a sum of concepts, and an image's by the directions that wrote it.",
        examples=_EXAMPLES,
    )
    explain.add_argument("model", metavar="MODEL", help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    what = explain.add_mutually_exclusive_group(required=True).add_argument
    what("--image", metavar="FILE", type=Path, help="a picture, preprocessed as the model's own are")
    what("--text", metavar="TEXT", help="a text, encoded as it is")
    what("--vector", metavar="FILE", type=Path, help="an embedding of the joint space, .npy")
    add = explain.add_argument
    add("--pretrained", metavar="TAG", help="weights of an open_clip name: a tag, a checkpoint file, random")
    add("--image-mean", metavar="FILE", type=Path, help="mean image embedding, .safetensors or .npy")
    lists = "demo, wordnet, a text file or a saved folder (default: demo for the demo model, else wordnet)"
    add("--dictionary", metavar="NAME|FILE|DIR", type=concept_list, help=lists)
    add("-k", metavar="N", type=at_least(int, 1), default=5, help="concepts (default: 5)")
    weight = "weight of the concepts' similarity to one another (default: 0.3)"
    add("--coherence", metavar="X", type=at_least(float, 0), default=0.3, help=weight)
    add("--show", metavar="N", type=at_least(int, 0), default=10, help="directions to print (default: 10)")
    add("--threads", metavar="N", type=at_least(int, 0, MAX_THREADS), default=0, help="0: all that may be used")


def _run(options: argparse.Namespace) -> None:
    from headscan.cli.tables import print_rows
    from headscan.dictionaries.load import load_dictionary
    from headscan.explanations.explain import explain, written_in_words
    from headscan.models.load import load_model

    limit_threads(options.threads)
    model = load_model(options.model, pretrained=options.pretrained, image_mean=options.image_mean)
    name = options.dictionary or ("demo" if options.model == "demo" else "wordnet")
    dictionary = load_dictionary(name, model=model, at_least=options.k)
    code = {"k": options.k, "coherence": options.coherence, "threads": options.threads}
    said = explain(model, dictionary, image=options.image, text=options.text, vector=options.vector, **code)
    print_rows(said.table(), title=f"The {said.kind} in {len(said.table())} concepts: fidelity {said.fidelity:.3f}")
    if said.contributions is not None and options.show:
        parts = said.contributions.table()
        shares = parts.groupby("part")["share"].sum().sort_values(ascending=False)
        whole = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
        sys.stdout.write(f"\nShares of the embedding by what wrote it: {whole}\n\n")
        rows = written_in_words(said.contributions, model, dictionary, count=options.show, **code)
        print_rows(
            rows[["layer", "head", "index", "pole", "share", "fidelity", "concepts"]],
            title="The directions that wrote most of it",
        )
