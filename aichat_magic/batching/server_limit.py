"""What the runs of a process have learned of one server: how many calls at once, how fast, and when none may start.

The rules:

1. **Concurrency.** `control.ConcurrencyWindow`: start with 12 calls, 20 % more each round trip while throughput grows
   too. A call that takes five times as long as usual, and at least a second, is replaced by another one
   (`control.OutstandingCalls`). A run with a fixed concurrency takes no part in the window.
2. **The first refusal pauses all.** After a 429 (503, 529) no call starts until its Retry-After is over.
3. **Was it alone?** After a refusal the limit counts how many of the calls that were sent later are refused too. A
   server at its limit refuses most of them; a fault that hits one call in twenty does not. If the refusal was alone,
   the runs go on as before when the pause is over.
4. **At the limit** all pause until the last Retry-After is over, the window is halved, and from then on calls are
   spaced at the rate that the server has admitted: the geometric mean of the calls admitted per second since the last
   pause, including this pause (too low if it had only begun), and of those in the last period before the refusal
   (too high if the server accumulates unused capacity). `pace.AdmittedRate` then searches for the exact rate.
5. **Later refusals that are alone** delay only their own row, unless all pauses together take less than 2 % of the
   time: otherwise one refusal in twenty, each with a pause of a second, would stop the runs most of the time. A paced
   run heeds a wait of several seconds at once, because few calls fall into it.
6. **Refused without a Retry-After, or while the model is loading**: all pause, then one call probes, after twice the
   time each time (`standstill.Standstill`). The rate is that of the calls admitted up to the end of the standstill.
7. **Timeouts of calls that nobody has overtaken** show that too many are in flight for a server that queues them: the
   window falls at once to half of what was answered within one timeout, and grows no further than a third of it.
   Calls of a larger window are excused, and then as many others, because servers finish what nobody waits for.

With pacing, runs stay at the limit of a server with almost no wasted calls. A number of calls in flight cannot do
that: sixty calls a second at 20 ms are between one and two calls in flight.

Runs that wait are served in turn. Pure arithmetic behind a lock: no event loop, no thread of its own.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .control import START, ConcurrencyWindow, OutstandingCalls
from .leases import NO_VERDICT, Lease, Outcome, Verdict
from .pace import AdmittedRate, Pacer
from .standstill import TOGETHER_S, LimitCheck, Standstill

# A longer Retry-After pauses nothing: the run stops (`RetryPolicy.retry_after_cap_s` is the same limit for a request).
MAX_PAUSE_S = 120.0
# A wait so long is heeded by a paced run at once, in seconds.
_LONG_WAIT_S = 5.0
# A run that does not take its turn for so long is passed over, in seconds.
_LATE_S = 0.25
# A call is overtaken if one that was sent so much later, as a share of its own time, has been answered.
_OVERTAKEN_SHARE = 0.25


@dataclass(slots=True, eq=False)
class Participant:
    """A run that shares a limit.

    Attributes:
        wake: Called, from any thread, when the run should ask again.
        is_windowed: Whether its calls take places of the window; otherwise the run bounds them itself.
        leases: Its leases that are not reported yet.
        has_left: Whether the run is over: its leases are dropped.
    """

    wake: Callable[[], None]
    is_windowed: bool = True
    leases: set[Lease] = field(default_factory=set)
    has_left: bool = False


class ServerLimit:
    """The limit of one server for all runs of a process: `ask` before each call, `report` after it. Thread-safe.

    Attributes:
        n_runs: Runs that share it now.
        window: How many calls may be in flight.
        tokens_used: Tokens that a call has used, smoothed.
    """

    def __init__(self, *, max_concurrency: int = 256, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the limit of a server of which nothing is known.

        Args:
            max_concurrency: Upper limit of the window, >= 1.
            clock: Monotonic clock, in seconds.
        """
        assert max_concurrency >= 1
        self._clock = clock
        # Reentrant: the garbage collector may end a run while the lock is held, which leaves.
        self._lock = threading.RLock()
        now = clock()
        self.n_runs = 0
        self._began_at = now
        self.window = ConcurrencyWindow(size=min(START, max_concurrency), most=max_concurrency, now=now)
        self._outstanding = OutstandingCalls()
        self._requests = Pacer(None)
        self._tokens = Pacer(None)
        self._admitted = AdmittedRate(now)
        self.tokens_used = 0.0
        self._in_flight = 0  # calls in the window
        self._in_flight_all = 0
        self._queue: list[Participant] = []
        self._freed_at = now
        self._pause_until = -math.inf
        self._paused_s = 0.0
        self._resumed_after = -math.inf
        self._check: LimitCheck | None = None
        self._retry_after_s = 1.0
        self._standstill: Standstill | None = None
        self._probe: Lease | None = None
        self._stuck_since: float | None = None
        self._cut_at = -math.inf
        self._n_abandoned = 0
        self._has_replies = False
        self._last_admitted = -math.inf  # when the last of the calls was sent that have been admitted
        self._ended_at: deque[float] = deque(maxlen=512)
        self._begin_epoch(now)

    # Runs -------------------------------------------------------------------------------------------------------------

    def join(self, wake: Callable[[], None], is_windowed: bool) -> tuple[ServerLimit, Participant]:
        """Add a run.

        Args:
            wake: Called, from any thread, when the run should ask again.
            is_windowed: Whether its calls take places of the window.

        Returns:
            This limit, and the run as a part of it.
        """
        with self._lock:
            self.n_runs += 1
        return self, Participant(wake, is_windowed)

    def leave(self, run: Participant) -> None:
        """Remove a run, and drop its leases."""
        with self._lock:
            if run.has_left:
                return
            run.has_left = True
            self.n_runs -= 1
            while run.leases:
                self._end_call(run.leases.pop())
            self.withdraw(run)
            self._wake_waiting()

    def withdraw(self, run: Participant) -> None:
        """Note that a run no longer waits."""
        with self._lock:
            if run in self._queue:
                self._queue.remove(run)
                self._wake_waiting()

    # Asked by runs ----------------------------------------------------------------------------------------------------

    @property
    def counts_tokens(self) -> bool:
        """Tell whether the number of tokens of a call matters."""
        return self._tokens.is_bounded

    @property
    def slots(self) -> int:
        """Return how many calls of the window may be in flight now, overdue ones replaced."""
        return self._slots(self._clock())  # a number that may be stale in a moment needs no lock

    @property
    def is_contended(self) -> bool:
        """Tell whether several runs wait, so that it may be their turn at any time."""
        return len(self._queue) > 1

    @property
    def pause(self) -> tuple[float, str]:
        """Return the seconds until calls start again, and why they wait; 0 and empty if they do not."""
        wait_s = max(self._pause_until - self._clock(), 0.0)
        halted = self._standstill
        return (wait_s, halted.reason if halted is not None else "limit") if wait_s or halted else (0.0, "")

    def ask(self, run: Participant, tokens: float) -> Lease | float:
        """Grant a lease, or return how long to wait before asking again.

        Args:
            run: The run that asks.
            tokens: Tokens of its call, input and output; 0: the average of the calls before it.

        Returns:
            The lease, or seconds; infinite: until the run is woken.
        """
        with self._lock:
            now = self._clock()
            queue = self._queue
            place = 0 if not queue else queue.index(run) if run in queue else len(queue)
            wait_s = self._wait_s(run, place, now)
            if wait_s > 0:
                if place == len(queue):
                    queue.append(run)
                # One that is not the first may have to pass over others, of which nobody tells it.
                return wait_s if not place else min(wait_s, _LATE_S)
            if queue:
                before, behind = queue[:place], queue[place + 1 :]
                # Whoever was passed over has not taken its turn. Runs that wait for a place are not in others' way.
                self._queue = behind + before if run.is_windowed else before + behind
            return self._start_call(run, tokens, now)

    def _slots(self, now: float) -> int:
        """Return how many calls may be in flight: the window, and at most as many again in place of overdue ones."""
        window = self.window
        overdue = self._outstanding.overdue(window.latency_s, now)
        return window.whole if not overdue else min(window.whole + min(overdue, window.whole), window.most)

    def _wait_s(self, run: Participant, place: int, now: float) -> float:
        """Return the seconds until a run at this place of the queue may start a call; infinite: when one has ended."""
        if self._standstill is not None and self._probe is not None:
            return math.inf
        free: float = math.inf
        if run.is_windowed and (free := self._slots(now) - self._in_flight) <= 0:
            return math.inf
        paced_at = max(self._requests.next_at, self._tokens.next_at)
        starts_at = max(self._pause_until, paced_at + place * self._requests.step_s if place else paced_at)
        if place >= free:
            starts_at = max(starts_at, self._freed_at + (place - free + 1) * _LATE_S)
        wait_s = starts_at - now
        if wait_s <= 0 and self._pause_until > self._resumed_after:
            self._resume(now)
            return self._wait_s(run, place, now)
        return wait_s

    def _start_call(self, run: Participant, tokens: float, now: float) -> Lease:
        """Count a call that starts."""
        self._in_flight_all += 1
        rank = 0
        if run.is_windowed:
            self._in_flight = rank = self._in_flight + 1
            self.window.call_started(rank)
            self._outstanding.call_started(now)
        charge = tokens or self.tokens_used
        lease = Lease(now, charge, rank, run)
        run.leases.add(lease)
        self._requests.call_started(1, now, self._admitted.rate)
        self._tokens.call_started(charge, now)
        if self._standstill is not None:
            self._probe = lease
        return lease

    # Reports ----------------------------------------------------------------------------------------------------------

    def report(self, lease: Lease, outcome: Outcome) -> Verdict:
        """Return a lease, and learn from the outcome of its call."""
        run: Participant = lease.holder
        if run.has_left:
            return NO_VERDICT
        with self._lock:
            now = self._freed_at = self._clock()
            run.leases.discard(lease)
            is_probe = self._probe is lease
            self._end_call(lease)
            verdict = self._learn(lease, is_probe, outcome, now)
            if self._queue:
                self._wake_waiting()
            return verdict

    def _end_call(self, lease: Lease) -> None:
        """Free the place of a call."""
        self._in_flight_all -= 1
        if lease.rank:
            self._in_flight -= 1
            self._outstanding.call_ended(lease.sent_at)
        if lease is self._probe:
            self._probe = None

    def _wake_waiting(self) -> None:
        """Have the runs that came first ask again: as many as have a place, or, if calls are paced, one."""
        now = self._clock()
        is_timed = self._standstill is not None or max(self._pause_until, self._requests.next_at) > now
        for run in self._queue[: 1 if is_timed else max(1, self._slots(now) - self._in_flight)]:
            run.wake()

    def _learn(self, lease: Lease, is_probe: bool, outcome: Outcome, now: float) -> Verdict:
        """Learn from the outcome of a call."""
        kind, sent_at = outcome.kind, lease.sent_at
        if kind == "lost":
            self._tokens.correct(-lease.tokens)
            return NO_VERDICT
        if kind == "timeout":
            return self._learn_timeout(lease, outcome.latency_s, now)
        is_refused = kind != "ok" and kind != "error"
        if not is_refused:
            self._count_admitted(lease, outcome, now)
        self._admitted.call_ended(sent_at, is_refused, now)
        self._count_tokens(lease, outcome)
        if (limits := outcome.rate_limits) is not None:
            self._requests.follow_headers(
                limits.limit_requests, limits.remaining_requests, limits.reset_requests_s, self._in_flight_all
            )
            used = int(self._in_flight_all * self.tokens_used)
            self._tokens.follow_headers(limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_s, used)
        if self._standstill is not None:
            self._go_on(self._standstill, is_probe, outcome, now)
        elif kind == "loading":
            self._stand_still("loading", outcome, now)
        elif is_refused or self._check is not None:
            self._check_limit(outcome, is_refused, sent_at, now)
        if not is_refused:
            return NO_VERDICT
        if self._stuck_since is None:
            self._stuck_since = now
        return Verdict(stuck_s=now - self._stuck_since)

    def _count_admitted(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Count a call that was not refused."""
        sent_at = lease.sent_at
        self._stuck_since = None
        if sent_at > self._cut_at:
            self._n_abandoned = 0
        self._ended_at.append(now)
        self._outstanding.answered(sent_at, now)
        self._last_admitted = max(self._last_admitted, sent_at)
        self.window.call_ended(outcome.latency_s, now, is_counted=lease.rank > 0)
        if outcome.kind == "ok":
            self._has_replies = True
            if sent_at >= self._epoch_at - TOGETHER_S:
                self._n_ok += 1
                self._ok_sent_at.append(sent_at)

    def _count_tokens(self, lease: Lease, outcome: Outcome) -> None:
        """Correct the tokens that `ask` has charged. A throttled call used none."""
        used = outcome.tokens if outcome.kind in ("ok", "error") else 0
        if used is not None:
            self._tokens.correct(used - lease.tokens)
            if outcome.kind == "ok":
                self.tokens_used += (used - self.tokens_used) / (8 if self.tokens_used else 1)

    def _learn_timeout(self, lease: Lease, latency_s: float, now: float) -> Verdict:
        """Cut the window if a call has timed out because too many were in flight."""
        if not lease.rank or self._last_admitted > lease.sent_at + _OVERTAKEN_SHARE * latency_s:
            return NO_VERDICT
        if lease.sent_at >= self._cut_at:
            # One cut for all calls that were sent before it.
            self._cut_at = now
            since = bisect_left(self._ended_at, now - latency_s)
            answered = len(self._ended_at) - since if self._has_replies else math.inf
            self.window.cut(answered / 2, latency_s)
            self.window.restart(now)
        if not self._has_replies:
            return NO_VERDICT
        if lease.rank > self.window.whole:
            self._n_abandoned += 1
        elif self._n_abandoned:
            self._n_abandoned -= 1  # the server may still have worked on one of those
        else:
            return NO_VERDICT
        return Verdict(is_excused=True)

    # At the limit -----------------------------------------------------------------------------------------------------

    def _check_limit(self, outcome: Outcome, is_refused: bool, sent_at: float, now: float) -> None:
        """Open a limit check, count a call in it, or close it."""
        check = self._check
        if check is not None and sent_at >= check.since:
            check.answers += 1
            check.refused += is_refused
        elif check is None and is_refused and sent_at >= self._epoch_at:
            check = self._check = LimitCheck(sent_at, now)
        if check is None:
            return
        if is_refused:
            self._follow_retry_after(check, outcome.retry_after_s, now)
        if now < self._pause_until:
            return  # until its end more calls are counted
        rate = self._admitted.rate
        # A paced run meets a few refusals in a row at the end of each window of the server.
        enough = 10 if math.isinf(rate) else int(min(max(rate * self._admitted.period_s / 2, 11), 30))
        if check.is_settled(enough):
            self._close_check(check, now)

    def _follow_retry_after(self, check: LimitCheck, retry_after_s: float | None, now: float) -> None:
        """Note the wait that the server asks for, and pause where the rules say so."""
        if retry_after_s is None or not 0 < retry_after_s <= MAX_PAUSE_S:
            return
        self._retry_after_s = max(retry_after_s, 1.0)
        self._admitted.period_s = min(max(retry_after_s, 0.8 * self._admitted.period_s, 1.0), 60.0)
        check.retry_at = max(check.retry_at, now + retry_after_s)
        is_rare = self._paused_s + retry_after_s <= 0.02 * (now - self._began_at)
        if retry_after_s >= _LONG_WAIT_S and self._admitted.rate < math.inf and now >= self._pause_until:
            self._check = None
            self._slow_down(check.since, now, check.retry_at)
        elif not self._paused_s or now < self._pause_until or is_rare:
            self._pause(check.retry_at, now)

    def _pause(self, until: float, now: float) -> None:
        """Let no call start before `until`."""
        if until > self._pause_until:
            self._paused_s += until - max(now, self._pause_until)
            self._pause_until = until
            self.window.restart(until)
            self._admitted.restart(until)

    def _resume(self, now: float) -> None:
        """End a pause."""
        self._resumed_after = self._pause_until
        if self._standstill is not None:
            return
        if self._check is not None:
            self._close_check(self._check, now, is_over=True)
        if self._epoch_at < self._pause_until:
            self._begin_epoch(self._pause_until)
        self._resumed_after = self._pause_until

    def _close_check(self, check: LimitCheck, now: float, *, is_over: bool = False) -> None:
        """Decide whether the server is at its limit, and if so, pause and slow down."""
        self._check = None
        if not check.is_limit(is_over=is_over):
            return
        if check.retry_at <= now and not is_over:
            self._stand_still("limit", None, now)
            return
        self._slow_down(check.since, now, max(check.retry_at, self._pause_until))

    def _slow_down(self, refused_at: float, now: float, resume_at: float) -> None:
        """Pause, halve the window, and space calls at the rate that the server has admitted."""
        self._pause(resume_at, now)
        resume_at = max(now, resume_at)
        rate, period_s, least = self._admitted.rate, self._retry_after_s, 0.0
        whole_s, failed = max(resume_at - self._epoch_at, 1.0), math.inf
        since_pause = self._n_ok / whole_s
        if resume_at - now >= _LONG_WAIT_S and (self._n_ok < START or rate < math.inf):
            # These are the calls of one window of the server.
            highest, failed = since_pause, rate
            self._admitted.period_s = min(max(self._admitted.period_s, whole_s), 60.0)
        elif self._n_ok >= START:
            highest = sum(sent_at >= refused_at - period_s for sent_at in self._ok_sent_at) / period_s
        else:
            # Too few to know the rate, but the calls of one moment were too many (Little's law).
            highest = self.window.size / (self.window.latency_s or math.inf) / 2
        if self._n_ok:
            rate = min(math.sqrt(since_pause * max(since_pause, min(highest, rate))), rate)
            self._admitted.start_from(rate, resume_at, failed=failed)
            least = 1 + 2 * rate * (self.window.latency_s or 0.0)
        self.window.halve(least)
        self.window.restart(resume_at)
        self._begin_epoch(resume_at)

    def _begin_epoch(self, now: float) -> None:
        """Count the calls that the server admits from here on."""
        self._epoch_at = now
        self._n_ok = 0
        self._ok_sent_at: deque[float] = deque(maxlen=4096)

    # Standstill -------------------------------------------------------------------------------------------------------

    def _stand_still(self, reason: str, outcome: Outcome | None, now: float) -> None:
        """Let all pause, and then one call at a time probe."""
        self._check = None
        self._standstill = Standstill(reason, now)
        self._pause(now + self._standstill.next_pause_s(None if outcome is None else outcome.retry_after_s), now)

    def _go_on(self, halted: Standstill, is_probe: bool, outcome: Outcome, now: float) -> None:
        """Take the answer to a probe, or to a call that was sent before the standstill."""
        if outcome.kind in ("throttled", "loading"):
            if is_probe:
                if outcome.kind == "loading":
                    halted.reason = "loading"
                retry_after_s = outcome.retry_after_s
                known_s = retry_after_s if retry_after_s and retry_after_s <= MAX_PAUSE_S else None
                self._pause(now + halted.next_pause_s(known_s), now)
        elif is_probe:
            self._standstill = None
            took_s = now - halted.began_at
            if halted.reason == "limit":
                self._retry_after_s = max(took_s, 1.0)
                self._admitted.period_s = min(max(took_s, 1.0), 60.0)
                self._slow_down(halted.began_at, halted.began_at, now)
            else:
                self._begin_epoch(now)
            self._wake_waiting()
