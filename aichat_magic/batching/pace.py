"""Control loops of the limiter: how fast calls start, and the rate that a server admits. Pure arithmetic.

Every time is in seconds of the caller's clock. Sources:

- `Pacer`: spacing instead of bursts, as a virtual schedule (ITU-T I.371, the generic cell rate algorithm).
- `AdmittedRate`: binary search between the last rate that worked and the one that did not (Xu et al., "Binary Increase
  Congestion Control", 2004).
"""

from __future__ import annotations

import math


class Pacer:
    """Even spacing of calls: so many units (requests or tokens) a second, the lowest of three rates.

    Attributes:
        user_rate: The limit set by the user, in units a second.
        is_bounded: Whether the user or the server has set a rate.
        server_rate: The rate that the server's headers allow, in units a second.
        next_at: When the next call may start.
        step_s: Seconds between the last call and the next one.
    """

    # The content of a token bucket may be used up within so many seconds.
    _SPARE_S = 5.0
    # Sleeps end up to some milliseconds late: that much may be caught up.
    _SLACK_S = 0.01
    # Headers and refusals make no call wait for longer: beyond that, the server itself says how long (Retry-After).
    _MAX_STEP_S = 60.0

    def __init__(self, per_minute: float | None) -> None:
        """Create a pacer with the user's limit, or with none."""
        self.user_rate = math.inf if per_minute is None else per_minute / 60
        self.server_rate = math.inf
        self.is_bounded = per_minute is not None
        self.next_at = -math.inf
        self.step_s = 0.0

    def call_started(self, units: float, now: float, admitted_rate: float = math.inf) -> None:
        """Advance the schedule by one call.

        Args:
            units: Units that the call uses, >= 0.
            now: The current time.
            admitted_rate: A further limit, in units a second.
        """
        if self.user_rate == self.server_rate == admitted_rate == math.inf:
            self.step_s = 0.0
            return  # the usual case, for every call
        self.step_s = self._step_s(units, admitted_rate)
        if self.step_s > 0:
            self.next_at = max(self.next_at, now - self._SLACK_S) + self.step_s

    def correct(self, units: float) -> None:
        """Correct the schedule by the difference between actual and estimated units; below 0: fewer were used."""
        if self.is_bounded:
            self.next_at += math.copysign(self._step_s(abs(units), math.inf), units)

    def _step_s(self, units: float, admitted_rate: float) -> float:
        """Return the seconds that so many units take."""
        rate = min(self.server_rate, admitted_rate)
        return max(units / self.user_rate, min(units / rate, self._MAX_STEP_S) if rate > 0 else self._MAX_STEP_S)

    def follow_headers(self, limit: int | None, remaining: int | None, reset_s: float | None, in_flight: int) -> None:
        """Set the server's rate from its headers, read as a token bucket, as OpenAI and Anthropic describe theirs.

        The inflow is sustainable; the content of the bucket may be used up, but not all at once.

        Args:
            limit: Size of the bucket, in units; None: not given.
            remaining: Its content, in units; None: not given.
            reset_s: Time until it is full, in seconds; None: not given.
            in_flight: Units that the calls in flight will still use.
        """
        if limit is None or remaining is None:
            return
        if remaining >= limit or not reset_s:
            self.server_rate = math.inf  # a full bucket does not show how fast it refills
        else:
            self.server_rate = (limit - remaining) / reset_s + max(remaining - in_flight, 0) / self._SPARE_S
        self.is_bounded = self.user_rate < math.inf or self.server_rate < math.inf


class AdmittedRate:
    """The rate of requests that a server admits, learned from its refusals.

    `rate` is infinite until more calls are refused than occasional faults explain. From then on it is adjusted once in
    a period (as long as the server's own Retry-After): without a refusal it grows; with one it falls by the refused
    share and then approaches the rate that failed from below, halving the distance each time.

    If calls are still refused when the rate has fallen to half, the rate is not the reason: pacing ends, and this share
    of refusals counts as normal for the server.
    """

    # Growth per round: from an estimate, which may be half of the real rate; right after a fall; towards a failed rate.
    _MAX_GROWTH = 0.2
    _GROWTH_AFTER_FALL = 0.01
    _GROWTH_TO_FAILED = 0.1
    # The lowest factor of one fall, and the share by which the rate falls in the middle of a round: a server with fixed
    # windows refuses the last calls of each in a row, so that the share within a part of a round is not representative.
    _MIN_FACTOR = 0.7
    _EARLY_FALL = 0.2
    # A failed rate that is within this factor is not tried again for so many rounds.
    _CLOSE_FACTOR = 1.02
    _ROUNDS_WHEN_CLOSE = 8
    # Half of the share of refusals that is no sign of a limit, as long as nothing else is known.
    _NORMAL_SHARE = 0.03

    def __init__(self, now: float) -> None:
        """Create an unlimited rate."""
        self.rate = math.inf
        self.period_s = 1.0
        self._normal_share = 0.0
        self.start_from(math.inf, now)

    def start_from(self, rate: float, now: float, *, failed: float = math.inf) -> None:
        """Start the search from an estimate.

        Args:
            rate: Requests a second; infinite: no limit.
            now: The current time.
            failed: A rate that is known to be too high; infinite: none, so that the estimate may be far too low.
        """
        self.rate = rate
        self._highest = rate
        self._failed = failed
        self._growth = self._MAX_GROWTH if failed == math.inf else self._GROWTH_AFTER_FALL
        self._rounds_to_hold = 0 if failed == math.inf else 1
        self._is_after_fall = False
        self._all_answers = self._all_refused = 0
        self.restart(now)

    def restart(self, now: float) -> None:
        """Start a round: count only the calls that are sent from now on."""
        self._round_at = now
        self._last_sent_at = now
        self._waits_for_success = False
        self._answers = 0
        self._refused = 0

    def call_ended(self, sent_at: float, is_refused: bool, now: float) -> None:
        """Count a call that has ended, and adjust the rate at the end of a round."""
        if sent_at < self._round_at or (self._waits_for_success and is_refused):
            return
        if self._waits_for_success:
            self._waits_for_success = False
            self._round_at = self._last_sent_at = sent_at
        self._answers += 1
        self._refused += is_refused
        self._last_sent_at = max(self._last_sent_at, sent_at)
        # Calls in flight tell whether the last step was right: a round ends with the calls that it has sent.
        is_whole = self._last_sent_at - self._round_at >= self.period_s
        if self.rate == math.inf:
            if is_whole and self._answers >= 20:
                self._end_unpaced_round(now)
        elif self._is_early() or (is_whole and self._answers >= 10):
            self._all_answers += self._answers
            self._all_refused += self._refused
            self._end_paced_round(is_whole, now)

    def _is_early(self) -> bool:
        """Tell whether so many calls were refused that the rate falls before the end of the round."""
        if self._is_after_fall:
            return self._refused >= 8 and self._refused >= 0.2 * self._answers
        return self._refused >= 5 and self._refused >= 0.1 * self._answers

    def _end_unpaced_round(self, now: float) -> None:
        """End a round without pacing, and begin to pace if more was refused than occasional faults explain."""
        expected = 2 * max(self._NORMAL_SHARE, self._normal_share) * self._answers
        if self._refused > expected + 2 * math.sqrt(expected) + 1:
            self.start_from(self._rate_of(self._answers - self._refused), now)
        self.restart(now)

    def _rate_of(self, calls: int) -> float:
        """Return the rate of so many calls in this round, in requests a second."""
        return max(calls, 1) / max(self._last_sent_at - self._round_at, self.period_s / 2)

    def _end_paced_round(self, is_whole: bool, now: float) -> None:
        """End a round with pacing: lower the rate, keep it or raise it."""
        share = self._refused / self._answers
        if not is_whole and not self._is_after_fall:
            share = self._EARLY_FALL
        if share > max(0.005, 2 * self._normal_share):
            self._lower(share, now)
            return
        self._is_after_fall = False
        if self._rounds_to_hold:
            self._rounds_to_hold -= 1
        elif self._rate_of(self._answers) >= 0.7 * self.rate:  # a rate that is not used up shows nothing
            self._raise()
        self.restart(now)

    def _lower(self, share: float, now: float) -> None:
        """Lower the rate by the share that was refused, or give up pacing."""
        if self.rate < self._highest / 2:
            self._normal_share = self._all_refused / self._all_answers
            self.start_from(math.inf, now)
            return
        self._failed = self.rate
        self.rate *= max(1 - share, self._MIN_FACTOR) * 0.99
        self._growth = self._GROWTH_AFTER_FALL
        self._rounds_to_hold = 1
        # Refusals in the rest of the server's window say nothing about the new rate.
        self.restart(now)
        self._waits_for_success = True
        self._is_after_fall = True

    def _raise(self) -> None:
        """Raise the rate: by half of the distance to the rate that failed, or, without one, by a growing step."""
        if self._failed < math.inf and self._failed > self.rate * self._CLOSE_FACTOR:
            self.rate = min((self.rate + self._failed) / 2, self.rate * (1 + max(self._growth, self._GROWTH_TO_FAILED)))
            if self._failed <= self.rate * self._CLOSE_FACTOR:
                self._rounds_to_hold = self._ROUNDS_WHEN_CLOSE
        else:
            self._failed = math.inf
            self.rate *= 1 + self._growth
        self._highest = max(self._highest, self.rate)
        self._growth = min(1.4 * self._growth, self._MAX_GROWTH)
