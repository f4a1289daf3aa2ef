"""What the commands share: every option that more than one of them has, declared once, and the readers of values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headscan.common.checks import MAX_THREADS
from headscan.common.files import expanded
from headscan.errors import HeadscanError
from headscan.heads.layers import parse_layers
from headscan.heads.parts import checked_parts

if TYPE_CHECKING:
    from headscan.cli.output import Output

__all__ = [
    "Commands",
    "add_command",
    "add_output",
    "add_shared",
    "at_least",
    "concept_list",
    "parts",
    "path",
    "sides",
]

Commands = argparse._SubParsersAction
_Number = TypeVar("_Number", int, float)


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], Output],
    *,
    summary: str,
    description: str,
    examples: str,
    tables: bool = True,
) -> argparse.ArgumentParser:
    """Add a command and return its parser; `summary` is its line in ``headscan --help``.

    `run` takes the options and returns what is to be shown; where it has `tables`, they can be had as CSV.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, command=name, tables=tables)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add what every command has, after its own options."""
    output = parser.add_argument_group("what is shown")
    form = output.add_mutually_exclusive_group()
    add_shared(form, "json", *(["csv"] if parser.get_default("tables") else []), "quiet")
    add_shared(output, "debug")


def add_shared(parser: argparse._ActionsContainer, *names: str, **helps: str) -> None:
    """Add shared options, by name; `helps` replaces the help of one where a command means it more narrowly."""
    for name in names:
        flags, settings = _SHARED[name]
        parser.add_argument(*flags, **{**settings, **({"help": helps[name]} if name in helps else {})})


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


def path(text: str) -> Path:
    """Read the path of a file or folder of this machine."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return _read(expanded, text)


def concept_list(text: str) -> str:
    """Read the name or path of a list of concepts."""
    if not text:
        raise argparse.ArgumentTypeError("expected a list of concepts, got ''")
    return text


def layers(text: str) -> str:
    """Read a choice of layers, left as text."""
    _read(parse_layers, text)
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
    return _read(lambda given: checked_parts([part.strip() for part in given.split(",")]), text)


_Value = TypeVar("_Value")


def _read(reader: Callable[[str], _Value], text: str) -> _Value:
    try:
        return reader(text)
    except HeadscanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


_FLAG: dict[str, Any] = {"action": "store_true"}
_SHARED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "model": (("model",), {"metavar": "MODEL", "help": "demo, an open_clip name, hf-hub:org/repo, local-dir:path"}),
    "pretrained": (
        ("--pretrained",),
        {"metavar": "TAG", "help": "weights of an open_clip name: a tag, a checkpoint file, random"},
    ),
    "image_mean": (
        ("--image-mean",),
        {
            "metavar": "FILE|...",
            "help": "mean image embedding: .safetensors, .npy, folder:PICTURES, estimate:noise, none",
        },
    ),
    "device": (("--device",), {"metavar": "NAME", "help": "where the work is done, cuda say (default: cpu)"}),
    "dictionary": (
        ("--dictionary",),
        {
            "metavar": "NAME|FILE|DIR",
            "type": concept_list,
            "help": "demo, wordnet, a file of concepts as encode takes it, or a saved folder (default: demo for the "
            "demo model, dictionary.txt in a local-dir, else wordnet)",
        },
    ),
    "column": (
        ("--column",),
        {
            "metavar": "NAME",
            "help": "column of a table, key of JSON's objects, or their number from 1 (default: the only one)",
        },
    ),
    "strict": (
        ("--strict",),
        {"action": "store_true", "help": "refuse a list with rows that are too long or hold line breaks"},
    ),
    "batch_size": (
        ("--batch-size",),
        {"metavar": "N", "type": at_least(int, 1), "default": 256, "help": "texts encoded at a time (default: 256)"},
    ),
    "layers": (
        ("--layers",),
        {"metavar": "all|20-23", "type": layers, "default": "all", "help": "numbered from 0 (default: all)"},
    ),
    "k": (
        ("-k",),
        {"metavar": "N", "type": at_least(int, 1), "default": 5, "help": "concepts per explanation (default: 5)"},
    ),
    "coherence": (
        ("--coherence",),
        {
            "metavar": "X",
            "type": at_least(float, 0),
            "default": 0.3,
            "help": "weight of the concepts' similarity to one another (default: 0.3)",
        },
    ),
    "threads": (
        ("--threads",),
        {
            "metavar": "N",
            "type": at_least(int, 0, MAX_THREADS),
            "default": 0,
            "help": "0: all that may be used (default)",
        },
    ),
    "show": (
        ("--show",),
        {"metavar": "N", "type": at_least(int, 0), "default": 10, "help": "rows to show (default: 10)"},
    ),
    "force": (("--force",), {**_FLAG, "help": "replace a result of other parameters that is there"}),
    "json": (("--json",), {**_FLAG, "help": "one JSON document on standard output, and nothing else"}),
    "csv": (("--csv",), {**_FLAG, "help": "the first table as CSV, and nothing else"}),
    "quiet": (("--quiet",), {**_FLAG, "help": "nothing but errors"}),
    "debug": (("--debug",), {**_FLAG, "help": "where it fails, the traceback too"}),
}
