"""Refusals of a run: which of them meets one row, and which meets every row, so that the run stops.

The rules:

1. **A row's own**: its prompt was flagged, is too long or too large. The run goes on, however many there are.
2. **Everybody's at once** (`is_fatal`): the key, the address, the model, the account.
3. **Everybody's if nothing else comes**: when no row has succeeded yet and the same refusal has come eight times, it is
   not about the rows. Refusals are the same if their words are, apart from numbers, ids and quoted pieces. With twelve
   calls in flight, at most twenty are sent.
4. **A 403 after a success** may be a filter, or a right that was withdrawn: the latter if it comes twenty times in a
   row.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter

from ..core.errors import (
    AichatError,
    ContextLengthError,
    EmptyReplyError,
    FlaggedPromptError,
    PermissionDeniedError,
    StatusError,
    TooLargeError,
    UnexpectedError,
)
from ..text.numbers import time_span

SAME_AT_FIRST = 8
SAME_IN_A_ROW = 20
_OWN_TYPES = (FlaggedPromptError, ContextLengthError, TooLargeError)
_OWN_ENDS = ("content_filter", "refusal")
# Quoted pieces of a prompt, ids such as req_8f3a and numbers differ from row to row.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|“[^”]*”|«[^»]*»")
_ID = re.compile(r"\b(?=[\w-]*\d)[\w-]{6,}\b|\b\d[\d.,:]*\b")
_COMPARED = 300  # characters


class Refusals:
    """The refusals of one run, counted by their words."""

    def __init__(self) -> None:
        """Create an empty count."""
        self._has_replies = False
        self._counts: Counter[str] = Counter()
        self._denied_in_a_row = 0

    def succeeded(self) -> None:
        """Note that a row has its reply."""
        self._has_replies = True
        self._denied_in_a_row = 0

    def final_error(self, error: AichatError) -> AichatError | None:
        """Return the error to stop the run with, if it would meet every row; else None.

        Args:
            error: An error that trying again cannot help.
        """
        if error.is_fatal:
            return error
        if is_own(error):
            return None
        if self._has_replies:
            self._denied_in_a_row += isinstance(error, PermissionDeniedError)
            return _explained(error, SAME_IN_A_ROW, "last") if self._denied_in_a_row >= SAME_IN_A_ROW else None
        words = same_words(error)
        self._counts[words] += 1
        return _explained(error, SAME_AT_FIRST, "first") if self._counts[words] >= SAME_AT_FIRST else None


def is_own(error: AichatError) -> bool:
    """Tell whether an error is about its row alone, however often it comes."""
    if isinstance(error, EmptyReplyError):
        return error.finish_reason in _OWN_ENDS
    return isinstance(error, _OWN_TYPES) or (isinstance(error, StatusError) and error.status == 413)


def same_words(error: AichatError) -> str:
    """Return the words of an error without what differs from row to row: numbers, ids, quoted pieces of a prompt."""
    return f"{type(error).__name__}: {_ID.sub('0', _QUOTED.sub('_', str(error).lower()))[:_COMPARED]}"


def _explained(error: AichatError, count: int, which: str) -> AichatError:
    """Return an error that also says why the run has stopped, and how to go on."""
    way_out = "Correct what it names and run again."
    if not isinstance(error, UnexpectedError):
        way_out = (
            "Correct what it names (an option, the model, a right of the key) and run again; if it is about these rows "
            "only, leave them out."
        )
    text = f"{error} The {which} {count} answers were all this refusal, so the other rows were not sent. {way_out}"
    error.args = (text, *error.args[1:])
    return error


def quota_text(wait_s: float, now: datetime.datetime) -> str:
    """Return when a limit is free again, as a time of the clock and a duration.

    Args:
        wait_s: Seconds until then.
        now: The current local time.
    """
    try:
        at = now + datetime.timedelta(seconds=wait_s)
    except OverflowError:
        return ""
    day = "" if at.date() == now.date() else f" on {at:%Y-%m-%d}"
    free = f"The limit is free again at {at:%H:%M}{day}, in {time_span(wait_s)}"
    return f"{free} (the server asks for {wait_s:.0f} s). Run it again then to continue."
