"""``headscan compare``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headscan.cli.options import Commands, add_command, at_least, concept_list, folder, layers, limit_threads

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = """\
examples:
  headscan compare demo local-dir:demo-without-scenery --out compared
  headscan compare ViT-B-32 ViT-B-32 --pretrained openai --tuned-pretrained tuned.pt --layers 8-11
  headscan compare demo my-lora-adapter --figure change.png
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    from headscan.common.checks import MAX_THREADS

    compare = add_command(
        commands,
        "compare",
        _run,
        summary="compare the heads of a model and a fine-tuned one, in words",
        description="Compare the heads of two models of one architecture, or of a model and a LoRA adapter.",
        examples=_EXAMPLES,
    )
    compare.add_argument("base", metavar="BASE", help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    compare.add_argument("tuned", metavar="TUNED", help="likewise, or the folder of a LoRA adapter as peft saves it")
    add = compare.add_argument
    add("--pretrained", metavar="TAG", help="weights of the base: a tag, a checkpoint file, random")
    add("--tuned-pretrained", metavar="TAG", help="weights of the tuned model")
    lists = "demo, wordnet, a text file or a saved folder (default: demo for the demo model, else wordnet)"
    add("--dictionary", metavar="NAME|FILE|DIR", type=concept_list, help=lists)
    add("--layers", metavar="all|20-23", type=layers, default="all", help="numbered from 0 (default: all)")
    add("--count", metavar="N", type=at_least(int, 1), default=4, help="directions kept per head (default: 4)")
    add("-k", metavar="N", type=at_least(int, 1), default=5, help="concepts per explanation (default: 5)")
    weight = "weight of the concepts' similarity to one another (default: 0.3)"
    add("--coherence", metavar="X", type=at_least(float, 0), default=0.3, help=weight)
    add("--show", metavar="N", type=at_least(int, 0), default=10, help="rows to print of each table (default: 10)")
    add("--out", metavar="DIR", type=folder, help="folder for the tables and page.html")
    add("--figure", metavar="FILE", type=Path, help="picture of layers x heads, .png or .svg; needs matplotlib")
    add("--threads", metavar="N", type=at_least(int, 0, MAX_THREADS), default=0, help="0: all that may be used")


def _run(options: argparse.Namespace) -> None:
    from headscan.common import files
    from headscan.comparison.adapters import is_adapter, load_adapter
    from headscan.comparison.compare import compare
    from headscan.comparison.result import NO_DIFFERENCE, check_figure
    from headscan.dictionaries.load import load_dictionary
    from headscan.heads.layers import select_layers
    from headscan.models.load import load_model

    for place in (options.out, options.figure and options.figure.parent):
        if place is not None:
            files.check_writable(place)
    if options.figure is not None:
        check_figure(options.figure)
    limit_threads(options.threads)
    base = load_model(options.base, pretrained=options.pretrained)
    select_layers(options.layers, count=base.layers)
    tuned = (
        load_adapter(options.tuned)
        if is_adapter(options.tuned)
        else load_model(options.tuned, pretrained=options.tuned_pretrained)
    )
    name = options.dictionary or ("demo" if options.base == "demo" else "wordnet")
    dictionary = load_dictionary(name, model=base, at_least=options.k)
    found = compare(
        base, tuned, dictionary=dictionary, layers=options.layers, count=options.count, k=options.k,
        coherence=options.coherence, threads=options.threads,
    )  # fmt: skip
    facts = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.summary().items())
    said = f"Over all heads, weighted by squared change: {facts}" if found.differs else NO_DIFFERENCE
    sys.stdout.write(f"{said}\n")
    if found.unused:
        sys.stdout.write(f"Changed outside the heads' W_VO: {len(found.unused)} modules, {found.unused[0]} first\n")
    for title, table in (
        ("The heads that changed most", found.heads.drop(columns=["write_angle_max", "read_angle_max"])),
        ("What the change writes", found.changes),
        ("Directions reweighted", found.reweighted),
    ):
        _print(table.head(options.show if found.differs else 0), title)
    if options.figure is not None:
        found.figure().savefig(options.figure)
    if options.out is not None:
        sys.stdout.write(f"saved in {found.save(options.out)}\n")


def _print(rows: pd.DataFrame, title: str) -> None:
    from headscan.cli.tables import print_rows

    if len(rows):
        left_out = ("norm", "joint_fidelity", "certified")
        columns = [name for name in rows.columns if name not in left_out and name[-1] not in "0123456789"]
        print_rows(rows[columns], title=title)
