"""Run a command, or a save, again and again, stopped at each of its changes to the file system in turn.

    PYTHONPATH=python:tests python tests/faults/kills.py scan FOLDER --older --stop full --stops 9

A change is a file opened for writing, or a name made, renamed or removed, as audit events tell. The run is killed
before it; or all that would take room fails from there on (`full`: ENOSPC), or every open (`files`: EMFILE), or every
change (`read-only`: EROFS); or somebody removes the folder that it works in (`removed`). Whoever looks then finds the
earlier result or the new one, whole; what was not killed ended in one line; and the same run again ends in the very
bytes of one that nothing interrupted, with nothing beside them, and a file that is not headscan's still there.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from faults.saves import KINDS, Kind
from headscan.cli.main import bad_input
from headscan.errors import HeadscanError

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}
ROOM = {"open", "os.mkdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
STOPS = ("killed", "full", "files", "read-only", "removed")
LITTER = "notes.txt"


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & WRITING) and not _is_null(arguments[0])
    return event in CHANGES


def _is_null(path: object) -> bool:
    return isinstance(path, str) and path.startswith(os.devnull)


def stopped_at(number: int, stop: str, victim: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """Return an audit hook that stops this process before the change of that number."""
    left = [number]
    errors = {"full": errno.ENOSPC, "files": errno.EMFILE, "read-only": errno.EROFS}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if left[0] > 0 and _changes(event, arguments):
            left[0] -= 1
            if left[0] == 0 and stop == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if left[0] == 0 and stop == "removed":
                left[0] = -1
                shutil.rmtree(victim, ignore_errors=True)
                victim.mkdir()
                (victim / LITTER).write_text("mine")
        if left[0] == 0 and stop in errors:
            fails = event == "open" if stop == "files" else _changes(event, arguments)
            if fails and (stop != "full" or event in ROOM):
                raise OSError(errors[stop], os.strerror(errors[stop]), str(arguments[0]))

    return hook


def forked(run: Callable[[], int], shown: Path) -> int:
    """Run in a child process; return how it ended, with what it wrote in a file."""
    child = os.fork()
    if child == 0:
        text = io.StringIO()
        try:
            with redirect_stderr(text), redirect_stdout(text):
                status = run()
        except Exception as error:
            said = bad_input(error)
            text.write(traceback.format_exc() if said is None else f"headscan: error: {said}\n")
            status = 1 if said is None else 2
        try:
            os.write(_OUT, text.getvalue().encode())
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    os.lseek(_OUT, 0, os.SEEK_SET)
    shown.write_bytes(os.read(_OUT, 1 << 20))
    os.ftruncate(_OUT, 0)
    os.lseek(_OUT, 0, os.SEEK_SET)
    return status


_OUT = os.memfd_create("output")  # opened before any hook: its writes are no changes


def content(folder: Path) -> list[tuple[str, str]]:
    """Return names and hashes of all files below a folder, empty folders by name."""
    return [
        (str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    ]


def _one_line(text: str) -> bool:
    lines = [line for line in text.splitlines() if not line.startswith("headscan: WARNING")]
    errors = [line for line in lines if line.startswith("headscan: error:")]
    return len(errors) == 1 and lines[-1] == errors[0] and "Traceback" not in text and "bug" not in text


class Campaign:
    """Stops of one kind of run; `folder` is where it works, rebuilt before each."""

    def __init__(self, root: Path, kind: Kind, *, older: bool, stop: str) -> None:
        self.root, self.kind, self.older, self.stop = root, kind, older, stop
        self.folder, self.shown = root / "work", root / "shown.txt"
        self.start = root / "start"
        self.start.mkdir(parents=True)
        (self.start / LITTER).write_text("mine")
        if older:
            self.restore()
            assert self._run(1) == 0, self.shown.read_text()
            shutil.rmtree(self.start)
            shutil.copytree(self.folder, self.start)
        self.restore()
        assert self._run(0) == 0, self.shown.read_text()
        self.expected = content(self.folder)
        kind.check(self.folder, (0,))

    def restore(self) -> None:
        """Put the folder back as it was before the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.start, self.folder)

    def _run(self, seed: int, hook: Callable[[str, tuple[Any, ...]], None] | None = None) -> int:
        def run() -> int:
            if hook is not None:
                sys.addaudithook(hook)
            return self.kind.run(self.folder, seed)

        return forked(run, self.shown)

    def stop_at(self, number: int) -> None:
        """Stop a run at a change, look at what is left, and run it again."""
        self.restore()
        status = self._run(0, stopped_at(number, self.stop, self.folder))
        text, where = self.shown.read_text(), f"{self.stop} at change {number}"
        if self.stop == "killed":
            assert status in (0, signal.SIGKILL), f"{where}: {status} {text}"
        else:
            assert status in (0, 2 << 8), f"{where}: {status} {text}"
            assert status == 0 or _one_line(text), f"{where}: {text}"
        if self.stop != "removed":
            try:
                self.kind.check(self.folder, (0, 1) if self.older else (0,))
            except (HeadscanError, FileNotFoundError) as error:
                assert not self.older and status != 0, f"{where}: nothing is whole: {error}"
        again = self._run(0)
        assert again == 0, f"again after {where}: {self.shown.read_text()}"
        if self.stop == "removed":  # with what an earlier run had cached
            assert set(content(self.folder)) <= set(self.expected), f"after {where}: litter"
            return
        after = content(self.folder)
        assert after == self.expected, f"after {where}: {sorted(set(after) ^ set(self.expected))}"

    def run(self, most: int) -> int:
        """Stop at every change, or at so many spread over all; return how many stops there were."""
        changes = self.count()
        stops = range(1, changes + 1, -(-changes // most) if most else 1)
        for number in stops:
            self.stop_at(number)
        return len(stops)

    def count(self) -> int:
        """Return how many changes a run makes."""
        counted = os.memfd_create("count")

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if _changes(event, arguments):
                os.write(counted, b".")

        self.restore()
        assert self._run(0, hook) == 0
        return os.fstat(counted).st_size


def main() -> int:
    """Run a campaign as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--older", action="store_true", help="have an earlier result there")
    parser.add_argument("--stop", choices=STOPS, default="killed")
    parser.add_argument("--stops", type=int, default=0, help="so many, spread over all changes; 0: at each")
    given = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    os.fsync = lambda file: None  # type: ignore[assignment]  # a kill loses nothing written; this is no power cut
    kind = KINDS[given.kind]()
    campaign = Campaign(given.folder / "campaign", kind, older=given.older, stop=given.stop)
    sys.stdout.write(f"{campaign.run(given.stops)} stops\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
