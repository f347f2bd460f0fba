"""The HTTP client: posts JSON and reads JSON or server-sent events.

A request takes a connection from the `pool` of its event loop, and its response is read piece by piece (`exchange`).
Read to its end, the response frees the connection for the next request; otherwise the connection is closed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.secrets import Environment
from ..core.urls import checked_proxy
from .adapters import Adapter, DirectAdapter, new_receive_buffer, no_tls_context, tls_context
from .connection_limit import ConnectionLimit
from .errors import parse_json
from .exchange import Exchange
from .httpx_adapter import HttpxAdapter, browser_connections, single_connection
from .instrumentation import is_httpx_replaced
from .pool import Pool
from .request import Auth, Cookie, HttpRequest, check_headers
from .sse import EventParser, ServerSentEvent
from .urls import Destination, origin_of, proxy_for

if TYPE_CHECKING:
    import httpx

__all__ = ["Auth", "Cookie", "HttpClient", "HttpRequest", "HttpResponse", "ServerSentEvent", "parse_json"]


@dataclass(slots=True, kw_only=True)  # not frozen, as `HttpRequest`
class HttpResponse:
    """A whole response with a status below 300. Nobody changes it.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case.
        body: The decoded body.
        provider: Name of the provider, for errors.
        is_framed: Whether the headers tell where the body ends; otherwise it ends with the connection.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    provider: str = ""
    is_framed: bool = True

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            MalformedReplyError: It is not JSON, nests too deep or holds a number that cannot be read.
            IncompleteReplyError: It breaks off, and the server did not say how long it is.
        """
        return parse_json(self.body, self.provider, is_framed=self.is_framed)


class HttpClient:
    """An HTTP client that keeps connections per event loop and reuses them. Serves any number of loops and threads."""

    def __init__(
        self,
        *,
        mock: httpx.AsyncBaseTransport | None = None,
        wall_clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
        is_direct: bool = True,
        limit: Callable[[], ConnectionLimit] = ConnectionLimit,
    ) -> None:
        """Create a client; no connection is opened yet.

        Args:
            mock: Replaces the network (tests).
            wall_clock: Returns seconds since 1970, for HTTP dates.
            environ: Environment with the variables for proxies and certificates; default `os.environ`.
            is_direct: Whether requests without a proxy go over connections of our own, unless httpx is mocked or
                instrumented; if not, they go through httpx, like those with a proxy.
            limit: Makes the limit of connections that all loops and threads of this process share.
        """
        self._mock = mock
        self._wall_clock = wall_clock
        self._environ = Environment(os.environ if environ is None else environ)
        self._is_direct = is_direct
        self._make_limit = limit
        self._limit = limit()
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = weakref.WeakKeyDictionary()
        self._left_to_parent: list[Pool] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request and read the whole response.

        Args:
            request: The request.

        Returns:
            The response; its status is below 300.

        Raises:
            ProviderError: The server, or the connection to it, failed.
            ConfigError: The URL, the proxy or a header cannot be used.
            MissingExtraError: `impersonate` is set, and the package for it is not installed.
        """
        exchange = await self._exchange(request)
        try:
            await exchange.open()
            body = await exchange.read()
        finally:
            await exchange.close()
        return HttpResponse(
            status=exchange.status,
            headers=exchange.headers,
            body=body,
            provider=request.provider,
            is_framed=exchange.is_framed,
        )

    async def events(self, request: HttpRequest) -> AsyncGenerator[ServerSentEvent, None]:
        """Send a request and yield the events of the response as they arrive. Use it with `contextlib.aclosing`.

        When the server sends a single JSON object instead of a stream, that object is the only event.

        Args:
            request: The request.

        Raises:
            ProviderError: As for `send`; `IncompleteReplyError` when the connection breaks during the stream.
            ConfigError: As for `send`.
            MissingExtraError: As for `send`.
        """
        exchange = await self._exchange(request, is_stream=True)
        try:
            await exchange.open()
            content_type = exchange.headers.get("content-type", "").lower()
            if "json" in content_type or "html" in content_type:
                body = await exchange.read()
                parse_json(body, request.provider, is_framed=exchange.is_framed)
                yield ServerSentEvent("", body.decode("utf-8-sig"))
                return
            parser = EventParser(request.provider)
            while piece := await exchange.next_piece():
                for event in parser.feed(piece):
                    yield exchange.scrub(event)
            if exchange.is_framed:
                for event in parser.finish():
                    yield exchange.scrub(event)
        finally:
            await exchange.close()

    @property
    def limit(self) -> ConnectionLimit:
        """Return the limit of connections of this process."""
        if self._limit.pid != os.getpid():  # after a fork: open connections belong to the parent
            self._limit = self._make_limit()
        return self._limit

    async def close_idle(self) -> None:
        """Close the idle connections of the running loop, except a few."""
        if (pool := self._pools.get(asyncio.get_running_loop())) is not None and pool.pid == os.getpid():
            await pool.close_idle()

    async def aclose(self) -> None:
        """Close all connections of the running loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def _exchange(self, request: HttpRequest, *, is_stream: bool = False) -> Exchange:
        """Return the exchange for a request, after checking everything that can be checked before sending."""
        scheme, host, port = origin_of(request.url)
        check_headers(request)
        proxy = (
            checked_proxy(request.proxy, "the settings")
            if request.proxy is not None
            else proxy_for(scheme, host, port, self._environ)
        )
        destination = Destination(
            scheme=scheme,
            host=host,
            port=port,
            proxy=proxy,
            verify=request.verify,
            impersonate=request.impersonate,
            is_direct=proxy is None and self._is_direct and not is_httpx_replaced(),
        )
        return Exchange(request, destination, await self._pool(), self._wall_clock, is_stream)

    async def _pool(self) -> Pool:
        """Return the pool of the running loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is not None and pool.pid != os.getpid():
            # After a fork these sockets belong to the parent. Closing them here would end its TLS sessions.
            self._left_to_parent.append(pool)
            pool = None
        if pool is None or pool.is_closed:
            for reference in self._pools.keyrefs():  # a copy made at once: other threads add and remove pools meanwhile
                other = reference()
                if other is not None and other.is_closed() and (left := self._pools.pop(other, None)) is not None:
                    left.abandon()
            pool = self._pools[loop] = Pool(self._maker(), self.limit)
            await pool.begin()
        return pool

    def _maker(self) -> Callable[[Destination], Adapter]:
        """Return what makes the adapters of a loop, which read into one buffer.

        The buffer is in a closure: whoever shows the variables of a traceback does not find what a server has sent.
        """
        receive_buffer = new_receive_buffer()
        return lambda destination: self._make(receive_buffer, destination)

    def _make(self, receive_buffer: memoryview, destination: Destination) -> Adapter:
        """Return a new adapter for a destination."""
        if self._mock is not None:
            return HttpxAdapter(self._mock, is_shared=True)
        if destination.impersonate is not None:
            return browser_connections(destination)
        if destination.is_direct:
            return DirectAdapter(destination, self._context(destination), receive_buffer)
        return single_connection(destination, self._context(destination))

    def _context(self, destination: Destination) -> ssl.SSLContext:
        """Return the TLS context. It is made once, because making it takes 17 ms; plain http needs no certificates."""
        proxy = destination.proxy
        if destination.scheme == "http" and (proxy is None or not proxy.reveal().startswith("https:")):
            return no_tls_context()
        verify = destination.verify
        if verify not in self._contexts:
            self._contexts[verify] = tls_context(verify, self._environ)
        return self._contexts[verify]
