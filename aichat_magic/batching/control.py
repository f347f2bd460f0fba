"""The laws of control behind `limits`: how many at once, how fast, and what rate a server admits. Pure arithmetic.

Every moment is a number of seconds of the caller's clock. Sources of the ideas:

- `ConcurrencyWindow`: additive increase and multiplicative decrease (Chiu and Jain, "Analysis of the Increase and
  Decrease Algorithms", 1989); a start that grows with every round trip (RFC 5681, section 3.1); growth ends where throughput
  ends, because by Little's law what is sent beyond throughput x latency only waits (Cardwell et al., "BBR", 2016).
- `Pacer`: spacing instead of bursts, as a virtual schedule (ITU-T I.371, the generic cell rate algorithm).
- `OutstandingCalls`: what is far slower than the rest is stuck (Dean and Barroso, "The Tail at Scale", 2013).
- `AdmittedRate`: a search between the rate that went well and the one that did not (Xu et al., "Binary Increase
  Congestion Control", 2004).
"""

from __future__ import annotations

import math
from bisect import bisect_right

# The first window: small enough that a low limit wastes few calls, large enough that a short run is quick.
START = 12
# Growth of the window per round trip. At a limit that is found by doubling, half of all calls in flight are refused; a
# fifth keeps the waste small, and goes from 12 to 64 in ten round trips.
GROWTH = 0.2
# Replies that take long meet the window before any rate: for them growth per round trip is latency / SLOW_S, at most
# doubling.
SLOW_S = 1.2
SHORTEST_ROUND_S = 0.05
# Rounds without more throughput until growth ends; rounds until it is tried again.
STALE_ROUNDS = 4
LEVEL_ROUNDS = 32


class ConcurrencyWindow:
    """How many calls may be in flight.

    It begins at `START`, grows by a fifth or more each round trip while throughput follows, stays level where it does
    not (and tries again now and then), and is halved when the server refuses; after that it grows by one per round.
    """

    def __init__(self, *, size: int, most: int, is_fixed: bool, now: float) -> None:
        """Begin a run; a fixed window never changes."""
        self.size = float(size)
        self.latency_s: float | None = None
        self._fastest_s = math.inf
        self.most = most
        self.is_fixed = is_fixed
        self._is_additive = False
        self._compare_from(0.0)
        self.restart(now)

    @property
    def whole(self) -> int:
        """The size as a number of calls, >= 1."""
        return int(self.size)

    def restart(self, now: float) -> None:
        """Begin a round trip; what was counted of the last one is dropped."""
        self._round_at = now
        self._done = 0
        self._was_full = False

    def taken(self, in_flight: int) -> None:
        """A call was started."""
        if in_flight >= self.whole:
            self._was_full = True

    def answered(self, latency_s: float, now: float) -> None:
        """A call came to an end that says something about latency and throughput."""
        smoothed_s = latency_s if self.latency_s is None else self.latency_s
        self.latency_s = smoothed_s + (latency_s - smoothed_s) / 8
        self._fastest_s = min(self._fastest_s, latency_s)
        if self.is_fixed or now < self._round_at:
            return
        self._done += 1
        took_s = now - self._round_at
        # A round trip is over when as many calls have ended as the window holds (Little's law).
        if took_s >= (1.0 if self._is_additive else SHORTEST_ROUND_S) and self._done >= self.size:
            if self._was_full:  # a window that is not used shows nothing
                self._step(self._done / took_s)
            self.restart(now)

    def cut(self, needed: float) -> None:
        """Halve, but leave what a paced run needs."""
        if not self.is_fixed:
            self.size = min(self.size, max(1.0, self.size / 2, needed))
            self._is_additive = True
            self._compare_from(0.0)

    def _compare_from(self, throughput: float) -> None:
        """Measure growth against this size and throughput."""
        self._best, self._best_size = throughput, self.size
        self._stale = 0
        self._level_for = 0

    def _step(self, throughput: float) -> None:
        """One full round trip is over."""
        if self._level_for:
            self._level_for -= 1
            if not self._level_for:
                self._compare_from(throughput)
            return
        # Throughput has to follow by two fifths of the growth; the rest is left to noise.
        if throughput > self._best * (1 + 0.4 * (self.size / self._best_size - 1)):
            self._best, self._best_size, self._stale = throughput, self.size, 0
        else:
            self._stale += 1
        if self._stale >= STALE_ROUNDS:
            self.size = min(self.size, self._best_size * (1 + GROWTH))
            self._level_for = LEVEL_ROUNDS
            return
        growth = 1 / self.size if self._is_additive else min(max(self._fastest_s / SLOW_S, GROWTH), 1.0)
        self.size = min(float(self.most), self.size * (1 + growth))


class OutstandingCalls:
    """The calls that are out, by when they were sent.

    A call that takes far longer than those before it is stuck, mostly: nobody will answer it. It shows nothing of what
    the server takes, and a window full of such calls would be a run that stands still until their deadline.
    """

    # A call is overdue after so many times the usual latency, and not before so many seconds.
    _TIMES = 5.0
    _LEAST_S = 1.0

    def __init__(self) -> None:
        """Begin with none."""
        self._sent_at: list[float] = []

    def sent(self, now: float) -> None:
        """A call was started."""
        self._sent_at.append(now)

    def ended(self, sent_at: float) -> None:
        """A call that was started at about that time has come to an end."""
        del self._sent_at[max(bisect_right(self._sent_at, sent_at) - 1, 0)]

    def overdue(self, latency_s: float | None, now: float) -> int:
        """How many are overdue.

        Args:
            latency_s: What calls usually take, in seconds; None: not known yet.
            now: The time.
        """
        if latency_s is None:
            return 0
        return bisect_right(self._sent_at, now - max(self._TIMES * latency_s, self._LEAST_S))


class Pacer:
    """Spaces what is sent evenly: so many units (requests, tokens) a second, the lowest of three rates.

    Attributes:
        asked: The rate that the user has set.
        told: The rate that the server's headers leave.
    """

    # What a bucket holds may be used up within so many seconds.
    _SPARE_S = 5.0
    # Sleeps end late by up to some milliseconds: as much may be caught up.
    _SLACK_S = 0.01
    # Neither headers nor refusals make one call wait for more: the server then says itself how long (Retry-After).
    _LONGEST_S = 60.0

    def __init__(self, per_minute: float | None) -> None:
        """Begin with the user's own limit, or none."""
        self.asked = math.inf if per_minute is None else per_minute / 60
        self.told = math.inf
        self._next_at = -math.inf

    def rate(self, learned: float = math.inf) -> float:
        """Units a second that hold now."""
        return min(self.asked, self.told, learned)

    @property
    def is_bounded(self) -> bool:
        """Whether the user or the server has set a rate."""
        return self.asked < math.inf or self.told < math.inf

    def wait_s(self, now: float) -> float:
        """Seconds until the next call may start."""
        return self._next_at - now

    def take(self, units: float, now: float, learned: float = math.inf) -> None:
        """A call starts that costs so many units, >= 0."""
        if self.asked == self.told == learned == math.inf:
            return  # the usual case, for every call
        if (step_s := self._step_s(units, learned)) > 0:
            self._next_at = max(self._next_at, now - self._SLACK_S) + step_s

    def correct(self, units: float) -> None:
        """A call has cost so many units more (or less, below 0) than was thought."""
        if self.is_bounded:
            self._next_at += math.copysign(self._step_s(abs(units), math.inf), units)

    def _step_s(self, units: float, learned: float) -> float:
        """Seconds that so many units take."""
        found = min(self.told, learned)
        return max(units / self.asked, min(units / found, self._LONGEST_S) if found > 0 else self._LONGEST_S)

    def heed(self, limit: int | None, remaining: int | None, reset_s: float | None, in_flight: int) -> None:
        """Steer by a server's headers, read as a bucket that refills evenly, as OpenAI and Anthropic describe theirs.

        What flows in is sustainable; what is in the bucket may be used up, but not within the next instant.
        """
        if limit is None or remaining is None:
            return
        if remaining >= limit or not reset_s:
            self.told = math.inf  # a full bucket does not show how fast it fills
        else:
            self.told = (limit - remaining) / reset_s + max(remaining - in_flight, 0) / self._SPARE_S


class AdmittedRate:
    """The rate of requests that a server admits, learned from its refusals.

    `rate` is infinite until a share of all calls is refused that lone faults do not explain. From then on it is looked
    at once in a period (the server's own Retry-After tells how long that is): no refusal, and it grows; any refusal,
    and it falls by the refused share and approaches the rate that failed from below, by halves.

    Refusals that go on when the rate has fallen to half do not come from the rate: the pace is given up, and their
    share is taken for the server's normal one.
    """

    # Growth per round: of an estimate, which may be half of the truth; just after a fall; towards the rate that failed.
    _FASTEST_GROWTH = 0.2
    _GROWTH_AFTER_FALL = 0.01
    _APPROACH = 0.1
    # A fall is never deeper than this factor, and this share when it comes in the middle of a round: a fixed window
    # refuses its last calls in a row, so that a part of a round shows no fair share.
    _DEEPEST_FALL = 0.7
    _EARLY_FALL = 0.2
    # Where the rate that failed is this near, it is not tried again for so many rounds.
    _NEAR = 1.02
    _ROUNDS_NEAR = 8
    # Half the share of refusals that is still no sign of a limit, when nothing else is known.
    _NORMAL = 0.03

    def __init__(self, now: float) -> None:
        """Begin without a limit."""
        self.rate = math.inf
        self.period_s = 1.0
        self._normal = 0.0
        self.learn(math.inf, now)

    def learn(self, rate: float, now: float) -> None:
        """Take an estimate."""
        self.rate = rate
        self._highest = rate
        self._failed = math.inf
        self._growth = self._FASTEST_GROWTH
        self._rounds_to_hold = 0
        self._is_after_fall = False
        self._all_answers = self._all_refused = 0
        self.restart(now)

    def restart(self, now: float) -> None:
        """Count calls that are sent from now on."""
        self._round_at = now
        self._last_sent_at = now
        self._waits_for_success = False
        self._answers = 0
        self._refused = 0

    def answered(self, sent_at: float, is_refused: bool, now: float) -> None:
        """A call has come to an end."""
        if sent_at < self._round_at or (self._waits_for_success and is_refused):
            return
        if self._waits_for_success:
            self._waits_for_success = False
            self._round_at = self._last_sent_at = sent_at
        self._answers += 1
        self._refused += is_refused
        self._last_sent_at = max(self._last_sent_at, sent_at)
        # Calls that are still on their way say whether the last step was right: a round ends with what it has sent.
        is_whole = self._last_sent_at - self._round_at >= self.period_s
        if self.rate == math.inf:
            if is_whole and self._answers >= 20:
                self._suspect(now)
        elif self._is_early() or (is_whole and self._answers >= 10):
            self._all_answers += self._answers
            self._all_refused += self._refused
            self._judge(is_whole, now)

    def _is_early(self) -> bool:
        """Whether so many were refused that the end of the round is not waited for."""
        if self._is_after_fall:
            return self._refused >= 8 and self._refused >= 0.2 * self._answers
        return self._refused >= 5 and self._refused >= 0.1 * self._answers

    def _suspect(self, now: float) -> None:
        """A round of a run without a pace is over: is there more refused than lone faults explain?"""
        expected = 2 * max(self._NORMAL, self._normal) * self._answers
        if self._refused > expected + 2 * math.sqrt(expected) + 1:
            self.learn(self._seen(self._answers - self._refused), now)
        self.restart(now)

    def _seen(self, calls: int) -> float:
        """So many calls of this round as a rate."""
        return max(calls, 1) / max(self._last_sent_at - self._round_at, self.period_s / 2)

    def _judge(self, is_whole: bool, now: float) -> None:
        """A round of a run with a pace is over."""
        share = self._refused / self._answers
        if not is_whole and not self._is_after_fall:
            share = self._EARLY_FALL
        if share > max(0.005, 2 * self._normal):
            self._fall(share, now)
            return
        self._is_after_fall = False
        if self._rounds_to_hold:
            self._rounds_to_hold -= 1
        elif self._seen(self._answers) >= 0.7 * self.rate:  # a pace that is not used shows nothing
            self._rise()
        self.restart(now)

    def _fall(self, share: float, now: float) -> None:
        """Less, by the share that was refused."""
        if self.rate < self._highest / 2:
            self._normal = self._all_refused / self._all_answers
            self.learn(math.inf, now)
            return
        self._failed = self.rate
        self.rate *= max(1 - share, self._DEEPEST_FALL) * 0.99
        self._growth = self._GROWTH_AFTER_FALL
        self._rounds_to_hold = 1
        # What is refused for the rest of the server's window tells nothing about the new rate.
        self.restart(now)
        self._waits_for_success = True
        self._is_after_fall = True

    def _rise(self) -> None:
        """More: half the way to the rate that failed, or where there is none, a step that becomes longer."""
        if self._failed < math.inf and self._failed > self.rate * self._NEAR:
            self.rate = min((self.rate + self._failed) / 2, self.rate * (1 + max(self._growth, self._APPROACH)))
            if self._failed <= self.rate * self._NEAR:
                self._rounds_to_hold = self._ROUNDS_NEAR
        else:
            self._failed = math.inf
            self.rate *= 1 + self._growth
        self._highest = max(self._highest, self.rate)
        self._growth = min(1.4 * self._growth, self._FASTEST_GROWTH)
