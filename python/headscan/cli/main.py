"""The command ``headscan``: its parser, its errors and its exit status. A subcommand is a module of `commands`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from headscan.cli import compare, doctor, edit, encode, explain, find, models, report, scan, vocab
from headscan.errors import HeadscanError

__all__ = ["main"]

_BAD_INPUT, _INTERRUPTED = 2, 130
_COMMANDS = (
    models,
    encode,
    vocab,
    scan,
    report,
    find,
    explain,
    edit,
    compare,
    doctor,
)  # in the order of use, which is the help's


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise HeadscanError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 on bad usage or input, 130 when interrupted."""
    try:
        _prepare_streams()
        given = sys.argv[1:] if arguments is None else arguments
        _check_utf8(given)
        options = _parser().parse_args(given)
        run: Callable[[argparse.Namespace], None] = options.run
        run(options)
        sys.stdout.flush()
    except (OSError, MemoryError, ValueError, RuntimeError) as error:  # a HeadscanError is a ValueError
        if isinstance(error, BrokenPipeError):  # the reader, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        sys.stderr.write(f"headscan: error: {_message(error)}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("headscan: interrupted\n")
        return _INTERRUPTED
    return 0


def _message(error: BaseException) -> str:
    from headscan.common.terminal import one_line, plain

    unsaid = "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
    return plain(one_line(str(error)) or unsaid)


def _check_utf8(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise HeadscanError(f"the argument {argument!a} is not valid UTF-8") from error


def _prepare_streams() -> None:
    """Send headscan's warnings, not those of other libraries, to standard error; survive odd characters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("headscan: %(levelname)s: %(message)s"))
    log = logging.getLogger("headscan")
    log.handlers, log.propagate = [handler], False
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _parser() -> argparse.ArgumentParser:
    from headscan.common.files import package_version

    parser = _Parser(
        prog="headscan",
        description="Read what every attention head of a CLIP model does, in words.",
        epilog="headscan COMMAND --help shows a command's options and examples.",
    )
    parser.add_argument("--version", action="version", version=f"headscan {package_version()}")
    commands = parser.add_subparsers(title="commands, in the order of use", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser
