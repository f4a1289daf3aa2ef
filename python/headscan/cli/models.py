"""``headscan models``."""

from __future__ import annotations

import argparse
import sys

from headscan.cli.options import Commands, add_command

_EXAMPLES = """\
example:
  headscan models
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    add_command(
        commands,
        "models",
        _run,
        summary="list the families of models and what works for each",
        description="List the families of models, what of them can be scanned, and how to name them.",
        examples=_EXAMPLES,
    )


def _run(options: argparse.Namespace) -> None:
    from headscan.models.towers.families import families_text

    sys.stdout.write(families_text())
