"""Edits and cuts as JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from headscan.common import files
from headscan.common.reading import read_json
from headscan.edit.info import EditInfo
from headscan.errors import HeadscanError

__all__ = ["CUT", "EDIT", "MERGE", "Format", "check_replaced", "check_unchanged", "read_content", "save_json"]

_OF_THE_RUN = ("headscan", "created", "steps")  # of when and how, and not of what


@dataclass(frozen=True)
class Format:
    """A kind of file: its name in the file, its version, and what it is called in messages."""

    kind: str
    version: int
    noun: str

    @property
    def head(self) -> dict[str, Any]:
        """What the file starts with."""
        return {"format": self.kind, "format_version": self.version}


EDIT, CUT = Format("headscan-edit", 1, "edit"), Format("headscan-cut", 1, "cut")
MERGE = Format("headscan-merge", 1, "merge")


def check_replaced(path: Path, content: Mapping[str, Any], *, force: bool) -> None:
    """Raise where another edit than this, or something that is no edit, is at a path, unless `force` replaces edits.

    Raises
    ------
    HeadscanError
        Naming it.
    """
    if not path.exists():
        return
    old = read_json(path)
    if not isinstance(old, dict) or not str(old.get("format")).startswith("headscan-"):
        raise HeadscanError(f"{path} exists and is not an edit: choose another path")
    new = json.loads(json.dumps(content))
    differing = [name for name in new if name not in _OF_THE_RUN and old.get(name) != new[name]]
    if differing and not force:
        raise HeadscanError(
            f"{path} holds another edit ({differing[0]} differ): choose another path, or replace it (force=True, "
            "--force)"
        )


def save_json(path: str | Path, content: Mapping[str, Any], *, force: bool = False) -> Path:
    """Write an edit's or a cut's content, aside and then renamed, and return its path.

    Raises
    ------
    HeadscanError
        If it cannot be written, or another one is there, which only `force` replaces.
    """
    target = files.expanded(path)
    check_replaced(target, content, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.sweep(target)
        files.write_sealed(target, content)
    except OSError as error:
        raise HeadscanError(f"cannot write the edit to {target}: {error.strerror or error}") from error
    return target


def read_content(path: str | Path, form: Format) -> tuple[dict[str, Any], EditInfo, Path]:
    """Return a file's content, its provenance, and where it is.

    Raises
    ------
    HeadscanError
        If there is none, or it is damaged.
    """
    source = files.expanded(path)
    if not source.exists():
        raise HeadscanError(f"there is no {form.noun} {source}")
    content = files.read_manifest(source, kind=form.kind, format_version=form.version)
    plain = {field.name: field.type for field in fields(EditInfo) if field.name != "steps"}
    files.check_types(content, plain, where=source)
    steps = content.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise HeadscanError(f"{source} is damaged: steps cannot be {steps!r:.80}")
    return content, EditInfo(**{name: content[name] for name in plain}, steps=tuple(steps)), source


def check_unchanged(content: Mapping[str, Any], where: Path) -> None:
    """Raise where a file is not what was saved; one without a seal, of before or written by hand, is taken as it is.

    Raises
    ------
    HeadscanError
        If it does not match its seal.
    """
    if "seal" in content and content["seal"] != files.seal_of(content):
        raise HeadscanError(
            f"{where} is damaged, or was changed by hand: it does not match its hash; take its seal out if that is "
            "meant"
        )
