"""Control loops of the limiter: how many calls are in flight. Pure arithmetic; how fast they start is in `pace`.

Every time is in seconds of the caller's clock. Sources:

- `ConcurrencyWindow`: additive increase and multiplicative decrease (Chiu and Jain, "Analysis of the Increase and
  Decrease Algorithms", 1989); a start that grows with every round trip (RFC 5681, section 3.1); growth
  stops when throughput stops growing, because by Little's law calls beyond throughput x latency only wait (Cardwell
  et al., "BBR", 2016).
- `OutstandingCalls`: a call that is far slower than the others is stuck (Dean and Barroso, "The Tail at Scale", 2013).
"""

from __future__ import annotations

import math
from bisect import bisect_right

# Initial window: small enough that few calls are wasted at a low limit, large enough that a short run is fast.
START = 12
# Growth of the window per round trip. Doubling would have half of the calls in flight refused when it meets a limit;
# 20 % wastes few calls and still goes from 12 to 64 in ten round trips.
GROWTH = 0.2
# With slow replies the window is the bottleneck, not the rate: growth per round trip is latency / SLOW_S, at most
# doubling.
SLOW_S = 1.2
SHORTEST_ROUND_S = 0.05
# Rounds without more throughput until growth stops; rounds until it is tried again.
STALE_ROUNDS = 4
LEVEL_ROUNDS = 32


class ConcurrencyWindow:
    """The number of calls that may be in flight.

    It starts at `START`, grows by 20 % or more each round trip while throughput grows too, stays level while it does
    not (with a new attempt now and then), and is halved when the server refuses calls; then it grows by one per round.
    """

    # Growth ends where calls wait so long for others, as a share of the time after which calls have timed out.
    _WAIT_SHARE = 1 / 3

    def __init__(self, *, size: int, most: int, now: float) -> None:
        """Create a window."""
        self.size = float(size)
        self.latency_s: float | None = None
        self._fastest_s = math.inf
        self._timeout_s = math.inf
        self.most = most
        self._is_additive = False
        self._compare_from(0.0)
        self.restart(now)

    @property
    def whole(self) -> int:
        """Return the size as a whole number of calls, >= 1."""
        return int(self.size)

    def restart(self, now: float) -> None:
        """Start a new round trip and discard the counts of the last one."""
        self._round_at = now
        self._done = 0
        self._was_full = False

    def call_started(self, in_flight: int) -> None:
        """Note that a call was started."""
        if in_flight >= self.whole:
            self._was_full = True

    def call_ended(self, latency_s: float, now: float, *, is_counted: bool = True) -> None:
        """Count a call whose end says something about latency and, if it took a place of the window, throughput."""
        smoothed_s = latency_s if self.latency_s is None else self.latency_s
        self.latency_s = smoothed_s + (latency_s - smoothed_s) / 8
        self._fastest_s = min(self._fastest_s, latency_s)
        if not is_counted or now < self._round_at:
            return
        self._done += 1
        took_s = now - self._round_at
        # A round trip is over when as many calls have ended as the window holds (Little's law).
        if took_s >= (1.0 if self._is_additive else SHORTEST_ROUND_S) and self._done >= self.size:
            if self._was_full:  # a window that is not used up shows nothing
                self._step(self._done / took_s)
            self.restart(now)

    def halve(self, least: float) -> None:
        """Halve the window, but not below `least`, which a paced run needs."""
        self.size = min(self.size, max(1.0, self.size / 2, least))
        self._is_additive = True
        self._compare_from(0.0)

    def cut(self, answered: float, timeout_s: float) -> None:
        """Halve the window, or more, because calls have timed out that waited for others.

        Args:
            answered: Calls that can be answered within that time.
            timeout_s: Time after which they have timed out, in seconds.
        """
        self.size = max(1.0, min(self.size / 2, answered))
        self._timeout_s = timeout_s
        self.latency_s = None  # that of a longer queue
        self._is_additive = True
        self._compare_from(0.0)

    def _compare_from(self, throughput: float) -> None:
        """Compare further growth with this size and throughput."""
        self._best_throughput, self._best_size = throughput, self.size
        self._stale_rounds = 0
        self._level_rounds = 0

    def _step(self, throughput: float) -> None:
        """Adjust the size after one full round trip."""
        if self._level_rounds:
            self._level_rounds -= 1
            if not self._level_rounds:
                self._compare_from(throughput)
            return
        # Throughput must grow by at least 40 % of the growth of the window; the rest may be noise.
        if throughput > self._best_throughput * (1 + 0.4 * (self.size / self._best_size - 1)):
            self._best_throughput, self._best_size, self._stale_rounds = throughput, self.size, 0
        else:
            self._stale_rounds += 1
        if (self.latency_s or 0.0) - self._fastest_s > self._WAIT_SHARE * self._timeout_s:
            return
        if self._stale_rounds >= STALE_ROUNDS:
            self.size = min(self.size, self._best_size * (1 + GROWTH))
            self._level_rounds = LEVEL_ROUNDS
            return
        growth = 1 / self.size if self._is_additive else min(max(self._fastest_s / SLOW_S, GROWTH), 1.0)
        self.size = min(float(self.most), self.size * (1 + growth))


class OutstandingCalls:
    """The calls in flight, by the time they were sent.

    A call that takes far longer than those before it is usually stuck: no reply will come. It says nothing about the
    capacity of the server, and if the window were full of such calls, the run would stand still until their deadline.
    """

    # A call is overdue after so many times the usual latency, and after so many seconds at least.
    _OVERDUE_FACTOR = 5.0
    _MIN_OVERDUE_S = 1.0

    def __init__(self) -> None:
        """Create an empty collection."""
        self._sent_at: list[float] = []
        self._answered_at = self._last_answered = -math.inf

    def call_started(self, now: float) -> None:
        """Add a call."""
        self._sent_at.append(now)

    def call_ended(self, sent_at: float) -> None:
        """Remove a call that was started at that time."""
        del self._sent_at[bisect_right(self._sent_at, sent_at) - 1]

    def answered(self, sent_at: float, now: float) -> None:
        """Note that a call was answered."""
        self._answered_at = now
        if sent_at > self._last_answered:
            self._last_answered = sent_at

    def overdue(self, latency_s: float | None, now: float) -> int:
        """Return the number of overdue calls.

        While answers arrive, only calls count that others have overtaken: in a queue, a call that takes long waits for
        those before it.

        Args:
            latency_s: The usual latency of a call, in seconds; None: not known yet.
            now: The current time.
        """
        if latency_s is None:
            return 0
        before = now - max(self._OVERDUE_FACTOR * latency_s, self._MIN_OVERDUE_S)
        # A slice, because this is also asked while another thread changes the list.
        if not (oldest := self._sent_at[:1]) or oldest[0] > before:
            return 0
        if self._answered_at > before:
            before = min(before, self._last_answered - latency_s)
        return bisect_right(self._sent_at, before)
