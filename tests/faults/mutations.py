"""Seeded mutations of files: bits, bytes, chunks, lengths; numbers and structure of JSON; extreme values in text."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

__all__ = ["mutated"]

_EXTREME = (
    "-1", "0", "1e999", "NaN", "9223372036854775807", "9223372036854775808", "1" * 400, "4294967296", "0.1", "null",
    "true", '"x"', "[]", "{}", '"\\u0000"', '"\\ud800"', '"../../etc/passwd"', '"\\u001b[2J\\nheadscan: error: x"',
)  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """Return the mutation of that number."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = rng.choice(_WAYS)(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Return a place, often near an end: that is where headers and footers are."""
    near = min(len(data), 256)
    return rng.choice((rng.randrange(len(data) + 1), rng.randrange(near + 1), len(data) - rng.randrange(near + 1)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    place = min(_place(data, rng), len(data) - 1)
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    place, size = _place(data, rng), rng.choice((1, 2, 4, 8, 64))
    new = rng.choice((rng.randbytes(size), b"\xff" * size, b"\0" * size, b"\x7f" * size, b"{" * size))
    return data[:place] + new + data[place + size :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _drop(data: bytes, rng: random.Random) -> bytes:
    place = _place(data, rng)
    return data[:place] + data[place + rng.choice((1, 3, 16, 200)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    place, size = _place(data, rng), rng.choice((1, 7, 100))
    return data[: place + size] + data[place : place + size] * rng.choice((1, 2, 300)) + data[place + size :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = _place(data, rng)
    new = rng.choice((b"\0", b"\n", b"\r\n", b"\xef\xbb\xbf", b"[" * 2000, b"\x1b[2J", rng.randbytes(9), b'"', b","))
    return data[:place] + new + data[place:]


def _whole(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        (b"", b"\0", b"{}", b"[]", b"null", b"\x93NUMPY", b"PAR1", b"PK\x03\x04", b"\x1f\x8b", data * 2)
    )


def _number(data: bytes, rng: random.Random) -> bytes:
    """Replace a number, or any word, of a text by an extreme one."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?|\w+", data[:100_000]))
    if not found:
        return data
    chosen = rng.choice(found)
    return data[: chosen.start()] + rng.choice(_EXTREME).encode() + data[chosen.end() :]


def _structure(data: bytes, rng: random.Random) -> bytes:
    """Change a value, a key or the nesting of JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, rng)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in pairs:
            places.append((node, key))
            walk(value)

    walk(content)
    if not places:
        return _whole(data, rng)
    node, key = rng.choice(places)
    way = rng.randrange(4)
    if way == 0:
        try:
            node[key] = json.loads(rng.choice(_EXTREME).replace("1e999", "1e308"))
        except ValueError:
            node[key] = None
    elif way == 1:
        del node[key]
    elif way == 2:
        node[key] = [node[key]]
    elif isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
    return json.dumps(content).encode()


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _overwrite, _cut, _drop, _repeat, _insert, _whole, _number, _number, _structure, _structure,
)  # fmt: skip
