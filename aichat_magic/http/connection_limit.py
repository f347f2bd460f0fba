"""The limit of open connections of a process: a quarter of its file descriptors, shared by its loops and threads.

Every open connection holds a slot, in use or idle. Callers that find no free slot queue for one, first come, first
served; idle connections never hold more than seven eighths of the slots, so that the queue always moves. Runs over rows
share the slots between them, so that their requests seldom wait. If the system runs out of descriptors all the same,
the limit drops to what is open, and grows again from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# The other three quarters are for everything else: sockets of a kernel, files of stores, whatever the user has open.
SHARE = 4
# Fewer connections than these are of no use; a process with so few descriptors hardly runs.
_LEAST = 8
# Where the system sets no limit, or does not tell it.
_UNTOLD = 1000
# How long a lowered limit stays before it grows by an eighth, in seconds.
_GROW_EVERY_S = 0.5


def descriptor_limit() -> int | None:
    """Return how many file descriptors this process may have open; None where the system does not say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


@dataclass(slots=True, eq=False)
class _SlotWaiter:
    """A caller that waits for a slot."""

    number: int
    host: str
    loop: asyncio.AbstractEventLoop
    granted: asyncio.Future[None]
    has_slot: bool = False


class ConnectionLimit:
    """The limit of open connections, in all and per host. Thread-safe; belongs to one process."""

    def __init__(
        self,
        *,
        descriptors: Callable[[], int | None] = descriptor_limit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a limit with no connection open.

        Args:
            descriptors: Returns how many file descriptors the process may have open, or None.
            clock: Returns seconds that never go backwards.
        """
        self.pid = os.getpid()
        self._descriptors = descriptors
        self._clock = clock
        # Reentrant: the garbage collector may end a waiting coroutine while the lock is held, which releases a slot.
        self._lock = threading.RLock()
        self._max = self.max_connections
        self._open: Counter[str] = Counter()
        self._total = 0
        self._idle: Counter[str] = Counter()
        self._runs = 0
        self._lowered_to: float | None = None
        self._grow_at = 0.0
        self._numbers = 0
        self._queues: dict[str, deque[_SlotWaiter]] = {}  # by host, first come, first served

    @property
    def max_connections(self) -> int:
        """Return how many connections may be open at once, in all."""
        descriptors = self._descriptors()  # asked each time, because programs raise their own limit
        self._max = _UNTOLD if descriptors is None else max(_LEAST, descriptors // SHARE)
        return self._max

    @property
    def max_per_host(self) -> int:
        """Return how many connections may be open to one host: an eighth is left to the others."""
        most = self.max_connections
        return _without_an_eighth(most)

    @property
    def in_use(self) -> int:
        """Return how many connections are open and not idle."""
        return self._total - self._idle.total()

    @property
    def share(self) -> int:
        """Return how many connections each of the current runs may have, >= 1."""
        return max(1, _without_an_eighth(self._max) // max(1, self._runs))

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Count a run over rows among those that share the slots."""
        with self._lock:
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1

    def acquire_nowait(self, host: str) -> bool:
        """Take a slot for a new connection, if one is free and nobody waits for it.

        Args:
            host: The host that the connection goes to.

        Returns:
            Whether a slot was taken. If so, `release` it later.
        """
        with self._lock:
            if self._queues.get(host) or not self._has_slot(host):
                return False
            self._occupy(host)
            return True

    async def acquire(self, host: str) -> None:
        """Take a slot, waiting for it in order of arrival. Takes none when cancelled.

        Args:
            host: The host that the connection goes to.
        """
        loop = asyncio.get_running_loop()
        waiter = _SlotWaiter(0, host, loop, loop.create_future())
        with self._lock:
            self._numbers += 1
            waiter.number = self._numbers
            self._queues.setdefault(host, deque()).append(waiter)
        try:
            while not waiter.has_slot:
                with self._lock:
                    self._grant_slots()
                    # A lowered limit grows with time, and no event announces it.
                    pause_s = None if self._lowered_to is None else _GROW_EVERY_S
                await asyncio.wait({waiter.granted}, timeout=pause_s)
        except BaseException:
            with self._lock:
                if waiter.has_slot:
                    self._vacate(host)
                else:
                    self._remove(waiter)
            raise

    def release(self, host: str, *, is_idle: bool = False) -> None:
        """Give a slot back, because its connection is closed.

        Args:
            host: The host that the connection went to.
            is_idle: Whether the connection was idle, as allowed by `mark_idle`.
        """
        with self._lock:
            self._idle[host] -= is_idle
            self._vacate(host)

    def mark_idle(self, host: str) -> bool:
        """Return whether an unused connection may stay open. If so, it counts as idle and keeps its slot."""
        with self._lock:
            most = _without_an_eighth(self._max)
            if self._queues or self._idle[host] >= _without_an_eighth(most) or self._idle.total() >= most:
                return False
            self._idle[host] += 1
            return True

    def mark_in_use(self, host: str) -> None:
        """Count an idle connection as one in use."""
        with self._lock:
            self._idle[host] -= 1

    def lower(self) -> None:
        """Lower the limit to what is open: the system has no descriptor left."""
        with self._lock:
            self._lowered_to = float(max(1, min(self._total, self._lowered_to or self._total)))
            self._grow_at = self._clock() + _GROW_EVERY_S

    # With the lock held --------------------------------------------------------------------------------------------

    def _has_slot(self, host: str) -> bool:
        """Return whether a connection to this host may be opened."""
        most = self.max_connections
        if self._lowered_to is not None:
            if self._clock() >= self._grow_at:
                self._grow_at = self._clock() + _GROW_EVERY_S
                self._lowered_to += max(1.0, self._lowered_to / 8)
            if self._lowered_to >= most:
                self._lowered_to = None
            else:
                most = int(self._lowered_to)
        return self._total < most and self._open[host] < self.max_per_host

    def _occupy(self, host: str) -> None:
        self._open[host] += 1
        self._total += 1

    def _vacate(self, host: str) -> None:
        self._open[host] -= 1
        self._total -= 1
        if not self._open[host]:
            del self._open[host], self._idle[host]
        self._grant_slots()

    def _grant_slots(self) -> None:
        """Give free slots to those who came first."""
        while (waiter := min(self._first_in_queues(), key=lambda waiter: waiter.number, default=None)) is not None:
            self._remove(waiter)
            waiter.has_slot = True
            self._occupy(waiter.host)
            try:
                waiter.loop.call_soon_threadsafe(_resolve, waiter.granted)
            except RuntimeError:  # the loop is closed: nobody waits any more
                waiter.has_slot = False
                self._open[waiter.host] -= 1
                self._total -= 1

    def _first_in_queues(self) -> Iterator[_SlotWaiter]:
        """Yield the first waiter of each host that a connection may be opened to."""
        for host, queue in list(self._queues.items()):
            if queue and self._has_slot(host):
                yield queue[0]

    def _remove(self, waiter: _SlotWaiter) -> None:
        queue = self._queues.get(waiter.host)
        if queue is None or waiter not in queue:  # it was removed when its loop turned out to be closed
            return
        queue.remove(waiter)
        if not queue:
            del self._queues[waiter.host]


def _without_an_eighth(count: int) -> int:
    return count - count // 8


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
