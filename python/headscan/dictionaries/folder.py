"""What a dictionary's folder holds, and where one may be written."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headscan.common import files
from headscan.errors import HeadscanError

__all__ = ["HEAD", "KIND", "MANIFEST", "RECORDED", "VERSION", "check_target", "foreign", "is_dictionary"]

KIND, VERSION = "headscan-dictionary", 3
MANIFEST = "manifest.json"
HEAD = {"format": KIND, "format_version": VERSION}
RECORDED = ("source", "templates", "text_hash", "blank", "repeated", "same_tokens", "truncated", "history")
_PARTS = (  # paths relative to the folder
    r"manifest\.json|texts\.txt|mean\.npy|rotation\.npy"
    r"|shards(/\d{5}(/(atoms\.f32|codes\.u8|scale\.f32|error\.f32|beyond\.f32|shard\.json))?)?"
)


def is_dictionary(folder: Path) -> bool:
    """Say whether a folder holds a saved dictionary, whole or damaged."""
    return (folder / MANIFEST).is_file() and (folder / "texts.txt").is_file()


def check_target(folder: str | Path) -> Path:
    """Return where a dictionary is to be written, links followed.

    Raises
    ------
    HeadscanError
        If something else is there, or with a dictionary what is no part of it, or it cannot be written.
    """
    target = files.expanded(folder).resolve()
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or is_dictionary(target))):
        raise HeadscanError(f"{target} exists and is not a saved dictionary: choose another folder")
    check_replaced(target)
    files.check_writable(target.parent)
    return target


def check_replaced(folder: Path) -> None:
    """Raise if a folder that is to be replaced holds what is no part of a dictionary.

    Raises
    ------
    HeadscanError
        Naming it: it would be lost.
    """
    other = foreign(folder)
    if other is not None:
        raise HeadscanError(f"{other} is no part of a dictionary and would be lost: move it away")


def foreign(folder: Path, *, also: str | None = None) -> Path | None:
    """Return the first entry below a folder that is no part of a dictionary: a link, or of a name not given to any.

    Parameters
    ----------
    also : str, optional
        A regular expression for further paths, relative to the folder.
    """
    ours = re.compile(_PARTS if also is None else f"{_PARTS}|{also}")
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in sorted([*folders, *names])):
            if path.is_symlink() or not ours.fullmatch(path.relative_to(folder).as_posix()):
                return path
    return None
