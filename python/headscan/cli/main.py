"""The command ``headscan``: its parser, its errors and its exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from headscan.cli import circuits, compare, doctor, edit, encode, explain, find, merge, models, report, scan, vocab
from headscan.cli.options import add_output
from headscan.cli.output import show
from headscan.common import terminal
from headscan.common.files import package_version
from headscan.common.reading import SHORTAGES
from headscan.errors import HeadscanError

__all__ = ["BAD_INPUT", "BUG", "INTERRUPTED", "READER_GONE", "main", "parser"]

BUG, BAD_INPUT, INTERRUPTED, READER_GONE = 1, 2, 130, 141
_COMMANDS = (
    models,
    encode,
    vocab,
    scan,
    report,
    find,
    explain,
    circuits,
    edit,
    merge,
    compare,
    doctor,
)  # the help's order: of use


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise HeadscanError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or one of this module's four."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        _prepare_streams()
        _check_utf8(given)
        options = parser().parse_args(given)
        terminal.show_progress(not options.quiet)
        logging.getLogger("headscan").setLevel(logging.ERROR if options.quiet else logging.WARNING)
        show(options.run(options), options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except (KeyboardInterrupt, Exception) as error:
        return _fail(error, debug="--debug" in given)
    return 0


def _fail(error: BaseException, *, debug: bool) -> int:
    """Say on standard error what went wrong, in one line, and return the exit status."""
    if _interrupted(error):
        terminal.say("headscan: interrupted", file=sys.stderr)
        return INTERRUPTED
    message = bad_input(error)
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            terminal.say(f"  {line}", file=sys.stderr)
    if message is not None:
        terminal.say(f"headscan: error: {message}", file=sys.stderr)
        return BAD_INPUT
    what = terminal.one_line(f"{type(error).__name__}: {error}", longest=300)
    again = "its issues page, with the traceback above" if debug else "its issues page, with what --debug shows"
    bug = f"this is a bug in headscan {package_version()}, please report it on {again}: {what}"
    terminal.say(f"headscan: {bug}", file=sys.stderr)
    return BUG


def _interrupted(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind an error: some libraries make another exception of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def bad_input(error: BaseException) -> str | None:
    """Return what to say of an error that the input or the machine is to blame for; None where it is headscan."""
    if isinstance(error, HeadscanError):
        return terminal.one_line(str(error))
    if isinstance(error, OSError) and (error.filename is not None or error.errno in SHORTAGES):
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return terminal.one_line(f"{where}{error.strerror or error}")
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd
        return "the folder that headscan was started in is gone: change to another one"
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate mem" in str(error)
    ):
        return "not enough memory"
    if isinstance(error, ImportError) and not str(error.name).startswith("headscan"):
        return terminal.one_line(f"a package that headscan needs cannot be used: {error}; install headscan again")
    return None


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
    terminal.harmless_logging()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("headscan: %(levelname)s: %(message)s"))
    log = logging.getLogger("headscan")
    log.handlers, log.propagate = [handler], False
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    whole = _Parser(
        prog="headscan",
        description="Read what every attention head of a CLIP model does, in words.",
        epilog="headscan COMMAND --help shows a command's options and examples.",
    )
    whole.add_argument("--version", action="version", version=f"headscan {package_version()}")
    commands = whole.add_subparsers(title="commands, in the order of use", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    for each in commands.choices.values():
        add_output(each)
    return whole
