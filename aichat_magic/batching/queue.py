"""The requests of a run that are not answered: ready, to be sent again later, or held until an outage is over."""

from __future__ import annotations

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
    IncompleteReplyError,
    ProviderError,
    TooManyOpenFilesError,
)
from ..core.messages import Message
from .outages import MOST_OUTAGES, Outages

# So many failures in a row, with no retry left, and the server is down rather than unlucky.
_LAST_STRAW = 20
# So many calls in a row that find no file descriptor cost nothing; each of them has waited for some seconds.
_MOST_UNSENT = 500


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One unique request while it is on its way.

    Attributes:
        number: Its number, from 0.
        row: The first row that asks it.
        key: The key of the request.
        messages: What is sent.
        attempt: Attempts that count.
        sent_at: When the last one was sent.
        breaks: How often its connection broke while others were answered.
        outages: How many outages it has met.
    """

    number: int
    row: int
    key: bytes
    messages: tuple[Message, ...]
    attempt: int = 0
    sent_at: float = 0.0
    breaks: int = 0
    outages: int = 0


class QueueOwner(Protocol):
    """The run that the jobs are of."""

    def finish(self, job: PendingRequest, outcome: AichatError) -> None:
        """A job has failed for good."""

    def stop(self, error: AichatError) -> None:
        """Nothing more is to be sent."""

    def changed(self) -> None:
        """There is something to do."""


class RequestQueue:
    """The jobs of one run that wait, and what becomes of those that fail.

    Attributes:
        ready: Those that may be sent, in order.
        outages: Whether the way to the server is there.
    """

    def __init__(
        self,
        owner: QueueOwner,
        policy: RetryPolicy,
        *,
        patience_s: float,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Begin a run.

        Args:
            owner: The run.
            policy: How often and how patiently a job is tried again.
            patience_s: Longest time that the server may be away, in seconds.
            clock: Seconds that only go forward.
            random: Uniform numbers in [0, 1), for the jitter of waits.
        """
        self._owner = owner
        self._policy = policy
        self._clock = clock
        self._random = random
        self.ready: deque[PendingRequest] = deque()
        self.outages: Outages[PendingRequest] = Outages(patience_s)
        self._later: list[tuple[float, int, PendingRequest]] = []
        self._retries = RetryBudget()
        self._failures_in_a_row = 0
        self._unsent_in_a_row = 0
        self._is_closed = False

    @property
    def may_send(self) -> bool:
        """Whether there is a job that may be sent."""
        return bool(self.ready) and not self.outages.is_on

    @property
    def next_at(self) -> float:
        """When `wake` has something to do, if nothing changes before."""
        return min(self._later[0][0] if self._later else math.inf, self.outages.next_at)

    def add(self, jobs: Iterable[PendingRequest]) -> None:
        """New jobs are ready."""
        self.ready += jobs

    def put_back(self, job: PendingRequest) -> None:
        """A job was not sent, or is sent again as if it had not been."""
        if not self._is_closed:
            self.ready.appendleft(job)
            self._owner.changed()

    def close(self) -> None:
        """Nothing more is sent."""
        self._is_closed = True
        self.ready.clear()
        self._later.clear()
        self.outages.held.clear()

    def wake(self) -> PendingRequest | None:
        """Jobs whose time has come are ready.

        Returns:
            One to send although all pause, to see whether the outage is over; mostly None.
        """
        now, outages = self._clock(), self.outages
        while self._later and self._later[0][0] <= now:
            self.ready.append(heapq.heappop(self._later)[2])
        if now < outages.next_at or self._is_closed:
            return None
        job = outages.next_held() if outages.trying is None else None
        if job is None and outages.trying is None and self.ready:
            job = self.ready.popleft()
        if job is None:  # one is out for so long that it must have got through, or there is nothing to ask
            self._over()
        else:
            outages.tries(job)
        return job

    # What becomes of them -----------------------------------------------------------------------------------------

    def sent(self, job: PendingRequest) -> None:
        """A job is sent."""
        job.attempt += 1
        job.sent_at = self._clock()
        if self.outages.trying is job:
            self.outages.sent(job.sent_at)
            self._owner.changed()

    def tried(self, job: PendingRequest) -> None:
        """A job that was to show whether the outage is over has come home."""
        if self.outages.trying is job:
            now = self._clock()
            self.outages.missed(now)
            if (error := self.outages.given_up(now)) is not None:
                self._owner.stop(error)
        self._owner.changed()

    def succeeded(self) -> None:
        """A job has its reply."""
        self._answered()
        self._failures_in_a_row = 0
        self._retries.earn()

    def failed(self, job: PendingRequest, error: AichatError, *, others_out: int) -> None:
        """A call has failed: its connection has, or the server, or the request itself.

        Args:
            job: What was asked.
            error: What came of it.
            others_out: Calls that are out besides.
        """
        outages = self.outages
        if isinstance(error, TooManyOpenFilesError):
            self._unsent(job, error)
            return
        is_late = isinstance(error, DeadlineError)
        # An answer that breaks off shows that somebody is there, unless others break at the same time.
        is_broken = isinstance(error, ConnectionFailedError) or (
            isinstance(error, IncompleteReplyError) and outages.has_answered and (others_out > 0 or not outages.is_calm)
        )
        if not (is_broken or is_late):
            if isinstance(error, ProviderError):
                self._answered()
            self._fail(job, error)
        elif self._is_closed and outages.is_on:
            pass  # the row is pending, as those are that were not sent
        elif job.outages >= MOST_OUTAGES or (job.breaks and not outages.is_on):
            self._fail(job, error)
        elif job.sent_at < outages.over_at or (is_late and outages.is_on):
            job.attempt -= 1
            job.outages += 1
            self.put_back(job)
        elif is_late:
            self._fail(job, error)
        elif outages.trying is job and isinstance(error, IncompleteReplyError):
            self._over()  # somebody is there
            self._fail(job, error)
        else:
            self._break(job, error, others_out)

    def _fail(self, job: PendingRequest, error: AichatError) -> None:
        """Try a job again later, give it up, or stop the run."""
        self._failures_in_a_row += 1
        wait_s = next_wait_s(error, job.attempt, self._policy, self._random)
        if wait_s is not None and not self._is_closed and self._retries.spend():
            self._send_later(job, wait_s)
        else:
            give_up(error, job.attempt, self._policy)
            if error.is_fatal or (wait_s is not None and self._failures_in_a_row >= _LAST_STRAW):
                self._owner.stop(error)
            self._owner.finish(job, error)

    def _unsent(self, job: PendingRequest, error: AichatError) -> None:
        """Send a job again later: this process had no file descriptor for it, which says nothing of row and server."""
        self._unsent_in_a_row += 1
        if self.outages.trying is job:
            self.outages.unsent(self._clock())
        if self._unsent_in_a_row > _MOST_UNSENT:
            self._fail(job, error)
            return
        job.attempt -= 1
        if not self._is_closed:  # else the row is pending
            policy = self._policy
            self._send_later(job, backoff_s(1, base_s=policy.base_s, cap_s=policy.cap_s, random=self._random))

    def _send_later(self, job: PendingRequest, wait_s: float) -> None:
        """Have a job ready in so many seconds."""
        heapq.heappush(self._later, (self._clock() + wait_s, job.number, job))
        if self._later[0][2] is job:
            self._owner.changed()

    def _break(self, job: PendingRequest, error: AichatError, others_out: int) -> None:
        """Hold a job until it is known whether all connections have broken, or this one alone."""
        outages = self.outages
        is_known, is_trying = outages.has_answered, outages.trying is job
        is_paying = (is_trying and job.breaks > 0) or not (is_known or (outages.held and not is_trying))
        wait_s = next_wait_s(error, job.attempt, self._policy, self._random) if is_paying else 0.0
        outages.broke(self._clock(), error, others_out=others_out, wait_s=None if is_known else wait_s)
        if wait_s is not None:
            job.attempt -= not is_paying
            outages.held.append((job, error, not is_paying))
        else:
            give_up(error, job.attempt, self._policy)
            if not is_known and (outages.is_on or error.is_fatal):
                self._owner.stop(error)
            self._owner.finish(job, error)
        self._owner.changed()

    def _answered(self) -> None:
        """The server has answered: whatever has broken is explained."""
        self._unsent_in_a_row = 0
        self.outages.has_answered = True
        if not self.outages.is_calm:
            self._over()

    def _over(self) -> None:
        """Everybody goes on. What was held is sent again, or was a failure like any other."""
        trying = self.outages.trying
        was_outage, held = self.outages.over(self._clock())
        if trying is not None:  # its call is out: what is known now is that of its last break
            trying.outages += was_outage
            trying.breaks += not was_outage
        for job, error, attempts in held:
            if was_outage:
                job.outages += 1
                self.put_back(job)
            else:
                job.attempt += attempts
                job.breaks += 1
                self._fail(job, error)
        self._owner.changed()
