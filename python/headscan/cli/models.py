"""``headscan models``."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from headscan.cli.options import Commands, add_command
from headscan.cli.output import Output, Table

_EXAMPLES = """\
example:
  headscan models
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    add_command(
        commands,
        "models",
        _run,
        summary="list the families of models and what works for each",
        description="List the families of models, what of them can be scanned, and how to name them.",
        examples=_EXAMPLES,
    )


def _run(options: argparse.Namespace) -> Output:
    from headscan.models.towers.families import FAMILIES, REFUSED, families_text

    families = Table("families", "", [asdict(family) for family in FAMILIES], text=())
    return Output([*families_text().splitlines(), families], {"refused": REFUSED})
