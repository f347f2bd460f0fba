"""How long a server asks to wait, wherever and however it says so."""

from __future__ import annotations

import datetime
import json
from email.utils import format_datetime

import pytest
from effort import times_as_much_cpu
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core import errors
from aichat_magic.core.rate_limits import RateLimits
from aichat_magic.http.durations import MAX_WAIT_S
from aichat_magic.http.error_bodies import ErrorBody
from aichat_magic.http.errors import status_error
from aichat_magic.http.rate_limits import rate_limits_from
from aichat_magic.http.waits import retry_after_s

NOW = 1_800_000_000.0


def refused(headers=None, body=None, *, status=429):
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    return status_error(status, headers or {}, data, provider="p", wall_clock=lambda: NOW)


def wait(headers=None, body=None, *, status=429):
    return refused(headers, body, status=status).retry_after_s


def http_date(seconds):
    return format_datetime(datetime.datetime.fromtimestamp(NOW + seconds, datetime.UTC), usegmt=True)


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(NOW + seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def google(delay, *, quota="GenerateRequestsPerMinutePerProjectPerModel-FreeTier"):
    violation = {"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": quota}
    return {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
            ],
        }
    }


def said(words):
    return {"error": {"message": words, "type": "tokens", "code": "rate_limit_exceeded"}}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "20s"}, 20),
        ({"retry-after": http_date(42)}, 42),
        ({"retry-after": f"{NOW + 42:.0f}"}, 42),
        ({"retry-after": f"{(NOW + 42) * 1000:.0f}"}, 42),
        ({"retry-after-ms": "350"}, 0.35),
        ({"retry-after-ms": "350", "retry-after": "1"}, 0.35),
        ({"x-ms-retry-after-ms": "350"}, 0.35),
        ({"x-ratelimit-reset-requests": "20s"}, 20),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "350ms"}, 0.35),
        ({"x-ratelimit-reset-tokens": "7m12.3s", "x-ratelimit-remaining-tokens": "0"}, 432.3),
        ({"x-ratelimit-reset": f"{(NOW + 42) * 1000:.0f}"}, 42),
        ({"x-ratelimit-reset": f"{NOW + 42:.0f}"}, 42),
        ({"x-ratelimit-reset": f"{(NOW + 42) * 1_000_000:.0f}"}, 42),
        ({"x-ratelimit-reset": rfc3339(42)}, 42),
        ({"x-ratelimit-reset": "42"}, 42),
        ({"x-rate-limit-reset-tokens": "55"}, 55),
        ({"anthropic-ratelimit-requests-reset": rfc3339(30), "anthropic-ratelimit-requests-remaining": "0"}, 30),
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "0", "ratelimit-reset": "30"}, 30),
        ({"ratelimit": "limit=100, remaining=0, reset=30"}, 30),
        ({"ratelimit": '"burst";r=0;t=30', "ratelimit-policy": '"burst";q=100;w=60,"daily";q=9999;w=86400'}, 30),
        ({"x-ratelimit-reset-tokens-minute": "12.5", "x-ratelimit-remaining-tokens-minute": "0"}, 12.5),
    ],
)
def test_a_wait_in_a_header_is_read(headers, seconds):
    assert wait(headers) == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (google("42s"), 42),
        (google("1.5s"), 1.5),
        (google("20.044661790s"), 20.04466179),
        ([google("42s")], 42),
        (google({"seconds": 42, "nanos": 0}), 42),
        ({"error": {"message": json.dumps(google("42s")), "code": 429}}, 42),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps(google("42s"))}}}, 42),
        ({"error": {"message": "no", "metadata": {"headers": {"X-RateLimit-Reset": f"{(NOW + 42) * 1000:.0f}"}}}}, 42),
        ({"error": {"message": "no", "metadata": {"headers": {"Retry-After": 42}}}}, 42),
        ({"message": "slow down", "retry_after": 42}, 42),
        ({"error": {"retryAfter": "42"}}, 42),
        ({"error": {"retry_after_ms": 350}}, 0.35),
        ({"error": {"resets_in_seconds": 42}}, 42),
        ({"error": {"resets_at": int(NOW) + 42}}, 42),
        ({"error": {"reset_at": rfc3339(42)}}, 42),
    ],
)
def test_a_wait_in_a_member_of_the_body_is_read(body, seconds):
    assert wait(body=body) == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Limit 3, Used 3, Requested 1. Please try again in 16.2s. Visit our page.", 16.2),
        ("Please try again in 6m0s.", 360),
        ("Please try again in 350ms.", 0.35),
        ("Please try again in 7m12.3s. Need more?", 432.3),
        ("Please retry in 20.04466179s.", 20.04466179),
        ("Please retry after 20 seconds. Go to our page for more.", 20),
        ("Retry after 55 seconds", 55),
        ("Please wait 12 seconds before trying again", 12),
        ("Please wait for 2 minutes.", 120),
        ("try again in 1 hour", 3600),
        ("Try again in 1 hour 30 minutes", 5400),
        ("try again in about 2 minutes and 5 seconds.", 125),
        ("Request was throttled. Expected available in 30 seconds.", 30),
        ("Your limit resets in 3 hours.", 10800),
        ("no capacity (reset after 30s)", 30),
        (f"You will regain access on {rfc3339(86400)[:10]} at 08:00 UTC.", None),
    ],
)
def test_a_wait_in_words_is_read(words, seconds):
    for body in (said(words), {"detail": words}, [{"error": {"message": words}}], words.encode()):
        found = wait(body=body)
        assert found is not None
        if seconds is not None:
            assert found == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(
    "words", ["3 requests per 20 seconds are allowed", "try again later", "wait", "Limit: 20 / min"]
)
def test_words_without_a_wait_give_none(words):
    assert wait(body=said(words)) is None


def test_the_latest_of_several_waits_counts():
    assert wait({"retry-after": "1"}, google("42s")) == 42
    assert wait({"retry-after": "17"}, said("Please try again in 16.2s.")) == 17
    assert wait({"retry-after": "7"}, said("Please retry after 86400 seconds.")) == 86400


def test_limits_tell_the_wait_only_where_none_is_named():
    full_in = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "42s"}
    assert wait({**full_in, "retry-after": "1"}) == 1
    assert wait(full_in) == 42


def test_the_limit_that_is_used_up_tells_the_wait():
    requests = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14000",
        "x-ratelimit-reset-requests": "1h0m0s",
    }
    tokens = {
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "120",
        "x-ratelimit-reset-tokens": "7.66s",
    }
    assert wait({**requests, **tokens}) == pytest.approx(7.66)
    assert wait({**requests, **tokens, "x-ratelimit-remaining-requests": "0"}) == 3600
    assert wait(requests) is None


AZURE = {"x-ratelimit-limit-requests": "120", "x-ratelimit-remaining-requests": "119"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({**AZURE, "x-ratelimit-reset-requests": "500", "x-ratelimit-renewalperiod-requests": "60"}, 0.5),
        ({**AZURE, "x-ratelimit-reset-requests": "500"}, 0.5),
        ({**AZURE, "x-ratelimit-reset-requests": "45", "x-ratelimit-renewalperiod-requests": "60"}, 45),
        ({**AZURE, "x-ratelimit-reset-requests": "30000", "x-ratelimit-renewalperiod-requests": "60"}, 30),
        ({**AZURE, "x-ratelimit-reset-requests": "30000", "x-ratelimit-renewalperiod-requests": "86400"}, 30000),
        ({**AZURE, "x-ratelimit-reset-requests": "400", "x-ratelimit-renewalperiod-requests": "1"}, 0.4),
        ({**AZURE, "x-ratelimit-reset-requests": "1", "x-ratelimit-renewalperiod-requests": "60"}, 1),
        (
            {
                "x-ratelimit-limit-requests": "1000",
                "x-ratelimit-remaining-requests": "900",
                "x-ratelimit-reset-requests": "3000",
            },
            3000,
        ),
        ({"x-ratelimit-reset-requests": "500"}, 500),
        ({**AZURE, "x-ratelimit-reset-requests": "500ms"}, 0.5),
        ({"ratelimit-limit": "120, 120;w=60", "ratelimit-remaining": "119", "ratelimit-reset": "500"}, 0.5),
    ],
)
def test_a_bare_number_has_the_unit_that_fits_limit_remaining_and_period(headers, seconds):
    limits = rate_limits_from(headers, NOW)
    assert limits is not None
    assert limits.reset_requests_s == pytest.approx(seconds)


def test_a_refusal_gives_the_same_limits_as_a_success():
    headers = {**AZURE, "x-ratelimit-reset-requests": "500", "x-ratelimit-limit-tokens": "6000", "server": "x"}
    for status in (400, 429, 503):
        assert refused(headers, status=status).rate_limits == rate_limits_from(headers, NOW) != None  # noqa: E711 (chained)
    assert refused({"server": "x"}).rate_limits is None


def test_limits_in_the_body_of_a_gateway_are_read():
    headers = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{(NOW + 42) * 1000:.0f}"}
    error = refused({}, {"error": {"message": "free-models-per-min", "code": 429, "metadata": {"headers": headers}}})
    assert error.rate_limits == RateLimits(limit_requests=20, remaining_requests=0, reset_requests_s=42.0)
    assert error.retry_after_s == 42


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, (100, 50, 5, None, None, None)),
        ({"ratelimit": '"a";r=50;t=5', "ratelimit-policy": '"a";q=100;w=60'}, (100, 50, 5, None, None, None)),
        (
            {"ratelimit": '"a";r=50;t=5, "b";r=1;t=9', "ratelimit-policy": '"a";q=100;w=60, "b";q=500;qu="tokens"'},
            (100, 50, 5, 500, 1, 9),
        ),
        (
            {"ratelimit": '"a";r=50;t=5, "b";r=1;t=9', "ratelimit-policy": '"a";q=100, "b";q=500'},
            (500, 1, 9) + (None,) * 3,
        ),
        (
            {"x-ratelimit-limit-req-minute": "30", "x-ratelimit-remaining-req-minute": "29"},
            (30, 29, None) + (None,) * 3,
        ),
        (
            {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"},
            (None,) * 5 + (0,),
        ),
    ],
)
def test_the_forms_of_limits(headers, limits):
    found = rate_limits_from(headers, NOW)
    assert found is not None
    assert (
        found.limit_requests,
        found.remaining_requests,
        found.reset_requests_s,
        found.limit_tokens,
        found.remaining_tokens,
        found.reset_tokens_s,
    ) == limits


HOSTILE = [
    "", "0", "-1", "-20s", "nan", "inf", "-inf", "1e400", "soon", "9" * 400, "99999999999d",
    "Fri, 31 Dec 100000 23:59:59 GMT", "100000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1\u0663", "0x10", "1_000",
    "\x00", "1s" * 5000, "d" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_a_wait_that_makes_no_sense_is_none(value):
    names = ("retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-requests", "ratelimit-reset")
    assert wait(dict.fromkeys(names, value)) is None
    assert wait({"ratelimit": f"limit=1, remaining=0, reset={value}"}) is None
    body = {
        "retry_after": value,
        "error": {"details": [{"retryDelay": value}], "metadata": {"headers": {"retry-after": value}}},
    }
    assert wait(body=body) is None


@pytest.mark.parametrize("value", [True, False, None, [], {}, {"seconds": None}, -3, 0, 1e400, float("nan"), [[[[]]]]])
def test_a_member_that_is_no_wait_is_none(value):
    assert retry_after_s({}, ErrorBody({"retry_after": value, "resets_at": value}), None, NOW) is None


def test_dates_in_the_past_are_none():
    assert wait({"retry-after": http_date(-60)}) is None
    assert wait({"x-ratelimit-reset": f"{NOW - 60:.0f}"}) is None


PIECES = [
    "try again in ",
    "1h",
    "1 hour and ",
    "wait ",
    "again ",
    "in ",
    "1",
    "s",
    ".",
    ", ",
    "-",
    "retry after 5 ",
    "{",
    "\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.text(max_size=40))
def test_any_words_and_headers_give_a_wait_that_makes_sense_or_none(words, value):
    found = wait(dict.fromkeys(("retry-after", "ratelimit", "x-ratelimit-reset"), value), said(words))
    assert found is None or 0 < found < MAX_WAIT_S


@pytest.mark.parametrize("piece", [*PIECES, "1h ", "1 hour, ", "again in 1h1h1h1h", "2026-01-01 ", '{"a":', "["])
def test_words_of_any_length_take_bounded_work(piece):
    """Fifty times the length is not much more than fifty times the work: nothing is quadratic."""
    short, long = (json.dumps(said(piece * (length // len(piece)))).encode() for length in (40_000, 2_000_000))
    assert times_as_much_cpu(lambda: wait(body=long), lambda: wait(body=short)) < 150


def test_a_huge_body_of_an_error_inside_a_200_is_walked_within_bounds():
    from aichat_magic.http.errors import reported_error

    content = {"code": 429, "message": "x" * 10_000_000, "details": [{"retryDelay": "42s"}] * 100_000}
    error = reported_error(content, provider="p", has_text=False, wall_clock=lambda: NOW)
    assert isinstance(error, errors.RateLimitError)
    assert error.retry_after_s == 42
