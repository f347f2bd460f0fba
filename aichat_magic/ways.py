"""Ways to a server: a `Way` carries a request there and brings back an `Answer`.

Direct connections are our own (`sockets`, `http1`): they cost a fraction of the CPU that httpx takes, or aiohttp;
`benchmarks/RESULTS.md` has the figures. Proxies are httpx's business, one transport per connection, because its own
pool is quadratic in the connections. So is the TLS fingerprint of a browser, over curl.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import ssl
import time
from abc import ABC, abstractmethod
from asyncio import sleep, timeout
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from .errors import ConfigError, MissingExtraError
from .outgoing import HttpRequest, headers_of
from .routes import Route, is_address
from .sockets import Line, connect
from .urls import proxy_name

if TYPE_CHECKING:
    import httpcore
    import httpx

KEEPALIVE_S = 60.0
_CLOSING_S = 0.2
_INBOX_BYTES = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What may stand in a path and a query as it is.
_PATH_CHARACTERS = "/?%:@!$&'()*+,;=~-._"


class Answer:
    """A response as it comes off the wire.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case; several of one name joined by commas.
    """

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]], stream: AsyncIterable[bytes]) -> None:
        """Read nothing yet."""
        self.status = status
        self.headers: dict[str, str] = {}
        for raw_name, value in headers:
            name = raw_name.decode("latin-1").lower()
            text = value.decode("latin-1")
            self.headers[name] = f"{self.headers[name]}, {text}" if name in self.headers else text
        self._stream = stream
        self._pieces = aiter(stream)
        self._line = stream.line if isinstance(stream, _Body) else None

    def at_hand(self) -> bytes | None:
        """What `piece` would give at once; None when it would wait, or raise."""
        if self._line is not None:
            with contextlib.suppress(Exception):
                return self._line.reader.piece()
        return None

    async def piece(self) -> bytes:
        """The next bytes of the body, as they were sent; empty at its end."""
        async for piece in self._pieces:
            if piece:
                return piece
        return b""

    async def aclose(self) -> None:
        """Let go of it, in whatever state it is. Its `Way` is closed after it, or given back."""
        if self._line is not None:
            return
        for closing in (self._pieces, self._stream):
            if hasattr(closing, "aclose"):
                await close_quietly(closing.aclose())


class Way(ABC):
    """One connection, or what carries any number of requests at once (`is_shared`)."""

    is_shared = False

    @abstractmethod
    async def send(self, request: HttpRequest, *, is_stream: bool) -> Answer:
        """Send, and wait for the headers. Raises what the library raises."""

    @property
    def is_reusable(self) -> bool:
        """Whether it can be used again after a response that was read to its end."""
        return True

    @abstractmethod
    async def aclose(self) -> None:
        """Close what is open, at once."""


async def close_quietly(closing: Awaitable[None]) -> None:
    """Close, whatever the other side has done to the connection; curl would wait for the other side's end."""
    try:
        async with timeout(_CLOSING_S):
            await closing
    except Exception:
        return  # closed is closed


# --- directly


def new_inbox() -> memoryview:
    """Where the direct connections of one loop read to.

    Without it asyncio asks for 256 KiB at each read, which is memory that the system has to find and to take back: a
    sixth of the CPU of a row.
    """
    return memoryview(bytearray(_INBOX_BYTES))


class Direct(Way):
    """A connection of our own, opened with the first request and again when the server has closed it."""

    def __init__(self, route: Route, context: ssl.SSLContext, inbox: memoryview) -> None:
        """Open nothing yet."""
        import httpcore

        self._route = route
        self._context = context
        self._inbox = inbox
        self._line: Line | None = None
        self._used_at = 0.0
        host = route.host if route.host.isascii() else route.host.encode("idna").decode("ascii")
        self._host = host
        port = "" if route.port == _DEFAULT_PORTS[route.scheme] else f":{route.port}"
        self._host_header = (f"[{host}]{port}" if ":" in host else f"{host}{port}").encode("ascii")
        # What stands in for httpcore's connections, as respx does in tests, stands in for ours, too: the request goes
        # through the outer one of httpcore's two connection objects, and ours takes the place of the inner one.
        self._address = ""
        self._url = httpcore.URL(scheme=route.scheme, host=host, port=route.port)
        self._outer = httpcore.AsyncHTTPConnection(self._url.origin)
        self._outer._connection = self  # type: ignore[assignment]  # all that the outer one calls of it is here
        self._outer._request_lock = contextlib.nullcontext()  # type: ignore[assignment]  # one request at a time anyway

    async def send(self, request: HttpRequest, *, is_stream: bool) -> Answer:
        """Send, and wait for the headers."""
        response = await self._outer.handle_async_request(self._worded(request, is_stream))
        return Answer(response.status, response.headers, cast(AsyncIterable[bytes], response.stream))

    def _worded(self, request: HttpRequest, is_stream: bool) -> httpcore.Request:
        """The request for httpcore. The secrets go from their closures into it, past every local variable."""
        import httpcore

        if request.url != self._address:
            self._address, self._url = (
                request.url,
                httpcore.URL(
                    scheme=self._route.scheme, host=self._host, port=self._route.port, target=_target(request.url)
                ),
            )
        outgoing = httpcore.Request(
            b"GET" if request.body is None else b"POST",
            self._url,
            content=request.body,
            extensions={"timeout": {"connect": request.connect_timeout_s}},
        )
        # Set afterwards, because httpcore looks at the type of each, one by one.
        outgoing.headers = headers_of(request, is_stream=is_stream)
        outgoing.headers.insert(0, (b"host", self._host_header))
        if request.body is not None:
            outgoing.headers.append((b"content-length", b"%d" % len(request.body)))
        return outgoing

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """What httpcore's outer connection asks of the inner one."""
        import httpcore

        line = self._line
        if line is None or not line.is_idle or time.monotonic() - self._used_at > KEEPALIVE_S:
            await self.aclose()
            line = self._line = await connect(
                self._route.scheme,
                self._host,
                self._route.port,
                self._context,
                inbox=self._inbox,
                timeout_s=request.extensions["timeout"]["connect"],
                is_literal=is_address(self._host),
            )
        # A request that was made of bytes gives them to synchronous readers, too; for asynchronous ones the loop would
        # have to keep a generator.
        body = b"".join(cast(Iterable[bytes], request.stream))
        line.send(request.method, request.url.target, request.headers, body)
        head = await line.head()
        response = httpcore.Response(head.status)
        response.headers, response.stream = head.headers, _Body(line)
        return response

    @property
    def is_reusable(self) -> bool:
        """Whether another request can follow on this connection."""
        if self._line is None:
            return True
        if not self._line.is_reusable:
            return False
        self._line.reader.reset()
        self._used_at = time.monotonic()
        return True

    async def aclose(self) -> None:
        """Close the connection, if one is open."""
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


class _Body:
    """The body that is still to come over a line."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if piece := await self.line.piece():
            return piece
        raise StopAsyncIteration


def _target(url: str) -> str:
    """Path and query of a URL as a request names them."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe=_PATH_CHARACTERS)


# --- by httpx


class ByHttpx(Way):
    """A transport of httpx's, or one that speaks its language: for proxies, for curl, for tests."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, is_shared: bool) -> None:
        """Take over the transport."""
        self.is_shared = is_shared
        self._transport = transport
        self._half_open: Any = None  # httpcore.AsyncNetworkStream

    async def send(self, request: HttpRequest, *, is_stream: bool) -> Answer:
        """Send, and wait for the headers."""
        has_answered = False
        try:
            response = await self._transport.handle_async_request(self._worded(request, is_stream))
            has_answered = True
        finally:
            half_open, self._half_open = self._half_open, None
            if half_open is not None and not has_answered:
                await close_quietly(half_open.aclose())
        assert isinstance(response.stream, AsyncIterable)
        return Answer(response.status_code, response.headers.raw, response.stream)

    def _worded(self, request: HttpRequest, is_stream: bool) -> httpx.Request:
        """The request for httpx. The secrets go from their closures into it, past every local variable."""
        import httpx

        # curl counts silence and total together.
        read_s = request.timeout_s if request.impersonate else None
        return httpx.Request(
            "GET" if request.body is None else "POST",
            request.url,
            headers=headers_of(request, is_stream=is_stream),
            content=request.body,
            extensions={
                "timeout": {"connect": request.connect_timeout_s, "read": read_s, "write": None, "pool": None},
                **({} if self.is_shared else {"trace": self._note}),
            },
        )

    async def _note(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket while httpcore sets it up: cancelled inside a handshake, it would leave it open."""
        if event.endswith("connect_tcp.complete"):
            self._half_open = info.get("return_value")

    @property
    def is_reusable(self) -> bool:
        """Whether nothing came after the response: httpcore would take it for the answer to the next request."""
        return self.is_shared or not _has_surplus(self._transport)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()
        # Generators inside the libraries end as tasks of the loop, two turns from now. Not after the call.
        for _ in range(2):
            await sleep(0)


def _has_surplus(transport: Any) -> bool:
    """Whether more has come than the answer."""
    for connection in getattr(getattr(transport, "_pool", None), "connections", ()):
        while connection is not None:
            if (parser := getattr(connection, "_h11_state", None)) is not None and parser.trailing_data[0]:
                return True
            connection = getattr(connection, "_connection", None)
    return False


def single_connection(route: Route, context: ssl.SSLContext) -> Way:
    """A transport of httpx's own, for one connection.

    Raises:
        ConfigError: httpx cannot use the proxy, or the package for SOCKS proxies is not installed.
    """
    import httpx

    if route.proxy is not None and route.proxy.reveal().startswith("socks") and not _is_installed("socksio"):
        raise ConfigError(
            f"{proxy_name(route.proxy)} is a SOCKS proxy, which needs a package that is not installed: "
            'pip install "aichat-magic[socks]"'
        )
    # At DEBUG httpcore logs the user name and password for a SOCKS proxy. A filter is there once, however often added.
    logging.getLogger("httpcore.socks").addFilter(_names_no_password)
    transport: httpx.AsyncBaseTransport | None = None
    try:
        transport = httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S),
            proxy=None
            if route.proxy is None
            else httpx.Proxy(
                route.proxy.reveal(),
                ssl_context=context if route.proxy.reveal().startswith("https:") else None,
            ),
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # its text would show the proxy
    if transport is None:
        raise ConfigError("The proxy cannot be used: check its URL.")
    return ByHttpx(transport, is_shared=False)


def _is_installed(module: str) -> bool:
    """Whether a package can be imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _names_no_password(record: logging.LogRecord) -> bool:
    """Whether a line of httpcore's log is free of the proxy's password."""
    return "auth=" not in record.getMessage()


def browser_connections(route: Route) -> Way:
    """A transport over curl with a browser's TLS fingerprint.

    Raises:
        MissingExtraError: It is not installed.
    """
    import httpx

    curl: Any = None
    with contextlib.suppress(ImportError):
        curl = importlib.import_module("httpx_curl_cffi")
    if curl is None:
        raise MissingExtraError(
            "impersonate needs a package that is not installed: pip install 'aichat-magic[impersonate]'"
        )
    transport: httpx.AsyncBaseTransport = curl.AsyncCurlTransport(
        impersonate=route.impersonate,
        default_headers=True,
        verify=route.verify,
        max_connections=64,
        proxy=None if route.proxy is None else httpx.Proxy(route.proxy.reveal()),
    )
    return ByHttpx(transport, is_shared=True)


def tls_context(verify: bool, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Certificates from SSL_CERT_FILE, SSL_CERT_DIR or certifi, as httpx has it; none when they are not checked.

    Raises:
        ConfigError: The variables name no certificates.
    """
    context: ssl.SSLContext | None = None
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return context
    try:
        if environ.get("SSL_CERT_FILE"):
            context = ssl.create_default_context(cafile=environ["SSL_CERT_FILE"])
        elif environ.get("SSL_CERT_DIR"):
            context = ssl.create_default_context(capath=environ["SSL_CERT_DIR"])
        else:
            import certifi

            context = ssl.create_default_context(cafile=certifi.where())
    except OSError:
        pass
    if context is None:
        raise ConfigError("SSL_CERT_FILE or SSL_CERT_DIR names no certificates that can be read.")
    context.set_alpn_protocols(["http/1.1"])
    return context
