"""Mocks and instrumentation of httpx and httpcore work, although none of them is configured for us."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import gzip
import json
import subprocess
import sys
from pathlib import Path

import httpcore
import httpx
import pytest
import respx
import vcr
import wrapt
from servers import ChatServer, chunks, head, payload, raw, status, text

import aichat_magic
from aichat_magic.core import errors
from aichat_magic.core.secrets import Secret
from aichat_magic.http.client import Auth, HttpClient, HttpRequest
from aichat_magic.http.instrumentation import is_client_replaced, is_httpx_replaced

pytestmark = pytest.mark.anyio
KEY = "sk-canary-0123456789"


def request(server, prompt="hello", *, stream=False, **changes):
    body = {"messages": [{"role": "user", "content": prompt}], "stream": stream}
    fields = {
        "provider": "openai",
        "url": (server if isinstance(server, str) else server.url) + "/chat/completions",
        "body": json.dumps(body).encode(),
        "auth": Auth(header="authorization", prefix="Bearer ", secret=Secret(KEY)),
        "timeout_s": 5.0,
    }
    return HttpRequest(**fields | changes)


@pytest.fixture
async def http():
    """Return a client as users have it."""
    client = HttpClient(environ={})
    yield client
    await client.aclose()


async def ask(http, server, prompt="hello", **changes):
    response = await http.send(request(server, prompt, **changes))
    return response.json()["choices"][0]["message"]["content"]


@contextlib.contextmanager
def watched(owner, name, wrap):
    """Replace a method, and put it back."""
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def noting(seen):
    """Return a wrapper that looks like the method it wraps (`functools.wraps`)."""

    def wrap(method):
        @functools.wraps(method)
        async def noted(self, sent, *args, **kwargs):
            sent.headers["traceparent"] = "00-abc-def-01"
            response = await method(self, sent, *args, **kwargs)
            seen.append((str(sent.url), response.status_code))
            return response

        return noted

    return wrap


def by_wrapt(seen):
    """Return a wrapper like that of OpenTelemetry: an object that forwards every attribute (wrapt)."""

    async def noted(wrapped, instance, args, kwargs):
        args[0].headers["traceparent"] = "00-abc-def-01"
        response = await wrapped(*args, **kwargs)
        seen.append((str(args[0].url), response.status_code))
        return response

    return lambda method: wrapt.FunctionWrapper(method, noted)


# --- neither mocks nor instrumentation


async def test_when_nobody_is_there_requests_know_nothing_of_httpx():
    code = """
import asyncio, sys
from aichat_magic.http.client import HttpRequest, HttpClient
async def main():
    http = HttpClient(environ={})
    await http.send(HttpRequest(provider="p", url=sys.argv[1], body=b"{}"))
    await http.aclose()
asyncio.run(main())
print([name for name in ("httpx", "httpcore", "h11", "anyio") if name in sys.modules])
"""
    with ChatServer(lambda received, attempt: text("hi")) as server:
        command = [sys.executable, "-c", code, f"{server.url}/chat/completions"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_methods_of_the_packages_themselves_are_no_ones_else():
    assert not is_httpx_replaced()
    assert not is_client_replaced()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (httpx.AsyncClient, "send"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
        (httpcore.AsyncConnectionPool, "handle_async_request"),
        (httpcore.AsyncHTTPConnection, "handle_async_request"),
        (httpcore.AsyncHTTP11Connection, "handle_async_request"),
        (httpcore.AsyncHTTPProxy, "handle_async_request"),
    ],
)
@pytest.mark.parametrize("wrap", [noting, by_wrapt, lambda seen: lambda method: functools.partial(method)])
def test_any_method_on_the_way_that_was_replaced_is_noticed_until_it_is_put_back(owner, name, wrap):
    with watched(owner, name, wrap([])):
        assert is_httpx_replaced()
        assert is_client_replaced() is (name == "send")
    assert not is_httpx_replaced()


def test_a_class_that_was_replaced_is_noticed(monkeypatch):
    class Mine(httpx.AsyncHTTPTransport):
        pass

    monkeypatch.setattr(httpx, "AsyncHTTPTransport", Mine)
    assert is_httpx_replaced()


# --- respx


async def test_respx_answers_while_it_is_there_and_the_network_before_and_after(http):
    with ChatServer() as server:
        assert await ask(http, server, "before") == "echo: before"
        with respx.mock() as router:
            answer = {"choices": [{"message": {"content": "mocked"}}]}
            route = router.post(f"{server.url}/chat/completions").mock(return_value=httpx.Response(200, json=answer))
            assert await ask(http, server) == "mocked"
            assert await ask(http, server) == "mocked"
            assert route.call_count == 2
        assert await ask(http, server, "after") == "echo: after"
        assert [received.last_message for received in server.requests] == ["before", "after"]
        assert server.connections == 1


async def test_respx_passes_encoded_bodies_and_streams(http):
    with respx.mock() as router:
        router.post("https://api.example/chat/completions").mock(
            return_value=httpx.Response(
                200, content=gzip.compress(b'{"a": ') + gzip.compress(b"1}"), headers={"content-encoding": "gzip"}
            )
        )
        assert (await http.send(request("https://api.example"))).json() == {"a": 1}
        router.post("https://api.example/chat/completions").mock(
            return_value=httpx.Response(200, content=b"data: one\n\ndata: two\n\n")
        )
        async with contextlib.aclosing(http.events(request("https://api.example"))) as events:
            assert [event.data async for event in events] == ["one", "two"]


# --- vcrpy


async def test_vcrpy_records_from_the_network_and_plays_without_it(http, tmp_path):
    path = tmp_path / "cassette.yaml"
    cassette = str(path)
    with ChatServer() as server:
        url = server.url
        with vcr.use_cassette(cassette, filter_headers=["authorization"], match_on=["uri", "body"]) as recorded:
            assert await ask(http, server, "one") == "echo: one"
            assert await ask(http, server, "two") == "echo: two"
            assert len(recorded) == 2
    assert KEY.encode() not in await asyncio.to_thread(path.read_bytes)
    with vcr.use_cassette(cassette, record_mode="none", match_on=["uri", "body"]) as played:
        assert await ask(http, url, "two") == "echo: two"
        assert await ask(http, url, "one") == "echo: one"
        assert played.all_played
        with pytest.raises(errors.AichatError):
            await ask(http, url, "three")


# --- instrumentation


@pytest.mark.parametrize("wrap", [noting, by_wrapt])
@pytest.mark.parametrize(
    ("owner", "name"), [(httpx.AsyncHTTPTransport, "handle_async_request"), (httpx.AsyncClient, "send")]
)
async def test_who_watches_sees_every_request_and_may_add_to_it(http, owner, name, wrap):
    seen = []
    with ChatServer() as server:
        assert await ask(http, server, "before") == "echo: before"
        with watched(owner, name, wrap(seen)):
            assert await ask(http, server, "one") == "echo: one"
            assert await ask(http, server, "two") == "echo: two"
        assert await ask(http, server, "after") == "echo: after"
        assert seen == [(f"{server.url}/chat/completions", 200)] * 2
        assert ["traceparent" in received.headers for received in server.requests] == [False, True, True, False]
        assert {received.headers["authorization"] for received in server.requests} == {f"Bearer {KEY}"}
        assert len({json.dumps(sorted(set(received.headers) - {"traceparent"})) for received in server.requests}) <= 2
        assert server.connections == 2  # ours, and httpx's, each kept


@pytest.mark.parametrize(
    ("owner", "name"), [(httpx.AsyncHTTPTransport, "handle_async_request"), (httpx.AsyncClient, "send")]
)
async def test_errors_streams_and_cookies_are_as_ever_while_somebody_watches(http, owner, name):
    with watched(owner, name, noting([])):
        with ChatServer(lambda received, attempt: status(429, headers={"retry-after": "2"})) as server:
            with pytest.raises(errors.RateLimitError) as caught:
                await ask(http, server)
            assert caught.value.retry_after_s == 2
            assert len(server.requests) == 1
        with ChatServer(lambda received, attempt: chunks(["a", "b"])) as server:
            async with contextlib.aclosing(http.events(request(server, stream=True))) as events:
                assert len([event async for event in events]) > 2
        with ChatServer(lambda received, attempt: status(302, headers={"location": server.url + "/other"})) as server:
            with pytest.raises(errors.RedirectError):
                await ask(http, server)
            assert len(server.requests) == 1
        with ChatServer(lambda received, attempt: payload({}, headers={"set-cookie": "a=b; Path=/"})) as server:
            await http.send(request(server))
            await http.send(request(server))
            assert "cookie" not in server.requests[1].headers
        with pytest.raises(errors.NotRunningError):
            await ask(http, "http://127.0.0.1:1/v1")


async def test_a_response_that_was_read_by_who_watches_is_still_there(http):
    def reading(method):
        async def read(self, sent, **kwargs):
            response = await method(self, sent, **kwargs)
            await response.aread()
            return response

        return read

    answer = payload(gzip.compress(b'{"a": 1}'), headers={"content-encoding": "gzip"})
    with ChatServer(lambda received, attempt: answer) as server, watched(httpx.AsyncClient, "send", reading):
        assert (await http.send(request(server))).json() == {"a": 1}


async def test_what_comes_after_a_response_is_none_while_somebody_watches(http):
    def answer(received, attempt):
        body = json.dumps({"said": received.last_message}).encode()
        surplus = head(200, {"content-length": "2"}) + b"{}"
        return raw(head(200, {"content-length": str(len(body))}) + body + surplus, close=False)

    with ChatServer(answer) as server, watched(httpx.AsyncHTTPTransport, "handle_async_request", noting([])):
        for word in ("one", "two", "three"):
            assert (await http.send(request(server, word))).json() == {"said": word}
        assert server.connections == 3


# --- private names


def test_nothing_private_of_httpx_or_httpcore_is_touched():
    """A private attribute is our own, so it follows `self`."""
    for path in (Path(aichat_magic.__file__).parent / "http").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        private = {
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        }
        others = {
            text for text in private if text.partition(".")[0] not in ("self", "zlib")
        }  # zlib: a type without a name
        assert others == set(), path.name
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not {text for text in strings if isinstance(text, str) and text.startswith(("_pool", "_h11", "_conn"))}
