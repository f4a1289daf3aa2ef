"""Explain the attention heads of CLIP vision towers, in words, straight from the weights.

The main path is model -> value-output factors of each head -> singular vectors -> joint image-text space ->
sparse non-negative codes over a dictionary of concepts -> one table:

>>> import headscan as hs
>>> model = hs.load_model("demo")
>>> dictionary = hs.load_dictionary("demo", model=model)
>>> scan = hs.scan(model, dictionary, layers=[-1])
>>> table = scan.table()

Importing this package imports nothing else: the names come from `headscan.public` when one is first asked for, and
the functions that need torch, open_clip or pandas import them.
The method is that of SITH and COMP, "From Weights to Concepts: Data-Free Interpretability of CLIP via
Singular Vector Decomposition", arXiv 2603.24653.
"""

from __future__ import annotations

import sys as _sys
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _sys.argv[:1] == ["-m"]:  # python -m headscan, which is still looking for it: what follows takes a while
    from headscan_command import answer_interrupts as _answer_interrupts

    _answer_interrupts()

if _TYPE_CHECKING:
    from headscan.public import *  # noqa: F403
    from headscan.public import __version__ as __version__


def __getattr__(name: str) -> _Any:
    public = _import_module("headscan.public")  # not `from headscan import`, which asks this function first
    if name == "__all__" or name in public.__all__:
        return getattr(public, name)
    raise AttributeError(f"module 'headscan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
