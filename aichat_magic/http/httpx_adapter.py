"""The adapter over httpx: for proxies, a browser's TLS fingerprint (curl), and mocks or instrumentation of httpx.

Each connection has a transport of its own, because httpcore's pool takes time quadratic in its connections.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import ssl
from asyncio import sleep
from collections.abc import AsyncIterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError, MissingExtraError
from ..core.installation import install_command
from ..core.urls import proxy_name
from .adapters import KEEPALIVE_S, Adapter, RawResponse, close_quietly
from .deadlines import await_until
from .instrumentation import is_client_replaced
from .request import HttpRequest, headers_of
from .response import InvalidResponseError, ResponseReader, TruncatedResponseError
from .urls import Destination

if TYPE_CHECKING:
    import httpcore
    import httpx


class HttpxAdapter(Adapter):
    """The adapter over a transport of httpx, or over one with the same interface."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, is_shared: bool) -> None:
        """Take over a transport.

        Args:
            transport: The transport; it is closed with the adapter.
            is_shared: Whether it carries any number of requests at once.
        """
        self.is_shared = is_shared
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._observer = _TraceObserver()

    async def send(self, request: HttpRequest, *, is_stream: bool, deadline: float) -> RawResponse:
        """Send a request and wait for status and headers."""
        return _HttpxResponse(await await_until(deadline, self._send(request, is_stream)))

    async def _send(self, request: HttpRequest, is_stream: bool) -> httpx.Response:
        has_response = False
        try:
            if is_client_replaced():
                client = self._client = self._client or _client_over(self._transport)
                response = await client.send(
                    self._httpx_request(request, is_stream), stream=True, auth=None, follow_redirects=False
                )
            else:
                response = await self._transport.handle_async_request(self._httpx_request(request, is_stream))
            has_response = True
        finally:
            half_open = self._observer.take_half_open()
            if half_open is not None and not has_response:
                await close_quietly(half_open.aclose())
        return response

    def _httpx_request(self, request: HttpRequest, is_stream: bool) -> httpx.Request:
        """Return the request for httpx. The secrets go from their closures into it, past every local variable."""
        import httpx

        # curl has one timeout for silence and total time together.
        read_s = request.timeout_s if request.impersonate else None
        return httpx.Request(
            "GET" if request.body is None else "POST",
            request.url,
            headers=headers_of(request, is_stream=is_stream),
            content=request.body,
            extensions={
                "timeout": {"connect": request.connect_timeout_s, "read": read_s, "write": None, "pool": None},
                **({} if self.is_shared else {"trace": self._observer.on_event}),
            },
        )

    @property
    def is_reusable(self) -> bool:
        """Return whether nothing came after the response: httpcore would take that for the response to the next one."""
        return self.is_shared or self._observer.is_clean

    async def aclose(self) -> None:
        """Close the transport."""
        await (self._transport if self._client is None else self._client).aclose()
        # Generators inside the libraries end as tasks of the loop, two turns from now. Wait for them.
        for _ in range(2):
            await sleep(0)


class _TraceObserver:
    """The observer of what a connection of httpcore reads.

    httpcore keeps bytes that come after a response and reads them as the next one, without telling how many there are.
    But it tells when it opens a stream (the extension `trace`), and it reads streams through a public method.
    """

    def __init__(self) -> None:
        self._half_open: httpcore.AsyncNetworkStream | None = None
        self._reader: ResponseReader | None = None

    @property
    def is_clean(self) -> bool:
        """Return whether the last response was read to its end, and nothing after it."""
        return self._reader is not None and self._reader.is_reusable

    def take_half_open(self) -> httpcore.AsyncNetworkStream | None:
        """Return the socket of an unfinished connection: httpcore leaves it open when cancelled during a handshake."""
        half_open, self._half_open = self._half_open, None
        return half_open

    async def on_event(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow the steps of a request; httpcore calls this at each of them."""
        if event.endswith("send_request_headers.started"):
            self._reader = ResponseReader()
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream: httpcore.AsyncNetworkStream = info["return_value"]
            if event.endswith("connect_tcp.complete"):
                self._half_open = stream
            self._observe_reads(stream)

    def _observe_reads(self, stream: httpcore.AsyncNetworkStream) -> None:
        read = stream.read

        async def observed_read(max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's own
            data = await read(max_bytes, timeout)
            if self._reader is not None:
                self._reader.feed(data)
                with contextlib.suppress(InvalidResponseError, TruncatedResponseError):
                    self._reader.read_body()  # thrown away: only where the response ends matters here
                if not data:
                    self._reader.close()
            return data

        # A stream whose method cannot be replaced is not used for a second request.
        with contextlib.suppress(AttributeError):
            stream.read = observed_read  # type: ignore[method-assign]  # of this one stream


class _HttpxResponse(RawResponse):
    """A response that arrives through httpx."""

    def __init__(self, response: httpx.Response) -> None:
        import httpx

        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers.raw:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        stream = response.stream
        if response.is_stream_consumed and not isinstance(stream, httpx.ByteStream):
            # A mock or an instrumentation of httpx has read it already, and httpx has decoded it.
            headers.pop("content-encoding", None)
            stream = httpx.ByteStream(response.content)
        assert isinstance(stream, AsyncIterable)
        super().__init__(response.status_code, headers)
        self._stream = stream
        self._pieces = aiter(stream)

    async def read(self, deadline: float) -> bytes:
        """Return the next bytes of the body."""
        return await await_until(deadline, self._next())

    async def _next(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""

    async def aclose(self) -> None:
        """Close the stream of the body."""
        for closing in (self._pieces, self._stream):
            if hasattr(closing, "aclose"):
                await close_quietly(closing.aclose())


def _client_over(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """Return a client that adds nothing to requests and keeps no cookies of responses."""
    import httpx

    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(transport=transport, trust_env=False, cookies=no_cookies)


def single_connection(destination: Destination, context: ssl.SSLContext) -> Adapter:
    """Return an adapter over httpx with a single connection.

    Raises:
        ConfigError: httpx cannot use the proxy, or the package for SOCKS proxies is not installed.
    """
    import httpx

    proxy = destination.proxy
    if proxy is not None and proxy.reveal().startswith("socks") and not _is_installed("socksio"):
        raise ConfigError(
            f"{proxy_name(proxy)} is a SOCKS proxy, which needs a package that is not installed: "
            f"{install_command('socks')}"
        )
    # At DEBUG httpcore logs the user name and password for a SOCKS proxy. Adding the same filter again has no effect.
    logging.getLogger("httpcore.socks").addFilter(_has_no_password)
    transport: httpx.AsyncBaseTransport | None = None
    try:
        transport = httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S),
            proxy=None
            if proxy is None
            else httpx.Proxy(
                proxy.reveal(),
                ssl_context=context if proxy.reveal().startswith("https:") else None,
            ),
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # the text of the error would show the proxy
    if transport is None:
        raise ConfigError("The proxy cannot be used. Check its URL.")
    return HttpxAdapter(transport, is_shared=False)


def _is_installed(module: str) -> bool:
    """Return whether a module can be imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _has_no_password(record: logging.LogRecord) -> bool:
    """Return whether a log record of httpcore is free of the proxy's password."""
    return "auth=" not in record.getMessage()


def browser_connections(destination: Destination) -> Adapter:
    """Return an adapter over curl, with the TLS fingerprint of a browser.

    Raises:
        MissingExtraError: The package for it is not installed.
    """
    import httpx

    curl: Any = None
    with contextlib.suppress(ImportError):
        curl = importlib.import_module("httpx_curl_cffi")
    if curl is None:
        raise MissingExtraError(f"impersonate needs a package that is not installed: {install_command('impersonate')}")
    transport: httpx.AsyncBaseTransport = curl.AsyncCurlTransport(
        impersonate=destination.impersonate,
        default_headers=True,
        verify=destination.verify,
        max_connections=64,
        proxy=None if destination.proxy is None else httpx.Proxy(destination.proxy.reveal()),
    )
    return HttpxAdapter(transport, is_shared=True)
