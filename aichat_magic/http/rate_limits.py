"""Rate limits, read from the headers of a response."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..core.rate_limits import RateLimits
from .durations import wait_s

# Largest count that is believed.
_MAX_COUNT = 10**15
_COUNT = re.compile(r"\d{1,15}(?:\.0{1,9})?", re.ASCII)
# Without another word from the server, a window is a minute: so are those of all that send milliseconds.
_USUAL_PERIOD_S = 60.0

_REQUESTS = ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}")
_TOKENS = (
    "x-ratelimit-{}-tokens",
    "anthropic-ratelimit-tokens-{}",
    "anthropic-ratelimit-input-tokens-{}",
    "anthropic-ratelimit-output-tokens-{}",
)
# Rarer names: Cerebras and Mistral with the length of the window; OpenRouter, Together, Hugging Face without what is
# counted, which is requests; Azure's older spelling. All read 2026-11.
_OTHER_REQUESTS = (
    "x-ratelimit-{}-requests-minute",
    "x-ratelimit-{}-requests-hour",
    "x-ratelimit-{}-requests-day",
    "x-ratelimit-{}-req-minute",
    "x-rate-limit-{}-requests",
    "x-ratelimit-{}",
    "x-rate-limit-{}",
    "ratelimit-{}",
)
_OTHER_TOKENS = (
    "x-ratelimit-{}-tokens-minute",
    "x-ratelimit-{}-tokens-hour",
    "x-ratelimit-{}-tokens-day",
    "x-tokenlimit-{}",
    "x-rate-limit-{}-tokens",
    "ratelimitbysize-{}",
)
# Names of the length of a window, in seconds, for a pattern of limits.
_PERIODS = ("renewalperiod", "renewal-period", "period", "window")

_Limit = tuple[int | None, int | None, float | None]


def rate_limits_from(headers: Mapping[str, str], wall_clock_now: float) -> RateLimits | None:
    """Return the rate limits in the headers of any server that sends some.

    Of several limits on the same thing (Anthropic counts input and output tokens separately), the one with the smallest
    share left is returned.

    Args:
        headers: Headers of the response, names in lower case.
        wall_clock_now: Seconds since 1970, to compare dates with.

    Returns:
        The limits; None when the headers contain none that can be read.

    Source: OpenAI, "Rate limits in headers"; Anthropic, "Response headers" of the rate limits; IETF,
    draft-ietf-httpapi-ratelimit-headers, versions 02 to 10 (all read 2026-11).
    """
    if not any("rate" in name for name in headers):
        return None
    now = wall_clock_now
    requests, tokens = _scarcest(headers, _REQUESTS, now), _scarcest(headers, _TOKENS, now)
    if requests is None and tokens is None:
        named = list(_structured(headers, now))
        requests = _scarcest(headers, _OTHER_REQUESTS, now, [limit for unit, limit in named if unit != "tokens"])
        tokens = _scarcest(headers, _OTHER_TOKENS, now, [limit for unit, limit in named if unit == "tokens"])
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


def _scarcest(
    headers: Mapping[str, str], patterns: tuple[str, ...], now: float, others: list[_Limit] | None = None
) -> _Limit | None:
    """Return the limit of which the smallest share is left."""
    found = [limit for pattern in patterns if (limit := _read(headers, pattern, now))] + (others or [])
    return min(found, key=_share_left) if len(found) > 1 else found[0] if found else None


def _read(headers: Mapping[str, str], pattern: str, now: float) -> _Limit | None:
    """Return the limit, what remains of it and the seconds to its reset; None when there is none of the three."""
    limit, remaining, reset = (headers.get(pattern.format(word), "") for word in ("limit", "remaining", "reset"))
    if not limit and not remaining and not reset:
        return None
    counts = _count(limit), _count(remaining)
    reset_s = _reset_s(reset, now)
    if reset_s and len(reset) < 9 and reset.strip().isdecimal():  # a longer number is a moment
        reset_s *= _unit_s(reset_s, *counts, _period_s(headers, pattern, limit))
    return None if counts == (None, None) and reset_s is None else (*counts, reset_s)


def _unit_s(number: float, limit: int | None, remaining: int | None, period_s: float | None) -> float:
    """Return the unit of a bare number, in seconds: a second, or a millisecond where only that fits the limit.

    A reset is at most a period away; and in a bucket that fills steadily, as Azure's does, just as far as the share
    that was taken out of it.
    """
    if number <= (period_s or _USUAL_PERIOD_S) * 1.5:
        return 1.0
    if period_s is not None:
        return 0.001 if number / 1000 <= period_s * 1.5 else 1.0
    if not limit or remaining is None:
        return 1.0
    filling_s = _USUAL_PERIOD_S * (limit - remaining) / limit
    return 0.001 if 0.8 * filling_s <= number / 1000 <= 1.25 * filling_s else 1.0


def _period_s(headers: Mapping[str, str], pattern: str, limit: str) -> float | None:
    """Return the length of a window in seconds; None where no header tells it."""
    if (found := re.search(r";\s*w=(\d{1,9})", limit[:200])) is not None:  # an older IETF draft: 100, 100;w=60
        return float(found[1])
    texts = (headers.get(pattern.format(word), "") for word in _PERIODS)
    return next((seconds for text in texts if text and (seconds := _reset_s(text, 0.0))), None)


def _share_left(values: _Limit) -> float:
    """Return what remains of a limit, as a share from 0 to 1; 1 where that is not known."""
    limit, remaining, _ = values
    if remaining == 0:
        return 0.0
    return remaining / limit if limit and remaining is not None else 1.0


def _count(text: str) -> int | None:
    """Return a whole number >= 0; None for any other text. Of a list (an older IETF draft), its first number counts."""
    text = text.strip()
    if "," in text[:200]:
        text = text.partition(",")[0].strip()
    return min(int(float(text)), _MAX_COUNT) if _COUNT.fullmatch(text) else None


def _reset_s(text: str, now: float) -> float | None:
    """Return the seconds to a reset, >= 0; None for a text that is no time, or one more than a year away."""
    seconds = wait_s(text, now) if text else None
    return None if seconds is None else max(seconds, 0.0)


# --- the IETF's fields of structure

_MEMBER = re.compile(
    r"(?:^|,)\s*(?:\"(?P<name>[^\"]{0,64})\"|(?P<key>[a-z]+)=(?P<value>\d{1,15})(?=\s*(?:,|$)))", re.ASCII
)


def _structured(headers: Mapping[str, str], now: float) -> Iterator[tuple[str, _Limit]]:
    """Yield what is counted, and the limit, of ``RateLimit`` with ``RateLimit-Policy``, in both forms of the drafts.

    The older is ``limit=100, remaining=50, reset=5``, the newer ``"default";r=50;t=5`` with a policy
    ``"default";q=100;w=60``.
    """
    text = headers.get("ratelimit", "")[:1000]
    if not text:
        return
    if '"' not in text:
        values = {found["key"]: found["value"] for found in _MEMBER.finditer(text) if found["key"]}
        limit = (
            _count(values.get("limit", "")),
            _count(values.get("remaining", "")),
            _reset_s(values.get("reset", ""), now),
        )
        if limit != (None, None, None):
            yield "requests", limit
        return
    policies = dict(_items(headers.get("ratelimit-policy", "")[:1000]))
    for name, item in _items(text):
        policy = policies.get(name, {})
        values = {**policy, **item}
        limit = _count(values.get("q", "")), _count(values.get("r", "")), _reset_s(values.get("t", ""), now)
        yield ("tokens" if "token" in values.get("qu", "") + name else "requests"), limit


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the names of a list of items, and their parameters."""
    for item in text.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name.strip('"'), {key.strip(): value.strip().strip('"') for key, _, value in pairs}
