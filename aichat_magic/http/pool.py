"""The connections of an event loop, kept and reused: per `Route` a stack of the ways that are free.

Each has a place under the limit of the process (`connection_limit`), while it is in use and while it is kept.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable

from .adapters import KEEPALIVE_S, Adapter, close_quietly
from .connection_limit import ConnectionLimit
from .urls import Route

MAX_IDLE = 512
# So many are kept for what comes next, once a run is over. The server closes them while no loop runs, sooner or later.
KEPT_AT_REST = 4


class Pool:
    """The connections of one event loop: per route a stack of those that are free."""

    def __init__(self, make: Callable[[Route], Adapter], limit: ConnectionLimit) -> None:
        """Begin empty.

        Args:
            make: Finds a way to the server.
            limit: How many connections the process may have open.
        """
        self.limit = limit
        # The places of this pool, by way: the host, and whether it is idle.
        self._places: dict[int, tuple[str, bool]] = {}
        self.pid = os.getpid()
        self.is_closed = False
        self._make = make
        self._free: dict[Route, deque[tuple[float, Adapter]]] = {}
        self._shared: dict[Route, Adapter] = {}
        self._all: set[Adapter] = set()
        self._keeper = self._keep()

    async def begin(self) -> None:
        """Have the loop close this pool when it ends: it closes the asynchronous generators that it has begun."""
        await anext(self._keeper)

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close_all()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._keeper.aclose()

    async def _close_all(self) -> None:
        self.is_closed = True
        self._free.clear()
        self._shared.clear()
        while self._all:
            await self._close(self._all.pop())

    def abandon(self) -> None:
        """Give the places back: the loop was closed, and nothing can be done with the connections any more."""
        self.is_closed = True
        while self._places:
            host, is_idle = self._places.popitem()[1]
            self.limit.release(host, is_idle=is_idle)

    def take(self, route: Route) -> Adapter | None:
        """Return the connection that was used last, or a new one; None where one has to be waited for.

        `give_back` or `drop` follows in every case.
        """
        if route in self._shared:
            return self._shared[route]
        free = self._free.get(route)
        if free:
            way = free.pop()[1]
            self._places[id(way)] = (route.host, False)
            self.limit.wake(route.host)
            return way
        return self._new(route) if self.limit.take(route.host) else None

    async def wait(self, route: Route) -> Adapter:
        """Return a connection as soon as there is a place for one; first come, first served."""
        await self._close_one_idle()
        await self.limit.wait(route.host)
        return self._new(route)

    def _new(self, route: Route) -> Adapter:
        """Return a new connection, in a place that was taken for it."""
        try:
            way = self._make(route)
        except BaseException:
            self.limit.release(route.host)
            raise
        self._all.add(way)
        if way.is_shared:  # as many connections as it likes, or none
            self._shared[route] = way
            self.limit.release(route.host)
        else:
            self._places[id(way)] = (route.host, False)
        return way

    async def give_back(self, route: Route, way: Adapter) -> None:
        """Keep the connection for the next request; close those that nobody wanted for long."""
        if way.is_shared:
            return
        if self.is_closed or not way.is_reusable or not self.limit.rest(route.host):
            await self._close(way)
            return
        self._places[id(way)] = (route.host, True)
        now = time.monotonic()
        free = self._free.get(route)
        if free is None:
            free = self._free[route] = deque()
        free.append((now, way))
        while free and (len(free) > MAX_IDLE or free[0][0] < now - KEEPALIVE_S):
            await self._close(free.popleft()[1])

    async def drop(self, way: Adapter) -> None:
        """Close a connection that cannot be used again."""
        if not way.is_shared:
            await self._close(way)

    async def close_idle(self, kept: int = KEPT_AT_REST) -> None:
        """Close the connections that nobody uses, but for the last few of each route.

        Args:
            kept: How many of each route stay open.
        """
        closing: list[Adapter] = []
        for free in self._free.values():
            while len(free) > kept:
                closing.append(free.popleft()[1])
        if closing:
            await asyncio.gather(*(self._close(way) for way in closing))

    async def _close_one_idle(self) -> None:
        """Close the connection that has been idle for longest, to any host: its place may be all that is wanted."""
        oldest = min((free for free in self._free.values() if free), key=lambda free: free[0][0], default=None)
        if oldest is not None:
            await self._close(oldest.popleft()[1])

    async def _close(self, way: Adapter) -> None:
        try:
            await close_quietly(way.aclose())
        finally:
            if (place := self._places.pop(id(way), None)) is not None:
                self.limit.release(place[0], is_idle=place[1])
        self._all.discard(way)  # after it: what an interrupt leaves open is closed with the pool
