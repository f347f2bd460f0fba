"""The connection pool of an event loop: for each destination, a stack of the connections that are free.

Every connection holds a slot under the limit of the process (`connection_limit`), in use or idle.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable

from .adapters import KEEPALIVE_S, Adapter, close_quietly
from .connection_limit import ConnectionLimit
from .urls import Destination

MAX_IDLE = 512
# Idle connections to each destination that stay open for the next request once a run is over. The server closes them
# sooner or later, also while no loop runs.
MAX_IDLE_AFTER_RUN = 4


class Pool:
    """The connections of one event loop: per destination, a stack of those that are free."""

    def __init__(self, make: Callable[[Destination], Adapter], limit: ConnectionLimit) -> None:
        """Create an empty pool.

        Args:
            make: Returns a new adapter for a destination.
            limit: Caps the connections that the process has open.
        """
        self.limit = limit
        # The slots that this pool holds, by adapter: the host, and whether the connection is idle.
        self._slots: dict[int, tuple[str, bool]] = {}
        self.pid = os.getpid()
        self.is_closed = False
        self._make = make
        self._free: dict[Destination, deque[tuple[float, Adapter]]] = {}
        self._shared: dict[Destination, Adapter] = {}
        self._all: set[Adapter] = set()
        self._close_at_end = self._wait_for_end()

    async def begin(self) -> None:
        """Have the loop close this pool when it ends: it closes the asynchronous generators that it has started."""
        await anext(self._close_at_end)

    async def _wait_for_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close_all()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._close_at_end.aclose()

    async def _close_all(self) -> None:
        self.is_closed = True
        self._free.clear()
        self._shared.clear()
        while self._all:
            await self._close(self._all.pop())

    def abandon(self) -> None:
        """Release the slots without closing the connections: their loop is closed, so that nothing else can be done."""
        self.is_closed = True
        while self._slots:
            host, is_idle = self._slots.popitem()[1]
            self.limit.release(host, is_idle=is_idle)

    def acquire_nowait(self, destination: Destination) -> Adapter | None:
        """Return the connection that was used last, or a new one; None when the limit is reached.

        Every adapter that is returned goes to `release` or `discard` later.
        """
        free = self._free.get(destination)
        if free:
            adapter = free.pop()[1]
            self._slots[id(adapter)] = (destination.host, False)
            self.limit.mark_in_use(destination.host)
            return adapter
        if destination in self._shared:
            return self._shared[destination]
        return self._new(destination) if self.limit.acquire_nowait(destination.host) else None

    async def acquire(self, destination: Destination) -> Adapter:
        """Return a new connection as soon as the limit allows one; first come, first served."""
        await self._close_longest_idle()
        await self.limit.acquire(destination.host)
        return self._new(destination)

    def _new(self, destination: Destination) -> Adapter:
        """Return a new adapter, for which a slot has been acquired."""
        try:
            adapter = self._make(destination)
        except BaseException:
            self.limit.release(destination.host)
            raise
        self._all.add(adapter)
        if adapter.is_shared:  # it opens as many connections as it likes, or none
            self._shared[destination] = adapter
            self.limit.release(destination.host)
        else:
            self._slots[id(adapter)] = (destination.host, False)
        return adapter

    async def release(self, destination: Destination, adapter: Adapter) -> None:
        """Keep the connection for the next request; close those that have been idle for too long."""
        if adapter.is_shared:
            return
        if self.is_closed or not adapter.is_reusable or not self.limit.mark_idle(destination.host):
            await self._close(adapter)
            return
        self._slots[id(adapter)] = (destination.host, True)
        now = time.monotonic()
        free = self._free.get(destination)
        if free is None:
            free = self._free[destination] = deque()
        free.append((now, adapter))
        while free and (len(free) > MAX_IDLE or free[0][0] < now - KEEPALIVE_S):
            await self._close(free.popleft()[1])

    async def discard(self, adapter: Adapter) -> None:
        """Close a connection that cannot be used again."""
        if not adapter.is_shared:
            await self._close(adapter)

    async def close_idle(self, kept: int = MAX_IDLE_AFTER_RUN) -> None:
        """Close idle connections, except the most recently used ones of each destination.

        Args:
            kept: How many connections to each destination stay open.
        """

        async def close_one(free: deque[tuple[float, Adapter]]) -> None:
            # Taken off the stack here, because a task that is cancelled before its first step never runs.
            if len(free) > kept:
                await self._close(free.popleft()[1])

        surplus = [free for free in self._free.values() for _ in range(len(free) - kept)]
        if surplus:
            await asyncio.gather(*map(close_one, surplus))

    async def _close_longest_idle(self) -> None:
        """Close the connection that has been idle for longest, whatever its host: its slot may be the one needed."""
        oldest = min((free for free in self._free.values() if free), key=lambda free: free[0][0], default=None)
        if oldest is not None:
            await self._close(oldest.popleft()[1])

    async def _close(self, adapter: Adapter) -> None:
        try:
            await close_quietly(adapter.aclose())
        finally:
            if (slot := self._slots.pop(id(adapter), None)) is not None:
                self.limit.release(slot[0], is_idle=slot[1])
        self._all.discard(adapter)  # last, so that a connection left open by an interrupt is closed with the pool
