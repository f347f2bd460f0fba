"""Send by httpx: through a proxy, with a browser's TLS fingerprint (curl), or to whatever stands in for httpx.

One transport per connection, because httpcore's own pool is quadratic in the connections.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import ssl
from asyncio import CancelledError, current_task, sleep, timeout_at
from collections.abc import AsyncIterable, Awaitable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import ConfigError, MissingExtraError
from ..core.urls import proxy_name
from .adapters import KEEPALIVE_S, Adapter, Answer, close_quietly
from .connection import OverdueError
from .instrumentation import is_client_replaced
from .request import HttpRequest, headers_of
from .response import InvalidResponseError, ResponseReader, TruncatedResponseError
from .urls import Route

if TYPE_CHECKING:
    import httpcore
    import httpx

_T = TypeVar("_T")


class HttpxAdapter(Adapter):
    """A transport of httpx's, or one that speaks its language."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, is_shared: bool) -> None:
        """Take over the transport."""
        self.is_shared = is_shared
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._watch = _Watch()

    async def send(self, request: HttpRequest, *, is_stream: bool, until: float) -> Answer:
        """Send, and wait for the headers."""
        return _HttpxAnswer(await _within(until, self._response(request, is_stream)))

    async def _response(self, request: HttpRequest, is_stream: bool) -> httpx.Response:
        has_answered = False
        try:
            if is_client_replaced():
                client = self._client = self._client or _client_over(self._transport)
                response = await client.send(
                    self._worded(request, is_stream), stream=True, auth=None, follow_redirects=False
                )
            else:
                response = await self._transport.handle_async_request(self._worded(request, is_stream))
            has_answered = True
        finally:
            half_open = self._watch.take_half_open()
            if half_open is not None and not has_answered:
                await close_quietly(half_open.aclose())
        return response

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
                **({} if self.is_shared else {"trace": self._watch.note}),
            },
        )

    @property
    def is_reusable(self) -> bool:
        """Whether nothing came after the response: httpcore would take it for the response to the next request."""
        return self.is_shared or self._watch.is_clean

    async def aclose(self) -> None:
        """Close the transport."""
        await (self._transport if self._client is None else self._client).aclose()
        # Generators inside the libraries end as tasks of the loop, two turns from now. Not after the call.
        for _ in range(2):
            await sleep(0)


class _Watch:
    """Reads along what a connection of httpcore's reads.

    httpcore keeps what comes after a response and reads it as the next one; how much that is it does not tell. It does
    tell when it opens a stream (the extension `trace`), and streams are read by a public method.
    """

    def __init__(self) -> None:
        self._half_open: httpcore.AsyncNetworkStream | None = None
        self._reader: ResponseReader | None = None

    @property
    def is_clean(self) -> bool:
        """Whether the last response was read to its end, and nothing after it."""
        return self._reader is not None and self._reader.is_reusable

    def take_half_open(self) -> httpcore.AsyncNetworkStream | None:
        """The socket of a connection that was being set up: cancelled inside a handshake, httpcore leaves it open."""
        half_open, self._half_open = self._half_open, None
        return half_open

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take part in what httpcore does. httpcore calls it."""
        if event.endswith("send_request_headers.started"):
            self._reader = ResponseReader()
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream: httpcore.AsyncNetworkStream = info["return_value"]
            if event.endswith("connect_tcp.complete"):
                self._half_open = stream
            self._read_along(stream)

    def _read_along(self, stream: httpcore.AsyncNetworkStream) -> None:
        read = stream.read

        async def read_along(max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's own
            data = await read(max_bytes, timeout)
            if self._reader is not None:
                self._reader.feed(data)
                with contextlib.suppress(InvalidResponseError, TruncatedResponseError):
                    self._reader.piece()  # only its length was of interest
                if not data:
                    self._reader.close()
            return data

        # A stream that does not let itself be listened to is not used twice.
        with contextlib.suppress(AttributeError):
            stream.read = read_along  # type: ignore[method-assign]  # of this one stream


class _HttpxAnswer(Answer):
    """A response of httpx's."""

    def __init__(self, response: httpx.Response) -> None:
        import httpx

        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers.raw:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        stream = response.stream
        if response.is_stream_consumed and not isinstance(stream, httpx.ByteStream):
            # Whoever stands in for httpx has read it already, and httpx has undone its encoding.
            headers.pop("content-encoding", None)
            stream = httpx.ByteStream(response.content)
        assert isinstance(stream, AsyncIterable)
        super().__init__(response.status_code, headers)
        self._stream = stream
        self._pieces = aiter(stream)

    async def piece(self, until: float) -> bytes:
        """Return the next bytes of the body."""
        return await _within(until, self._next())

    async def _next(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""

    async def aclose(self) -> None:
        """Let go of it."""
        for closing in (self._pieces, self._stream):
            if hasattr(closing, "aclose"):
                await close_quietly(closing.aclose())


async def _within(until: float, step: Awaitable[_T]) -> _T:
    """Await a step of httpx's.

    Raises:
        OverdueError: The time is over.
        Exception: What the step raises. anyio can turn a cancel into another exception: then it is a cancel again.
    """
    task = current_task()
    before = task.cancelling() if task is not None else 0
    timer = timeout_at(until)
    error: BaseException
    try:
        async with timer:
            return await step
    except (Exception, BaseExceptionGroup) as caught:
        is_cancelled = task is not None and task.cancelling() > before
        error = CancelledError() if is_cancelled else OverdueError() if timer.expired() else caught
    raise error


def _client_over(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """A client that adds nothing to a request, and keeps no cookie of a response."""
    import httpx

    nobody = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(transport=transport, trust_env=False, cookies=nobody)


def single_connection(route: Route, context: ssl.SSLContext) -> Adapter:
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
    return HttpxAdapter(transport, is_shared=False)


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


def browser_connections(route: Route) -> Adapter:
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
    return HttpxAdapter(transport, is_shared=True)
