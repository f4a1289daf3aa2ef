"""Edits as JSON files."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from headscan.common import files
from headscan.common.reading import read_json
from headscan.edit.direction import COLUMNS, unique
from headscan.edit.edit import Edit, EditInfo
from headscan.errors import HeadscanError

__all__ = ["check_replaced", "load_edit", "write_edit"]

_KIND, _FORMAT_VERSION = "headscan-edit", 1
_OF_THE_RUN = ("headscan", "created", "steps")  # of when and how, and not of what


def check_replaced(path: Path, edit: Any, *, force: bool) -> None:
    """Raise where another edit than this, or something that is no edit, is at a path, unless `force` replaces edits.

    Raises
    ------
    HeadscanError
        Naming it.
    """
    if not path.exists():
        return
    there = read_json(path)
    if not isinstance(there, dict) or not str(there.get("format")).startswith("headscan-"):
        raise HeadscanError(f"{path} exists and is not an edit: choose another path")
    with tempfile.TemporaryDirectory() as folder:
        here = read_json(edit.save(Path(folder) / path.name))
    differing = [name for name in here if name not in _OF_THE_RUN and there.get(name) != here[name]]
    if differing and not force:
        raise HeadscanError(
            f"{path} holds another edit ({differing[0]} differ): choose another path, or replace it (force=True, "
            "--force)"
        )


def write_edit(edit: Edit, path: str | Path, *, force: bool = False) -> Path:
    """Write an edit; see `Edit.save`."""
    target = files.expanded(path)
    check_replaced(target, edit, force=force)
    content = {
        "format": _KIND,
        "format_version": _FORMAT_VERSION,
        **asdict(edit.info),
        "columns": list(COLUMNS),
        "multipliers": [[*direction, value] for direction, value in edit.multipliers.items()],
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.sweep(target)
        files.write_manifest(target, content)
    except OSError as error:
        raise HeadscanError(f"cannot write the edit to {target}: {error.strerror or error}") from error
    return target


def load_edit(path: str | Path) -> Edit:
    """Return an edit saved by `Edit.save`.

    Raises
    ------
    HeadscanError
        If there is none, or it is damaged.
    """
    source = files.expanded(path)
    if not source.exists():
        raise HeadscanError(f"there is no edit {source}")
    content = files.read_manifest(source, kind=_KIND, format_version=_FORMAT_VERSION)
    plain = {field.name: field.type for field in fields(EditInfo) if field.name != "steps"}
    files.check_types(content, plain, where=source)
    steps, rows = content.get("steps"), content.get("multipliers")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise HeadscanError(f"{source} is damaged: steps cannot be {steps!r}")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(COLUMNS) for row in rows):
        raise HeadscanError(f"{source} is damaged: multipliers are not rows of {', '.join(COLUMNS)}")
    try:
        info = EditInfo(**{name: content[name] for name in plain}, steps=tuple(steps))
        return Edit(unique(rows), info)
    except HeadscanError as error:
        raise HeadscanError(f"{source} is damaged: {error}") from error
