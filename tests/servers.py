"""A loopback server that speaks the OpenAI chat dialect and can misbehave in every way that servers do.

::

    with ChatServer() as server:                                  # echoes
        ... server.url ... server.requests[0].json ...

    def answer(received, attempt):
        return status(429, headers={"retry-after": "2"}) if attempt == 1 else text("hi")

    with ChatServer(answer) as server: ...

It runs in a thread of its own on raw asyncio sockets, so that the code under test may block, and so that no
web framework stands between a test and the bytes on the wire.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from effort import PATIENCE_S

MODEL = "test-model"
_T = TypeVar("_T")
_REASONS = {
    200: "OK",
    307: "Temporary Redirect",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
}


@dataclass(frozen=True)
class Received:
    """One request as it came in: header names in lower case, `path` as it stood in the request line."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def last_message(self) -> str:
        """Content of the last message with the role user; empty when the body is no chat request."""
        try:
            users = [m for m in self.json["messages"] if m["role"] == "user"]
        except (ValueError, KeyError, TypeError):
            return ""
        return str(users[-1]["content"]) if users else ""


@dataclass(frozen=True)
class Answer:
    """What the server does with one request. `play` returns whether the connection stays open."""

    play: Callable[[Exchange], Awaitable[bool]]


@dataclass(frozen=True)
class Exchange:
    """One request and the way to answer it."""

    received: Received
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        await self.send(chunked(data))


# --- bytes on the wire


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunked(data: bytes) -> bytes:
    """One chunk of the chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def completion(
    content: str, received: Received, *, model: str | None = None, usage: bool = True, finish: str = "stop"
) -> dict[str, Any]:
    """A chat.completion object."""
    message = {"role": "assistant", "content": content}
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model or received.json.get("model", MODEL),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    return value | ({"usage": usage_of(content, received)} if usage else {})


def usage_of(content: str, received: Received) -> dict[str, int]:
    """Counts of words, as if they were tokens."""
    sent = sum(len(str(m.get("content", "")).split()) for m in received.json.get("messages", ()))
    came = len(content.split())
    return {"prompt_tokens": sent, "completion_tokens": came, "total_tokens": sent + came}


def embeddings(received: Received, *, length: int = 4, encoding: str = "", **more: Any) -> Answer:
    """A vector for each text, which depends on the text alone; base64 if that was asked for, or as `encoding` says."""
    texts, wanted = received.json["input"], encoding or received.json.get("encoding_format", "float")
    data = []
    for index, value in enumerate(texts):
        vector = vector_of(value, received.json.get("dimensions", length))
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if wanted == "base64" else vector})
    tokens = sum(len(value) for value in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return payload({"object": "list", "data": data, "model": received.json["model"], "usage": usage, **more})


def vector_of(value: str, length: int = 4) -> list[float]:
    """The vector of a text on this server."""
    digest = hashlib.sha256(value.encode()).digest()
    return [float(digest[n % 32] + 1) for n in range(length)]


def sse(value: Any) -> bytes:
    """One event: a JSON value, or a text as it stands."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def _delta(received: Received, model: str | None, delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse({**_chunk(received, model), "choices": [choice]})


def _chunk(received: Received, model: str | None) -> dict[str, Any]:
    named = model or received.json.get("model", MODEL)
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": named}


def _stream(pieces: list[str], received: Received, model: str | None, usage: bool, finish: str = "stop") -> list[bytes]:
    """All events of a whole stream, in order."""
    events = [_delta(received, model, {"role": "assistant", "content": ""}, None)]
    events += [_delta(received, model, {"content": piece}, None) for piece in pieces]
    events.append(_delta(received, model, {}, finish))
    if usage and (received.json.get("stream_options") or {}).get("include_usage"):
        totals = usage_of("".join(pieces), received)
        events.append(sse({**_chunk(received, model), "choices": [], "usage": totals}))
    return [*events, sse("[DONE]")]


# --- good answers


def text(
    content: str, *, model: str | None = None, usage: bool = True, delay_s: float = 0, finish: str = "stop"
) -> Answer:
    """`content` as one JSON object, or in pieces of a word when the request says ``"stream": true``.

    `delay_s` is waited once, before the answer; `finish` is the finish reason, such as ``"length"``.
    """
    return chunks(re.findall(r"\S*\s*", content)[:-1], model=model, usage=usage, first_s=delay_s, finish=finish)


def chunks(
    pieces: Iterable[str],
    *,
    delay_s: float = 0,
    first_s: float = 0,
    model: str | None = None,
    usage: bool = True,
    finish: str = "stop",
) -> Answer:
    """The pieces as a stream, `delay_s` between them; as one JSON object when no stream was asked for."""
    parts = list(pieces)

    async def play(exchange: Exchange) -> bool:
        if first_s:
            await asyncio.sleep(first_s)
        received = exchange.received
        if not (received.body and received.json.get("stream")):
            value = completion("".join(parts), received, model=model, usage=usage, finish=finish)
            return await payload(value).play(exchange)
        return await event_stream(_stream(parts, received, model, usage, finish), delay_s=delay_s).play(exchange)

    return Answer(play)


def payload(value: Any, *, code: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Any JSON value; `bytes` go out as they stand."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return status(code, body=body, headers={"content-type": "application/json", **(headers or {})})


def event_stream(events: Iterable[bytes | str], *, delay_s: float = 0, abrupt: bool = False) -> Answer:
    """Bytes of an event stream, one chunk each, `delay_s` between them. `abrupt`: without the end."""
    pieces = [event.encode() if isinstance(event, str) else event for event in events]

    async def play(exchange: Exchange) -> bool:
        opening = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        ending = b"" if abrupt else b"0\r\n\r\n"
        if not delay_s:
            await exchange.send(opening + b"".join(map(chunked, pieces)) + ending)
            return not abrupt
        await exchange.send(opening)
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(delay_s)
            await exchange.send_chunk(piece)
        await exchange.send(ending)
        return not abrupt

    return Answer(play)


# --- faults


def status(
    code: int,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | Mapping[str, Any] | None = None,
) -> Answer:
    """Any status. Without a body: the dialect's own error object for it."""
    if body is None:
        body = {"error": {"message": f"answered with {code}", "type": "test", "code": None}}
    kind = "text/plain" if isinstance(body, (str, bytes)) else "application/json"
    if isinstance(body, Mapping):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    lines = {"content-type": kind, **{k.lower(): v for k, v in (headers or {}).items()}}
    lines.setdefault("content-length", str(len(content)))

    async def play(exchange: Exchange) -> bool:
        await exchange.send(head(code, lines) + content)
        return True

    return Answer(play)


def raw(data: bytes, *, close: bool = True) -> Answer:
    """These bytes, headers and all. ``raw(b"")`` hangs up without an answer."""

    async def play(exchange: Exchange) -> bool:
        await exchange.send(data)
        return not close

    return Answer(play)


def reset(data: bytes = b"") -> Answer:
    """`data` (nothing: before the headers), then RST."""

    async def play(exchange: Exchange) -> bool:
        if data:
            await exchange.send(data)
            await asyncio.sleep(0.05)  # an RST overtakes data that the client has not read
        linger = struct.pack("ii", 1, 0)
        exchange.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        exchange.writer.transport.abort()
        return False

    return Answer(play)


def cut(*, after_chunks: int = 2, abrupt: bool = False) -> Answer:
    """A stream of words that ends early, without finish_reason and [DONE].

    Gently (the HTTP body ends as it should), or `abrupt` (the connection closes inside the body).
    """

    async def play(exchange: Exchange) -> bool:
        words = [f"word{number} " for number in range(after_chunks)]
        events = _stream(words, exchange.received, None, False)[1 : after_chunks + 1]
        return await event_stream(events, abrupt=abrupt).play(exchange)

    return Answer(play)


def short_body() -> Answer:
    """A body that is ten bytes shorter than Content-Length says."""

    async def play(exchange: Exchange) -> bool:
        body = json.dumps(completion("this is only the beginning", exchange.received)).encode()
        lines = {"content-type": "application/json", "content-length": str(len(body) + 10)}
        await exchange.send(head(200, lines) + body)
        return False

    return Answer(play)


def hang() -> Answer:
    """No answer, until the client leaves."""

    async def play(exchange: Exchange) -> bool:
        await asyncio.Event().wait()
        return False

    return Answer(play)


def drip(*, stream: bool = False, every_s: float = 0.1) -> Answer:
    """A body of one byte every `every_s` seconds, for ever."""

    async def play(exchange: Exchange) -> bool:
        kind = "text/event-stream" if stream else "application/json"
        await exchange.send(head(200, {"content-type": kind, "transfer-encoding": "chunked"}))
        while True:
            await exchange.send_chunk(b" " if not stream else b":")
            await asyncio.sleep(every_s)

    return Answer(play)


def bomb(kind: str = "gzip", *, megabytes: int = 200) -> Answer:
    """``"gzip"``: a small body that inflates to `megabytes`. ``"endless"``: a body without an end."""

    async def play(exchange: Exchange) -> bool:
        lines = {"content-type": "application/json"}
        if kind == "gzip":
            body = _gzip_of_blanks(megabytes)
            lines |= {"content-encoding": "gzip", "content-length": str(len(body))}
            await exchange.send(head(200, lines) + body)
            return True
        await exchange.send(head(200, lines | {"transfer-encoding": "chunked"}))
        while True:
            await exchange.send_chunk(b" " * 65536)

    return Answer(play)


@functools.cache
def _gzip_of_blanks(megabytes: int) -> bytes:
    packer = zlib.compressobj(6, wbits=31)  # a thousand to one, so that one read inflates to more than there should be
    block = b" " * 2**20
    return b"".join([*(packer.compress(block) for _ in range(megabytes)), packer.flush()])


def gzipped(value: Any, *, missing: int = 0) -> Answer:
    """A JSON value under gzip, the last `missing` bytes left out and Content-Length right all the same."""
    body = gzip.compress(json.dumps(value).encode())
    body = body[: len(body) - missing]
    return payload(body, headers={"content-encoding": "gzip"})


def echo(received: Received, attempt: int) -> Answer:
    """The default: the last user message, said again."""
    return text(f"echo: {received.last_message}" if received.body else "echo")


# --- server


class ChatServer:
    """The server; a context manager.

    Attributes:
        url: Base URL of the API: ``http://127.0.0.1:PORT/v1``.
        root: The same without ``/v1``.
        port: The port.
        models: The list of models, as JSON.
        requests: Every request, in the order of arrival.
        connections: Connections accepted so far.
        open_connections: Connections open now.
        in_flight: Requests that are being answered now.
        most_in_flight: The highest `in_flight` so far.
        closed_early: Clients that went away during an answer.
    """

    def __init__(
        self,
        answer: Callable[[Received, int], Answer] | None = None,
        *,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """`answer(received, attempt)` chooses; `attempt` counts equal requests from 1."""
        self.answer = answer or echo
        self.models: Any = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        self.requests: list[Received] = []
        self.connections = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed_early = 0
        self._tls_context = tls_context
        self._attempts: Counter[tuple[str, str, bytes]] = Counter()
        self._open: set[_Connection] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chat-server", daemon=True)

    @property
    def root(self) -> str:
        return f"http{'s' if self._tls_context else ''}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self.root + "/v1"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def bodies(self) -> list[Any]:
        """The JSON of every POST."""
        return [received.json for received in self.requests if received.method == "POST"]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S), "the server did not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server did not stop"

    def close_idle(self) -> None:
        """Close every connection that waits for its next request, and return when that is done."""

        async def close() -> None:
            idle = [connection for connection in self._open if not connection.is_answering]
            for connection in idle:
                connection.writer.close()
            await asyncio.gather(*(connection.task for connection in idle), return_exceptions=True)

        self._call(close())

    def go_away(self) -> None:
        """Close the listening socket and every connection, whatever is being answered."""
        self._call(self._close())

    def come_back(self) -> None:
        """Listen again, at the same port."""
        self._call(self._listen(self.port))

    def wait_until(self, condition: Callable[[ChatServer], bool], timeout_s: float = PATIENCE_S) -> bool:
        """Wait, in the calling thread, until the condition holds; False when it does not in time."""

        async def poll() -> bool:
            for _ in range(int(timeout_s / 0.01)):
                if condition(self):
                    return True
                await asyncio.sleep(0.01)
            return condition(self)

        return self._call(poll())

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * PATIENCE_S)

    def _run(self) -> None:
        # A selector loop, whatever policy the test has set.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        await self._listen(0)
        self._ready.set()
        await self._stopped.wait()
        await self._close()
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    async def _listen(self, port: int) -> None:
        self._listener = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", port, ssl=self._tls_context, backlog=2048
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._listener.close()
        connections = list(self._open)
        for connection in connections:
            connection.task.cancel()
        await asyncio.gather(*(connection.task for connection in connections), return_exceptions=True)
        await self._listener.wait_closed()

    def _choose(self, received: Received) -> Answer:
        self.requests.append(received)
        if received.method == "GET" and received.path.partition("?")[0].endswith("/models"):
            return payload(self.models)
        identity = (received.method, received.path, received.body)
        self._attempts[identity] += 1
        return self.answer(received, self._attempts[identity])


class _Connection(asyncio.StreamReaderProtocol):
    """One accepted connection: a task that answers its requests one after the other."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._reader = asyncio.StreamReader(limit=2**20)
        self.is_answering = False
        super().__init__(self._reader, self._begin)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._server.connections += 1
        self._server._open.add(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def eof_received(self) -> bool | None:
        self._left()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        super().connection_lost(exc)

    def _left(self) -> None:
        """The client closed: stop answering it."""
        if self.is_answering:  # false whenever the server itself closes
            self.is_answering = False
            self._server.closed_early += 1
            self.task.cancel()

    async def _serve(self) -> None:
        try:
            while (received := await self._read()) and await self._answer(received):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the server stops: both end this connection and nothing else
        finally:
            self._server._open.discard(self)
            self.writer.close()

    async def _answer(self, received: Received) -> bool:
        server = self._server
        self.is_answering = True
        server.in_flight += 1
        server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            stays = await server._choose(received).play(Exchange(received, self.writer))
        finally:
            self.is_answering = False
            server.in_flight -= 1
        return stays and received.headers.get("connection", "").lower() != "close"

    async def _read(self) -> Received | None:
        try:
            opening = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return None
        if not re.match(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n", opening):
            return None  # some other protocol
        first, *lines = opening.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Received(method, path, headers, await self._read_chunks())
        return Received(method, path, headers, await self._reader.readexactly(int(headers.get("content-length", 0))))

    async def _read_chunks(self) -> bytes:
        body = b""
        while size := int((await self._reader.readline()).split(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return body
