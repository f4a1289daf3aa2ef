"""``headscan find``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from headscan.cli.options import Commands, add_command, at_least, folder, layers

if TYPE_CHECKING:
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

_EXAMPLES = """\
examples:
  headscan find snow out
  headscan find "a red boat" out --model demo --side write --count 20
  headscan find snow out --words
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    find = add_command(
        commands,
        "find",
        _run,
        summary="find the directions about a text in a saved scan",
        description="Find the directions of a saved scan that are about a text, and the concepts that say so.",
        examples=_EXAMPLES,
    )
    find.add_argument("text", metavar="TEXT", help="what to look for")
    find.add_argument("scan", metavar="DIR", type=folder, help="folder of a scan")
    add = find.add_argument
    add("--model", metavar="MODEL", help="the scan's model, which encodes the text (default: by the scan's own name)")
    add("--pretrained", metavar="TAG", help="its weights (default: as the scan says)")
    add("--words", action="store_true", help="match words instead, without a model")
    add("--count", metavar="N", type=at_least(int, 0), default=10, help="rows to print (default: 10)")
    add("--layers", metavar="all|20-23", type=layers, default="all", help="only these layers (default: all)")
    add("--side", choices=("write", "read"), help="only this side")
    add("--pole", choices=("+", "-"), help="only this pole")


def _run(options: argparse.Namespace) -> None:
    from headscan.cli.tables import print_rows
    from headscan.common.terminal import plain
    from headscan.explanations.result import load_scan
    from headscan.heads.layers import select_layers

    scan = load_scan(options.scan)
    chosen = select_layers(options.layers, count=max(scan.info.layers) + 1)
    model = None if options.words else _model(options, scan)
    found = scan.find(
        options.text, model=model, count=options.count, layers=chosen, side=options.side, pole=options.pole
    )
    how = "words" if model is None else "meaning"
    if len(found):
        columns = ["layer", "head", "index", "side", "pole", "sigma", "score", "matched", "concepts"]
        print_rows(found[columns], title=f"The directions nearest to {plain(options.text)!r} by {how}")
    else:
        sys.stdout.write(f"no direction is about {plain(options.text)!r} by {how}\n")


def _model(options: argparse.Namespace, scan: Scan) -> Model:
    """Load the model asked for, or the one that the scan names."""
    from headscan.errors import HeadscanError
    from headscan.models.load import load_model

    name = scan.info.model if options.model is None else options.model
    pretrained = scan.info.pretrained if options.model is None else options.pretrained
    try:
        return load_model(name, pretrained=pretrained)
    except HeadscanError as error:
        raise HeadscanError(f"{error}; --words finds without a model, --model names another source") from error
