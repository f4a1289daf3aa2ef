"""The one exception that headscan raises for bad input."""

from __future__ import annotations

__all__ = ["HeadscanError"]


class HeadscanError(ValueError):
    """Bad input: a model, a dictionary, a folder or an option that cannot be used.

    ``str(error)`` is one line that says what was expected, what came and what to do; the command line shows
    it as it is. Being a ``ValueError``, it is caught by code that knows nothing of headscan.
    """
