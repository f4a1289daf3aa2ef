"""Reading files that anybody may have written: regular files alone, sizes checked first, one error with the name.

A file is an array, a table or JSON, or it is refused: nothing here is unpickled, nothing is allocated because a
header says so, and no fault of a parser gets out as anything but a HeadscanError.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common.terminal import one_line
from headscan.errors import HeadscanError, UnreadableError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "SHORTAGES",
    "check_columns",
    "check_sizes",
    "read_array",
    "read_json",
    "read_table",
    "read_text",
    "reading",
    "regular",
    "unreadable",
]

SHORTAGES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_MOST_TEXT_BYTES = 1 << 28
_MOST_TABLE_BYTES = 1 << 32  # unpacked
_MOST_CELLS = 1 << 29
_MOST_OF = {"layers": 1000, "depth": 1000, "length": 1 << 13, "embeddings": 1 << 13}  # by a name's last word
_MOST_SIZE = 10_000_000
_KINDS = {"int": "iu", "float": "f", "number": "f", "bool": "b", "text": "OSUT"}


def regular(path: Path, what: str = "the file") -> Path:
    """Return the path of a regular file; `what` it is, for messages.

    Raises
    ------
    HeadscanError
        If there is none, or it is a folder, a pipe, a device, or a link to one.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise HeadscanError(f"there is no {what.removeprefix('the ')} {path}") from error
    except OSError as error:
        raise unreadable(path, error, what) from error
    except ValueError as error:  # a NUL in its name
        raise HeadscanError(f"cannot read {what} {path}: {error}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise HeadscanError(f"cannot read {what} {path}: it is {kind}, not a file")
    return path


def unreadable(path: Path, error: OSError, what: str = "the file") -> HeadscanError:
    """Return what to raise where the system refuses to read: an UnreadableError unless no such file is there."""
    kind = HeadscanError if error.errno in _ABSENT else UnreadableError
    return kind(f"cannot read {what} {path}: {error.strerror or error}")


@contextlib.contextmanager
def reading(path: Path, what: str = "the file") -> Iterator[None]:
    """Turn whatever a parser raises on a file into a HeadscanError that names it; what is short is said as it is."""
    try:
        yield
    except (HeadscanError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise HeadscanError(f"there is no {what.removeprefix('the ')} {path}") from error
    except OSError as error:
        if error.errno is not None:
            raise unreadable(path, error, what) from error
        raise HeadscanError(
            f"cannot read {what} {path}: it is damaged ({one_line(str(error), longest=300)})"
        ) from error
    except Exception as error:
        why = one_line(f"{type(error).__name__}: {error}", longest=300)
        raise HeadscanError(f"cannot read {what} {path}: it is damaged, or of another kind ({why})") from error


def read_text(path: Path, what: str = "the file") -> str:
    """Return the text of a UTF-8 file.

    Raises
    ------
    HeadscanError
        If it is no regular file, is larger than any that headscan writes, or is not UTF-8.
    """
    size = regular(path, what).stat().st_size
    if size > _MOST_TEXT_BYTES:
        raise HeadscanError(f"cannot read {what} {path}: it has {size:,} bytes, more than {_MOST_TEXT_BYTES:,}")
    with reading(path, what):
        return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    HeadscanError
        If it cannot be read, or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, or nested without end
        raise HeadscanError(f"{path} is damaged: it is not JSON ({error})") from error


def check_sizes(config: Any, *, where: Path) -> None:
    """Raise if a number in a model's configuration is beyond any model, before a library allocates by it.

    Raises
    ------
    HeadscanError
        Naming the number.
    """
    pairs = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for name, value in pairs:
        most = _MOST_OF.get(str(name).rpartition("_")[2], _MOST_SIZE)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > most:
            raise HeadscanError(
                f"{where} asks for {name} = {str(value)[:30]}: no model that is read has over {most:,}"
            )
        check_sizes(value, where=where)


def read_array(path: Path, what: str = "the file", *, ndim: int | None = None, kinds: str = "f") -> NDArray[Any]:
    """Return the array of an .npy file, whose header fits its size.

    Parameters
    ----------
    ndim : int, optional
        Axes that it has to have.
    kinds : str
        NumPy's kinds of dtype that it may have.

    Raises
    ------
    HeadscanError
        If it is no such array, or holds less or more than its header says.
    """
    size = regular(path, what).stat().st_size
    with reading(path, what), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = header(file)
        needed = math.prod(shape) * dtype.itemsize
        if dtype.kind not in kinds or (ndim is not None and len(shape) != ndim):
            raise HeadscanError(f"cannot read {what} {path}: it holds an array of {dtype} and shape {shape}")
        if any(side < 0 for side in shape) or needed != size - file.tell():
            raise HeadscanError(f"cannot read {what} {path}: its size does not fit its shape {shape} of {dtype}")
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
        return array


def read_table(path: Path, *, rows: int | None = None) -> pd.DataFrame:
    """Return the table of a Parquet file.

    Parameters
    ----------
    rows : int, optional
        How many it has to have.

    Raises
    ------
    HeadscanError
        If it is none, has other rows, or would unpack to more than any that headscan writes.
    """
    from pyarrow import parquet

    with reading(regular(path)), parquet.ParquetFile(path) as file:
        facts = file.metadata
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        if rows is not None and facts.num_rows != rows:
            raise HeadscanError(f"{path} is damaged: it has {facts.num_rows} rows, its manifest says {rows!r}")
        if unpacked > _MOST_TABLE_BYTES or facts.num_rows * facts.num_columns > _MOST_CELLS:
            raise HeadscanError(
                f"cannot read {path}: it says that it holds {facts.num_rows:,} rows, {unpacked:,} bytes"
            )
        table: pd.DataFrame = file.read().to_pandas()
        return table


def check_columns(table: pd.DataFrame, kinds: Mapping[str, str], *, where: Path) -> None:
    """Raise unless a table has every column, of its kind: "int", "float" (finite), "number" (or NaN), "bool", "text".

    Raises
    ------
    HeadscanError
        If one is missing, or of another kind.
    """
    from pandas.api.types import infer_dtype

    for name, kind in kinds.items():
        if name not in table.columns:
            raise HeadscanError(f"{where} is damaged: it has no column {name}")
        column = table[name]
        fits = column.ndim == 1 and column.dtype.kind in _KINDS[kind]
        if fits and kind == "text":
            fits = len(column) == 0 or (infer_dtype(column) == "string" and not column.isna().any())
        elif fits and kind == "float":
            fits = bool(np.isfinite(column.to_numpy()).all())
        if not fits:
            raise HeadscanError(f"{where} is damaged: its column {name} is not all {kind}")
