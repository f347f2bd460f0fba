"""How long a server asks to wait, wherever it says so: headers, body, words, limits that are used up.

The rule: a server that names a wait means it. Its waits stand in up to three places: ``Retry-After`` (of its two forms
the one in milliseconds, which is exact), members of the body, and words. Where they differ, the latest counts: the
shorter ones are rounded, or a gateway's guess ("Retry-After: 1" beside a retryDelay of 42 s), and whoever comes too
early is refused again. Only where no wait is named, the limits tell it: those of which nothing is left, the latest of
them; else the scarcest, unless more than half of it is left, because then it is not what the refusal is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.rate_limits import RateLimits
from .durations import DURATION, MAX_WAIT_S, date_s, duration_s, wait_s
from .error_bodies import ErrorBody
from .rate_limits import rate_limits_from

# Members of an error's body that name a wait, with their unit in seconds. Google: RetryInfo.retryDelay "42s".
_WAITS = {
    "retryDelay": 1.0,
    "retry_delay": 1.0,
    "retry_after": 1.0,
    "retryAfter": 1.0,
    "retry-after": 1.0,
    "retry_after_s": 1.0,
    "retry_after_seconds": 1.0,
    "retryAfterSeconds": 1.0,
    "resets_in_seconds": 1.0,
    "reset_in_seconds": 1.0,
    "estimated_time": 1.0,  # Hugging Face, while a model is loaded
    "retry_after_ms": 0.001,
    "retryAfterMs": 0.001,
    # Moments
    "resets_at": 1.0,
    "reset_at": 1.0,
    "resetAt": 1.0,
    "reset_time": 1.0,
    "resetTime": 1.0,
}
_LEAD = (
    r"\b(?:try(?: it)? again|try(?:ing)? (?:your|this|the) request again|"
    r"retry(?:ing)?(?: again| your request| the request)?|"
    r"wait(?: time)?|again|available|resets?|reset (?:time|after)|regain access|throttled)\b"
    r"(?:[ :]{1,3}(?:in|after|for|about|approximately|around|at least|another|is|will be|within|until|at|on|~)){0,3}"
)
_IN_WORDS = re.compile(rf"{_LEAD}[ :~]{{0,3}}(?P<wait>{DURATION})", re.ASCII | re.IGNORECASE)
_ON_A_DAY = re.compile(
    rf"{_LEAD}[ :]{{0,3}}(?P<day>\d{{4}}-\d\d-\d\d)(?:(?:T| at | )(?P<time>\d\d:\d\d(?::\d\d)?))?",
    re.ASCII | re.IGNORECASE,
)


def retry_after_s(headers: Mapping[str, str], body: ErrorBody, limits: RateLimits | None, now: float) -> float | None:
    """Return how long the server asks to wait, wherever it says so.

    Args:
        headers: Headers of the response, names in lower case.
        body: Its body.
        limits: The limits in its headers, or in its body.
        now: Seconds since 1970.

    Returns:
        Seconds, > 0, a year at most; None when the server names no wait, or none that makes sense.
    """
    headers = {**headers_in(body), **headers}
    named = [_header_s(headers, now), *_members_s(body, now), *_words_s(body, now)]
    waits = [seconds for seconds in named if seconds is not None and 0 < seconds < MAX_WAIT_S]
    return max(waits, default=None) or _exhausted_s(limits)


def limits_of(headers: Mapping[str, str], body: ErrorBody, now: float) -> RateLimits | None:
    """Return the limits in the headers of a response, or in those that its body repeats (OpenRouter)."""
    return rate_limits_from(headers, now) or rate_limits_from(headers_in(body), now)


def headers_in(body: ErrorBody) -> dict[str, str]:
    """Return headers that the body repeats: OpenRouter's ``metadata.headers``."""
    return {
        str(name).lower(): str(value)
        for headers in body.values("headers")
        if isinstance(headers, dict)
        for name, value in headers.items()
        if isinstance(value, (str, int, float))
    }


def _header_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait in ``retry-after-ms`` (as OpenAI sends it, read 2026-11) or in ``Retry-After``.

    Source: RFC 9110, section 10.2.3. Some servers send a moment in seconds since 1970, or a duration with a unit.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = wait_s(headers.get(name, ""), now)
        if seconds is not None and seconds > 0:
            return seconds * unit_s
    return None


def _members_s(body: ErrorBody, now: float) -> Iterator[float | None]:
    """Yield the waits in members of the body."""
    for name, unit_s in _WAITS.items():
        for value in body.values(name):
            seconds = _value_s(value, now)
            yield None if seconds is None else seconds * unit_s


def _value_s(value: Any, now: float) -> float | None:
    """Return the seconds of a member: a number, a text, or Google's ``{"seconds": 42, "nanos": 0}``."""
    if isinstance(value, dict):
        value = value.get("seconds")
    return wait_s(str(value), now) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None


def _words_s(body: ErrorBody, now: float) -> Iterator[float | None]:
    """Yield the waits in the server's words."""
    for text in body.words:
        for found in _IN_WORDS.finditer(text):
            yield duration_s(found["wait"].rstrip(", ").removesuffix(" and"))
        for found in _ON_A_DAY.finditer(text):
            yield date_s(f"{found['day']}T{found['time'] or '00:00'}") - now


def _exhausted_s(limits: RateLimits | None) -> float | None:
    """Return when a limit that is used up is there again; None when no limit explains a refusal."""
    if limits is None:
        return None
    known = [
        (0.0 if left == 0 else left / limit if limit and left is not None else None, reset_s)
        for limit, left, reset_s in (
            (limits.limit_requests, limits.remaining_requests, limits.reset_requests_s),
            (limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_s),
        )
        if reset_s
    ]
    if used_up := [reset_s for share, reset_s in known if share == 0.0 or share is None]:
        return max(used_up)
    share, reset_s = min(known, default=(1.0, 0.0), key=lambda pair: pair[0] or 0.0)
    return reset_s if share is not None and share <= 0.5 else None
