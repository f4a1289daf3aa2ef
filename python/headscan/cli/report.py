"""``headscan report``."""

from __future__ import annotations

import argparse

from headscan.cli.options import Commands, add_command, add_shared, at_least, path
from headscan.cli.output import Output

_EXAMPLES = """\
examples:
  headscan report out
  headscan report out --out vit-l-14.html --open
  headscan report out --images photos --count 8
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    report = add_command(
        commands,
        "report",
        _run,
        summary="write a scan as a page to browse",
        description="Write a scan as one HTML file: a map of the heads, each head's directions, a search.",
        examples=_EXAMPLES,
        tables=False,
    )
    report.add_argument("scan", metavar="DIR", type=path, help="folder that headscan scan wrote")
    report.add_argument("--out", metavar="FILE", type=path, help="the page (default: DIR/report.html)")
    add_shared(report, "force", force="write over a file that headscan did not write")
    report.add_argument("--open", action="store_true", help="open it in the browser")
    images = report.add_argument_group("images along each direction")
    add = images.add_argument
    add("--images", metavar="DIR", type=path, help="folder of pictures; needs the model that was scanned")
    add("--count", metavar="N", type=at_least(int, 1), default=6, help="images per pole (default: 6)")
    add("--model", metavar="MODEL", help="that model, where the scan's own name for it does not load here")
    add_shared(images, "pretrained", "device", pretrained="its weights, likewise")


def _run(options: argparse.Namespace) -> Output:
    from headscan.report.by_name import report_by_name

    scan, page = report_by_name(
        options.scan, page=options.out, images=options.images, count=options.count, model=options.model,
        pretrained=options.pretrained, device=options.device, force=options.force,
    )  # fmt: skip
    if options.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    shown, size = len(scan.rows(part="vo")), page.stat().st_size
    rest = f"; {len(scan) - shown:,} of other parts are in the table alone" if shown < len(scan) else ""
    line = f"{shown:,} explanations in {page} ({size / 1e6:.1f} MB){rest}"
    return Output([line], {"page": str(page), "explanations": shown, "bytes": size})
