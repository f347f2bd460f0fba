"""The HTTP client, against a loopback server that misbehaves in all kinds of ways."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import importlib
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import traceback
import warnings
import zlib

import httpx
import pytest
import respx
import trustme
from effort import PATIENCE_S
from needs import needs
from servers import (
    Answer,
    ChatServer,
    bomb,
    chunked,
    chunks,
    completion,
    cut,
    drip,
    echo,
    event_stream,
    gzipped,
    hang,
    head,
    payload,
    raw,
    reset,
    short_body,
    sse,
    status,
    text,
)
from simulation import in_virtual_time

from aichat_magic.core import errors
from aichat_magic.core.installation import install_command
from aichat_magic.core.secrets import Secret
from aichat_magic.http.client import Auth, Cookie, HttpClient, HttpRequest, ServerSentEvent

pytestmark = pytest.mark.anyio
KEY = "sk-canary-0123456789"


@pytest.fixture(params=[True, False], ids=["direct", "httpx"])
def http(request):
    """Return a client over our own connections and one over httpx; neither reads the environment."""
    return HttpClient(is_direct=request.param, environ={})


@pytest.fixture
def plain():
    """Return a client over httpx."""
    return HttpClient(is_direct=False, environ={})


def chat(server, prompt="hello", *, stream=False, **changes):
    body = {"messages": [{"role": "user", "content": prompt}], "stream": stream}
    fields = {
        "provider": "openai",
        "url": (server if isinstance(server, str) else server.url) + "/chat/completions",
        "body": json.dumps(body).encode(),
        "auth": Auth(header="authorization", prefix="Bearer ", secret=Secret(KEY)),
        "timeout_s": PATIENCE_S,
    }
    return HttpRequest(**fields | changes)


async def ask(http, server, prompt="hello", **changes):
    response = await http.send(chat(server, prompt, **changes))
    return response.json()["choices"][0]["message"]["content"]


async def stream(http, server, prompt="hello", **changes):
    async with contextlib.aclosing(http.events(chat(server, prompt, stream=True, **changes))) as events:
        return [event.data async for event in events]


async def failure(awaitable, kind):
    """Return the error, and check that it has one line, no key and no exception of httpx behind it."""
    with pytest.raises(kind) as caught:
        await awaitable
    error = caught.value
    assert type(error) is kind
    assert "\n" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    ours = shown[shown.index("aichat_magic") :]
    assert KEY not in ours
    return error


def only(answer):
    return lambda received, attempt: answer


# --- requests


async def test_a_request_arrives_as_worded(http):
    with ChatServer() as server:
        request = chat(server, headers=(("x-plain", "1"), ("User-Agent", "mine")))
        response = await http.send(request)
        received = server.requests[0]
    assert response.status == 200
    assert response.json()["choices"][0]["message"]["content"] == "echo: hello"
    assert received.method == "POST"
    assert received.body == request.body
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-plain"] == "1"
    assert received.headers["user-agent"] == "mine"
    assert "cookie" not in received.headers


async def test_a_request_without_a_body_is_a_get(http):
    with ChatServer() as server:
        response = await http.send(HttpRequest(provider="openai", url=server.url + "/models"))
        assert server.requests[0].method == "GET"
    assert response.json()["data"][0]["id"] == "test-model"


async def test_two_requests_and_a_stream_share_one_connection(http):
    with ChatServer() as server:
        await ask(http, server, "one")
        await stream(http, server, "two")
        await ask(http, server, "three")
        assert server.connections == 1


async def test_a_stream_left_at_its_last_event_gives_its_connection_back(http):
    with ChatServer() as server:
        async with contextlib.aclosing(http.events(chat(server, stream=True))) as events:
            async for event in events:
                if event.data == "[DONE]":
                    break
        await ask(http, server)
        assert server.connections == 1


async def test_an_idle_connection_closed_by_the_server_is_replaced(http):
    with ChatServer() as server:
        await ask(http, server, "one")
        await ask(http, server, "two")
        assert server.connections == 1
        server.close_idle()
        assert await ask(http, server, "three") == "echo: three"
        assert server.connections == 2


async def test_many_at_once_open_as_many_connections_and_no_more(http):
    with ChatServer(only(text("x", delay_s=0.02))) as server:
        waiting = iter(range(200))

        async def worker():
            for number in waiting:
                await ask(http, server, str(number))

        await asyncio.gather(*(worker() for _ in range(10)))
        assert len(server.requests) == 200
        assert server.connections == 10


async def test_an_error_does_not_cost_the_connection(http):
    with ChatServer(only(status(500))) as server:
        for _ in range(3):
            await failure(http.send(chat(server)), errors.ServerError)
        assert server.connections == 1


async def test_closing_closes_the_connections_and_the_next_request_opens_new_ones(http):
    with ChatServer() as server:
        await ask(http, server)
        await http.aclose()
        assert server.wait_until(lambda s: s.open_connections == 0)
        assert await ask(http, server) == "echo: hello"
        assert server.connections == 2


# --- loops and processes


@pytest.mark.parametrize("is_direct", [True, False])
def test_the_end_of_a_loop_closes_its_connections(is_direct, anyio_backend):
    http = HttpClient(is_direct=is_direct, environ={})
    with ChatServer() as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            asyncio.run(ask(http, server, str(number)))
            gc.collect()
            assert server.wait_until(lambda s: s.open_connections == 0)
        assert server.connections == 3


@needs("uvloop")
@pytest.mark.parametrize("is_secure", [False, True])
def test_a_loop_of_another_make_carries_requests_too(is_secure, tls_context, authority, tmp_path, anyio_backend):
    import uvloop

    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)

    async def main(server):
        async with contextlib.aclosing(HttpClient(environ={"SSL_CERT_FILE": str(path)})) as http:
            assert await ask(http, server, "one") == "echo: one"
            assert await stream(http, server, "two")
            assert server.connections == 1

    with ChatServer(tls_context=tls_context if is_secure else None) as server:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(server))
        assert server.wait_until(lambda s: s.open_connections == 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
async def test_a_child_process_leaves_its_parents_connections_alone(plain, monkeypatch):
    with ChatServer() as server:
        await ask(plain, server, "parent")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        await ask(plain, server, "child")
        assert server.connections == 2
        assert server.open_connections == 2


async def test_nothing_is_left_when_a_stream_is_abandoned(http):
    before = asyncio.all_tasks()
    with ChatServer(only(chunks(["a"] * 1000, delay_s=0.02))) as server:
        async with contextlib.aclosing(http.events(chat(server, stream=True))) as events:
            async for _ in events:
                break
        assert asyncio.all_tasks() == before
        assert server.wait_until(lambda s: s.open_connections == 0)
        assert server.closed_early == 1


@pytest.mark.parametrize("answer", [hang(), chunks(["a"] * 1000, delay_s=0.02), drip()])
async def test_a_cancel_passes_through_and_closes_the_connection(http, answer):
    with ChatServer(only(answer)) as server:
        task = asyncio.create_task(stream(http, server))
        await asyncio.to_thread(server.wait_until, lambda s: s.in_flight == 1)
        await asyncio.sleep(0.1)  # mostly, the body has begun
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.wait_until(lambda s: s.open_connections == 0 and s.in_flight == 0)
        assert server.closed_early == 1  # before the server was done


async def test_a_cancel_inside_a_tls_handshake_is_a_cancel_and_leaves_no_socket(http):
    with ChatServer() as server:  # it waits for the end of headers that never come
        task = asyncio.create_task(http.send(chat(server.url.replace("http:", "https:"))))
        await asyncio.to_thread(server.wait_until, lambda s: s.connections == 1)
        await asyncio.sleep(0.1)  # mostly, the handshake has begun
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.wait_until, lambda s: s.open_connections == 0)


# --- time


@pytest.mark.slow
@pytest.mark.parametrize("answer", [hang(), drip(), drip(stream=True)], ids=["hang", "drip", "stream"])
@pytest.mark.parametrize("how", [ask, stream])
async def test_the_total_deadline_holds(http, answer, how):
    with ChatServer(only(answer)) as server:  # it never comes to an end
        error = await failure(how(http, server, timeout_s=0.7), errors.DeadlineError)
        assert "0.7 s" in str(error)
        assert "127.0.0.1" in str(error)
        assert server.wait_until(lambda s: s.open_connections == 0)
        assert server.closed_early == 1


class Slow(httpx.AsyncBaseTransport, httpx.AsyncByteStream):
    """A transport without a network that never answers, or sends a byte every 0.1 s."""

    def __init__(self, kind):
        self.kind = kind

    async def handle_async_request(self, request):
        if self.kind is None:
            await asyncio.Event().wait()
        return httpx.Response(200, headers={"content-type": self.kind}, stream=self)

    async def __aiter__(self):
        while True:
            yield b":"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", [None, "application/json", "text/event-stream"], ids=["hang", "drip", "stream"])
@pytest.mark.parametrize("how", [ask, stream])
@pytest.mark.parametrize("changes", [{}, {"idle_timeout_s": 0.3}], ids=["total", "with an idle time"])
def test_the_total_deadline_comes_at_its_time(how, kind, changes, anyio_backend):
    """Not before it and not after it, by the clock of the loop."""

    async def main(clock):
        http = HttpClient(mock=Slow(kind), environ={})
        begin = clock()
        await failure(how(http, "http://api.example/v1", timeout_s=0.75, **changes), errors.DeadlineError)
        return clock() - begin

    assert in_virtual_time(main) == pytest.approx(0.75)


async def test_a_silence_inside_a_stream_ends_it(http):
    with ChatServer(only(chunks(["a", "b"], delay_s=3600))) as server:
        error = await failure(stream(http, server, idle_timeout_s=0.3), errors.DeadlineError)
    assert "silent for 0.3 s" in str(error)


async def test_a_model_may_think_longer_than_the_idle_time(http):
    with ChatServer(only(text("done", delay_s=0.5))) as server:
        assert await ask(http, server, idle_timeout_s=0.1) == "done"


async def test_a_large_request_that_is_refused_before_it_has_arrived_says_why(http):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge")
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        done.set()

    done = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        error = await failure(http.send(chat(url, body=b"x" * 20_000_000)), errors.BadRequestError)
        await http.aclose()
        await done.wait()
    assert "large" in str(error)


async def test_a_large_request_arrives_whole(http):
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 5_000_000}]}).encode()
    with ChatServer(only(payload({}))) as server:
        await http.send(chat(server, body=body))
        await http.send(chat(server, body=body))
        assert [received.body == body for received in server.requests] == [True, True]
        assert server.connections == 1


# --- broken connections


async def test_a_closed_port_is_named(http):
    error = await failure(http.send(chat("http://127.0.0.1:1/v1")), errors.NotRunningError)
    assert "http://127.0.0.1:1/v1/chat/completions" in str(error)
    assert "refused" in str(error)
    assert str(error).endswith("Is the server running?")
    assert error.is_retryable


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_server_that_was_not_started_is_named_with_its_command(http, host):
    request = chat(f"http://{host}:1/v1", start="ollama serve")
    error = await failure(http.send(request), errors.NotRunningError)
    assert str(error).endswith("connection refused. Is the server running? Start it with `ollama serve`.")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..invalid", "x" * 70 + ".invalid"])
async def test_an_unknown_host_is_named(http, host):
    error = await failure(http.send(chat(f"http://{host}/v1")), errors.HostNotFoundError)
    assert host in str(error)


@pytest.mark.parametrize("answer", [reset(), raw(b"")], ids=["reset", "hangs up"])
async def test_a_break_before_the_headers_can_be_tried_again(http, answer):
    with ChatServer(lambda received, attempt: answer if attempt == 1 else echo(received, attempt)) as server:
        error = await failure(http.send(chat(server)), errors.ConnectionFailedError)
        assert error.is_retryable
        assert await ask(http, server) == "echo: hello"


@pytest.mark.parametrize(
    "answer",
    [
        short_body(),
        gzipped({"a": "b" * 1000}, missing=4),
        reset(head(200, {"content-type": "application/json", "content-length": "100"}) + b'{"a": '),
        raw(head(200, {"content-type": "application/json", "transfer-encoding": "chunked"}) + chunked(b'{"a"')),
    ],
    ids=["short", "gzip", "reset", "chunked"],
)
async def test_a_body_cut_short_is_never_a_short_answer(http, answer):
    with ChatServer(only(answer)) as server:
        error = await failure(http.send(chat(server)), errors.IncompleteReplyError)
    assert error.is_retryable


@pytest.mark.parametrize("size", [1, 7, 25, 1000])
@pytest.mark.parametrize(
    "parts",
    [['{"text": "You should ', "NOT ", 'delete it."}'], ["", '{"text": "You should NOT', "", "", ' delete it."}', ""]],
    ids=["three", "some empty"],
)
async def test_no_member_of_gzip_is_lost_however_the_body_is_cut(http, parts, size):
    """A proxy that compresses each block separately sends one member after the other."""
    body = b"".join(gzip.compress(part.encode()) for part in parts)
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    answer = raw(
        head(200, {"content-type": "application/json", "content-encoding": "gzip", "transfer-encoding": "chunked"})
        + b"".join(chunked(piece) for piece in pieces)
        + b"0\r\n\r\n"
    )
    with ChatServer(only(answer)) as server:
        assert (await http.send(chat(server))).json() == {"text": "You should NOT delete it."}


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("X-Gzip", gzip.compress),
        ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
        ("identity", bytes),
    ],
    ids=["deflate", "deflate without a frame", "x-gzip", "two", "identity"],
)
async def test_every_usual_coding_is_undone(http, coding, encode):
    with ChatServer(only(payload(encode(b'{"a": 1}'), headers={"content-encoding": coding}))) as server:
        assert (await http.send(chat(server))).json() == {"a": 1}


async def test_garbage_after_a_compressed_body_is_malformed(http):
    body = gzip.compress(b"{}") + b"garbage"
    with ChatServer(only(payload(body, headers={"content-encoding": "gzip"}))) as server:
        error = await failure(http.send(chat(server)), errors.MalformedReplyError)
    assert "not compressed as its header says" in str(error)


async def test_json_cut_at_the_end_of_the_connection_is_incomplete(http):
    answer = raw(head(200, {"content-type": "application/json"}) + b'{"choices": [{"mess')
    with ChatServer(only(answer)) as server:
        await failure(ask(http, server), errors.IncompleteReplyError)


async def test_a_stream_whose_connection_breaks_is_incomplete_after_its_events(http):
    seen = []
    with ChatServer(only(cut(after_chunks=2, abrupt=True))) as server:

        async def read():
            async with contextlib.aclosing(http.events(chat(server, stream=True))) as events:
                async for event in events:
                    seen.append(event.data)

        await failure(read(), errors.IncompleteReplyError)
    assert ["word0" in seen[0], "word1" in seen[1], len(seen)] == [True, True, 2]


async def test_a_stream_that_ends_gently_too_soon_just_ends(http):
    with ChatServer(only(cut(after_chunks=2))) as server:
        assert len(await stream(http, server)) == 2


async def test_what_is_not_http_is_malformed(http):
    with ChatServer(only(raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"))) as server:
        await failure(http.send(chat(server)), errors.MalformedReplyError)


async def answered_three_times_with(surplus, http):
    """Return whether each of three requests gets its own answer from a server that sends more bytes after each."""

    def answer(received, attempt):
        body = json.dumps(completion(received.last_message, received)).encode()
        lines = {"content-type": "application/json", "content-length": str(len(body))}
        return raw(head(200, lines) + body + surplus, close=False)

    with ChatServer(answer) as server:
        return [await ask(http, server, f"number {number}") for number in range(3)] == [
            f"number {number}" for number in range(3)
        ]


async def test_second_answer_to_a_request_is_none_to_the_next(http):
    assert await answered_three_times_with(head(200, {"content-length": "2"}) + b"{}", http)


async def test_what_comes_after_an_answer_does_not_spoil_the_next(plain):
    assert await answered_three_times_with(b"{}", plain)


# --- streams

FRAMES = (
    b"\xef\xbb\xbf: comment\r\n\r\ndata: " + json.dumps({"t": "😀\u2028\u0085é"}, ensure_ascii=False).encode() + b"\r\n"
    b"\r\nevent: x\rdata: {\rdata: }\r\rdata: [DONE]\n\n"
)
EVENTS = [
    ServerSentEvent("", json.dumps({"t": "😀\u2028\u0085é"}, ensure_ascii=False)),
    ServerSentEvent("x", "{\n}"),
    ServerSentEvent("", "[DONE]"),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_events_are_the_same_however_the_bytes_are_cut(http, size):
    pieces = [FRAMES[i : i + size] for i in range(0, len(FRAMES), size)]
    with ChatServer(only(event_stream(pieces))) as server:
        async with contextlib.aclosing(http.events(chat(server, stream=True))) as events:
            assert [event async for event in events] == EVENTS


async def test_events_come_while_the_stream_goes_on(http):
    has_come = threading.Event()

    async def play(exchange):
        opening = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        await exchange.send(opening + chunked(sse("a")))
        await asyncio.to_thread(has_come.wait, PATIENCE_S)
        await exchange.send(chunked(sse("b")) + b"0\r\n\r\n")
        return True

    with ChatServer(only(Answer(play))) as server:
        async with contextlib.aclosing(http.events(chat(server, stream=True))) as events:
            assert (await anext(events)).data == "a"
            has_come.set()
            assert (await anext(events)).data == "b"


async def test_a_server_that_does_not_stream_gives_one_event(http):
    with ChatServer(only(payload({"choices": []}))) as server:
        assert await stream(http, server) == ['{"choices": []}']


@pytest.mark.parametrize("how", [ask, stream])
async def test_an_html_page_is_a_short_error(http, how):
    page = b"<!doctype html><title>Log in</title>" + b"x" * 5000
    with ChatServer(only(payload(page, headers={"content-type": "text/html"}))) as server:
        error = await failure(how(http, server), errors.MalformedReplyError)
    assert 'an HTML page ("Log in")' in str(error)
    assert len(str(error)) < 120


@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\xff"}', b'{"a": NaN}'], ids=range(4)
)
@pytest.mark.parametrize("how", [ask, stream])
async def test_hostile_json_is_a_typed_error(http, how, body):
    with ChatServer(only(payload(body))) as server:
        await failure(how(http, server), errors.MalformedReplyError)


# --- size


# Runs in a process of its own, where nothing but the client takes memory, and prints how much the peak grew.
BOMBED = """
import asyncio, contextlib, resource, sys
from aichat_magic.core import errors
from aichat_magic.http.client import HttpRequest, HttpClient

async def main():
    async with contextlib.aclosing(HttpClient(is_direct={is_direct}, environ={{}})) as http:
        request = HttpRequest(provider="p", url={url!r}, body=b"{{}}", timeout_s=30)
        await http.send(HttpRequest(provider="p", url={url!r}, body=b'{{"warm": 1}}', timeout_s=30))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            if {is_stream}:
                async for _ in http.events(request):
                    pass
            else:
                await http.send(request)
        except errors.TooLargeError as error:
            assert not error.is_retryable
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
@pytest.mark.parametrize("kind", ["gzip", "endless"])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("is_direct", [True, False])
def test_a_bomb_stops_at_the_cap_and_costs_little_memory(kind, is_stream, is_direct):
    with ChatServer(lambda received, attempt: text("hi") if b"warm" in received.body else bomb(kind)) as server:
        code = BOMBED.format(is_direct=is_direct, url=f"{server.url}/chat/completions", is_stream=is_stream)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    assert int(done.stdout) * 1024 < 64 * 2**20


async def test_a_small_cap_is_a_cap(http):
    with ChatServer(only(gzipped({"a": "b" * 1000}))) as server:
        await failure(http.send(chat(server, max_bytes=1000)), errors.TooLargeError)
        assert (await http.send(chat(server, max_bytes=1020))).json() == {"a": "b" * 1000}


async def test_an_endless_error_body_is_read_in_part(http):
    answer = raw(head(500, {"transfer-encoding": "chunked"}) + chunked(b"oh no " * 100_000), close=False)
    with ChatServer(only(answer)) as server:
        error = await failure(http.send(chat(server)), errors.ServerError)
    assert len(str(error)) < 400


async def test_an_encoding_nobody_asked_for_is_refused_and_named(http):
    with ChatServer(only(payload(b"x", headers={"content-encoding": "br"}))) as server:
        error = await failure(http.send(chat(server)), errors.MalformedReplyError)
    assert "'br'" in str(error)


async def test_a_status_says_more_than_an_encoding_that_is_not_known(http):
    answer = payload(b"x", code=401, headers={"content-encoding": "br"})
    with ChatServer(only(answer)) as server:
        await failure(http.send(chat(server)), errors.AuthenticationError)


async def test_a_compressed_body_that_gives_nothing_stops_at_the_cap(http):
    body = gzip.compress(b"") + bytes(1_000_000)
    with ChatServer(only(payload(body, headers={"content-encoding": "gzip"}))) as server:
        await failure(http.send(chat(server, max_bytes=1000)), errors.TooLargeError)


# --- statuses


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (413, errors.BadRequestError),
        (422, errors.BadRequestError),
        (429, errors.RateLimitError),
        (503, errors.ServerError),
    ],
)
@pytest.mark.parametrize("how", [ask, stream])
async def test_a_status_is_one_call_and_one_error(http, how, code, kind):
    with ChatServer(only(status(code, headers={"retry-after": "2"}))) as server:
        error = await failure(how(http, server), kind)
        assert len(server.requests) == 1
    assert (error.status, error.provider, error.retry_after_s) == (code, "openai", 2)
    assert f"answered with {code}" in str(error)


async def test_a_redirect_is_not_followed(http):
    with ChatServer() as other:
        where = f"http://user:canary@127.0.0.1:{other.port}/v1?token=canary"
        with ChatServer(only(status(307, headers={"location": where}))) as server:
            error = await failure(http.send(chat(server)), errors.RedirectError)
        assert other.connections == 0
    assert f"127.0.0.1:{other.port}" in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize("where", ["/v1/chat/completions", "http://[", "", "https://x\x00"])
async def test_any_redirect_is_refused(http, where):
    answer = respx.MockResponse(302, headers={"location": where})
    with respx.mock() as mock:
        mock.post("https://api.example/chat/completions").mock(return_value=answer)
        await failure(http.send(chat("https://api.example")), errors.RedirectError)
        assert mock.calls.call_count == 1


# --- cookies


async def test_cookies_go_with_their_request_only_and_none_is_kept(http):
    cookies = (Cookie(name="a", value=Secret("1")), Cookie(name="b", value=Secret("2")))
    with ChatServer(only(payload({}, headers={"set-cookie": "tracker=1; Path=/"}))) as server:
        await http.send(chat(server, cookies=cookies))
        await http.send(chat(server))
        assert server.requests[0].headers["cookie"] == "a=1; b=2"
        assert "cookie" not in server.requests[1].headers


# --- refused before anything is sent


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "ftp://x/", "127.0.0.1:1234/v1", "", "http://"])
async def test_a_url_that_is_none_is_a_config_error(http, url):
    await failure(http.send(chat("", url=url)), errors.ConfigError)


@pytest.mark.parametrize("key", [KEY + "\n", KEY + "\x00", KEY + "é", "\r\nx: " + KEY])
async def test_a_key_that_no_header_can_carry_is_not_sent(http, key):
    with ChatServer() as server:
        auth = Auth(header="x-api-key", secret=Secret(key))
        await failure(http.send(chat(server, auth=auth)), errors.ConfigError)
        cookie = Cookie(name="a", value=Secret(key))
        await failure(http.send(chat(server, cookies=(cookie,))), errors.ConfigError)
        assert server.connections == 0


async def test_a_missing_extra_is_named_with_its_command(http, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx_curl_cffi", None)
    error = await failure(http.send(chat("http://127.0.0.1:1", impersonate="chrome")), errors.MissingExtraError)
    assert install_command("impersonate") in str(error)


# --- TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def tls_context(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_a_certificate_that_does_not_hold_is_refused(http, tls_context):
    with ChatServer(tls_context=tls_context) as server:
        error = await failure(http.send(chat(server)), errors.TLSError)
        assert server.requests == []
    assert "TLS" in str(error)
    assert "certificate" in str(error)
    assert not error.is_retryable


async def test_a_certificate_of_the_users_own_authority_holds(http, tls_context, authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    trusting = HttpClient(is_direct=http._is_direct, environ={"SSL_CERT_FILE": str(path)})
    with ChatServer(tls_context=tls_context) as server:
        assert await ask(trusting, server) == "echo: hello"
        assert await ask(trusting, server) == "echo: hello"
        assert server.connections == 1
        await trusting.aclose()


async def test_verification_is_off_for_the_request_that_says_so_and_no_other(http, tls_context):
    with ChatServer(tls_context=tls_context) as server:
        assert await ask(http, server, verify=False) == "echo: hello"
        await failure(http.send(chat(server)), errors.TLSError)
        await http.aclose()


def uvloops():
    return importlib.import_module("uvloop").new_event_loop()


LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloops, id="uvloop", marks=needs("uvloop")),
]


@contextlib.contextmanager
def served_by_threads(serve):
    """Run a server on blocking sockets that passes each connection to `serve`; yield its port."""

    def one(connection):
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("make_loop", LOOPS)
@pytest.mark.parametrize("says_goodbye", [True, False])
@pytest.mark.parametrize("length", [b"content-length: 1000000\r\n", b""], ids=["with its length", "until it closes"])
def test_a_long_answer_over_tls_is_whole_when_the_server_closes_at_once(
    make_loop, says_goodbye, length, tls_context, anyio_backend
):
    def serve(connection):
        with tls_context.wrap_socket(connection, server_side=True) as secure:
            while not secure.recv(65536).endswith(b"}"):
                pass
            secure.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + length + b"\r\n" + b"x" * 1_000_000)
            if says_goodbye:
                secure.settimeout(PATIENCE_S)
                secure.unwrap()

    async def main(port):
        async with contextlib.aclosing(HttpClient(environ={})) as http:
            return await http.send(chat(f"https://127.0.0.1:{port}", verify=False))

    with served_by_threads(serve) as port, asyncio.Runner(loop_factory=make_loop) as runner:
        for _ in range(4):
            assert len(runner.run(main(port)).body) == 1_000_000


FRAMED = {
    "length": b"content-length: 8\r\n\r\n" + b'{"a": 1}',
    "chunks": b'transfer-encoding: chunked\r\n\r\n3;x\r\n{"a\r\n5\r\n": 1}\r\n0\r\ntrailer: x\r\n\r\n',
    "end": b'connection: close\r\n\r\n{"a": 1}',
}


@pytest.mark.parametrize("make_loop", LOOPS)
@pytest.mark.parametrize("is_secure", [True, False])
@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(("framing", "connections"), [("length", 1), ("chunks", 1), ("end", 3), ("surplus", 3)])
def test_a_connection_is_used_again_when_a_response_ended_where_it_says(
    make_loop, is_secure, size, framing, connections, tls_context, anyio_backend
):
    answer = b"HTTP/1.1 200 OK\r\n" + FRAMED.get(framing, FRAMED["length"])
    surplus = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}" if framing == "surplus" else b""
    seen = []

    def serve(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen.append(connection)
        with tls_context.wrap_socket(connection, server_side=True) if is_secure else connection as stream:
            while received := stream.recv(65536):
                if received.endswith(b"}"):
                    pieces = [answer[i : i + size] for i in range(0, len(answer) - size, size)]
                    for piece in (*pieces, answer[len(pieces) * size :] + surplus):
                        stream.sendall(piece)
                    if framing == "end":
                        return

    async def main(port):
        async with contextlib.aclosing(HttpClient(environ={})) as http:
            url = f"{'https' if is_secure else 'http'}://127.0.0.1:{port}"
            for _ in range(3):
                assert (await http.send(chat(url, verify=False))).json() == {"a": 1}

    with served_by_threads(serve) as port, asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main(port))
    assert len(seen) == connections


@pytest.mark.parametrize("make_loop", LOOPS)
def test_what_comes_before_the_tls_handshake_is_no_answer(make_loop, tls_context, anyio_backend):
    forged = b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"forged"'

    def serve(connection):
        connection.sendall(forged)
        tls_context.wrap_socket(connection, server_side=True).recv(10)

    async def main(port):
        async with contextlib.aclosing(HttpClient(environ={})) as http:
            await failure(http.send(chat(f"https://127.0.0.1:{port}", verify=False)), errors.TLSError)

    with served_by_threads(serve) as port, asyncio.Runner(loop_factory=make_loop) as runner:
        for _ in range(10):
            runner.run(main(port))


async def test_plain_http_at_a_tls_address_names_tls(http):
    async def answer(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await failure(http.send(chat(f"https://127.0.0.1:{port}")), errors.TLSError)


async def test_a_missing_certificate_file_is_a_config_error(tmp_path):
    http = HttpClient(is_direct=True, environ={"SSL_CERT_FILE": str(tmp_path / "none.pem")})
    await failure(http.send(chat("https://127.0.0.1:1")), errors.ConfigError)


# --- proxies

PASSWORD = "proxy-canary"


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize("url", ["http://api.example/v1", "https://api.example/v1"])
async def test_a_dead_proxy_is_named_without_its_password(http, scheme, url):
    proxy = Secret(f"{scheme}://user:{PASSWORD}@127.0.0.1:1")
    error = await failure(http.send(chat(url, proxy=proxy)), errors.ConnectionFailedError)
    assert "127.0.0.1:1" in str(error)
    assert "proxy" in str(error)
    assert PASSWORD not in str(error)


@pytest.mark.parametrize("url", ["http://api.example/v1", "https://api.example/v1"])
async def test_a_proxy_that_refuses_says_so(http, url):
    with ChatServer(only(status(407))) as server:
        proxy = Secret(f"http://user:{PASSWORD}@127.0.0.1:{server.port}")
        error = await failure(http.send(chat(url, proxy=proxy)), errors.ConnectionFailedError)
        assert "proxy-authorization" in server.requests[0].headers
    assert "407" in str(error)
    assert PASSWORD not in str(error)


async def test_a_plain_request_goes_through_the_proxy_of_the_environment():
    with ChatServer() as proxy, ChatServer() as server:
        http = HttpClient(environ={"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"})
        assert await ask(http, "http://api.example/v1") == "echo: hello"
        assert proxy.requests[0].path == "http://api.example/v1/chat/completions"
        assert await ask(http, server) == "echo: hello"  # loopback: directly
        assert len(server.requests) == 1
        await http.aclose()


async def test_a_missing_package_for_socks_is_named_where_it_is_needed_and_nowhere_else(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    http = HttpClient(environ={"ALL_PROXY": f"socks5://user:{PASSWORD}@127.0.0.1:1"})
    with ChatServer() as server:
        assert await ask(http, server) == "echo: hello"  # loopback: directly
    error = await failure(http.send(chat("https://api.example/v1")), errors.ConfigError)
    assert install_command("socks") in str(error)
    assert "socks5://127.0.0.1:1" in str(error)
    assert PASSWORD not in str(error)
    await http.aclose()


async def test_a_socks_proxy_carries_the_request_and_its_password_is_not_logged(plain, caplog):
    caplog.set_level(logging.DEBUG)
    with ChatServer() as server:

        async def pump(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
            writer.close()

        async def answer(reader, writer):
            await reader.readexactly(3)  # version, one method
            writer.write(b"\x05\x02")
            version, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            assert (version, user, password) == (1, b"user", PASSWORD.encode())
            writer.write(b"\x01\x00")
            await reader.readexactly(4)
            await reader.readexactly((await reader.readexactly(1))[0] + 2)
            writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            there = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            proxy = Secret(f"socks5h://user:{PASSWORD}@127.0.0.1:{port}")
            assert await ask(plain, "http://api.example/v1", proxy=proxy) == "echo: hello"
            assert server.requests[0].headers["host"] == "api.example"
            await plain.aclose()
            assert await asyncio.to_thread(server.wait_until, lambda s: s.open_connections == 0)
            await asyncio.sleep(0.05)
    assert "setup_socks5_connection.complete" in caplog.text
    assert PASSWORD not in caplog.text


# --- secrets and mocks


async def test_no_log_line_holds_the_key(http, caplog):
    caplog.set_level(logging.DEBUG)
    with ChatServer() as server:
        await ask(http, server)
        await stream(http, server)
    assert KEY not in caplog.text


async def test_a_mock_takes_the_place_of_the_network():
    def answer(request):
        return httpx.Response(200, json={"path": request.url.path})

    http = HttpClient(mock=httpx.MockTransport(answer), environ={})
    response = await http.send(chat("https://api.example/v1"))
    assert response.json() == {"path": "/v1/chat/completions"}
    await http.aclose()


async def test_respx_takes_the_place_of_the_network(http):
    with respx.mock() as mock:
        route = mock.post("https://api.example/v1/chat/completions")
        route.side_effect = [httpx.Response(500), httpx.ConnectError("x"), httpx.Response(200, json={})]
        await failure(http.send(chat("https://api.example/v1")), errors.ServerError)
        await failure(http.send(chat("https://api.example/v1")), errors.ConnectionFailedError)
        assert (await http.send(chat("https://api.example/v1"))).json() == {}
        assert route.calls[0].request.headers["authorization"] == f"Bearer {KEY}"


async def test_an_error_of_another_kind_is_named_by_its_type_only():
    def answer(request):
        raise RuntimeError(f"header {request.headers['authorization']}")

    http = HttpClient(mock=httpx.MockTransport(answer), environ={})
    error = await failure(http.send(chat("https://api.example/v1")), errors.UnexpectedError)
    assert "RuntimeError" in str(error)
    assert KEY not in str(error)


async def test_a_group_of_exceptions_becomes_one_error():
    def answer(request):
        raise ExceptionGroup("several", [OSError(111, "x"), OverflowError("port")])

    http = HttpClient(mock=httpx.MockTransport(answer), environ={})
    await failure(http.send(chat("https://api.example/v1")), errors.ConnectionFailedError)


def test_importing_the_client_does_not_import_httpx(anyio_backend):
    import subprocess
    import sys

    code = (
        "import sys, aichat_magic.http.client; print([m for m in ('httpx', 'aiohttp', 'certifi') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


FLOOD = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    peer, _ = listener.accept()
    peer.recv(65_536)
    peer.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n")
    while True:
        peer.sendall(b"a\\r\\ndata: 123\\n\\r\\n" * 200)
"""


async def test_total_deadline_holds_while_bytes_arrive_in_every_turn_of_the_loop() -> None:
    async def read_all(http: HttpClient, request: HttpRequest) -> None:
        async with contextlib.aclosing(http.events(request)) as events:
            async for _ in events:
                pass

    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FLOOD, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(await server.stdout.readline())}/"
        async with contextlib.aclosing(HttpClient(environ={})) as http:
            request = HttpRequest(provider="p", url=url, body=b"{}", timeout_s=0.3, max_bytes=10**12)
            with pytest.raises(errors.DeadlineError):
                await asyncio.wait_for(read_all(http, request), PATIENCE_S / 3)
    finally:
        server.kill()
        await server.wait()


@pytest.mark.parametrize("host", ["ü..example.com", "\ud800.example"])
async def test_host_that_no_dns_name_can_be_is_a_clear_error(host: str) -> None:
    async with contextlib.aclosing(HttpClient(environ={})) as http:
        with pytest.raises(errors.ConfigError, match=r"is no name that can be looked up"):
            await http.send(HttpRequest(provider="p", url=f"http://{host}/v1", body=b"{}"))
