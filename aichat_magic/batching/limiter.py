"""Adaptive limiter: how many calls of a run are in flight, how fast they start, and when all of them pause.

The rules:

1. **Concurrency.** `control.ConcurrencyWindow`: start with 12 calls, 20 % more each round trip while throughput grows
   too. A call that takes five times as long as usual, and at least a second, is replaced by another one
   (`control.OutstandingCalls`).
2. **The first refusal pauses the run.** After a 429 (503, 529) no call starts until its Retry-After is over.
3. **Was it alone?** After a refusal the limiter counts how many of the calls that were sent later are refused too. A
   server at its limit refuses most of them; a fault that hits one call in twenty does not. If the refusal was alone,
   the run goes on as before when the pause is over.
4. **At the limit** the run pauses until the last Retry-After is over, the window is halved, and from then on calls are
   spaced at the rate that the server has admitted: the geometric mean of the calls admitted per second since the last
   pause, including this pause (too low if the run had only begun), and of those in the last period before the refusal
   (too high if the server accumulates unused capacity). `control.AdmittedRate` then searches for the exact rate.
5. **Later refusals that are alone** delay only their own row, unless all pauses of the run together take less than 2 %
   of its time: otherwise one refusal in twenty, each with a pause of a second, would stop the run most of the time.

With pacing a run stays at the limit of a server with almost no wasted calls. A number of calls in flight cannot do
that: sixty calls a second at 20 ms are between one and two calls in flight.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from ..core.errors import (
    AichatError,
    ConnectionFailedError,
    DeadlineError,
    IncompleteReplyError,
    RateLimitError,
    TooManyOpenFilesError,
)
from ..core.messages import RateLimits, Reply
from .control import START, AdmittedRate, ConcurrencyWindow, OutstandingCalls, Pacer

# A longer Retry-After pauses nothing (`RetryPolicy.retry_after_cap_s` is the same limit for one request).
MAX_PAUSE_S = 120.0
# Times of calls that were sent at the same moment differ by the rounding of `now - latency_s`.
ROUNDING_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one call, as the limiter needs it.

    Attributes:
        latency_s: Seconds from sending to the end.
        kind: ``"ok"``; ``"throttled"`` (429, 503, 529, or no file descriptor was left for it); ``"timeout"``;
            ``"lost"``: it says nothing about the server, because its connection failed or it was not sent;
            ``"error"`` for everything else.
        tokens: Tokens it used, input and output together; None: the server did not say.
        retry_after_s: Wait that the server asked for, in seconds.
        rate_limits: Limits from the headers.
    """

    latency_s: float
    kind: Literal["ok", "throttled", "timeout", "lost", "error"] = "ok"
    tokens: int | None = None
    retry_after_s: float | None = None
    rate_limits: RateLimits | None = None


def outcome_of(result: Reply | AichatError, latency_s: float) -> Outcome:
    """Convert the result of an attempt.

    Args:
        result: The reply, or the error.
        latency_s: Seconds from sending to the end.
    """
    if isinstance(result, Reply):
        usage = result.usage
        return Outcome(
            latency_s=latency_s,
            kind="ok",
            tokens=(usage.input_tokens or 0) + (usage.output_tokens or 0) or None,
            rate_limits=result.rate_limits,
        )
    return Outcome(latency_s=latency_s, kind=_kind_of(result), retry_after_s=getattr(result, "retry_after_s", None))


def _kind_of(error: AichatError) -> Literal["throttled", "timeout", "lost", "error"]:
    if isinstance(error, (RateLimitError, TooManyOpenFilesError)) or getattr(error, "status", None) in (503, 529):
        return "throttled"
    if isinstance(error, DeadlineError):
        return "timeout"
    return "lost" if isinstance(error, (ConnectionFailedError, IncompleteReplyError)) else "error"


class _LimitCheck:
    """Counts of the calls that were sent after a refused one, to tell a limit from an occasional fault."""

    def __init__(self, sent_at: float, now: float) -> None:
        self.since = sent_at - ROUNDING_S
        self.answers = 0
        self.refused = 0
        self.retry_at = now

    def is_settled(self, enough: int) -> bool:
        """Tell whether there are enough answers to decide."""
        return self.answers >= enough or (enough <= 10 and self.is_limit())

    def is_limit(self, *, is_over: bool = False) -> bool:
        """Tell whether most were refused. `is_over`: no more answers will come, so fewer are enough."""
        answers, refused = self.answers, self.refused
        if is_over and refused >= 4 and refused >= 0.3 * answers:
            return True
        return (answers >= 4 and refused >= 0.8 * answers) or (answers >= 10 and refused >= 0.5 * answers)


class Limiter:
    """The limiter of one run: `acquire` before each call, `release` after it. For one event loop; not thread safe.

    Attributes:
        in_flight: Calls between `acquire` and `release`.
    """

    def __init__(
        self,
        *,
        concurrency: int | Literal["auto"] = "auto",
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrency: int = 256,
        share: Callable[[], int] = lambda: sys.maxsize,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Create the limiter of a run that starts now.

        Args:
            concurrency: Calls in flight, >= 1; ``"auto"`` adapts the number. Pauses and pacing hold for both.
            requests_per_minute: Upper limit, evenly spaced, > 0.
            tokens_per_minute: Upper limit, evenly spaced, > 0.
            max_concurrency: Upper limit of ``"auto"``, >= 1.
            share: Returns the connections that this run may have now, >= 1; further calls wait.
            clock: Monotonic clock, in seconds.
            sleep: Waits so many seconds.
        """
        # Users' values are checked by `BatchOptions`.
        assert concurrency == "auto" or concurrency >= 1
        assert max_concurrency >= 1
        assert requests_per_minute is None or requests_per_minute > 0
        assert tokens_per_minute is None or tokens_per_minute > 0
        self._clock = clock
        self._sleep = sleep
        self._share = share
        now = clock()
        self._began_at = now
        is_fixed = concurrency != "auto"
        size = concurrency if isinstance(concurrency, int) else min(START, max_concurrency)
        self._window = ConcurrencyWindow(
            size=size, most=size if is_fixed else max_concurrency, is_fixed=is_fixed, now=now
        )
        self._requests = Pacer(requests_per_minute)
        self._tokens = Pacer(tokens_per_minute)
        self._admitted = AdmittedRate(now)
        self._tokens_charged = 0.0  # tokens charged when a call starts, smoothed
        self._tokens_used = 0.0  # tokens a call has used, smoothed
        self._outstanding = OutstandingCalls()
        self.in_flight = 0
        self._turn = asyncio.Lock()  # first come, first served
        self._n_waiting = 0
        self._slot_freed: asyncio.Future[None] | None = None
        self._pause_until = -math.inf
        self._paused_s = 0.0
        self._resumed_after = -math.inf
        self._limit_check: _LimitCheck | None = None
        self._retry_after_s = 1.0
        self._failed_pauses = 0
        self._begin_epoch(now)

    @property
    def concurrency(self) -> int:
        """Return the number of calls that may be in flight now, not counting overdue ones."""
        return self._window.whole

    @property
    def max_concurrency(self) -> int:
        """Return the highest possible `concurrency`."""
        return self._window.most

    @property
    def has_overdue(self) -> bool:
        """Tell whether calls are overdue, so that more workers are wanted although none has finished."""
        return self._slots(self._clock()) > self._window.whole

    @property
    def workers_wanted(self) -> int:
        """Return the number of workers that can send now; it changes with each `release` and each overdue call."""
        return self._slots(self._clock())

    @property
    def counts_tokens(self) -> bool:
        """Tell whether the number of tokens of a call matters."""
        return self._tokens.is_bounded

    @property
    def pause_s(self) -> float:
        """Return the seconds until the pause of the run is over; 0 without a pause."""
        return max(self._pause_until - self._clock(), 0.0)

    async def acquire(self, tokens: int = 0) -> None:
        """Wait until a call may start: for a free slot, for the end of a pause, for its time in the schedule.

        If it is cancelled while it waits, nothing is acquired.

        Args:
            tokens: Estimated tokens of the call, input and output; 0: the average of the calls before it.
        """
        if not self._n_waiting and self._wait_s(now := self._clock()) <= 0:
            self._start_call(tokens, now)  # the usual case: nobody waits
            return
        self._n_waiting += 1
        try:
            async with self._turn:
                while (wait_s := self._wait_s(now := self._clock())) > 0:
                    if wait_s < math.inf:
                        await self._sleep(wait_s)
                    else:
                        self._slot_freed = asyncio.get_running_loop().create_future()
                        await self._slot_freed
                self._start_call(tokens, now)
        finally:
            self._n_waiting -= 1

    def _slots(self, now: float) -> int:
        """Return how many calls may be in flight: the window, and at most as many again in place of overdue ones."""
        window = self._window
        if window.is_fixed:
            return min(window.whole, self._share())
        overdue = self._outstanding.overdue(window.latency_s, now)
        return min(window.whole + min(overdue, window.whole), window.most, self._share())

    def _wait_s(self, now: float) -> float:
        """Return the seconds until a call may start; infinite: when another one has ended."""
        if self.in_flight >= self._slots(now):
            return math.inf
        wait_s = max(self._pause_until - now, self._requests.wait_s(now), self._tokens.wait_s(now))
        if wait_s <= 0 and self._pause_until > self._resumed_after:
            self._resume(now)
            return self._wait_s(now)
        return wait_s

    def _start_call(self, tokens: int, now: float) -> None:
        """Count a call that starts."""
        self.in_flight += 1
        self._window.call_started(self.in_flight)
        if not self._window.is_fixed:
            self._outstanding.call_started(now)
        self._requests.call_started(1, now, self._admitted.rate)
        charge = tokens or self._tokens_used
        self._tokens.call_started(charge, now)
        self._tokens_charged += (charge - self._tokens_charged) / 8

    def release(self, outcome: Outcome) -> None:
        """Return the slot of a call, and learn from its outcome."""
        self.in_flight -= 1
        if self._slot_freed is not None and not self._slot_freed.done():
            self._slot_freed.set_result(None)
        now = self._clock()
        sent_at = now - outcome.latency_s
        if not self._window.is_fixed:
            self._outstanding.call_ended(sent_at + ROUNDING_S)
        if outcome.kind == "lost":
            self._tokens.correct(-self._tokens_charged)
            return
        is_refused = outcome.kind in ("throttled", "timeout")
        if not is_refused:
            self._window.call_ended(outcome.latency_s, now)
        if outcome.kind == "ok" and sent_at >= self._epoch_at - ROUNDING_S:
            self._n_ok += 1
            self._ok_sent_at.append(sent_at)
        self._admitted.call_ended(sent_at, is_refused, now)
        self._count_tokens(outcome)
        if (limits := outcome.rate_limits) is not None:
            self._requests.follow_headers(
                limits.limit_requests, limits.remaining_requests, limits.reset_requests_s, self.in_flight
            )
            used = int(self.in_flight * self._tokens_used)
            self._tokens.follow_headers(limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_s, used)
        self._check_limit(outcome, is_refused, sent_at, now)

    def _count_tokens(self, outcome: Outcome) -> None:
        """Correct the tokens that `acquire` has charged. A throttled call used none."""
        used = 0 if outcome.kind == "throttled" else outcome.tokens
        if used is not None:
            self._tokens.correct(used - self._tokens_charged)
            if outcome.kind == "ok":
                self._tokens_used += (used - self._tokens_used) / (8 if self._tokens_used else 1)

    def _check_limit(self, outcome: Outcome, is_refused: bool, sent_at: float, now: float) -> None:
        """Open a limit check, count a call in it, or close it."""
        check = self._limit_check
        if check is not None and sent_at >= check.since:
            check.answers += 1
            check.refused += is_refused
        elif check is None and is_refused and sent_at >= self._epoch_at:
            check = self._limit_check = _LimitCheck(sent_at, now)
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

    def _follow_retry_after(self, check: _LimitCheck, retry_after_s: float | None, now: float) -> None:
        """Note the wait that the server asks for, and pause the run where the rules say so."""
        if retry_after_s is None or not 0 < retry_after_s <= MAX_PAUSE_S:
            return
        self._retry_after_s = max(retry_after_s, 1.0)
        self._admitted.period_s = min(max(retry_after_s, 0.8 * self._admitted.period_s, 1.0), 60.0)
        check.retry_at = max(check.retry_at, now + retry_after_s)
        is_rare = self._paused_s + retry_after_s <= 0.02 * (now - self._began_at)
        if not self._paused_s or now < self._pause_until or is_rare:
            self._pause(check.retry_at, now)

    def _pause(self, until: float, now: float) -> None:
        """Let no call start before `until`."""
        if until > self._pause_until:
            self._paused_s += until - max(now, self._pause_until)
            self._pause_until = until
            self._window.restart(until)
            self._admitted.restart(until)

    def _resume(self, now: float) -> None:
        """End a pause."""
        if self._limit_check is not None:
            self._close_check(self._limit_check, now, is_over=True)
        if self._epoch_at < self._pause_until:
            self._begin_epoch(self._pause_until)
        self._resumed_after = self._pause_until

    def _close_check(self, check: _LimitCheck, now: float, *, is_over: bool = False) -> None:
        """Decide whether the server is at its limit, and if so, pause and slow down."""
        self._limit_check = None
        if not check.is_limit(is_over=is_over):
            return
        if check.retry_at <= now and not is_over:
            # Refused without a Retry-After: wait longer each time, until a call succeeds.
            self._failed_pauses = 0 if self._n_ok else self._failed_pauses + 1
            check.retry_at = now + min(0.5 * 2.0**self._failed_pauses, 30.0)
        self._pause(check.retry_at, now)
        resume_at = max(now, self._pause_until)
        least = 0.0
        if self._n_ok >= START:
            period_s = self._retry_after_s
            since_pause = self._n_ok / max(resume_at - self._epoch_at, 1.0)
            before = sum(sent_at >= check.since - period_s for sent_at in self._ok_sent_at) / period_s
            rate = min(math.sqrt(since_pause * max(since_pause, min(before, self._admitted.rate))), self._admitted.rate)
        elif self._n_ok and self._window.latency_s:
            # Too few to know the rate, but the calls of one moment were too many: spread them (Little's law).
            rate = min(self._window.size / self._window.latency_s / 2, self._admitted.rate)
        else:
            rate = math.inf
        if rate < math.inf:
            self._admitted.start_from(rate, resume_at)
            least = 1 + 2 * rate * (self._window.latency_s or 0.0)
        self._window.halve(least)
        self._window.restart(resume_at)
        self._begin_epoch(resume_at)

    def _begin_epoch(self, now: float) -> None:
        """Count the calls that the server admits from here on."""
        self._epoch_at = now
        self._n_ok = 0
        self._ok_sent_at: deque[float] = deque(maxlen=4096)
