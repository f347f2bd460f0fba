"""What the headers of a response say about the rate limits of its server."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from ..core.messages import RateLimits

# Longest number, and longest time to a reset (a year), that is taken for what it says.
_MOST = 10**15
_MOST_S = 366 * 86400.0
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_COUNT = re.compile(r"\d{1,15}(?:\.0{1,9})?", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


def rate_limits_from(headers: Mapping[str, str], wall_clock_now: float) -> RateLimits | None:
    """Read the rate-limit headers of OpenAI, of the servers that copy them, and of Anthropic.

    Of several limits on tokens (Anthropic counts input and output apart) the one with the smallest share left counts.

    Args:
        headers: Headers of the response, names in lower case.
        wall_clock_now: Seconds since 1970, to read a date against.

    Returns:
        The limits; None when the headers hold none that can be read.

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


_Three = tuple[int | None, int | None, float | None]


def _read(headers: Mapping[str, str], pattern: str, now: float) -> _Three | None:
    """Limit, what remains, seconds to the reset; None when there is none of the three."""
    limit, remaining = (_count(headers.get(pattern.format(word), "")) for word in ("limit", "remaining"))
    reset_s = _reset_s(headers.get(pattern.format("reset"), ""), now)
    return None if limit is None and remaining is None and reset_s is None else (limit, remaining, reset_s)


def _share_left(limits: _Three) -> float:
    """What remains of a limit, 0 to 1; 1 where that is not known."""
    limit, remaining, _ = limits
    return remaining / limit if limit and remaining is not None else 1.0


def _count(text: str) -> int | None:
    """A whole number, >= 0."""
    text = text.strip()
    return min(int(float(text)), _MOST) if _COUNT.fullmatch(text) else None


def _reset_s(text: str, now: float) -> float | None:
    """Seconds from ``6m0s``, ``120ms``, ``1.5`` or an RFC 3339 date; None for what is none of them."""
    text = text.strip()[:64]
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    elif text and not _PART.sub("", text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        seconds = _date(text) - now
    return max(seconds, 0.0) if -_MOST_S < seconds < _MOST_S else None


def _date(text: str) -> float:
    """An RFC 3339 date as seconds since 1970; NaN when it is none."""
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan
