"""``headscan vocab``."""

from __future__ import annotations

import argparse

from headscan.cli.options import Commands, add_command, add_shared, at_least, path
from headscan.cli.output import Output

_EXAMPLES = """\
examples:
  headscan vocab words --drop "^[0-9]" --similar 0.95 --out fewer
  headscan vocab wordnet conceptnet --out both
  headscan vocab wordnet --drop-list names.txt --counts counts.tsv --at-least 100 --script latin --out common

Several dictionaries are merged first, each text once. Nothing is encoded again.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    vocab = add_command(
        commands,
        "vocab",
        _run,
        summary="merge and filter dictionaries",
        description="Merge dictionaries that encode wrote, and drop concepts from them.",
        examples=_EXAMPLES,
        tables=False,
    )
    vocab.add_argument("dictionaries", metavar="DIR", type=path, nargs="+", help="folders that encode wrote")
    add = vocab.add_argument
    add("--out", metavar="DIR", type=path, required=True, help="folder for the result")
    add("--drop", metavar="REGEX", help="drop what matches this regular expression somewhere")
    add("--drop-list", metavar="FILE", help="drop the concepts of this list")
    add_shared(vocab, "column", "strict", column="of that list: column of a table or key of JSON's objects")
    add("--counts", metavar="FILE", type=path, help="word, tab, count a line: drop what has a rarer word")
    add("--at-least", metavar="N", type=at_least(float, 0), default=1.0, help="least count (default: 1)")
    add("--script", metavar="NAME", action="append", help="keep what is written in this alphabet; may be repeated")
    near = "drop what has this cosine or more with an earlier concept"
    add("--similar", metavar="COSINE", type=at_least(float, 0, 1), help=near)


def _run(options: argparse.Namespace) -> Output:
    from headscan.dictionaries.merge import filter_folders

    result = filter_folders(
        options.dictionaries, options.out, drop=options.drop, drop_list=options.drop_list, column=options.column,
        strict=options.strict, similar=options.similar,
        counts=options.counts, at_least=options.at_least, scripts=options.script,
    )  # fmt: skip
    folder, history = options.out.resolve(), list(result.history)
    facts = {"folder": str(folder), "concepts": len(result), "history": history}
    return Output([*history, f"{len(result):,} concepts in {folder}"], facts)
