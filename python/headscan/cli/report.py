"""``headscan report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from headscan.cli.options import Commands, add_command, at_least, folder

_EXAMPLES = """\
examples:
  headscan report out
  headscan report out --out vit-l-14.html --open
  headscan report out --images photos --count 8
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    report = add_command(
        commands,
        "report",
        _run,
        summary="write a scan as a page to browse",
        description="Write a scan as one HTML file: a map of the heads, each head's directions, a search.",
        examples=_EXAMPLES,
    )
    report.add_argument("scan", metavar="DIR", type=folder, help="folder that headscan scan wrote")
    report.add_argument("--out", metavar="FILE", type=Path, help="the page (default: DIR/report.html)")
    report.add_argument("--open", action="store_true", help="open it in the browser")
    add = report.add_argument_group("images along each direction").add_argument
    add("--images", metavar="DIR", type=folder, help="folder of pictures; needs the model that was scanned")
    add("--count", metavar="N", type=at_least(int, 1), default=6, help="images per pole (default: 6)")
    add("--model", metavar="MODEL", help="that model, where the scan's own name for it does not load here")
    add("--pretrained", metavar="TAG", help="its weights, likewise")
    add("--device", metavar="NAME", help="where it runs (default: cpu)")


def _run(options: argparse.Namespace) -> None:
    from headscan.explanations.result import load_scan

    scan = load_scan(options.scan)
    grounding = None
    if options.images is not None:
        from headscan.models.load import load_model
        from headscan.report.ground import ground

        named = options.model is not None
        model = load_model(
            options.model if named else scan.info.model,
            pretrained=options.pretrained if named else scan.info.pretrained,
            device=options.device,
        )
        grounding = ground(scan, model, images=options.images, count=options.count)
    path = scan.report(options.out or options.scan / "report.html", grounding=grounding)
    shown = len(scan.rows(part="vo"))
    rest = f"; {len(scan) - shown:,} of other parts are in the table alone" if shown < len(scan) else ""
    sys.stdout.write(f"{shown:,} explanations in {path} ({path.stat().st_size / 1e6:.1f} MB){rest}\n")
    if options.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
