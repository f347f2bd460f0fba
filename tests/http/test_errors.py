"""Error mapping: statuses, Retry-After and bodies of failed responses."""

from __future__ import annotations

import datetime
import json
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core import errors
from aichat_magic.http.error_bodies import ErrorBody
from aichat_magic.http.errors import parse_json, reported_error, status_error
from aichat_magic.http.waits import retry_after_s

NOW = 1_800_000_000.0


def asked(**headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return retry_after_s(headers, ErrorBody(), None, NOW)


def http_date(seconds):
    moment = datetime.datetime.fromtimestamp(NOW + seconds, datetime.UTC)
    return format_datetime(moment, usegmt=True)


def failed(status, body="", headers=None):
    data = body.encode() if isinstance(body, str) else body
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else data
    return status_error(status, headers or {}, data, provider="openai", wall_clock=lambda: NOW)


def test_seconds_milliseconds_and_dates_are_read():
    assert asked(retry_after="2") == 2
    assert asked(retry_after="1.5") == 1.5
    assert asked(retry_after_ms="250") == 0.25
    assert asked(retry_after_ms="250", retry_after="2") == 0.25
    assert asked(retry_after_ms="nan", retry_after="2") == 2
    assert asked(retry_after=http_date(7)) == 7


@pytest.mark.parametrize(
    "value",
    ["", "0", "-10", "nan", "inf", "-inf", "1e400", "soon", "Fri, 31 Dec 100000 23:59:59 GMT", "Fri, 99 Foo 2026"],
)
def test_a_wait_that_makes_no_sense_is_none(value):
    assert asked(retry_after=value) is None


def test_a_date_in_the_past_is_none():
    assert asked(retry_after=http_date(-60)) is None


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,7} \d\d:\d\d:\d\d \S{0,5}"))
def test_any_header_gives_a_positive_number_or_none(value):
    wait_s = asked(retry_after=value, retry_after_ms=value)
    assert wait_s is None or 0 < wait_s < float("inf")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.QuotaError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (405, errors.BadRequestError),
        (408, errors.ServerError),
        (409, errors.ServerError),
        (413, errors.BadRequestError),
        (422, errors.BadRequestError),
        (425, errors.ServerError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (529, errors.ServerError),
    ],
)
def test_each_status_has_its_error(status, kind):
    error = failed(status, {"error": {"message": "x"}})
    assert type(error) is kind
    assert error.status == status
    assert error.provider == "openai"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "the words", "type": "t", "code": None}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "the words"}},
        {"error": "the words"},
        {"object": "error", "message": "the words", "code": 404},
        {"detail": "the words"},
        {"detail": [{"loc": ["body"], "msg": "the words"}]},
        [{"error": {"code": 400, "message": "the words", "status": "INVALID_ARGUMENT"}}],
        "the words",
        b"\xef\xbb\xbf" + b'{"error": "the words"}',
    ],
)
def test_the_servers_own_words_are_in_the_error(body):
    assert str(failed(400, body)) == "openai refused the request (400): the words."


def test_an_error_says_what_to_do():
    assert str(failed(401, {"error": "bad key"})) == (
        "openai refused the key (401): bad key. Check the key of provider 'openai'."
    )


def test_an_html_page_becomes_a_short_note():
    error = failed(502, "<!DOCTYPE html><html><head><title>Bad\n gateway</title>" + "x" * 10_000)
    assert 'an HTML page ("Bad gateway")' in str(error)
    assert len(str(error)) < 150


def test_words_are_one_printable_line_of_limited_length():
    error = failed(500, {"error": "a\x1b[31m\n\u202eb" + "c" * 10_000})
    assert str(error).isprintable()
    assert len(str(error)) < 450


@pytest.mark.parametrize("body", ["[" * 100_000, '{"error": ' + "9" * 5000 + "}", b"\xff\xfe", "null", "[]", "{}"])
def test_a_hostile_error_body_is_no_failure_of_ours(body):
    assert isinstance(failed(500, body), errors.ServerError)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "You exceeded ...", "type": "insufficient_quota", "code": "insufficient_quota"}}),
        (429, {"error": {"message": "x", "code": "billing_hard_limit_reached"}}),
        (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access"}}),
        (402, {"error": {"message": "Insufficient Balance"}}),
    ],
)
def test_an_exhausted_account_is_a_quota_error(status, body):
    error = failed(status, body)
    assert type(error) is errors.QuotaError
    assert not error.is_retryable


def test_a_minute_that_is_used_up_is_none():
    body = [{"error": {"code": 429, "message": "You exceeded your current quota, check your plan and billing."}}]
    assert type(failed(429, body, {"retry-after": "3"})) is errors.RateLimitError
    assert failed(429, body, {"retry-after": "3"}).retry_after_s == 3


MEMBERS = st.sampled_from(
    [
        "error", "message", "detail", "msg", "code", "type", "status", "param", "loc", "raw", "metadata", "headers",
        "details", "retryDelay", "retry_after", "quotaId", "@type", "provider_name", "n_ctx", "seconds", "reasons", "é",
    ]
)  # fmt: skip
WORDS = ["42s", "extra_forbidden", "429", "body", '{"error": ["x"]}', "try again in 5s", "type.googleapis.com/x"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS)
BODIES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MEMBERS, inner, max_size=5), max_leaves=25
)


@given(BODIES, st.sampled_from([400, 402, 403, 413, 418, 422, 429, 498, 500, 503, 529]), st.booleans())
def test_any_body_gives_a_typed_error_of_one_line(value, status, has_text):
    made = failed(status, json.dumps(value))
    reported = reported_error(value, provider="p", has_text=has_text, wall_clock=lambda: NOW)
    for error in (made, reported):
        assert isinstance(error, (errors.StatusError, errors.StreamError))
        assert str(error).isprintable()
        assert len(str(error)) < 500
        assert error.retry_after_s is None or 0 < error.retry_after_s < 366 * 86400
    assert made.status == status


@given(st.binary(max_size=300))
def test_any_bytes_give_a_typed_error(body):
    assert isinstance(failed(429, body), errors.StatusError)


def test_good_json_is_read():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, "\\ud83d\\ude00"]}') == {"a": [1, 2.5, "😀"]}


@pytest.mark.parametrize("data", [b' {"a": 1}', b'\xef\xbb\xbf\r\n{"a": 1}', b'{"a": 1}\n\n', b'\t{"a": 1} '])
def test_white_space_around_json_is_no_part_of_it(data):
    assert parse_json(data) == {"a": 1}


@pytest.mark.parametrize(
    "data", [b'{"a": 1}x', b'{"a": 1} {"b": 2}', b'{"a": 1}\xc2\xa0', b' {"a": 1}]', b"1 2", b"", b" "]
)
def test_anything_else_around_json_is_malformed(data):
    with pytest.raises(errors.MalformedReplyError):
        parse_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\xff"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b"",
        b"not json",
        b'{"a": 1',
        b"<html><title>Login</title>",
    ],
)
def test_hostile_json_is_a_typed_error(data):
    with pytest.raises(errors.MalformedReplyError) as caught:
        parse_json(data, "openai")
    assert len(str(caught.value)) < 250
    assert caught.value.__context__ is None


@pytest.mark.parametrize("data", [b'{"a": 1', b'{"a": "text', b'{"a": "\xc3', b"", b'{"a": tru'])
def test_json_that_breaks_off_is_incomplete_when_its_length_was_not_said(data):
    with pytest.raises(errors.IncompleteReplyError):
        parse_json(data, "openai", is_framed=False)
