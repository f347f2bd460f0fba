"""POST JSON and read JSON or server-sent events, over httpx; nothing above this room knows it.

A request takes a connection from the free list of its route (`Pool`, one per event loop), is read in pieces
(`_Exchange`) and gives the connection back when it was read to its end; otherwise the connection is closed. httpx's
own client is not used: its pool is quadratic in the connections, its cookie jar keeps what servers set, and its
timeouts are per read.

What httpx raises is never chained to our errors, because its text and its frames can hold a key.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import weakref
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from .errors import (
    AichatError,
    ConfigError,
    DeadlineError,
    IncompleteReplyError,
    MalformedReplyError,
    MissingExtraError,
    RedirectError,
    TooLargeError,
    shorten,
)
from .failures import connection_error, parse_json, status_error
from .routes import (
    Cookie,
    Pool,
    Route,
    browser_connections,
    checked_proxy,
    close_quietly,
    cookie_header,
    fast_connections,
    proxy_for,
    proxy_name,
    single_connection,
    target,
    tls_context,
    without_password,
)
from .secret import Environment, Scrubber, Secret
from .sse import EventParser, ServerSentEvent

if TYPE_CHECKING:
    import httpx

__all__ = ["Auth", "Cookie", "HttpRequest", "HttpResponse", "ServerSentEvent", "Transport", "parse_json"]

_T = TypeVar("_T")

MAX_ERROR_BYTES = 64 * 1024
# How long the end of a response may take after its reader has left. It mostly has arrived by then, and a connection
# read to its end can be used again.
_DRAIN_S = 0.1
_DRAIN_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """A header that carries a secret: `prefix` + the secret under `header`."""

    header: str
    secret: Secret
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request as a provider words it.

    Attributes:
        provider: Name of the provider, for errors.
        url: Absolute http or https URL.
        body: JSON bytes to POST; None for a GET.
        headers: Plain headers, in order. Nothing secret belongs here.
        auth: The header that carries the key, or None.
        cookies: Cookies to choose from.
        proxy: http, https, socks5 or socks5h URL of a proxy (a Secret: it may hold a password); None: as the
            environment says.
        timeout_s: Total deadline in seconds, from connecting to the last byte.
        connect_timeout_s: Longest time to connect, in seconds.
        idle_timeout_s: Longest silence inside a response, in seconds.
        max_bytes: Cap of the decoded response, in bytes.
        verify: Whether the server's certificate is checked.
        impersonate: Name of a browser whose TLS fingerprint is copied (needs the extra `impersonate`), or None.
    """

    provider: str
    url: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    auth: Auth | None = None
    cookies: tuple[Cookie, ...] = ()
    proxy: Secret | None = None
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    max_bytes: int = 16 * 2**20
    verify: bool = True
    impersonate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole response with a status below 300.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case.
        body: The decoded body.
        provider: Name of the provider, for errors.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    provider: str = ""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            MalformedReplyError: It is not JSON, or is hostile.
            IncompleteReplyError: It breaks off, and the server did not say how long it is.
        """
        return parse_json(self.body, self.provider, is_framed=_is_framed(self.headers))


class Transport:
    """Connections, kept per event loop and reused. One instance serves any number of loops and threads."""

    def __init__(
        self,
        *,
        mock: httpx.AsyncBaseTransport | None = None,
        wall_clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
        fast: bool | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            mock: Replaces the network (tests).
            wall_clock: Seconds since 1970, for HTTP dates.
            environ: Where proxies and certificates are read; default `os.environ`.
            fast: Whether httpx-aiohttp carries direct connections; None: when it is installed.
        """
        self._mock = mock
        self._wall_clock = wall_clock
        self._environ = Environment(os.environ if environ is None else environ)
        self._fast = fast
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = weakref.WeakKeyDictionary()
        self._left_to_parent: list[Pool] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and read the whole response.

        Args:
            request: What to send.

        Returns:
            The response; its status is below 300.

        Raises:
            ProviderError: The other side, or the way to it, failed.
            ConfigError: The URL, the proxy or a header cannot be used.
            MissingExtraError: `impersonate` is asked for and not installed.
        """
        exchange = await self._exchange(request)
        try:
            await exchange.open()
            body = await exchange.read()
        finally:
            await exchange.close()
        return HttpResponse(status=exchange.status, headers=exchange.headers, body=body, provider=request.provider)

    async def events(self, request: HttpRequest) -> AsyncGenerator[ServerSentEvent, None]:
        """Send, and yield the events of the response as they arrive. Close it with `contextlib.aclosing`.

        A server that answers with one JSON object in place of a stream gives one event with all of it.

        Args:
            request: What to send.

        Raises:
            ProviderError: As for `send`; `IncompleteReplyError` when the connection broke inside the stream.
            ConfigError: As for `send`.
            MissingExtraError: As for `send`.
        """
        exchange = await self._exchange(request, is_stream=True)
        try:
            await exchange.open()
            kind = exchange.headers.get("content-type", "").lower()
            if "json" in kind or "html" in kind:
                body = await exchange.read()
                parse_json(body, request.provider, is_framed=_is_framed(exchange.headers))
                yield ServerSentEvent("", body.decode("utf-8-sig"))
                return
            parser = EventParser(request.provider)
            while piece := await exchange.next_piece():
                for event in parser.feed(piece):
                    yield exchange.cleaned(event)
            if _is_framed(exchange.headers):
                for event in parser.finish():
                    yield exchange.cleaned(event)
        finally:
            await exchange.close()

    async def aclose(self) -> None:
        """Close the connections that belong to the running loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def _exchange(self, request: HttpRequest, *, is_stream: bool = False) -> _Exchange:
        """The exchange for a request, everything checked that can be before sending."""
        scheme, host, port = target(request.url)
        _check_headers(request)
        proxy = (
            checked_proxy(request.proxy, "the settings")
            if request.proxy is not None
            else proxy_for(scheme, host, port, self._environ)
        )
        route = Route(
            scheme=scheme,
            host=host,
            port=port,
            proxy=proxy,
            verify=request.verify,
            impersonate=request.impersonate,
        )
        return _Exchange(request, route, await self._pool(), self._wall_clock, is_stream)

    async def _pool(self) -> Pool:
        """The pool of the running loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is not None and pool.pid != os.getpid():
            # After a fork these sockets are the parent's. Closing them here would say goodbye in its name.
            self._left_to_parent.append(pool)
            pool = None
        if pool is None or pool.is_closed:
            pool = self._pools[loop] = Pool(self._make)
            await pool.begin()
        return pool

    def _make(self, route: Route) -> tuple[httpx.AsyncBaseTransport, bool]:
        """A new way to the server, and whether it carries any number of requests at once."""
        if self._mock is not None:
            return self._mock, True
        if route.impersonate is not None:
            return browser_connections(route), True
        if route.proxy is None and self._fast is not False:
            transport = fast_connections(self._context(route.verify))
            if transport is not None:
                return transport, True
            if self._fast:
                raise MissingExtraError("The fast transport is not installed: pip install 'aichat-magic[fast]'")
        return single_connection(route, self._context(route.verify)), False

    def _context(self, verify: bool) -> ssl.SSLContext:
        """The TLS context, made once: it costs 17 ms."""
        if verify not in self._contexts:
            self._contexts[verify] = tls_context(verify, self._environ)
        return self._contexts[verify]


class _Exchange:
    """One request and its response, read in pieces and closed exactly once."""

    def __init__(
        self,
        request: HttpRequest,
        route: Route,
        pool: Pool,
        wall_clock: Callable[[], float],
        is_stream: bool,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._scrubber = _scrubber(request, route)
        self._request = request
        self._route = route
        self._pool = pool
        self._wall_clock = wall_clock
        self._is_stream = is_stream
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + request.timeout_s
        self._transport: httpx.AsyncBaseTransport | None = None
        self._half_open: Any = None  # httpcore.AsyncNetworkStream
        self._stream: Any = None  # httpx.AsyncByteStream: the part of the response that is still to come
        self._raw: AsyncIterator[bytes] | None = None
        self._decoder: _Inflater | None = None
        self._decoded: Iterator[bytes] = iter(())
        self._read_bytes = 0
        self._is_whole = False
        self._has_failed = False

    async def open(self) -> None:
        """Send the request and read status and headers; raise for a status of 300 or more."""
        request = self._request
        if self._pool.is_quiet:
            # Between two cells the loop stands still. Let it hear of the connections that servers closed meanwhile.
            for _ in range(3):
                await asyncio.sleep(0)
        transport = self._transport = self._pool.take(self._route)
        try:
            response = await self._wait(lambda: transport.handle_async_request(self._outgoing()))
        finally:
            half_open, self._half_open = self._half_open, None
            if half_open is not None and self._has_failed:
                await close_quietly(half_open.aclose())
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        if self.status >= 300:
            self.headers = {name: self._scrubber.error(value) for name, value in self.headers.items()}
        self._stream = response.stream
        self._raw = aiter(self._stream)
        # curl has undone the encoding already.
        encoding = "" if self._route.impersonate else self.headers.get("content-encoding", "").lower().strip()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._decoder = _Inflater()
        elif encoding not in ("", "identity"):
            self._fail(MalformedReplyError, f"sent {shorten(encoding, 20)!r} encoding, which was not asked for.")
        if self.status >= 400:
            error = status_error(
                self.status,
                self.headers,
                self._scrubber.error(await self._beginning()),
                provider=request.provider,
                wall_clock=self._wall_clock,
            )
            raise error
        if self.status >= 300:
            self._refuse_redirect()

    def _outgoing(self) -> httpx.Request:
        return _outgoing(self._request, self._is_stream, self._note)

    async def _note(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket while httpcore sets it up: cancelled inside a handshake, it would leave it open."""
        if event.endswith("connect_tcp.complete"):
            self._half_open = info.get("return_value")

    async def read(self) -> bytes:
        """The rest of the body, without what it must not repeat."""
        pieces = []
        while piece := await self.next_piece():
            pieces.append(piece)
        return self._scrubber.reply(b"".join(pieces))

    def cleaned(self, event: ServerSentEvent) -> ServerSentEvent:
        """An event without what it must not repeat."""
        data = self._scrubber.reply(event.data)
        return event if data == event.data else ServerSentEvent(event.event, data)

    async def next_piece(self) -> bytes:
        """The next decoded bytes; empty at the end."""
        while True:
            try:
                piece = next(self._decoded, b"")
            except zlib.error:
                piece = None
            if piece is None:
                self._fail(MalformedReplyError, "sent a body that is not compressed as its header says.")
            if piece:
                self._read_bytes += len(piece)
                if self._read_bytes > self._request.max_bytes:
                    self._fail(TooLargeError, f"sent more than {self._request.max_bytes} bytes; reading stopped.")
                return piece
            raw = await self._next_raw()
            if not raw:
                if self._decoder is not None and not self._decoder.is_at_end:
                    self._fail(IncompleteReplyError, "sent a compressed body that breaks off.")
                return b""
            self._decoded = self._decoder.feed(raw) if self._decoder is not None else iter((raw,))

    async def close(self) -> None:
        """Give the connection back when the response was read to its end, else close it."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        try:
            if self._raw is not None and not self._is_whole and not self._has_failed:
                await self._drain()
        finally:
            await self._release(transport)

    async def _release(self, transport: httpx.AsyncBaseTransport) -> None:
        if self._stream is not None:
            if not self._is_whole and isinstance(self._raw, AsyncGenerator):
                await close_quietly(self._raw.aclose())
            await close_quietly(self._stream.aclose())
        self._raw = None
        if self._is_whole:
            await self._pool.give_back(self._route, transport)
            return
        await self._pool.drop(self._route, transport)
        # Generators inside the libraries end as tasks of the loop, two turns from now. Not after the call.
        for _ in range(2):
            await asyncio.sleep(0)

    async def _drain(self) -> None:
        """Read what is left, if it is little and there already."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_S):
                while left > 0 and self._raw is not None:
                    left -= len(await anext(self._raw))
        except StopAsyncIteration:
            self._is_whole = True
        except Exception:
            return  # then the connection is not used again, and that is all there is to it

    async def _beginning(self) -> bytes:
        """The first bytes of an error's body, as far as they come."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < MAX_ERROR_BYTES and (piece := await self.next_piece()):
                pieces.append(piece)
                size += len(piece)
        except AichatError:
            pass  # the status says more than the broken body does
        return b"".join(pieces)[:MAX_ERROR_BYTES]

    async def _next_raw(self) -> bytes:
        """The next bytes off the wire; empty at the end."""
        raw = self._raw
        if raw is None or self._is_whole:
            return b""
        while True:
            piece = await self._wait(lambda: _next_or_none(raw))
            if piece is None:
                self._is_whole = True
                return b""
            if piece:
                return piece

    async def _wait(self, begin: Callable[[], Awaitable[_T]]) -> _T:
        """Await one step within the deadline and the idle time; raise what goes wrong as one of our errors."""
        # Before the headers only the deadline counts: a model may think for as long as the caller lets it.
        idle_end = self._loop.time() + self._request.idle_timeout_s if self._raw is not None else self._deadline
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        timer = asyncio.timeout_at(min(self._deadline, idle_end))
        error: AichatError | None = None
        try:
            async with timer:
                return await begin()
        except (Exception, BaseExceptionGroup) as caught:
            self._has_failed = True
            # anyio can turn a cancel during connect into another exception: then neither is reported.
            if task is None or task.cancelling() <= before:
                error = self._late(idle_end) if timer.expired() else self._broken(caught)
        except BaseException:
            self._has_failed = True
            raise
        if error is None:
            raise asyncio.CancelledError
        raise error

    def _late(self, idle_end: float) -> AichatError:
        request = self._request
        if idle_end < self._deadline:
            text = f"{self._place} was silent for {request.idle_timeout_s:g} s."
        else:
            text = f"{self._place} did not finish within {request.timeout_s:g} s. Allow more with --timeout."
        return DeadlineError(text, provider=request.provider)

    def _broken(self, caught: BaseException) -> AichatError:
        return connection_error(
            caught,
            provider=self._request.provider,
            url=without_password(self._request.url),
            place=self._place,
            proxy=proxy_name(self._route.proxy) if self._route.proxy is not None else "",
            has_begun=self._raw is not None,
            connect_timeout_s=self._request.connect_timeout_s,
        )

    @property
    def _place(self) -> str:
        """The server, for messages."""
        return self._route.host if self._route.port in (80, 443) else f"{self._route.host}:{self._route.port}"

    def _fail(self, kind: type[MalformedReplyError | TooLargeError | IncompleteReplyError], what: str) -> None:
        self._has_failed = True
        raise kind(f"{self._request.provider or self._place} {what}", provider=self._request.provider)

    def _refuse_redirect(self) -> None:
        where = without_password(self.headers.get("location", ""))
        to = f" to {where}" if where else ""
        raise RedirectError(
            f"{self._place} redirected the request{to} ({self.status}). It was not followed, so that the key goes "
            "nowhere else. If the address is right, make it the base URL.",
            provider=self._request.provider,
        )


class _Inflater:
    """Undoes gzip and deflate in pieces of bounded size."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=47)  # 32 + 15: the header says whether gzip or zlib
        self._has_begun = False

    @property
    def is_at_end(self) -> bool:
        """Whether what came so far is whole."""
        return self._inflate.eof or not self._has_begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes that `data` stands for, at most 64 KiB at a time."""
        while data:
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(wbits=47)  # gzip may go on with another member
            self._has_begun = True
            yield self._inflate.decompress(data, _PIECE_BYTES)
            data = self._inflate.unconsumed_tail or self._inflate.unused_data


# --- what goes out


def _outgoing(
    request: HttpRequest, is_stream: bool, note: Callable[[str, Mapping[str, Any]], Awaitable[None]]
) -> httpx.Request:
    """The request for httpx. The secrets go from their closures into it, past every local variable."""
    import httpx

    # curl counts silence and total together.
    read_s = request.timeout_s if request.impersonate else None
    return httpx.Request(
        "GET" if request.body is None else "POST",
        request.url,
        headers=[*_plain_headers(request, is_stream), *_secret_headers(request)],
        content=request.body,
        extensions={
            "timeout": {"connect": request.connect_timeout_s, "read": read_s, "write": None, "pool": None},
            "trace": note,
        },
    )


def _plain_headers(request: HttpRequest, is_stream: bool) -> list[tuple[str, str]]:
    """Headers without secrets: the caller's, and ours where the caller has none."""
    defaults = {"accept": "text/event-stream, application/json" if is_stream else "application/json"}
    if request.body is not None:
        defaults["content-type"] = "application/json"
    if request.impersonate is None:
        from . import __version__

        defaults["user-agent"] = f"aichat-magic/{__version__}"
        # Packed streams tend to be held back until a block is full.
        defaults["accept-encoding"] = "identity" if is_stream else "gzip"
    given = {name.lower() for name, _ in request.headers}
    return [*((k, v) for k, v in defaults.items() if k not in given), *request.headers]


def _secret_headers(request: HttpRequest) -> list[tuple[str, str]]:
    """The key's header and the cookies that belong to the host."""
    auth = request.auth
    return [
        *([(auth.header, auth.prefix + auth.secret.reveal())] if auth is not None else []),
        *(("cookie", text) for text in (cookie_header(request.cookies, request.url),) if text),
    ]


def _check_headers(request: HttpRequest) -> None:
    """Refuse what no header can carry, before h11 does it in a text that shows the value."""
    auth = request.auth
    if auth is not None and not _is_header(auth.prefix + auth.secret.reveal()):
        raise ConfigError(
            f"The key for provider {request.provider!r} holds a line end or another character that no key has. "
            "It was not sent. Set it again."
        )
    for cookie in request.cookies:
        if not _is_header(cookie.name + cookie.value.reveal()) or ";" in cookie.value.reveal():
            raise ConfigError(
                f"The cookie {shorten(cookie.name, 40)!r} for {shorten(cookie.domain, 60)} holds a character that "
                "no cookie has. It was not sent."
            )
    for name, value in request.headers:
        if not name or not _is_header(name + value):
            raise ConfigError(f"The header {shorten(name, 40)!r} holds a character that no header can carry.")


def _is_header(value: str) -> bool:
    """Whether all characters are printable ASCII."""
    return value.isascii() and value.isprintable()


# --- what comes back


def _scrubber(request: HttpRequest, route: Route) -> Scrubber:
    """What keeps the secrets that go out from coming back."""
    held = [cookie.value for cookie in request.cookies]
    if request.auth is not None:
        held.append(request.auth.secret)
    if route.proxy is not None:
        held.append(Secret(urlsplit(route.proxy.reveal()).password or ""))
    return Scrubber(held)


async def _next_or_none(pieces: AsyncIterator[bytes]) -> bytes | None:
    """The next piece; None at the end."""
    return await anext(pieces, None)


def _is_framed(headers: Mapping[str, str]) -> bool:
    """Whether HTTP says where the body ends."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
