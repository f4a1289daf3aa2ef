"""``headscan doctor``."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from headscan.cli.options import Commands, add_command
from headscan.cli.output import Output, Table
from headscan.common import files

__all__ = ["report"]

_DISTRIBUTIONS = ("headscan", "torch", "open_clip_torch", "numpy", "pandas", "pyarrow", "safetensors")
_EXAMPLES = """\
example:
  headscan doctor
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    add_command(
        commands,
        "doctor",
        _run,
        summary="show versions, the build and where things are kept",
        description="Show versions, the build, its instruction sets, threads and the cache folder.",
        examples=_EXAMPLES,
    )


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
    values = report()
    lines = [f"{name + ':':<20} {value}" for name, value in values.items()]
    rows = [{"name": name, "value": value} for name, value in values.items()]
    return Output([*lines, Table("installation", "", rows, text=())])
