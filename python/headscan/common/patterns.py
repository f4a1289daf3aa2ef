"""Regular expressions from users and files, matched in time linear in the text: RE2, which never backtracks."""

from __future__ import annotations

import re
from typing import Any

from headscan.errors import HeadscanError

__all__ = ["compiled"]


def compiled(pattern: str | re.Pattern[str]) -> Any:
    """Return a regular expression with ``search``, ``match``, ``fullmatch`` and ``pattern``.

    A text is compiled by RE2, which has no back references and no look-around; a pattern that Python code compiled
    itself is taken as it is.

    Raises
    ------
    HeadscanError
        If it is no regular expression, or one that RE2 does not match in linear time.
    """
    if isinstance(pattern, re.Pattern):
        return pattern
    if not isinstance(pattern, str):
        raise HeadscanError(f"{pattern!r:.80} is not a regular expression: expected a text")
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise HeadscanError(
            f"{pattern[:200]!r} is not a regular expression that can be used: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    (message,) = error.args
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)
