"""How many connections a process may have open: a quarter of its file descriptors, shared by its loops and threads.

Every open connection holds a place, in use or idle. Who finds none waits in line; an eighth of the places is never kept
by idle connections, so that the line always moves. Runs over rows share the places, so that they seldom wait. When the
system has run out of descriptors all the same, the limit falls to what is open, and grows again from there.
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

# The other three quarters are for what is not ours: sockets of a kernel, files of stores, whatever the user has open.
SHARE = 4
# Fewer than these are of no use; a process with so few descriptors hardly runs.
_LEAST = 8
# Where the system sets no limit, or does not tell it.
_UNTOLD = 1000
# How long a limit that has fallen stays before it grows by an eighth, in seconds.
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
class _Waiter:
    """Somebody who waits for a place."""

    number: int
    host: str
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]
    has_place: bool = False


class ConnectionLimit:
    """The connections that a process may have open, in all and to one host. Thread-safe; belongs to one process."""

    def __init__(
        self,
        *,
        descriptors: Callable[[], int | None] = descriptor_limit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with none open.

        Args:
            descriptors: Returns how many file descriptors the process may have open, or None.
            clock: Seconds that only go forward.
        """
        self.pid = os.getpid()
        self._descriptors = descriptors
        self._clock = clock
        # The garbage collector may end a coroutine that waits, and so give a place back, in the middle of all this.
        self._lock = threading.RLock()
        self._most = self.most
        self._open: Counter[str] = Counter()
        self._total = 0
        self._idle: Counter[str] = Counter()
        self._runs = 0
        self._fallen_to: float | None = None
        self._grow_at = 0.0
        self._numbers = 0
        self._lines: dict[str, deque[_Waiter]] = {}  # by host, first come, first served

    @property
    def most(self) -> int:
        """Connections that may be open at once, in all."""
        descriptors = self._descriptors()  # again and again: programs raise their own limit
        self._most = _UNTOLD if descriptors is None else max(_LEAST, descriptors // SHARE)
        return self._most

    @property
    def most_for_one_host(self) -> int:
        """Connections that may be open to one host: an eighth is left to the others."""
        most = self.most
        return _without_an_eighth(most)

    @property
    def in_use(self) -> int:
        """Connections that are open and not idle."""
        return self._total - self._idle.total()

    @property
    def share(self) -> int:
        """Connections that one of the runs may have that are under way now, >= 1."""
        return max(1, _without_an_eighth(self._most) // max(1, self._runs))

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Count a run over rows among those that share the places."""
        with self._lock:
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1

    def take(self, host: str) -> bool:
        """Take a place for a new connection, if one is free and nobody waits for it.

        Args:
            host: The host that it goes to.

        Returns:
            Whether it was taken. `release` follows then.
        """
        with self._lock:
            if self._lines.get(host) or not self._has_place(host):
                return False
            self._occupy(host)
            return True

    async def wait(self, host: str) -> None:
        """Take a place, in the order in which it was asked for. Cancelled, it takes none.

        Args:
            host: The host that the connection goes to.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(0, host, loop, loop.create_future())
        with self._lock:
            self._numbers += 1
            waiter.number = self._numbers
            self._lines.setdefault(host, deque()).append(waiter)
        try:
            while not waiter.has_place:
                with self._lock:
                    self._serve()
                    # A limit that has fallen grows with time, and nobody tells.
                    pause_s = None if self._fallen_to is None else _GROW_EVERY_S
                await asyncio.wait({waiter.turn}, timeout=pause_s)
        except BaseException:
            with self._lock:
                if waiter.has_place:
                    self._vacate(host)
                else:
                    self._leave(waiter)
            raise

    def release(self, host: str, *, is_idle: bool = False) -> None:
        """Give a place back, because its connection is closed.

        Args:
            host: The host that it went to.
            is_idle: Whether it was idle, as `rest` has allowed.
        """
        with self._lock:
            self._idle[host] -= is_idle
            self._vacate(host)

    def rest(self, host: str) -> bool:
        """Return whether a connection may be kept open although nobody uses it; its place stays taken then."""
        with self._lock:
            most = _without_an_eighth(self._most)
            if self._lines or self._idle[host] >= _without_an_eighth(most) or self._idle.total() >= most:
                return False
            self._idle[host] += 1
            return True

    def wake(self, host: str) -> None:
        """Count a connection that was idle as one in use."""
        with self._lock:
            self._idle[host] -= 1

    def fall(self) -> None:
        """Hold the limit down to what is open: the system has no descriptor left."""
        with self._lock:
            self._fallen_to = float(max(1, min(self._total, self._fallen_to or self._total)))
            self._grow_at = self._clock() + _GROW_EVERY_S

    # With the lock held --------------------------------------------------------------------------------------------

    def _has_place(self, host: str) -> bool:
        """Return whether a connection to this host may be opened."""
        most = self.most
        if self._fallen_to is not None:
            if self._clock() >= self._grow_at:
                self._grow_at = self._clock() + _GROW_EVERY_S
                self._fallen_to += max(1.0, self._fallen_to / 8)
            if self._fallen_to >= most:
                self._fallen_to = None
            else:
                most = int(self._fallen_to)
        return self._total < most and self._open[host] < self.most_for_one_host

    def _occupy(self, host: str) -> None:
        self._open[host] += 1
        self._total += 1

    def _vacate(self, host: str) -> None:
        self._open[host] -= 1
        self._total -= 1
        if not self._open[host]:
            del self._open[host], self._idle[host]
        self._serve()

    def _serve(self) -> None:
        """Give places that are free to those who came first."""
        while (waiter := min(self._first_in_lines(), key=lambda waiter: waiter.number, default=None)) is not None:
            self._leave(waiter)
            waiter.has_place = True
            self._occupy(waiter.host)
            try:
                waiter.loop.call_soon_threadsafe(_resolve, waiter.turn)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._open[waiter.host] -= 1
                self._total -= 1

    def _first_in_lines(self) -> Iterator[_Waiter]:
        """Yield who is next of each host that a connection may be opened to."""
        for host, line in list(self._lines.items()):
            if line and self._has_place(host):
                yield line[0]

    def _leave(self, waiter: _Waiter) -> None:
        line = self._lines[waiter.host]
        with contextlib.suppress(ValueError):
            line.remove(waiter)
        if not line:
            del self._lines[waiter.host]


def _without_an_eighth(count: int) -> int:
    return count - count // 8


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
