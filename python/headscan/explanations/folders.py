"""Results as folders: tables as Parquet, and a manifest that holds what they were made from and their hashes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headscan.common import files, writing
from headscan.common.reading import read_table
from headscan.errors import HeadscanError
from headscan.explanations.table import OF_THE_RUN, ScanInfo

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ResultFolder"]

_MANIFEST = "manifest.json"
_Info = TypeVar("_Info", bound=ScanInfo)


@dataclass(frozen=True)
class ResultFolder:
    """How results of one kind are saved.

    Attributes
    ----------
    kind : str
        The manifest's format, ``"headscan-scan"`` say.
    version : int
        Of that format.
    noun : str
        What a result is called in messages.
    tables : tuple of str
        Names of its tables, in the manifest and as file names.
    """

    kind: str
    version: int
    noun: str
    tables: tuple[str, ...]

    def check_destination(self, folder: Path) -> None:
        """Raise unless a result can be saved in `folder`; asked before the work, it leaves nothing behind.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, or holds the manifest of something else.
        """
        files.check_writable(folder)
        taken = next((path for path in map(folder.joinpath, self._files()) if path.is_dir()), None)
        if taken is not None:
            raise HeadscanError(f"will not write to {folder}: {taken} is a folder")
        manifest = folder / _MANIFEST
        if not manifest.exists():
            return
        try:
            files.read_manifest(manifest, kind=self.kind, format_version=self.version)
        except HeadscanError as error:
            raise HeadscanError(f"will not write to {folder}: {error}") from error

    def is_in(self, folder: Path) -> bool:
        """Say whether a folder holds what looks like such a result."""
        return all((folder / name).is_file() for name in (_MANIFEST, *self._files()))

    def save(
        self,
        folder: str | Path,
        facts: Mapping[str, Any],
        tables: Mapping[str, pd.DataFrame],
        *,
        force: bool = False,
        beside: Mapping[str, str] | None = None,
    ) -> Path:
        """Write tables and manifest into a folder, made if need be, and return its path.

        The manifest's rename is the one commit point: the tables lie flushed beside their names by then, and whoever
        comes next, a reader or another save, finishes what a killed process could not. Saves at once in one folder
        end with one of them, whole. Other files in the folder are left alone.

        Parameters
        ----------
        facts : mapping
            What the result was made from, for the manifest.
        tables : mapping
            The tables by name.
        force : bool, default False
            Replace a result that was made from something else, too.
        beside : mapping, optional
            Texts that are derived from the tables, by file name; they have no part in the commit.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, its manifest.json is not of this kind, or it holds a result that was
            made from something else and is not to be replaced.
        """
        target = files.expanded(folder)
        self.check_destination(target)
        self.check_replaced(target, facts, force=force)
        try:
            target.mkdir(parents=True, exist_ok=True)
            self.sweep(target, (*tables, *(beside or ())))
            with contextlib.ExitStack() as stack:
                written = {
                    name: stack.enter_context(writing.held_aside(target / f"{name}.parquet")) for name in tables
                }
                manifest = {"format": self.kind, "format_version": self.version, **facts}
                for name, table in tables.items():
                    table.to_parquet(written[name].path, engine="pyarrow", index=False, compression="zstd")
                    digest = written[name].finish()
                    manifest[name] = {"file": f"{name}.parquet", "rows": len(table), "sha256": digest}
                with writing.locked(target):
                    self._finish(target)
                    for name, table in tables.items():  # another save of equal tables may have taken one
                        if not written[name].path.exists():
                            table.to_parquet(written[name].path, engine="pyarrow", index=False, compression="zstd")
                    files.write_sealed(target / _MANIFEST, manifest)
                    for name in tables:
                        written[name].path.replace(target / f"{name}.parquet")
            for name, text in (beside or {}).items():
                with files.write_aside(target / name) as aside:
                    aside.write_text(text, encoding="utf-8")
        except OSError as error:
            raise HeadscanError(f"cannot write the {self.noun} to {target}: {error.strerror or error}") from error
        return target

    def check_replaced(self, folder: Path, facts: Mapping[str, Any], *, force: bool) -> None:
        """Raise where a folder holds a result of other facts than these, unless it may be replaced by `force`.

        Raises
        ------
        HeadscanError
            Naming what differs.
        """
        if force or not (folder / _MANIFEST).exists():
            return
        there = files.read_manifest(folder / _MANIFEST, kind=self.kind, format_version=self.version)
        for name, value in facts.items():
            old = there.get(name, value)
            if name not in OF_THE_RUN and json.dumps(old) != json.dumps(value):
                raise HeadscanError(
                    f"{folder} holds a {self.noun} of other parameters ({name.replace('_', ' ')} {old!r:.60} there, "
                    f"{value!r:.60} here): choose another folder, or replace it (force=True, --force)"
                )

    def sweep(self, folder: Path, names: Iterable[str]) -> None:
        """Finish or remove what killed saves left in a folder."""
        with writing.locked(folder):
            self._finish(folder)
        for name in (_MANIFEST, *self._files(), *names):
            files.sweep(folder / name)

    def _finish(self, folder: Path) -> None:
        """Rename the tables of a manifest whose writer was killed between its rename and theirs."""
        with contextlib.suppress(HeadscanError, OSError):
            manifest = files.read_manifest(folder / _MANIFEST, kind=self.kind, format_version=self.version)
            for name in self.tables:
                pending = _pending(folder, name, manifest)
                if pending is not None and pending.is_file():
                    pending.replace(folder / f"{name}.parquet")

    def load(
        self, folder: str | Path, info: type[_Info], *, defaults: Mapping[str, Any]
    ) -> tuple[_Info, list[pd.DataFrame]]:
        """Return what `save` wrote; `defaults` are fields that older manifests lack.

        Raises
        ------
        HeadscanError
            If there is no such result, or its files are damaged or do not belong together.
        """
        source = files.expanded(folder)
        if not source.is_dir():
            raise HeadscanError(f"there is no {self.noun} folder {source}")
        try:
            return self._load(source, info, defaults)
        except (HeadscanError, OSError):  # another save may have taken a table away meanwhile: again, while none can
            with writing.locked(source):
                return self._load(source, info, defaults)

    def _load(self, source: Path, info: type[_Info], defaults: Mapping[str, Any]) -> tuple[_Info, list[pd.DataFrame]]:
        read = files.read_manifest(source / _MANIFEST, kind=self.kind, format_version=self.version)
        facts = _read_info(info, {**defaults, **read}, where=source / _MANIFEST)
        tables = [self._table(source, name, read) for name in self.tables]
        _check_seal(read, known=(*self.tables, *(field.name for field in fields(info))), where=source / _MANIFEST)
        return facts, tables

    def _table(self, source: Path, name: str, manifest: Mapping[str, Any]) -> pd.DataFrame:
        path, pending = source / f"{name}.parquet", _pending(source, name, manifest)
        if pending is not None and pending.is_file():  # its writer was killed, or is about to rename it
            path = pending
        facts = manifest.get(name)
        if not isinstance(facts, dict):
            raise HeadscanError(f"{source / _MANIFEST} is damaged: it does not say what {path.name} holds")
        if not path.exists():
            raise HeadscanError(f"{source} holds no {path.name}")
        if files.file_sha256(path) != facts.get("sha256"):
            raise HeadscanError(f"{path} is damaged or cut short: its content does not match the manifest")
        return read_table(path, rows=facts.get("rows", -1))

    def _files(self) -> tuple[str, ...]:
        return tuple(f"{name}.parquet" for name in self.tables)


def _check_seal(manifest: Mapping[str, Any], *, known: Iterable[str], where: Path) -> None:
    """Raise unless a manifest is as it was sealed; one from before there were seals holds what it held then, only."""
    strange = set(manifest) - {"format", "format_version", *known}
    if "seal" in manifest:
        strange = set() if manifest["seal"] == files.seal_of(manifest) else {"its seal"}
    if strange:
        raise HeadscanError(f"{where} is damaged, or was changed by hand: {min(strange)} is not what headscan wrote")


def _pending(folder: Path, name: str, manifest: Mapping[str, Any]) -> Path | None:
    """Return where a table lies that its manifest was written for, until it is renamed."""
    facts = manifest.get(name)
    digest = facts.get("sha256") if isinstance(facts, dict) else None
    named = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
    return writing.aside_name(folder / f"{name}.parquet", str(digest)[:12]) if named else None


def _read_info(info: type[_Info], manifest: Mapping[str, Any], *, where: Path) -> _Info:
    types = {field.name: field.type for field in fields(info)}
    files.check_types(manifest, types, where=where)
    values: dict[str, Any] = {name: manifest[name] for name in types}
    for name, kind in types.items():
        if str(kind).startswith("tuple"):  # JSON has none
            values[name] = tuple(values[name])
    return info(**values)
