"""The one exception that headscan raises for bad input, and its kind for files that cannot be read now."""

from __future__ import annotations

__all__ = ["HeadscanError", "UnreadableError"]


class HeadscanError(ValueError):
    """Bad input: a model, a dictionary, a folder or an option that cannot be used.

    ``str(error)`` is one line that says what was expected, what came and what to do; the command line shows
    it as it is. Being a ``ValueError``, it is caught by code that knows nothing of headscan.
    """


class UnreadableError(HeadscanError):
    """A file cannot be read now, whatever it holds: no descriptor or memory is left, it is forbidden, the disk fails.

    It says nothing against the file: what caught it neither replaces nor removes anything.
    """
