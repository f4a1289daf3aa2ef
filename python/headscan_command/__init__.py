"""The door of the command ``headscan``: Ctrl-C is answered while headscan itself is still being imported, too.

It stands outside the package, since whatever stands inside is imported after ``headscan/__init__.py``.
"""

from __future__ import annotations

import os
import signal
from typing import Any

__all__ = ["answer_interrupts", "main"]


def answer_interrupts() -> None:
    """End the process on Ctrl-C, with one line and exit status 130, unless interrupts are ignored (in background)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def main() -> int:
    """Import the command and run it: then it answers for itself, and cleans up."""
    answer_interrupts()
    from headscan.cli.main import main as run

    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


def _end(*received: Any) -> None:
    os.write(2, b"headscan: interrupted\n")
    os._exit(130)
