"""Concepts in JSON, one object a line or a whole document, and in YAML."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from headscan.dictionaries.list_files import LONGEST_RECORD, Listing, head_of, kind_of, read_lines
from headscan.dictionaries.list_tables import is_number
from headscan.errors import HeadscanError

__all__ = ["begins_as_document", "read_bracketed", "read_json", "read_yaml"]

_ABSENT = object()
_LARGEST = 1 << 30  # characters of a document that is read as a whole


class _UnparsableError(HeadscanError):
    """Neither JSON nor YAML."""


def read_bracketed(path: Path, column: str | None) -> Listing:
    """Read a file of another name that begins with a bracket: JSON, or a list or dict as Python writes them.

    Raises
    ------
    HeadscanError
        As `read_json` does.
    """
    try:
        return read_json(path, column)
    except _UnparsableError as error:
        try:
            return read_yaml(path, column)
        except _UnparsableError:
            raise error from None


def begins_as_document(path: Path) -> bool:
    """Say whether a file begins with a bracket, as JSON does and no list of concepts."""
    return head_of(path).lstrip()[:1] in (b"[", b"{")


def read_json(path: Path, column: str | None) -> Listing:
    """Read JSON: a list of texts or objects, an object of texts, or one value a line (JSONL, NDJSON).

    Parameters
    ----------
    path : Path
    column : str or None
        Which key of the objects, or position (from 1) in lists; keys below one another are joined by points.

    Raises
    ------
    HeadscanError
        If it is not JSON, with the line, or holds no texts where they are looked for, with what it does hold.
    """
    first = [line for line in itertools.islice(read_lines(path, longest=LONGEST_RECORD), 100) if line.strip()][:2]
    lines = len(first) == 2 or (len(first) == 1 and kind_of(path) in (".jsonl", ".ndjson"))
    if lines and _parses(first[0]):
        return _chosen(_each_line(path), column, path, unit="line", read_as="JSON, one value a line")
    try:
        document = json.loads(_whole(path))
    except json.JSONDecodeError as error:
        raise _UnparsableError(f"{path}, line {error.lineno} is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise HeadscanError(f"{path} is not a list: its JSON is nested without end") from error
    return _of_document(document, column, path, kind="JSON")


def read_yaml(path: Path, column: str | None) -> Listing:
    """Read YAML: a list of texts or objects, or an object; every scalar is the text that stands there.

    Raises
    ------
    HeadscanError
        As `read_json` does.
    """
    import yaml

    class Texts(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is not typed
        """Lists, objects and texts, and nothing where YAML says null; runs nothing."""

        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith(":null")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        document = yaml.load(_whole(path), Loader=Texts)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _UnparsableError(f"{path}, line {line} is not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _UnparsableError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    return _of_document(document, column, path, kind="YAML")


def _whole(path: Path) -> str:
    parts, size = [], 0
    for line in read_lines(path, longest=_LARGEST):
        size += len(line)
        if size > _LARGEST:
            raise HeadscanError(f"{path} has more than {_LARGEST:,} characters: write one JSON value a line (.jsonl)")
        parts.append(line)
    return "\n".join(parts)


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _each_line(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_lines(path, longest=LONGEST_RECORD), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested without end"
                raise HeadscanError(f"{path}, line {number} is not JSON: {reason}") from error


def _of_document(document: Any, column: str | None, path: Path, *, kind: str) -> Listing:
    """Return what a document lists, looking into objects as far as `column` says or there is but one way."""
    way: list[str] = []
    while isinstance(document, dict):
        key, rest = _key(document, column)
        if key is None:
            break
        document, column = document[key], rest
        way.append(key)
    under = f" under `{'.'.join(way)}`" if way else ""
    if isinstance(document, list):
        return _chosen(enumerate(document, start=1), column, path, unit="item", read_as=f"{kind}, a list{under}")
    if not isinstance(document, dict):
        raise HeadscanError(f"{path} holds a single {type(document).__name__}{under}: expected a list of concepts")
    if column in ("keys", "values"):
        listed = document if column == "keys" else document.values()
        return Listing(_texts(enumerate(listed, start=1), None), "item", f"{kind}, the {column} of an object{under}")
    if document and all(key.isdecimal() for key in document):
        ordered = [document[key] for key in sorted(document, key=int)]
        read_as = f"{kind}, the values of an object by number{under}"
        return _chosen(enumerate(ordered, start=1), column, path, unit="item", read_as=read_as)
    if column is None and document and all(map(_numeric, document.values())):
        return Listing(enumerate(document, start=1), "item", f"{kind}, the keys of an object{under}")
    raise HeadscanError(
        f"{path} holds an object{under} with the keys {_listed(document)}: name the one that holds the concepts "
        f"(column, --column; keys or values for all of them){_not(column)}"
    )


def _key(document: dict[str, Any], column: str | None) -> tuple[str | None, str | None]:
    """Return the key of an object to follow, and what is left of `column` then; None where there is none."""
    if column is None:
        only = next(iter(document)) if len(document) == 1 else None
        return (only if only is not None and isinstance(document[only], (list, dict)) else None), None
    if column in document:
        return column, None
    first, _, rest = column.partition(".")
    return (first, rest or None) if first in document else (None, column)


def _chosen(
    entries: Iterable[tuple[int, Any]], column: str | None, path: Path, *, unit: str, read_as: str
) -> Listing:
    """Return the texts of entries, or what `column` names in them; the first entry tells what they are."""
    entries = iter(entries)
    first = next(entries, None)
    if first is None:
        return Listing((), unit, read_as)
    number, value = first
    where = f"{path}, {unit} {number}"
    if isinstance(value, dict):
        if column is None and len(value) == 1:
            column = next(iter(value))
        if column is None or _field(value, column, absent=_ABSENT) is _ABSENT:
            raise HeadscanError(
                f"{where} is an object with the keys {_listed(value)}: name one of them (column, --column)"
                f"{_not(column)}"
            )
        read_as += f", key `{column}` of {len(value)}"
    elif isinstance(value, list):
        if column is None or _field(value, column, absent=None) is None:
            raise HeadscanError(
                f"{where} is a list of {len(value)}: name one of its fields by number (column, --column 1)"
                f"{_not(column)}"
            )
        read_as += f", field {column} of {len(value)}"
    elif column is not None:
        raise HeadscanError(f"{where} is no object with keys: leave the column out{_not(column)}")
    return Listing(_texts(itertools.chain([first], entries), column), unit, read_as)


def _texts(entries: Iterable[tuple[int, Any]], column: str | None) -> Iterator[tuple[int, Any]]:
    """Yield what stands in each entry: several texts where it is a list, None where nothing does."""
    for number, value in entries:
        one = value if column is None else _field(value, column, absent=None)
        for text in (one or [None]) if isinstance(one, list) else [one]:
            yield number, None if isinstance(text, float) and math.isnan(text) else text


def _field(value: Any, column: str, *, absent: Any) -> Any:
    """Return a key of an object, or a field of a list by its number, or what is below them; else `absent`."""
    if isinstance(value, dict) and column in value:
        return value[column]
    first, _, rest = column.partition(".")
    inner = absent
    if isinstance(value, dict) and rest:
        inner = value.get(first, absent)
    elif isinstance(value, list) and first.isdecimal() and 1 <= int(first) <= len(value):
        inner = value[int(first) - 1]
    return _field(inner, rest, absent=absent) if rest and inner is not absent else inner


def _numeric(value: Any) -> bool:
    is_yaml = isinstance(value, str) and is_number(value)
    return is_yaml or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _listed(document: dict[str, Any]) -> str:
    return ", ".join(itertools.islice(map(str, document), 10)) or "(none)"


def _not(column: str | None) -> str:
    return "" if column is None else f", not {column!r}"
