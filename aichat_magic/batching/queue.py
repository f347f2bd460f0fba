"""The queue of a run: requests that are ready, wait for a retry, or are held until an outage is over."""

from __future__ import annotations

import datetime
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from ..chat.retry import RetryBudget, RetryPolicy, backoff_s, give_up, next_wait_s
from ..core.errors import (
    AichatError,
    ConnectionFailedError,
    DeadlineError,
    EmptyReplyError,
    IncompleteReplyError,
    ModelLoadingError,
    NoCapacityError,
    ProviderError,
    QuotaError,
    RateLimitError,
    TooManyOpenFilesError,
)
from ..core.messages import Message
from ..text.numbers import time_span
from .leases import NO_VERDICT, Verdict
from .outages import MOST_OUTAGES, Outages
from .refusals import Refusals, quota_text

# After so many failures in a row without a retry left, the server counts as down, and the run stops.
_MAX_FAILURES_IN_A_ROW = 20
# So many calls in a row that find no file descriptor use no attempt; each of them has waited for some seconds.
_MAX_UNSENT_IN_A_ROW = 500
# After so many timeouts of calls that were alone with the server, it may have stopped to answer.
_MAX_LONE_TIMEOUTS = 2
# A row that is refused so often for its pace, while others are admitted, is too large for the limit.
_MAX_LONE_REFUSALS = 12
# From so many on, it counts as that, too, if it is the last one.
_LONE_REFUSALS = 3
# So many refusals in a row that ask for a wait beyond the cap: it is not about one row.
_MAX_LONG_WAITS = 5
_LONG_WAIT_RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A unique request that has no result yet.

    Attributes:
        number: Its number, from 0.
        row: The first row with this request.
        key: Its key in the store.
        messages: The messages to send.
        attempt: Attempts used so far.
        sent_at: When the last attempt was sent, in seconds of the run's clock.
        lone_failures: How often its connection failed while others were answered.
        outages: How many outages it has met.
        refusals: How often it was refused for its pace, while others were admitted.
        replies_before: Replies of the run when it was last refused for its pace; None: it was not.
        lacks_capacity: Whether there was no capacity for it at the tier that was asked for.
    """

    number: int
    row: int
    key: bytes
    messages: tuple[Message, ...]
    attempt: int = 0
    sent_at: float = 0.0
    lone_failures: int = 0
    outages: int = 0
    refusals: int = 0
    replies_before: int | None = None
    lacks_capacity: bool = False


class QueueOwner(Protocol):
    """The run that a queue belongs to."""

    def finish(self, request: PendingRequest, outcome: AichatError) -> None:
        """Take the error of a request that has failed for good."""

    def stop(self, error: AichatError) -> None:
        """Stop the run: nothing more is sent."""

    def changed(self) -> None:
        """Wake the run: there is something to do."""


class RequestQueue:
    """The pending requests of one run: which is sent next, and whether a failed one is retried.

    Attributes:
        ready: Requests that may be sent, in order.
        outages: Network outages, and the requests held by them.
    """

    def __init__(
        self,
        owner: QueueOwner,
        policy: RetryPolicy,
        *,
        patience_s: float,
        limit_patience_s: float,
        clock: Callable[[], float],
        random: Callable[[], float],
        has_other_tier: bool = False,
        local_time: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        """Create an empty queue.

        Args:
            owner: The run.
            policy: When and how often a request is retried.
            patience_s: Longest total time of outages, in seconds, >= 0.
            limit_patience_s: Longest time in which every call is refused for its pace, in seconds, >= 0.
            clock: Monotonic clock, in seconds.
            random: Source of uniform numbers in [0, 1), for the jitter of waits.
            has_other_tier: Whether requests without capacity are sent at another tier at once.
            local_time: Returns the time of day, to say when a limit is free again.
        """
        self._owner = owner
        self._policy = policy
        self._clock = clock
        self._random = random
        self._limit_patience_s = limit_patience_s
        self._has_other_tier = has_other_tier
        self._local_time = local_time
        self.ready: deque[PendingRequest] = deque()
        self.outages: Outages[PendingRequest] = Outages(patience_s)
        self._later: list[tuple[float, int, PendingRequest]] = []
        self._retries = RetryBudget()
        self._failures_in_a_row = 0
        self._unsent_in_a_row = 0
        self._long_waits_in_a_row = 0
        self._lone_timeouts = 0
        self._answered_at = clock()
        self._patience_s = patience_s
        self._refusals = Refusals()
        self._n_replies = 0
        self._is_closed = False

    @property
    def may_send(self) -> bool:
        """Tell whether a request may be sent now."""
        return bool(self.ready) and not self.outages.is_on

    @property
    def next_at(self) -> float:
        """Return the time at which `wake` has something to do, if nothing changes before."""
        return min(self._later[0][0] if self._later else math.inf, self.outages.next_at)

    def add(self, requests: Iterable[PendingRequest]) -> None:
        """Append new requests."""
        self.ready += requests

    def put_back(self, request: PendingRequest) -> None:
        """Put back a request that was not sent, or is sent again as if it had not been."""
        if not self._is_closed:
            self.ready.appendleft(request)
            self._owner.changed()

    def close(self) -> None:
        """Drop all requests: nothing more is sent."""
        self._is_closed = True
        self.ready.clear()
        self._later.clear()
        self.outages.held.clear()

    def wake(self) -> PendingRequest | None:
        """Make requests ready whose wait is over.

        Returns:
            A request to send as a probe, although the run pauses; usually None.
        """
        now, outages = self._clock(), self.outages
        while self._later and self._later[0][0] <= now:
            self.ready.appendleft(heapq.heappop(self._later)[2])  # it has waited long enough
        if now < outages.next_at or self._is_closed:
            return None
        request = outages.take_probe() if outages.probe is None else None
        if request is None and outages.probe is None and self.ready:
            request = self.ready.popleft()
        if request is None:
            # The probe has been in flight for so long that it has connected, or nothing is left to send.
            self._end_outage()
        else:
            outages.begin_probe(request)
        return request

    # Results ----------------------------------------------------------------------------------------------------

    def sent(self, request: PendingRequest) -> None:
        """Note that a request is sent."""
        request.attempt += 1
        request.sent_at = self._clock()
        if self.outages.probe is request:
            self.outages.probe_sent(request.sent_at)
            self._owner.changed()

    def probe_ended(self, request: PendingRequest) -> None:
        """Note that a probe has ended; if it was not answered, schedule the next one or stop the run."""
        if self.outages.probe is request:
            now = self._clock()
            self.outages.probe_failed(now)
            if (error := self.outages.final_error(now)) is not None:
                self._owner.stop(error)
        self._owner.changed()

    def succeeded(self, request: PendingRequest) -> None:
        """Note that a request has its reply."""
        self._answered(request)
        self._failures_in_a_row = 0
        self._long_waits_in_a_row = 0
        self._n_replies += 1
        self._refusals.succeeded()
        self._retries.earn()

    def failed(
        self, request: PendingRequest, error: AichatError, *, others_in_flight: int, verdict: Verdict = NO_VERDICT
    ) -> None:
        """Retry, hold or give up a request whose call has failed.

        Args:
            request: The request.
            error: Its error.
            others_in_flight: Other calls that are in flight.
            verdict: What its failure means to the limiter.
        """
        outages = self.outages
        if isinstance(error, TooManyOpenFilesError):
            self._unsent(request, error)
            return
        if isinstance(error, (RateLimitError, ModelLoadingError)):
            self._answered(request)
            self._refused(request, error, verdict, is_last=not (others_in_flight or self.ready or self._later))
            return
        is_late = isinstance(error, DeadlineError)
        # A response that breaks off shows that the server is there, unless others fail at the same time.
        is_suspicious = outages.has_answered and (others_in_flight > 0 or outages.is_suspected)
        is_broken = isinstance(error, ConnectionFailedError) or (
            is_suspicious and isinstance(error, IncompleteReplyError)
        )
        if not (is_broken or is_late):
            if isinstance(error, ProviderError):
                self._answered(request)
            self._fail(request, error)
        elif self._is_closed and outages.is_on:
            pass  # the row stays pending, like those that were not sent
        elif request.outages >= MOST_OUTAGES or (request.lone_failures and not outages.is_on):
            self._fail(request, error)
        elif request.sent_at < outages.over_at or (is_late and outages.is_on):
            request.attempt -= 1
            request.outages += 1
            self.put_back(request)
        elif is_late:
            self._late(request, error, others_in_flight, verdict)
        elif outages.probe is request and isinstance(error, IncompleteReplyError):
            self._end_outage()  # the server is there
            self._fail(request, error)
        else:
            self._hold(request, error, others_in_flight)

    def _fail(self, request: PendingRequest, error: AichatError) -> None:
        """Retry a request later, give it up, or stop the run."""
        if not (self._n_replies and isinstance(error, EmptyReplyError)):  # the server is up: the row has no answer
            self._failures_in_a_row += 1
        wait_s = next_wait_s(error, request.attempt, self._policy, self._random)
        if wait_s is not None and self._retries.spend():
            self._send_later(request, wait_s)
            return
        if not error.is_retryable and (final := self._refusals.final_error(error)) is not None:
            self._stop(request, final)
            return
        give_up(error, request.attempt, self._policy)
        # A row that has used up its attempts may be the only one that fails; one given up at its first is not.
        is_early = wait_s is not None or (error.is_retryable and request.attempt == 1)
        if is_early and self._failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
            self._owner.stop(error)
        self._owner.finish(request, error)

    def _stop(self, request: PendingRequest, error: AichatError, why: str = "") -> None:
        """Stop the run because of an error that would meet every row; the row of this one stays pending."""
        if isinstance(error, QuotaError) and error.retry_after_s:
            why = quota_text(error.retry_after_s, self._local_time())
        if why:
            error.args = (f"{error} {why}", *error.args[1:])
        request.attempt -= 1
        self._owner.stop(error)

    def _refused(
        self, request: PendingRequest, error: RateLimitError | ModelLoadingError, verdict: Verdict, *, is_last: bool
    ) -> None:
        """Send a request again that came too soon: this uses neither an attempt of the row nor a retry of the run."""
        request.attempt -= 1
        if self._is_closed:
            return  # the row stays pending
        if self._has_other_tier and isinstance(error, NoCapacityError) and not request.lacks_capacity:
            request.lacks_capacity = True
            self.put_back(request)
            return
        were_others_admitted = request.replies_before is not None and self._n_replies > request.replies_before
        request.replies_before = self._n_replies
        request.refusals += were_others_admitted or request.refusals >= _LONE_REFUSALS
        wait_s, policy = error.retry_after_s, self._policy
        is_loading = isinstance(error, ModelLoadingError)
        patience_s = policy.loading_patience_s if is_loading else self._limit_patience_s
        if wait_s is not None and wait_s > policy.retry_after_cap_s:
            self._wait_too_long(request, error, wait_s, is_alone=were_others_admitted, is_last=is_last)
        elif verdict.stuck_s >= patience_s:
            name = "" if is_loading else ", as long as limit_patience_s allows"
            self._stop_refused(error, f"No call was admitted for {time_span(verdict.stuck_s)}{name}.")
        elif request.refusals > _MAX_LONE_REFUSALS:
            text = f"{error} It was refused {request.refusals} times while others were admitted."
            error.args = (text, *error.args[1:])
            self._owner.finish(request, error)
        else:
            jitter_s = backoff_s(request.refusals + 1, base_s=policy.base_s, cap_s=policy.cap_s, random=self._random)
            self._send_later(request, jitter_s if wait_s is None else wait_s + min(jitter_s, policy.base_s))

    def _wait_too_long(
        self, request: PendingRequest, error: AichatError, wait_s: float, *, is_alone: bool, is_last: bool
    ) -> None:
        """Stop the run if the server wants no calls for hours; if it is this row alone, give the row up."""
        self._long_waits_in_a_row += _MAX_LONG_WAITS if is_last else 1
        if is_alone:
            give_up(error, request.attempt + 1, self._policy)
            self._owner.finish(request, error)
        elif self._long_waits_in_a_row >= _MAX_LONG_WAITS:
            self._stop_refused(error, quota_text(wait_s, self._local_time()))
        else:
            self._send_later(request, _LONG_WAIT_RETRY_S)

    def _stop_refused(self, error: AichatError, why: str) -> None:
        """Stop the run because the server refuses every call for its pace; no row is lost."""
        error.args = (f"{error} {why}", *error.args[1:])
        self._owner.stop(error)

    def _late(self, request: PendingRequest, error: AichatError, others_in_flight: int, verdict: Verdict) -> None:
        """Send a request again that has timed out, unless the row or the server is to blame."""
        self._lone_timeouts = 0 if others_in_flight else self._lone_timeouts + 1
        silent_s = self._clock() - self._answered_at
        if self._lone_timeouts >= _MAX_LONE_TIMEOUTS and silent_s >= self._patience_s and self.outages.has_answered:
            self._stop(
                request, error, f"Nothing was answered for {time_span(silent_s)}, longer than outage_patience_s."
            )
        elif verdict.is_excused:
            request.attempt -= 1
            self.put_back(request)
        else:
            self._fail(request, error)

    def _unsent(self, request: PendingRequest, error: AichatError) -> None:
        """Send a request again later: there was no file descriptor for it, which says nothing about row and server."""
        self._unsent_in_a_row += 1
        if self.outages.probe is request:
            self.outages.probe_unsent(self._clock())
        if self._unsent_in_a_row > _MAX_UNSENT_IN_A_ROW:
            self._fail(request, error)
            return
        request.attempt -= 1
        if not self._is_closed:  # else the row stays pending
            policy = self._policy
            self._send_later(request, backoff_s(1, base_s=policy.base_s, cap_s=policy.cap_s, random=self._random))

    def _send_later(self, request: PendingRequest, wait_s: float) -> None:
        """Make a request ready in so many seconds."""
        heapq.heappush(self._later, (self._clock() + wait_s, request.number, request))
        if self._later[0][2] is request:
            self._owner.changed()

    def _hold(self, request: PendingRequest, error: AichatError, others_in_flight: int) -> None:
        """Hold a request until it is known whether all connections fail, or this one alone."""
        outages = self.outages
        is_known, is_probe = outages.has_answered, outages.probe is request
        # Whether this failure uses an attempt.
        is_charged = (is_probe and request.lone_failures > 0) or not (is_known or (outages.held and not is_probe))
        wait_s = next_wait_s(error, request.attempt, self._policy, self._random) if is_charged else 0.0
        outages.connection_failed(
            self._clock(), error, others_in_flight=others_in_flight, wait_s=None if is_known else wait_s
        )
        if wait_s is not None:
            request.attempt -= not is_charged
            outages.held.append((request, error, not is_charged))
        else:
            give_up(error, request.attempt, self._policy)
            if not is_known and (outages.is_on or error.is_fatal):
                self._owner.stop(error)
            self._owner.finish(request, error)
        self._owner.changed()

    def _answered(self, request: PendingRequest) -> None:
        """Note that the server has answered: whatever failed before is explained."""
        self._unsent_in_a_row = self._lone_timeouts = 0
        self._answered_at = self._clock()
        self.outages.has_answered = True
        # In an outage, a call that was sent before it shows nothing: a server that restarts answers those first.
        if self.outages.is_suspected and not (self.outages.is_on and request.sent_at < self.outages.began_at):
            self._end_outage()

    def _end_outage(self) -> None:
        """Let the run go on: send held requests again, or, if there was no outage, retry each as any failure."""
        probe = self.outages.probe
        was_outage, held = self.outages.end(self._clock())
        if probe is not None:  # its call is in flight: this counts its last failure
            probe.outages += was_outage
            probe.lone_failures += not was_outage
        for request, error, attempts in held:
            if was_outage:
                request.outages += 1
                self.put_back(request)
            else:
                request.attempt += attempts
                request.lone_failures += 1
                self._fail(request, error)
        self._owner.changed()
