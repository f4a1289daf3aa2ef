"""``headscan compare``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from headscan.cli.options import Commands, add_command, add_shared, at_least, path
from headscan.cli.output import Output, Table, records

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = """\
examples:
  headscan compare demo local-dir:demo-without-scenery --out compared
  headscan compare ViT-B-32 ViT-B-32 --pretrained openai --tuned-pretrained tuned.pt --layers 8-11
  headscan compare demo my-lora-adapter --figure change.png
"""
_NOT_SHOWN = ("norm", "joint_fidelity", "certified", "p_value", "write_angle_max", "read_angle_max")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    from headscan.explanations.null import RANDOM_DIRECTIONS

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
    add_shared(compare, "pretrained", pretrained="weights of the base: a tag, a checkpoint file, random")
    add("--tuned-pretrained", metavar="TAG", help="weights of the tuned model")
    add_shared(compare, "dictionary", "column", "strict", "layers")
    add("--count", metavar="N", type=at_least(int, 1), default=4, help="directions kept per head (default: 4)")
    add_shared(compare, "k", "coherence", "show", "threads", show="rows to show of each table (default: 10)")
    compared = f"random directions that explanations are compared with, 0 for none (default: {RANDOM_DIRECTIONS})"
    add("--significance", metavar="N", type=at_least(int, 0), default=RANDOM_DIRECTIONS, help=compared)
    add("--out", metavar="DIR", type=path, help="folder for the tables and page.html")
    add_shared(compare, "force")
    add("--figure", metavar="FILE", type=path, help="picture of layers x heads, .png or .svg; needs matplotlib")


def _run(options: argparse.Namespace) -> Output:
    from headscan.comparison.by_name import compare_by_name
    from headscan.comparison.result import NO_DIFFERENCE
    from headscan.dictionaries.by_name import Sources

    sources = Sources(
        model=options.base, pretrained=options.pretrained, dictionary=options.dictionary, column=options.column,
        strict=options.strict, threads=options.threads,
    )  # fmt: skip
    comparison = compare_by_name(
        sources, options.tuned, pretrained=options.tuned_pretrained, layers=options.layers, count=options.count,
        k=options.k, coherence=options.coherence, significance=options.significance, folder=options.out,
        figure=options.figure, force=options.force,
    )  # fmt: skip
    summary = comparison.summary()
    facts = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in summary.items())
    parts: list[str | Table] = [
        f"Over all heads, weighted by squared change: {facts}" if comparison.differs else NO_DIFFERENCE
    ]
    if comparison.unused:
        modules = f"{len(comparison.unused)} modules, {comparison.unused[0]} first"
        parts.append(f"Changed outside the heads' W_VO: {modules}")
    count = options.show if comparison.differs else 0
    parts.append(_table("heads", "The heads that changed most", comparison.heads.head(count)))
    parts.append(_table("changes", "What the change writes", comparison.changes.head(count)))
    parts.append(_table("reweighted", "Directions reweighted", comparison.reweighted.head(count)))
    if options.out is not None:
        parts.append(f"saved in {options.out}")
    answer = {"base": comparison.base, "tuned": comparison.tuned, "differs": comparison.differs, "summary": summary}
    return Output(parts, {**answer, "unused": list(comparison.unused)})


def _table(name: str, title: str, rows: pd.DataFrame) -> Table:
    shown = [column for column in rows.columns if column not in _NOT_SHOWN and column[-1] not in "0123456789"]
    return Table(name, title, records(rows), shown)
