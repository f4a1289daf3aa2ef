"""``headscan doctor``."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headscan.cli.options import Commands, add_command, path
from headscan.cli.output import Output, Table
from headscan.common import files, writing

__all__ = ["report"]

_DISTRIBUTIONS = ("headscan", "torch", "open_clip_torch", "numpy", "pandas", "pyarrow", "safetensors")
_EXAMPLES = """\
examples:
  headscan doctor
  headscan doctor --clean . out
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    doctor = add_command(
        commands,
        "doctor",
        _run,
        summary="show versions, the build and where things are kept",
        description="Show versions, the build, its instruction sets, threads, the cache folder and leftovers.",
        examples=_EXAMPLES,
    )
    cleaned = "remove what killed runs left in the cache folder and below each DIR; without DIR in the cache alone"
    doctor.add_argument("--clean", metavar="DIR", type=path, nargs="*", help=cleaned)


def report() -> dict[str, str]:
    """Return names and values to show, in order. Loads neither torch nor a model."""
    from headscan.core import _core, devices

    lines = {"python": f"{platform.python_version()} ({platform.system()} {platform.machine()})"}
    lines |= {name: _version(name) for name in _DISTRIBUTIONS}
    build = _core.build_info()
    threads = build.pop("threads")  # not of the build, but of the process
    lines |= {f"build {name}": _text(value) for name, value in build.items()}
    lines["threads"] = _text(threads)
    lines |= devices.describe()
    lines["cache folder"] = str(files.cache_folder())
    offline = os.environ.get("HF_HUB_OFFLINE")
    lines["HF_HUB_OFFLINE"] = "not set" if offline is None else offline
    return lines


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _run(options: argparse.Namespace) -> Output:
    if options.clean is not None:
        return _clean([files.cache_folder(), *options.clean])
    values = report()
    values["leftovers"] = _summary(writing.leftovers_below(files.cache_folder()))
    lines = [f"{name + ':':<20} {value}" for name, value in values.items()]
    rows = [{"name": name, "value": value} for name, value in values.items()]
    return Output([*lines, Table("installation", "", rows, text=())])


def _clean(folders: list[Path]) -> Output:
    rows = []
    for left in sorted({left for folder in folders for left in writing.leftovers_below(folder)}):
        rows.append({"path": str(left), "bytes": _size(left)})
        writing.remove(left)
    lines = [f"removed {row['path']} ({row['bytes']:,} bytes)" for row in rows]
    return Output([*lines, *([] if rows else ["there are no leftovers"]), Table("removed", "", rows, text=())])


def _summary(left: list[Path]) -> str:
    if not left:
        return "none"
    return f"{len(left)} of killed runs, {sum(map(_size, left)):,} bytes: headscan doctor --clean removes them"


def _size(left: Path) -> int:
    paths = left.rglob("*") if left.is_dir() else [left]
    return sum(path.lstat().st_size for path in paths if not path.is_dir())
