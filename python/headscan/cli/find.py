"""``headscan find``."""

from __future__ import annotations

import argparse

from headscan.cli.options import Commands, add_command, add_shared, at_least, path
from headscan.cli.output import Output, Table, records

_EXAMPLES = """\
examples:
  headscan find snow out
  headscan find "a red boat" out --model demo --side write --count 20
  headscan find snow out --words
"""
_COLUMNS = ("layer", "head", "index", "side", "pole", "sigma", "score", "matched", "concepts")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    find = add_command(
        commands,
        "find",
        _run,
        summary="find the directions about a text in a saved scan",
        description="Find the directions of a saved scan that are about a text, and the concepts that say so.",
        examples=_EXAMPLES,
    )
    find.add_argument("text", metavar="TEXT", help="what to look for")
    find.add_argument("scan", metavar="DIR", type=path, help="folder of a scan")
    add = find.add_argument
    add("--model", metavar="MODEL", help="the scan's model, which encodes the text (default: by the scan's own name)")
    add_shared(find, "pretrained", pretrained="its weights (default: as the scan says)")
    add("--words", action="store_true", help="match words instead, without a model")
    add("--count", metavar="N", type=at_least(int, 0), default=10, help="rows to show (default: 10)")
    add_shared(find, "layers", layers="only these layers (default: all)")
    add("--side", choices=("write", "read"), help="only this side")
    add("--pole", choices=("+", "-"), help="only this pole")


def _run(options: argparse.Namespace) -> Output:
    from headscan.explanations.by_name import find_by_name

    rows = find_by_name(
        options.text, options.scan, model=options.model, pretrained=options.pretrained, words=options.words,
        count=options.count, layers=options.layers, side=options.side, pole=options.pole,
    )  # fmt: skip
    by = "words" if options.words else "meaning"
    facts = {"text": options.text, "by": by}
    title = f"The directions nearest to {options.text!r} by {by}"
    table = Table("directions", title, records(rows), _COLUMNS)
    return Output([table] if len(rows) else [f"no direction is about {options.text!r} by {by}", table], facts)
