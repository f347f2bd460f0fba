"""Rate limits, read from the headers of a response."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from ..core.messages import RateLimits

# Largest count, and longest time to a reset (a year), that is believed.
_MAX_COUNT = 10**15
_MAX_RESET_S = 366 * 86400.0
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_COUNT = re.compile(r"\d{1,15}(?:\.0{1,9})?", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


def rate_limits_from(headers: Mapping[str, str], wall_clock_now: float) -> RateLimits | None:
    """Return the rate limits in the headers of OpenAI, of servers that copy them, and of Anthropic.

    Of several limits on tokens (Anthropic counts input and output separately), the one with the smallest share left
    is returned.

    Args:
        headers: Headers of the response, names in lower case.
        wall_clock_now: Seconds since 1970, to compare dates with.

    Returns:
        The limits; None when the headers contain none that can be read.

    Source: OpenAI, "Rate limits in headers"; Anthropic, "Response headers" of the rate limits (both read 2026-11).
    """
    if not any("ratelimit" in name for name in headers):
        return None
    now = wall_clock_now
    requests = _read(headers, "x-ratelimit-{}-requests", now) or _read(headers, "anthropic-ratelimit-requests-{}", now)
    patterns = (
        "x-ratelimit-{}-tokens",
        "anthropic-ratelimit-tokens-{}",
        "anthropic-ratelimit-input-tokens-{}",
        "anthropic-ratelimit-output-tokens-{}",
    )
    found = [limits for pattern in patterns if (limits := _read(headers, pattern, now))]
    tokens = min(found, key=_share_left, default=None)
    if requests is None and tokens is None:
        return None
    limit_requests, remaining_requests, reset_requests_s = requests or (None, None, None)
    limit_tokens, remaining_tokens, reset_tokens_s = tokens or (None, None, None)
    return RateLimits(
        limit_requests=limit_requests,
        remaining_requests=remaining_requests,
        reset_requests_s=reset_requests_s,
        limit_tokens=limit_tokens,
        remaining_tokens=remaining_tokens,
        reset_tokens_s=reset_tokens_s,
    )


_Limit = tuple[int | None, int | None, float | None]


def _read(headers: Mapping[str, str], pattern: str, now: float) -> _Limit | None:
    """Return the limit, what remains of it and the seconds to its reset; None when there is none of the three."""
    limit, remaining = (_count(headers.get(pattern.format(word), "")) for word in ("limit", "remaining"))
    reset_s = _reset_s(headers.get(pattern.format("reset"), ""), now)
    return None if limit is None and remaining is None and reset_s is None else (limit, remaining, reset_s)


def _share_left(values: _Limit) -> float:
    """Return what remains of a limit, as a share from 0 to 1; 1 where that is not known."""
    limit, remaining, _ = values
    return remaining / limit if limit and remaining is not None else 1.0


def _count(text: str) -> int | None:
    """Return a whole number >= 0; None for any other text."""
    text = text.strip()
    return min(int(float(text)), _MAX_COUNT) if _COUNT.fullmatch(text) else None


def _reset_s(text: str, now: float) -> float | None:
    """Return the seconds in ``6m0s``, ``120ms``, ``1.5`` or until an RFC 3339 date; None for any other text."""
    text = text.strip()[:64]
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    elif text and not _PART.sub("", text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        seconds = _date(text) - now
    return max(seconds, 0.0) if -_MAX_RESET_S < seconds < _MAX_RESET_S else None


def _date(text: str) -> float:
    """Return an RFC 3339 date as seconds since 1970; NaN for any other text."""
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan
