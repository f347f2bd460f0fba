"""Waits as servers write them: a number, ``6m0s``, "1 hour and 5 minutes", a date, a time since 1970."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# The longest wait that is believed, in seconds: a year.
MAX_WAIT_S = 366 * 86400.0
_UNITS_S = {"ms": 0.001, "msec": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_TEXT = 64
_NUMBER = r"\d{1,16}(?:\.\d{1,18})?"
_UNIT = r"milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|hr|h|days?|d"
_PART = re.compile(rf"({_NUMBER})\s?({_UNIT})(?![a-z])", re.ASCII | re.IGNORECASE)
# A duration of up to four parts: "1h2m3.5s", "1 hour, 2 minutes and 3 seconds".
DURATION = rf"(?:{_NUMBER}\s?(?:{_UNIT})(?![A-Za-z])(?:,? and |, ?| )?){{1,4}}"
_PARTS = re.compile(r"(\d{1,15}(?:\.\d{1,18})?)(ms|s|m|h|d)", re.ASCII)
_BARE = re.compile(_NUMBER, re.ASCII)


def duration_s(text: str) -> float | None:
    """Return the seconds of a duration with units; None for any other text.

    >>> duration_s("6m0s"), duration_s("1 hour and 5 minutes"), duration_s("350ms")
    (360.0, 3900.0, 0.35)
    """
    if len(text) > _MAX_TEXT:
        return None
    if not _PARTS.sub("", text):  # the form of headers, without blanks
        parts = _PARTS.findall(text)
    elif re.fullmatch(DURATION, text.strip(), re.ASCII | re.IGNORECASE):
        parts = _PART.findall(text)
    else:
        return None
    return sum(float(number) * _unit_s(unit) for number, unit in parts) if parts else None


def wait_s(text: str, now: float) -> float | None:
    """Return the seconds to wait that a text stands for, in any form; below 0 if it names a moment that is past.

    Args:
        text: Seconds, a duration with units, an HTTP date, an RFC 3339 date, or a moment in seconds, milliseconds or
            microseconds since 1970, which only a number far above a year of seconds can be.
        now: Seconds since 1970.

    Returns:
        Seconds, finite, of an absolute value of a year at most; None for anything else.
    """
    text = text.strip()
    if not text or len(text) > _MAX_TEXT:
        return None
    if _BARE.fullmatch(text):
        seconds = float(text)
        if seconds >= 1e8:
            seconds = seconds / (1e6 if seconds >= 1e14 else 1e3 if seconds >= 1e11 else 1.0) - now
    elif (duration := duration_s(text)) is not None:
        seconds = duration
    else:
        seconds = date_s(text) - now
    return seconds if -MAX_WAIT_S < seconds < MAX_WAIT_S else None


def date_s(text: str) -> float:
    """Return an RFC 3339 or an HTTP date as seconds since 1970; NaN for any other text."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError, IndexError):
            return math.nan
    try:
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan


def _unit_s(word: str) -> float:
    """Return the seconds of a unit."""
    word = word.lower()
    return next(_UNITS_S[unit] for unit in (word, word[:5], word[:4], word[0]) if unit in _UNITS_S)
