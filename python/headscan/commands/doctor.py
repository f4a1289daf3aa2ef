"""``headscan doctor``."""

from __future__ import annotations

import argparse
import sys

from headscan.commands._options import Commands, add_command

_EXAMPLES = """\
example:
  headscan doctor
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    add_command(
        commands,
        "doctor",
        _run,
        summary="show versions, the build and where things are kept",
        description="Show versions, the build, its instruction sets, threads and the cache folder.",
        examples=_EXAMPLES,
    )


def _run(options: argparse.Namespace) -> None:
    from headscan.doctor import report

    for name, value in report().items():
        sys.stdout.write(f"{name + ':':<20} {value}\n")
