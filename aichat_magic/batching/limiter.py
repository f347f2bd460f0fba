"""How many calls of a run at once, how fast, and when all of them pause.

The law, in plain words:

1. **How many at once.** `control.ConcurrencyWindow`: begin with 12, a fifth more each round trip while throughput
   follows. A call that takes five times as long as usual, and a second at least, gives its place to another one
   (`control.OutstandingCalls`).
2. **The first refusal pauses everyone.** From a 429 (503, 529) until its Retry-After is over nobody starts a call.
3. **Alone, or one of many?** A refusal opens a doubt: of the calls that were sent after the refused one, how many were
   refused too? A server at its limit refuses most of them; a fault that hits one call in twenty does not. Alone, the
   run goes on as before when the pause is over.
4. **At the limit**: everyone pauses until the last Retry-After is over, the window is halved, and from then on calls
   are spaced at the rate that the server has admitted: the geometric mean of the calls admitted per second since the
   last pause, this pause included (too low when the run had only begun), and of those in the last period before the
   refusal (too high when the server saves up what is not used). `control.AdmittedRate` then finds the true one.
5. **Later refusals that are alone** pause their own row only, unless all pauses of the run together stay below a
   fiftieth of its time: else one refusal in twenty, each with a pause of a second, would be a run that only pauses.

Pacing keeps a run at the edge of a limit with next to no wasted calls, which no number of calls in flight can do: sixty
calls a second at 20 ms are one call in flight, or two.
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
    OptionError,
    RateLimitError,
    TooManyOpenFilesError,
)
from ..core.messages import RateLimits, Reply
from ..http.rate_limits import rate_limits_from
from .control import START, AdmittedRate, ConcurrencyWindow, OutstandingCalls, Pacer

__all__ = ["Limiter", "Outcome", "RateLimits", "outcome_of", "rate_limits_from"]

# A server that asks for more is not waited for (`RetryPolicy.retry_after_cap_s` says the same of one request).
LONGEST_PAUSE_S = 120.0
# Calls that were sent in the same instant differ by the rounding of `now - latency_s`.
INSTANT_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one call went.

    Attributes:
        latency_s: Seconds from sending to the end.
        kind: ``"ok"``; ``"throttled"`` (429, 503, 529, or no file descriptor was left for it); ``"timeout"``;
            ``"lost"``: nothing that says something about the server, because its connection broke or it was not sent
            at all; ``"error"`` for all else.
        tokens: Tokens it used, input and output together, where the server said so.
        retry_after_s: How long the server asked to wait.
        rate_limits: What the headers said.
    """

    latency_s: float
    kind: Literal["ok", "throttled", "timeout", "lost", "error"] = "ok"
    tokens: int | None = None
    retry_after_s: float | None = None
    rate_limits: RateLimits | None = None


def outcome_of(result: Reply | AichatError, latency_s: float) -> Outcome:
    """How an attempt went, as the limits want to know it."""
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
    """Calls that were sent after a refused one: does the server refuse them all?"""

    def __init__(self, sent_at: float, now: float) -> None:
        self.since = sent_at - INSTANT_S
        self.answers = 0
        self.refused = 0
        self.retry_at = now

    def is_settled(self, enough: int) -> bool:
        """Whether there is enough to judge by."""
        return self.answers >= enough or (enough <= 10 and self.is_limit())

    def is_limit(self, *, is_over: bool = False) -> bool:
        """Whether most were refused. `is_over`: no more answers will come, fewer must do."""
        answers, refused = self.answers, self.refused
        if is_over and refused >= 4 and refused >= 0.3 * answers:
            return True
        return (answers >= 4 and refused >= 0.8 * answers) or (answers >= 10 and refused >= 0.5 * answers)


class Limiter:
    """The limits of one run: `acquire` before each call, `release` after it. For one event loop; not thread safe.

    Attributes:
        in_flight: Calls between `acquire` and `release`.
        max_seen: The highest `in_flight` so far.
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
        """Begin a run.

        Args:
            concurrency: Calls at once; ``"auto"`` finds the number. Pauses and pacing hold for both.
            requests_per_minute: Upper bound, evenly spaced, > 0.
            tokens_per_minute: Upper bound, evenly spaced, > 0.
            max_concurrency: Highest number that ``"auto"`` may find, >= 1.
            share: Connections that this run may have now, >= 1; what is more than that waits.
            clock: Seconds that only go forward.
            sleep: Waits so many seconds.

        Raises:
            OptionError: A number outside its range.
        """
        for name, count in (("concurrency", concurrency), ("max_concurrency", max_concurrency)):
            if name == "concurrency" and count == "auto":
                continue
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise OptionError(f"{name} must be a whole number of 1 or more, not {count!r}.")
        _check_positive("requests_per_minute", requests_per_minute)
        _check_positive("tokens_per_minute", tokens_per_minute)
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
        self._tokens_charged = 0.0  # tokens a call, as charged when it starts, smoothed
        self._tokens_used = 0.0  # as used, smoothed
        self._outstanding = OutstandingCalls()
        self.in_flight = 0
        self.max_seen = 0
        self._turn = asyncio.Lock()  # first come, first served
        self._queue = 0
        self._freed: asyncio.Future[None] | None = None
        self._pause_until = -math.inf
        self._paused_s = 0.0
        self._resumed_after = -math.inf
        self._doubt: _LimitCheck | None = None
        self._retry_after_s = 1.0
        self._failures = 0
        self._begin_epoch(now)

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now, not counting those that are overdue."""
        return self._window.whole

    @property
    def most(self) -> int:
        """The highest `concurrency` there can be."""
        return self._window.most

    @property
    def has_stuck(self) -> bool:
        """Whether calls are overdue, so that more workers are wanted without one having come to an end."""
        return self._places(self._clock()) > self._window.whole

    @property
    def workers_wanted(self) -> int:
        """Workers that have something to do now; ask again after each `release`, and when something is stuck."""
        return self._places(self._clock())

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a call will use."""
        return self._tokens.is_bounded

    @property
    def requests_per_second(self) -> float | None:
        """The pace that holds now; None where there is none."""
        rate = self._requests.rate(self._admitted.rate)
        return None if math.isinf(rate) else rate

    @property
    def pause_s(self) -> float:
        """Seconds until the pause of all workers is over; 0 when there is none."""
        return max(self._pause_until - self._clock(), 0.0)

    async def acquire(self, tokens: int = 0) -> None:
        """Wait until a call may start: for a free slot, for the end of a pause, for the pace.

        Cancelled while it waits, it takes nothing.

        Args:
            tokens: About how many tokens the call will use, input and output; 0: as many as those before it.
        """
        if not self._queue and self._wait_s(now := self._clock()) <= 0:
            self._take(tokens, now)  # the usual case: nobody waits
            return
        self._queue += 1
        try:
            async with self._turn:
                while (wait_s := self._wait_s(now := self._clock())) > 0:
                    if wait_s < math.inf:
                        await self._sleep(wait_s)
                    else:
                        self._freed = asyncio.get_running_loop().create_future()
                        await self._freed
                self._take(tokens, now)
        finally:
            self._queue -= 1

    def _places(self, now: float) -> int:
        """Calls that may be out: as many as the window holds, and as many again in place of those that are overdue."""
        window = self._window
        if window.is_fixed:
            return min(window.whole, self._share())
        overdue = self._outstanding.overdue(window.latency_s, now)
        return min(window.whole + min(overdue, window.whole), window.most, self._share())

    def _wait_s(self, now: float) -> float:
        """Seconds until a call may start; infinite: until another one has ended."""
        if self.in_flight >= self._places(now):
            return math.inf
        wait_s = max(self._pause_until - now, self._requests.wait_s(now), self._tokens.wait_s(now))
        if wait_s <= 0 and self._pause_until > self._resumed_after:
            self._resume(now)
            return self._wait_s(now)
        return wait_s

    def _take(self, tokens: int, now: float) -> None:
        """A call starts."""
        self.in_flight += 1
        self.max_seen = max(self.max_seen, self.in_flight)
        self._window.taken(self.in_flight)
        if not self._window.is_fixed:
            self._outstanding.sent(now)
        self._requests.take(1, now, self._admitted.rate)
        charge = tokens or self._tokens_used
        self._tokens.take(charge, now)
        self._tokens_charged += (charge - self._tokens_charged) / 8

    def release(self, outcome: Outcome) -> None:
        """Give the slot back and say how it went.

        Args:
            outcome: How it went.
        """
        self.in_flight -= 1
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)
        now = self._clock()
        sent_at = now - outcome.latency_s
        if not self._window.is_fixed:
            self._outstanding.ended(sent_at + INSTANT_S)
        if outcome.kind == "lost":
            self._tokens.correct(-self._tokens_charged)
            return
        is_refused = outcome.kind in ("throttled", "timeout")
        if not is_refused:
            self._window.answered(outcome.latency_s, now)
        if outcome.kind == "ok" and sent_at >= self._epoch_at - INSTANT_S:
            self._ok += 1
            self._ok_sent.append(sent_at)
        self._admitted.answered(sent_at, is_refused, now)
        self._count_tokens(outcome)
        if (told := outcome.rate_limits) is not None:
            self._requests.heed(told.limit_requests, told.remaining_requests, told.reset_requests_s, self.in_flight)
            used = int(self.in_flight * self._tokens_used)
            self._tokens.heed(told.limit_tokens, told.remaining_tokens, told.reset_tokens_s, used)
        self._doubt_after(outcome, is_refused, sent_at, now)

    def _count_tokens(self, outcome: Outcome) -> None:
        """Set right what `acquire` has charged. A call that was turned away used none."""
        used = 0 if outcome.kind == "throttled" else outcome.tokens
        if used is not None:
            self._tokens.correct(used - self._tokens_charged)
            if outcome.kind == "ok":
                self._tokens_used += (used - self._tokens_used) / (8 if self._tokens_used else 1)

    def _doubt_after(self, outcome: Outcome, is_refused: bool, sent_at: float, now: float) -> None:
        """Open a doubt, add to it, or settle it."""
        doubt = self._doubt
        if doubt is not None and sent_at >= doubt.since:
            doubt.answers += 1
            doubt.refused += is_refused
        elif doubt is None and is_refused and sent_at >= self._epoch_at:
            doubt = self._doubt = _LimitCheck(sent_at, now)
        if doubt is None:
            return
        if is_refused:
            self._heed_retry_after(doubt, outcome.retry_after_s, now)
        if now < self._pause_until:
            return  # the pause gives time to see how the others fare
        rate = self._admitted.rate
        # A paced run sees a few refusals in a row at the end of each window of the server.
        enough = 10 if math.isinf(rate) else int(min(max(rate * self._admitted.period_s / 2, 11), 30))
        if doubt.is_settled(enough):
            self._settle(doubt, now)

    def _heed_retry_after(self, doubt: _LimitCheck, retry_after_s: float | None, now: float) -> None:
        """Note how long the server asks to wait, and pause everyone where that is due."""
        if retry_after_s is None or not 0 < retry_after_s <= LONGEST_PAUSE_S:
            return
        self._retry_after_s = max(retry_after_s, 1.0)
        self._admitted.period_s = min(max(retry_after_s, 0.8 * self._admitted.period_s, 1.0), 60.0)
        doubt.retry_at = max(doubt.retry_at, now + retry_after_s)
        is_rare = self._paused_s + retry_after_s <= 0.02 * (now - self._began_at)
        if not self._paused_s or now < self._pause_until or is_rare:
            self._pause(doubt.retry_at, now)

    def _pause(self, until: float, now: float) -> None:
        """Let nobody start a call before `until`."""
        if until > self._pause_until:
            self._paused_s += until - max(now, self._pause_until)
            self._pause_until = until
            self._window.restart(until)
            self._admitted.restart(until)

    def _resume(self, now: float) -> None:
        """The pause is over."""
        if self._doubt is not None:
            self._settle(self._doubt, now, is_over=True)
        if self._epoch_at < self._pause_until:
            self._begin_epoch(self._pause_until)
        self._resumed_after = self._pause_until

    def _settle(self, doubt: _LimitCheck, now: float, *, is_over: bool = False) -> None:
        """Decide whether the server is at its limit, and if so, slow down."""
        self._doubt = None
        if not doubt.is_limit(is_over=is_over):
            return
        if doubt.retry_at <= now and not is_over:
            # Refused without a Retry-After: wait longer each time nothing came of it.
            self._failures = 0 if self._ok else self._failures + 1
            doubt.retry_at = now + min(0.5 * 2.0**self._failures, 30.0)
        self._pause(doubt.retry_at, now)
        resume_at = max(now, self._pause_until)
        needed = 0.0
        if self._ok >= START:
            period_s = self._retry_after_s
            since_pause = self._ok / max(resume_at - self._epoch_at, 1.0)
            before = sum(sent_at >= doubt.since - period_s for sent_at in self._ok_sent) / period_s
            rate = min(math.sqrt(since_pause * max(since_pause, min(before, self._admitted.rate))), self._admitted.rate)
        elif self._ok and self._window.latency_s:
            # Too few to tell the rate, but the calls of one instant were too many: spread them (Little's law).
            rate = min(self._window.size / self._window.latency_s / 2, self._admitted.rate)
        else:
            rate = math.inf
        if rate < math.inf:
            self._admitted.learn(rate, resume_at)
            needed = 1 + 2 * rate * (self._window.latency_s or 0.0)
        self._window.cut(needed)
        self._window.restart(resume_at)
        self._begin_epoch(resume_at)

    def _begin_epoch(self, now: float) -> None:
        """Count what the server admits from here on."""
        self._epoch_at = now
        self._ok = 0
        self._ok_sent: deque[float] = deque(maxlen=4096)


def _check_positive(name: str, value: float | None) -> None:
    """Refuse what is no bound."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise OptionError(f"{name} must be a number above 0, not {value!r}.")
