"""Writing so that nobody ever finds half a result: aside, flushed to the disk, then renamed.

What is being written bears a name that only headscan gives, ``.NAME.headscan-<12 hex digits>.part`` (``.old`` for
what makes way, ``.building`` for what is resumed), and is locked by the process that writes it. So whoever comes
later can tell what a killed process left from what another one is writing, and removes the former alone. Links are
never followed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headscan.errors import HeadscanError

__all__ = [
    "Aside",
    "aside_name",
    "files_aside",
    "folder_aside",
    "held_aside",
    "leftovers",
    "locked",
    "remove",
    "replace_folder",
    "resumable_folder",
    "scratch_folder",
    "sweep",
    "write_aside",
]

_LEFT = re.compile(r"\.(?P<name>.+)\.headscan-(?P<token>[0-9a-f]{12})\.(?P<kind>part|old|building)", re.DOTALL)
_EXCHANGE, _AT_CWD = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of renameat2


def aside_name(path: Path, token: str, kind: str = "part") -> Path:
    """Return the name beside `path` for what is on its way there; `token` has 12 hexadecimal digits."""
    return path.with_name(f".{path.name}.headscan-{token}.{kind}")


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Give a file to write to; on success flush it to disk and rename it to `path`, on failure remove it.

    The file gets the mode that the umask gives, whatever a library that writes it makes of it.
    """
    with _new_aside(path) as (aside, lock):
        mode = stat.S_IMODE(os.fstat(lock).st_mode)
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            aside.replace(path)
            _sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@dataclass(frozen=True)
class Aside:
    """A file being written, which gets its final name later: `path` after `finish`."""

    _names: list[Path]

    @property
    def path(self) -> Path:
        """Where it is now."""
        return self._names[-1]

    def finish(self) -> str:
        """Flush it to disk, name it by its content, and return its SHA-256."""
        digest = hashlib.sha256()
        with self.path.open("rb+") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            os.fsync(file.fileno())
        final = _LEFT.fullmatch(self.path.name)
        named = aside_name(self.path.with_name(final["name"] if final else self.path.name), digest.hexdigest()[:12])
        self.path.replace(named)
        self._names.append(named)
        return digest.hexdigest()


@contextlib.contextmanager
def held_aside(path: Path) -> Iterator[Aside]:
    """Give a file to write to that whoever takes it renames; it is removed if nobody did."""
    with _new_aside(path) as (aside, _):
        held = Aside([aside])
        try:
            yield held
        finally:
            held.path.unlink(missing_ok=True)


@contextlib.contextmanager
def files_aside(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` for files that are then renamed one by one, `path` the last."""
    with _new_aside(path, as_folder=True) as (aside, lock):
        try:
            yield aside
            mode = stat.S_IMODE(os.fstat(lock).st_mode) & 0o666
            written = sorted(aside.iterdir(), key=lambda each: each.name == path.name)
            for each in written:
                each.chmod(mode)
                _sync(each)
            for each in written:
                each.replace(path.with_name(each.name))
            _sync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on success it takes the place of `folder` at once, on failure it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _new_aside(folder, as_folder=True) as (aside, lock):
        try:
            yield aside
            mode = stat.S_IMODE(os.fstat(lock).st_mode) & 0o666
            for path in aside.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    path.chmod(mode)
                    _sync(path)
            _sync(aside)
            replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` for what is needed on the way there only; it is removed in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _new_aside(path, as_folder=True) as (aside, _):
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def resumable_folder(path: Path) -> Iterator[Path]:
    """Give the one folder beside `path` where it is built, with what a killed build left, once no other builds there.

    Raises
    ------
    HeadscanError
        If something else bears the folder's name: a file, or a link.
    """
    folder = aside_name(path, _token_of(path.name), "building")
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # the other has just finished
            continue
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise HeadscanError(
                f"{folder} is not a folder: headscan builds {path.name} there, move it away"
            ) from error
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_named(descriptor, folder):
                yield folder
                return
        finally:
            os.close(descriptor)


def replace_folder(new: Path, folder: Path) -> None:
    """Rename the folder `new` to `folder`; what was there is deleted last.

    Where the file system can exchange two names, there is never a moment without either.
    """
    if not os.path.lexists(folder):
        with contextlib.suppress(FileExistsError, OSError):
            new.rename(folder)
            _sync(folder.parent)
            return
    if _exchange(new, folder):
        _sync(folder.parent)
        shutil.rmtree(new, ignore_errors=True)
        return
    old = aside_name(folder, _token(), "old")
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
        _sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the advisory lock of a folder, waiting for whoever holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: as before there were any
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Return what killed processes left in a folder on its way to `name`, or to any name: files and folders of ours.

    What a living process is writing, a link, and what is not named as headscan names it, are not among them.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    matches = ((entry, _LEFT.fullmatch(entry.name)) for entry in entries)
    ours = [entry for entry, match in matches if match and name in (None, match["name"]) and _is_ours(entry, match)]
    return [Path(entry.path) for entry in ours if _is_dead(Path(entry.path))]


def _is_ours(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    named = match["kind"] != "building" or match["token"] == _token_of(match["name"])
    return named and not entry.is_symlink()


def leftovers_below(folder: Path) -> list[Path]:
    """Return what killed processes left anywhere below a folder; no link is followed."""
    left: list[Path] = []
    for parent, _, _ in os.walk(folder):
        left += leftovers(Path(parent))
    return [path for path in left if not any(parent in left for parent in path.parents)]


def sweep(path: Path) -> None:
    """Remove what killed processes left on the way to `path`; what had made way for it comes back where it has to."""
    for left in leftovers(path.parent, path.name):
        if left.suffix == ".building":  # the next build there goes on with it
            continue
        if left.suffix == ".old" and not os.path.lexists(path):
            left.rename(path)
        else:
            remove(left)


def remove(left: Path) -> None:
    """Remove a file or a folder that `leftovers` gave."""
    with contextlib.suppress(OSError):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _token() -> str:
    return uuid.uuid4().hex[:12]


def _token_of(name: str) -> str:
    """Return the token of the one folder where `name` is built."""
    return hashlib.sha256(f"building {name}".encode(errors="surrogateescape")).hexdigest()[:12]


def _is_named(descriptor: int, path: Path) -> bool:
    """Say whether an open file or folder is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _is_dead(path: Path) -> bool:
    """Say whether no process holds the lock on a file or folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _new_aside(path: Path, *, as_folder: bool = False) -> Iterator[tuple[Path, int]]:
    """Make a file or folder beside `path` and hold its lock, which ends with the process."""
    while True:
        aside = aside_name(path, _token())
        if as_folder:
            aside.mkdir()
        flags = os.O_RDONLY | os.O_DIRECTORY if as_folder else os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(aside, flags | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            if as_folder:  # swept away before it was locked
                continue
            raise
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_named(descriptor, aside):
                yield aside, descriptor
                return
        finally:
            os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, and say whether the system could."""
    function = getattr(ctypes.CDLL(None), "renameat2", None)
    if function is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(function(_AT_CWD, names[0], _AT_CWD, names[1], _EXCHANGE) == 0)


def _sync(path: Path) -> None:
    """Flush a file or the names in a folder to the disk, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
