"""What is shown on a terminal: progress bars and tables, with foreign text made harmless."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import TextIO

__all__ = ["harmless_logging", "one_line", "plain", "progress_bar", "say", "show_progress"]

_JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_progress = True
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def plain(text: str) -> str:
    """Return text with control and direction characters written out, so that it cannot steer a terminal."""
    return "".join(
        f"\\u{ord(c):04x}" if c not in _JOINERS and unicodedata.category(c) in _UNSAFE else c for c in text
    )


def say(line: str, *, file: TextIO | None = None) -> None:
    """Write one line, made harmless, to standard output or another stream: a line of a text is never two."""
    (file or sys.stdout).write(f"{plain(line)}\n")


def harmless_logging() -> None:
    """Let no log record of this process hold more than one line, or what steers a terminal, whoever wrote it."""
    logging.setLogRecordFactory(_HarmlessRecord)


class _HarmlessRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802  # logging's own name
        message = super().getMessage()
        if self.exc_info and self.exc_info[1] is not None:
            message = f"{message} ({type(self.exc_info[1]).__name__}: {self.exc_info[1]})"
        self.exc_info = self.exc_text = self.stack_info = None
        return plain(one_line(message))


def show_progress(show: bool) -> None:
    """Allow progress bars on a terminal, or show none anywhere."""
    global _progress  # a setting of the process, like the terminal itself
    _progress = show


def one_line(text: str, *, longest: int = 2000) -> str:
    """Return text without colours, its lines joined and its end cut off where it is very long."""
    return " ".join(_COLOUR.sub("", text).split())[:longest]


@contextlib.contextmanager
def progress_bar(
    description: str, *, total: int, unit: str, show: bool | None = None
) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on standard error and give a function that advances it.

    Parameters
    ----------
    description : str
        What is being done.
    total : int
        How many units there are.
    unit : str
        Their name, for the rate.
    show : bool, optional
        By default only where standard error is a terminal.
    """
    if show is False or not _progress or (show is None and not sys.stderr.isatty()):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text("" if rate is None else f"{rate:,.0f} {unit}/s")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(plain(description), total=total)
        yield lambda count: progress.advance(task, count)
