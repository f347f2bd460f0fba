"""The connections of an event loop, kept and reused: per `Route` a stack of the ways that are free."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable

from .routes import Route
from .ways import KEEPALIVE_S, Way, close_quietly

MAX_IDLE = 512


class Pool:
    """The connections of one event loop: per route a stack of those that are free."""

    def __init__(self, make: Callable[[Route], Way]) -> None:
        """Begin empty; `make` finds a way to the server."""
        self.pid = os.getpid()
        self.is_closed = False
        self._make = make
        self._free: dict[Route, deque[tuple[float, Way]]] = {}
        self._shared: dict[Route, Way] = {}
        self._all: set[Way] = set()
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
            await close_quietly(self._all.pop().aclose())

    def take(self, route: Route) -> Way:
        """The connection that was used last, or a new one. `give_back` or `drop` follows in every case."""
        if route in self._shared:
            return self._shared[route]
        free = self._free.get(route)
        if free:
            return free.pop()[1]
        way = self._make(route)
        self._all.add(way)
        if way.is_shared:
            self._shared[route] = way
        return way

    async def give_back(self, route: Route, way: Way) -> None:
        """Keep the connection for the next request; close those that nobody wanted for long."""
        if way.is_shared:
            return
        if self.is_closed or not way.is_reusable:
            await self._close(way)
            return
        now = time.monotonic()
        free = self._free.get(route)
        if free is None:
            free = self._free[route] = deque()
        free.append((now, way))
        while free and (len(free) > MAX_IDLE or free[0][0] < now - KEEPALIVE_S):
            await self._close(free.popleft()[1])

    async def drop(self, way: Way) -> None:
        """Close a connection that cannot be used again."""
        if not way.is_shared:
            await self._close(way)

    async def _close(self, way: Way) -> None:
        await close_quietly(way.aclose())
        self._all.discard(way)  # after it: what an interrupt leaves open is closed with the pool
