"""The limiter of one run: the user's own limits and budget, and its part of what the server allows.

Three things hold a call back, in this order: the budget of the run (`budget.Budget`), its own concurrency and pace, and
what the runs of this process have learned of the server (`server_limit.ServerLimit`). The arithmetic is in those; here
is the waiting, first come, first served, in one event loop. A call that waits for money occupies no place.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Literal

from .budget import Budget, Reservation
from .leases import Lease, Outcome, Verdict
from .pace import Pacer
from .server_limit import Participant, ServerLimit

Home = Callable[[Callable[[], None], bool], tuple[ServerLimit, Participant]]
"""Adds a run to a limit, given what wakes it and whether its calls take places of the window."""


class RunLimiter:
    """The limiter of one run, in one event loop: `acquire` before each call, `report` after it. See `leases.Limiter`.

    Attributes:
        in_flight: Calls between `acquire` and `report`.
        budget: The budget of the run.
    """

    def __init__(
        self,
        *,
        concurrency: int | Literal["auto"] = "auto",
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        budget: Budget | None = None,
        home: Home | None = None,
        share: Callable[[], int] = lambda: sys.maxsize,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_concurrency: int = 256,
    ) -> None:
        """Create the limiter of a run that starts now.

        Args:
            concurrency: Calls in flight, >= 1; ``"auto"`` adapts the number. Pauses and pacing hold for both.
            requests_per_minute: Upper limit, evenly spaced, > 0.
            tokens_per_minute: Upper limit, evenly spaced, > 0.
            budget: Limits of cost and tokens; None: there are none.
            home: Lets this run share the limit of its server with others; None: it has one of its own.
            share: Returns the connections that this run may have now, >= 1; further calls wait.
            clock: Monotonic clock, in seconds; the same as that of `home`.
            sleep: Waits so many seconds.
            max_concurrency: Upper limit of ``"auto"`` where `home` is None, >= 1.
        """
        # Users' values are checked by `BatchOptions`.
        assert concurrency == "auto" or concurrency >= 1
        assert requests_per_minute is None or requests_per_minute > 0
        assert tokens_per_minute is None or tokens_per_minute > 0
        self.budget = budget or Budget()
        self._most = concurrency if isinstance(concurrency, int) else None
        self._clock = clock
        self._sleep = sleep
        self._share = share
        self._requests = Pacer(requests_per_minute)
        self._tokens = Pacer(tokens_per_minute)
        # Asked for every call.
        self._has_budget = self.budget.is_bounded
        self._has_pace = self._requests.is_bounded or self._tokens.is_bounded
        self._home = home or ServerLimit(max_concurrency=max_concurrency, clock=clock).join
        self._joined: tuple[ServerLimit, Participant] | None = None
        self.in_flight = 0
        self._turn = asyncio.Lock()  # first come, first served
        self._n_waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Future[None] | None = None

    # For the run ------------------------------------------------------------------------------------------------------

    def _join(self) -> tuple[ServerLimit, Participant]:
        """Return the shared limit, and this run as a part of it, from the first use on."""
        if self._joined is None:
            server, run = self._home(_waker(self), self._most is None)
            self._joined = server, run
            weakref.finalize(self, server.leave, run)
        return self._joined

    @property
    def concurrency(self) -> int:
        """Return the number of calls that may be in flight now, not counting overdue ones."""
        return self._most or self._join()[0].window.whole

    @property
    def max_concurrency(self) -> int:
        """Return the highest possible `concurrency`."""
        return self._most or self._join()[0].window.most

    @property
    def workers_wanted(self) -> int:
        """Return the number of workers that can send now; it changes with each `report` and each overdue call."""
        return min((self._joined or self._join())[0].slots if self._most is None else self._most, self._share())

    @property
    def counts_tokens(self) -> bool:
        """Tell whether the estimate of a call matters."""
        return self._has_budget or self._has_pace or (self._joined or self._join())[0].counts_tokens

    @property
    def pause(self) -> tuple[float, str]:
        """Return the seconds until calls start again, and why they wait."""
        return self._join()[0].pause

    def close(self) -> None:
        """Drop the leases that are left: the run is over."""
        if self._joined is not None:
            server, run = self._joined
            server.leave(run)

    # Leases -----------------------------------------------------------------------------------------------------------

    async def acquire(self, estimate: int = 0) -> Lease | None:
        """Wait until a call may start: for money, for a free place, for the end of a pause, for its time.

        If it is cancelled while it waits, nothing is reserved.

        Args:
            estimate: Its input tokens; 0: like the calls before it.

        Returns:
            The lease; None when no call is in flight and the budget does not cover this one.
        """
        if not self._n_waiting:  # the usual case: nobody waits
            reservation = self.budget.reserve(estimate) if self._has_budget else None
            if reservation is not None or not self._has_budget:
                granted = self._ask(estimate, reservation)
                if isinstance(granted, Lease):
                    return granted
                self._settle(reservation)
        self._n_waiting += 1
        try:
            async with self._turn:
                return await self._wait_for_lease(estimate)
        finally:
            self._n_waiting -= 1

    async def _wait_for_lease(self, estimate: int) -> Lease | None:
        """Wait for a lease, as the first of those that wait."""
        self._loop = asyncio.get_running_loop()
        reservation: Reservation | None = None
        while self._has_budget and (reservation := self.budget.reserve(estimate)) is None:
            if not self.budget.in_flight:
                return None
            await self._wait(math.inf)
        is_granted = False
        try:
            while not isinstance(granted := self._ask(estimate, reservation), Lease):
                await self._wait(granted)
            is_granted = True
            return granted
        finally:
            if not is_granted:
                self._settle(reservation)
                server, run = self._join()
                server.withdraw(run)

    def _settle(self, reservation: Reservation | None) -> None:
        """Return a reservation whose call is not sent."""
        if reservation is not None:
            self.budget.settle(reservation, None)

    def _ask(self, estimate: int, reservation: Reservation | None) -> Lease | float:
        """Return a lease, or the seconds to wait; infinite: until something changes."""
        server, run = self._joined or self._join()
        if self.in_flight >= (self._share() if self._most is None else min(self._most, self._share())):
            return math.inf
        if self._has_pace:
            wait_s = max(self._requests.next_at, self._tokens.next_at) - self._clock()
            if wait_s > 0:
                return wait_s
        lease = server.ask(run, estimate)
        if not isinstance(lease, Lease):
            return lease
        self.in_flight += 1
        if self._has_pace:
            self._requests.call_started(1, lease.sent_at)
            self._tokens.call_started(lease.tokens, lease.sent_at)
        lease.reservation = reservation
        return lease

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or, where nobody can say how long, until something changes."""
        if seconds < math.inf and not self._join()[0].is_contended:
            await self._sleep(seconds)
            return
        self._changed = asyncio.get_running_loop().create_future()
        if seconds == math.inf:
            await self._changed
            return
        timer = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait({self._changed, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()

    def wake(self) -> None:
        """Have the call that waits first ask again; from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._note_change)

    def _note_change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def report(self, lease: Lease, outcome: Outcome) -> Verdict:
        """Return a lease, charge what its call has used, and learn from its outcome."""
        self.in_flight -= 1
        if lease.reservation is not None:
            self.budget.settle(lease.reservation, outcome.usage)
        if self._has_pace:
            used = 0 if outcome.kind in ("throttled", "loading", "lost") else outcome.tokens
            if used is not None:
                self._tokens.correct(used - lease.tokens)
        server, _ = self._joined or self._join()
        verdict = server.report(lease, outcome)
        if self._n_waiting:
            self._note_change()
        return verdict


def _waker(limiter: RunLimiter) -> Callable[[], None]:
    """Return what wakes a run, without keeping it alive."""
    reference = weakref.ref(limiter)

    def wake() -> None:
        if (found := reference()) is not None:
            found.wake()

    return wake
