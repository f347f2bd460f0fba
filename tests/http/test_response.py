"""HTTP/1.1 as bytes: responses that are read, responses that are refused, and a comparison with h11."""

from __future__ import annotations

import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.http.request import request_bytes
from aichat_magic.http.response import (
    MAX_HEAD_BYTES,
    InvalidResponseError,
    NoResponseError,
    ResponseReader,
    TruncatedResponseError,
)

OK = b"HTTP/1.1 200 OK\r\n"


def read(data, size=1 << 20, *, is_closed=True):
    """Return status, headers and body of a response in pieces of `size`, and whether another one can follow."""
    reader = ResponseReader()
    waiting = [data[i : i + size] for i in range(0, len(data), size)]

    def more():
        if waiting:
            reader.feed(waiting.pop(0))
        elif is_closed:
            reader.close()
        else:
            raise AssertionError("it wants more than there is")

    while (head := reader.read_head()) is None:
        more()
    body = b""
    while piece := (found := reader.read_body()) or found is None:
        body += found or b""
        if piece is True:
            more()
    return head.status, head.headers, body, reader.is_reusable


# --- what is sent


def test_a_request_is_worded_line_by_line():
    sent = request_bytes(b"POST", b"/v1/x?y=1", [(b"host", b"a:1"), (b"content-length", b"2")], b"{}")
    assert sent == b"POST /v1/x?y=1 HTTP/1.1\r\nhost: a:1\r\ncontent-length: 2\r\n\r\n{}"


# --- what comes back


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b'Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x="y"\r\nllo\r\n0\r\n\r\n',
        b"transfer-encoding: chunked \r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
        b"content-length:5 \r\n\r\nhello",
    ],
)
def test_a_body_is_the_same_however_it_is_framed_and_cut(rest, size):
    status, _, body, is_reusable = read(OK + rest, size, is_closed=False)
    assert (status, body, is_reusable) == (200, b"hello", True)


@pytest.mark.parametrize("size", [1, 1000])
def test_a_body_without_a_length_ends_with_the_connection(size):
    assert read(OK + b"x: y\r\n\r\nhello", size)[2:] == (b"hello", False)


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status):
    assert read(b"HTTP/1.1 %d x\r\n\r\n" % status, is_closed=False) == (status, {}, b"", True)


def test_interim_responses_are_passed_over():
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 0\r\n\r\n"
    )
    assert read(data, 5, is_closed=False) == (200, {"content-length": "0"}, b"", True)


def test_names_are_lower_case_and_values_stripped_and_joined():
    headers = read(OK + b"X-A: \t b c \t\r\nx-b:\r\nx-a: d\xe9\r\ncontent-length: 0\r\n\r\n", is_closed=False)[1]
    assert headers == {"x-a": "b c, d\xe9", "x-b": "", "content-length": "0"}


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        OK + b"content-length: 0\r\nConnection: x, Close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n",
        OK + b"content-length: 0\r\n\r\nHTTP/1.1 ",
        OK + b"content-length: 0\r\n\r\n" + OK + b"content-length: 6\r\n\r\nforged",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + OK + b"content-length: 6\r\n\r\nforged",
        OK + b"content-length: 0\r\n\r\n{}",
        b"HTTP/1.1 204 x\r\n\r\nbody",
    ],
    ids=["1.0", "close", "1.0 kept", "beginning", "second", "second after chunks", "garbage", "204 with a body"],
)
def test_a_connection_that_may_not_be_used_again_is_not(data):
    status, _, body, is_reusable = read(data, is_closed=False)
    assert status in (200, 204)
    assert (body, is_reusable) == (b"", False)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_bytes_after_a_response_are_no_part_of_it_nor_of_the_next(size):
    reader = ResponseReader()
    data = OK + b"content-length: 5\r\n\r\nhello" + OK + b"content-length: 6\r\n\r\nforged"
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    body = b""
    while piece := reader.read_body():
        body += piece
    assert (reader.read_head().headers, body) == ({"content-length": "5"}, b"hello")
    assert reader.read_body() == b""
    assert not reader.is_reusable


def test_one_response_follows_the_other():
    reader = ResponseReader()
    for word in (b"one", b"two"):
        assert reader.is_clean
        reader.feed(OK + b"content-length: 3\r\n\r\n" + word)
        assert reader.read_head() is not None
        assert reader.read_body() == word
        assert reader.read_body() == b""
        assert reader.is_reusable
        reader.reset()
    reader.feed(b"unasked")
    assert not reader.is_clean


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"ICE/1.1 200 OK\r\n\r\n",
        b"\r\n" + OK + b"content-length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 \x01\r\ncontent-length: 0\r\n\r\n",
        OK + b"content-length: 5\n\nhello",
        OK + b"content-length: 5, 5\r\n\r\nhello",
        OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 5\r\n\r\n",
        b"<html>",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"a b: c\r\n\r\n",
        OK + b"a : c\r\n\r\n",
        OK + b"a: b\r\n folded\r\n\r\n",
        OK + b"a: b\rc\r\n\r\n",
        OK + b"a: \0\r\n\r\n",
        OK + b": b\r\n\r\n",
        OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        OK + b"content-length: 5, 6\r\n\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: +1\r\n\r\n",
        OK + b"content-length:\r\n\r\n",
        OK + b"content-length: " + b"9" * 30 + b"\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\n",
        OK + b"transfer-encoding: chunked, gzip\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nx\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\n",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhello\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5;" + b"x" * 80_000,
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000,
        OK + b"a: b\r\n" * 20_000,
        OK + b"a: b\r\n" * 101 + b"content-length: 0\r\n\r\n",
        OK + b"a: " + b"b" * 66_000 + b"\r\ncontent-length: 0\r\n\r\n",
        OK + b"a: " + b"b" * 66_000,
        OK + b"a" * 66_000,
        b"HTTP/1.1 200 " + b"b" * 66_000,
        OK[:-4] + b"\r\n" + b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
    ids=range(48),
)
def test_what_can_be_read_in_two_ways_is_refused(data):
    for size in (7, 1 << 20):
        with pytest.raises(InvalidResponseError):
            read(data, size)


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a: " + b"b" * 200 + b"\r\n", b"x" * 10, b"x: y"])
@pytest.mark.parametrize("size", [1, 7, 100, 60_000])
def test_trailers_are_read_up_to_a_bound_however_they_are_cut(line, size):
    """20,000 lines in small pieces once took 90 s of CPU, because each piece had all of them parsed again."""
    reader = ResponseReader()
    reader.feed(OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    assert reader.read_head().status == 200
    assert reader.read_body() == b"x"
    trailers = line * 20_000
    taken = 0

    def goes_on():
        nonlocal taken
        taken += size
        reader.feed(trailers[taken - size : taken])
        return reader.read_body() is None

    with pytest.raises(InvalidResponseError):
        all(goes_on() for _ in trailers)
    lines = 101 * len(line) if line.endswith(b"\n") else MAX_HEAD_BYTES
    assert taken <= min(lines, MAX_HEAD_BYTES) + 10 + size


def test_a_chunk_line_may_not_grow_without_an_end():
    """Many chunk lines that are much longer than their chunks are refused, too."""
    reader = ResponseReader()
    reader.feed(OK + b"transfer-encoding: chunked\r\n\r\n")
    chunk = b"1;" + b"x" * 1_000 + b"\r\nx\r\n"

    def fed():
        for number in range(1_000):
            reader.feed(chunk)
            assert reader.read_body() == b"x", number

    with pytest.raises(InvalidResponseError):
        fed()


def test_a_body_of_many_small_chunks_is_read():
    body = b"1\r\nx\r\n" * 300_000
    data = OK + b"transfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    assert read(data, 1_000, is_closed=False)[2:] == (b"x" * 300_000, True)


def test_a_few_trailers_are_passed_over():
    data = OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"name: value\r\n" * 50 + b"\r\n"
    assert read(data, 1, is_closed=False)[2:] == (b"x", True)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", NoResponseError),
        (b"HTTP/1.1 100 Continue\r\n\r\n", NoResponseError),
        (b"HTT", TruncatedResponseError),
        (OK + b"content-le", TruncatedResponseError),
        (OK + b"content-length: 5\r\n\r\nhell", TruncatedResponseError),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello", TruncatedResponseError),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", TruncatedResponseError),
    ],
)
def test_what_breaks_off_is_never_a_short_answer(data, kind):
    with pytest.raises(kind) as caught:
        read(data)
    assert type(caught.value) is kind


# --- h11 reads the same


def by_h11(data):
    """Return status, headers and body as h11 reads them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    with contextlib.suppress(RuntimeError):
        client.receive_data(b"")
    status, headers, body = 0, {}, b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            status, headers = event.status_code, {}
            for name, value in event.headers:
                key, text = name.decode("latin-1"), value.decode("latin-1")
                headers[key] = f"{headers[key]}, {text}" if key in headers else text
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, headers, body
        elif not isinstance(event, h11.InformationalResponse):
            raise AssertionError(event)


def in_chunks(pieces):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


names = st.from_regex(rb"\A[a-zA-Z0-9-]{1,12}\Z").filter(
    lambda name: name.lower() not in (b"content-length", b"transfer-encoding", b"connection")
)
values = st.from_regex(rb"\A[!-~\xa0-\xff]([ -~]{0,20}[!-~])?\Z")
bodies = st.lists(st.binary(max_size=40), max_size=5)


@st.composite
def responses(draw):
    lines = [b"HTTP/1.%d %d %b" % (draw(st.integers(0, 1)), draw(st.sampled_from([200, 201, 204, 404, 500])), b"Why")]
    lines += [name + b": " + value for name, value in draw(st.lists(st.tuples(names, values), max_size=4))]
    pieces = draw(bodies)
    framing = draw(st.sampled_from(["length", "chunked", "open"]))
    if lines[0][9:12] == b"204":
        return b"\r\n".join([*lines, b"", b""])
    if framing == "chunked":
        return b"\r\n".join([*lines, b"transfer-encoding: chunked", b"", in_chunks(pieces)])
    body = b"".join(pieces)
    if framing == "length":
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


@given(responses(), st.integers(1, 50))
def test_h11_reads_the_same(data, size):
    assert read(data, size)[:3] == by_h11(data)


@given(responses(), st.data())
def test_whatever_is_accepted_h11_reads_the_same(data, draw):
    at = draw.draw(st.integers(0, len(data)))
    length = draw.draw(st.integers(0, 2))
    other = draw.draw(
        st.one_of(st.binary(max_size=3), st.sampled_from([b"\r", b"\n", b"\r\n", b":", b" ", b"0", b";"]))
    )
    damaged = data[:at] + other + data[at + length :]
    try:
        found = read(damaged)[:3]
    except (InvalidResponseError, TruncatedResponseError):
        return
    assert found == by_h11(damaged)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_any_bytes_are_read_or_refused(data, size):
    for opening in (b"", OK, OK + b"transfer-encoding: chunked\r\n\r\n"):
        with contextlib.suppress(InvalidResponseError, TruncatedResponseError):
            read(opening + data, size)
