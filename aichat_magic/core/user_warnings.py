"""Warnings that name the line of the user, however many calls of this package are between."""

from __future__ import annotations

import sys
import warnings

# Packages whose frames are between the user's line and a warning.
_BETWEEN = frozenset(
    (__name__.partition(".")[0], "asyncio", "concurrent", "contextlib", "nest_asyncio", "nest_asyncio2", "threading")
)
# Of a warning for which no frame is the user's, as in a thread of ours.
_NOBODYS_LEVEL = 3


def warn_user(message: str) -> None:
    """Warn at the line that has called this package.

    Args:
        message: The text for the user.
    """
    frame, level = sys._getframe(), 1
    while str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        if frame.f_back is None:
            level = _NOBODYS_LEVEL
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
