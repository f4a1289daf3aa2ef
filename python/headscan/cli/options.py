"""What the subcommands share: readers of options, and the making of a subcommand's parser."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from headscan.errors import HeadscanError

__all__ = [
    "Commands",
    "add_command",
    "at_least",
    "concept_list",
    "folder",
    "layers",
    "limit_threads",
    "parts",
    "sides",
]

Commands = argparse._SubParsersAction
_Number = TypeVar("_Number", int, float)


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    summary: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add a subcommand and return its parser; `summary` is its line in ``headscan --help``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def at_least(kind: type[_Number], smallest: _Number, largest: _Number | None = None) -> Callable[[str], _Number]:
    """Return a reader of finite numbers from `smallest` up, to `largest` where there is one."""
    what = "a whole number" if kind is int else "a number"

    def read(text: str) -> _Number:
        try:
            number = kind(text)
        except ValueError:
            number = kind(-1)
        if number < smallest or not math.isfinite(number):
            raise argparse.ArgumentTypeError(f"expected {what} of at least {smallest}, got {text!r}")
        if largest is not None and number > largest:
            raise argparse.ArgumentTypeError(f"expected {what} of at most {largest}, got {text!r}")
        return number

    return read


def folder(text: str) -> Path:
    """Read the path of a folder."""
    from headscan.common.files import expanded

    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got ''")
    try:
        return expanded(text)
    except HeadscanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def concept_list(text: str) -> str:
    """Read the name or path of a list of concepts."""
    if not text:
        raise argparse.ArgumentTypeError("expected a list of concepts, got ''")
    return text


def layers(text: str) -> str:
    """Read a choice of layers, left as text."""
    from headscan.heads.layers import parse_layers

    try:
        parse_layers(text)
    except HeadscanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def sides(text: str) -> tuple[str, ...]:
    """Read sides separated by commas."""
    given = tuple(part.strip() for part in text.split(","))
    for side in given:
        if side not in ("write", "read"):
            raise argparse.ArgumentTypeError(f"expected write, read or write,read, got {text!r}")
    return given


def parts(text: str) -> tuple[str, ...]:
    """Read parts separated by commas."""
    from headscan.heads.parts import checked_parts

    try:
        return checked_parts([part.strip() for part in text.split(",")])
    except HeadscanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def limit_threads(threads: int) -> None:
    """Let torch use `threads` threads; 0 leaves its choice."""
    if threads:
        import torch

        torch.set_num_threads(threads)
