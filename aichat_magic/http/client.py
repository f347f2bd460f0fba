"""POST JSON and read JSON or server-sent events; nothing above this room knows how.

A request takes a connection from the free list of its route (`connections.Pool`, one per event loop), is read in pieces
(`exchange`) and gives the connection back when it was read to its end; otherwise the connection is closed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.secrets import Environment
from ..core.urls import checked_proxy
from .adapters import Adapter, DirectAdapter, new_receive_buffer, tls_context
from .connection_limit import ConnectionLimit
from .errors import parse_json
from .exchange import Exchange
from .httpx_adapter import HttpxAdapter, browser_connections, single_connection
from .instrumentation import is_httpx_replaced
from .pool import Pool
from .request import Auth, Cookie, HttpRequest, check_headers
from .sse import EventParser, ServerSentEvent
from .urls import Route, proxy_for, target

if TYPE_CHECKING:
    import httpx

__all__ = ["Auth", "Cookie", "HttpClient", "HttpRequest", "HttpResponse", "ServerSentEvent", "parse_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole response with a status below 300.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case.
        body: The decoded body.
        provider: Name of the provider, for errors.
        is_framed: Whether HTTP said where the body ends.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    provider: str = ""
    is_framed: bool = True

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            MalformedReplyError: It is not JSON, or is hostile.
            IncompleteReplyError: It breaks off, and the server did not say how long it is.
        """
        return parse_json(self.body, self.provider, is_framed=self.is_framed)


class HttpClient:
    """Connections, kept per event loop and reused. One instance serves any number of loops and threads."""

    def __init__(
        self,
        *,
        mock: httpx.AsyncBaseTransport | None = None,
        wall_clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
        is_direct: bool = True,
        limit: Callable[[], ConnectionLimit] = ConnectionLimit,
    ) -> None:
        """Open nothing yet.

        Args:
            mock: Replaces the network (tests).
            wall_clock: Seconds since 1970, for HTTP dates.
            environ: Where proxies and certificates are read; default `os.environ`.
            is_direct: Whether connections without a proxy are our own, as long as nobody stands in for httpx or watches
                it; else httpx carries them, like those with one.
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
        return HttpResponse(
            status=exchange.status,
            headers=exchange.headers,
            body=body,
            provider=request.provider,
            is_framed=exchange.is_framed,
        )

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
                parse_json(body, request.provider, is_framed=exchange.is_framed)
                yield ServerSentEvent("", body.decode("utf-8-sig"))
                return
            parser = EventParser(request.provider)
            while piece := await exchange.next_piece():
                for event in parser.feed(piece):
                    yield exchange.cleaned(event)
            if exchange.is_framed:
                for event in parser.finish():
                    yield exchange.cleaned(event)
        finally:
            await exchange.close()

    @property
    def limit(self) -> ConnectionLimit:
        """The connections that this process may have open."""
        if self._limit.pid != os.getpid():  # after a fork: those that are open are the parent's
            self._limit = self._make_limit()
        return self._limit

    async def close_idle(self) -> None:
        """Close the connections of the running loop that nobody uses, but for a few."""
        if (pool := self._pools.get(asyncio.get_running_loop())) is not None and pool.pid == os.getpid():
            await pool.close_idle()

    async def aclose(self) -> None:
        """Close the connections that belong to the running loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def _exchange(self, request: HttpRequest, *, is_stream: bool = False) -> Exchange:
        """The exchange for a request, everything checked that can be before sending."""
        scheme, host, port = target(request.url)
        check_headers(request)
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
            is_direct=proxy is None and self._is_direct and not is_httpx_replaced(),
        )
        return Exchange(request, route, await self._pool(), self._wall_clock, is_stream)

    async def _pool(self) -> Pool:
        """The pool of the running loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is not None and pool.pid != os.getpid():
            # After a fork these sockets are the parent's. Closing them here would say goodbye in its name.
            self._left_to_parent.append(pool)
            pool = None
        if pool is None or pool.is_closed:
            for other in [other for other in self._pools if other.is_closed()]:
                self._pools.pop(other).abandon()
            pool = self._pools[loop] = Pool(partial(self._make, new_receive_buffer()), self.limit)
            await pool.begin()
        return pool

    def _make(self, inbox: memoryview, route: Route) -> Adapter:
        """A new way to the server."""
        if self._mock is not None:
            return HttpxAdapter(self._mock, is_shared=True)
        if route.impersonate is not None:
            return browser_connections(route)
        if route.is_direct:
            return DirectAdapter(route, self._context(route.verify), inbox)
        return single_connection(route, self._context(route.verify))

    def _context(self, verify: bool) -> ssl.SSLContext:
        """The TLS context, made once: it costs 17 ms."""
        if verify not in self._contexts:
            self._contexts[verify] = tls_context(verify, self._environ)
        return self._contexts[verify]
