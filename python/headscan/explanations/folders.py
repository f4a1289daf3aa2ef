"""Results as folders: tables as Parquet, and a manifest that holds what they were made from and their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headscan.common import files
from headscan.common.reading import read_table
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import pandas as pd

    from headscan.explanations.table import ScanInfo

__all__ = ["ResultFolder"]

_MANIFEST = "manifest.json"
_Info = TypeVar("_Info", bound="ScanInfo")


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

    def save(self, folder: str | Path, info: ScanInfo, tables: Mapping[str, pd.DataFrame]) -> Path:
        """Write tables and manifest into a folder, made if need be, and return its path.

        All are written aside and then renamed, the manifest last; it holds the tables' hashes, so a save that was cut
        short is noticed. A result of the same kind is replaced; other files are left alone.

        Raises
        ------
        HeadscanError
            If the folder cannot be written, or its manifest.json is not of this kind.
        """
        target = files.expanded(folder)
        self.check_destination(target)
        manifest = {"format": self.kind, "format_version": self.version, **asdict(info)}
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, table in tables.items():
                file = f"{name}.parquet"
                with files.write_aside(target / file) as aside:
                    table.to_parquet(aside, engine="pyarrow", index=False, compression="zstd")
                    manifest[name] = {"file": file, "rows": len(table), "sha256": files.file_sha256(aside)}
            files.write_manifest(target / _MANIFEST, manifest)
        except OSError as error:
            raise HeadscanError(f"cannot write the {self.noun} to {target}: {error.strerror or error}") from error
        return target

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
        read = files.read_manifest(source / _MANIFEST, kind=self.kind, format_version=self.version)
        manifest = {**defaults, **read}
        facts = _read_info(info, manifest, where=source / _MANIFEST)
        return facts, [self._table(source, name, manifest) for name in self.tables]

    def _table(self, source: Path, name: str, manifest: Mapping[str, Any]) -> pd.DataFrame:
        path = source / f"{name}.parquet"
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


def _read_info(info: type[_Info], manifest: Mapping[str, Any], *, where: Path) -> _Info:
    types = {field.name: field.type for field in fields(info)}
    files.check_types(manifest, types, where=where)
    values: dict[str, Any] = {name: manifest[name] for name in types}
    for name, kind in types.items():
        if str(kind).startswith("tuple"):  # JSON has none
            values[name] = tuple(values[name])
    return info(**values)
