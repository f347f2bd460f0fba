"""Network outages that affect a whole run: detection, probes, patience and recovery. Pure arithmetic.

It works like a circuit breaker. A connection *fails* when it is refused or reset, when it ends without a response or
within one, or when the host has no address or no route.

1. **One event for all rows.** A row whose connection fails is held until the next call ends. If that one is answered,
   with any status, the failure was the row's own and is retried like any other. Three failures in a row without an
   answer between them are an outage; two are enough when no other call is in flight, as in a run with a concurrency
   of 1. A single failure that no other call can explain is probed after a second.
2. **All rows pause, one probes**: after 1 s, then 2 s and so on up to 30 s, each time with another row of those held.
   When the probe is answered, or has been in flight for so long that it must have connected, the run goes on.
3. **An outage costs rows nothing.** A call that failed in an outage, or was sent before its end and failed later,
   uses no attempt of its row and no retry of the run. But a row may itself make connections fail, if it is too long or
   too slow for a proxy: one that failed before while others were answered uses an attempt when it probes, and one that
   has met three outages is no longer held.
4. **It ends.** The time of all outages of a run is added up, and time without an outage is subtracted. When the sum
   reaches the caller's patience, the run stops: finished rows are kept, the rest is pending.
5. **A server that has never answered** is not waited for. Until the first answer one row retries, as often and as soon
   as a single request would; if it fails for good and other rows failed too, the run stops with its error.

Responses that break off show that the server is there: alone they are no outage, however many they are.
"""

from __future__ import annotations

import math
from typing import Generic, Protocol, TypeVar

from ..core.errors import AichatError, ConnectionFailedError

FIRST_PROBE_S = 1.0
MAX_PROBE_S = 30.0
# Longer than connecting may take: a call that has been in flight for so long has connected.
CONNECTED_AFTER_S = 20.0
# A row that has met so many outages is no longer held for another one.
MOST_OUTAGES = 3
# Failures in a row that are an outage, while other calls are in flight. If 1 % of 2,000 calls fail independently, 3 in
# a row occur in one of 500 runs, and cost it the time until the next call ends.
_FAILURES_IN_A_ROW = 3


class ProbingRow(Protocol):
    """The part of a pending request that matters here.

    Attributes:
        attempt: Attempts it has used.
        lone_failures: How often its connection failed while others were answered.
    """

    attempt: int
    lone_failures: int


_Row = TypeVar("_Row", bound=ProbingRow)


class Outages(Generic[_Row]):
    """The outages of one run, one after the other.

    Attributes:
        has_answered: Whether the server has answered anything in this run.
        is_on: Whether the run pauses because of an outage.
        over_at: When the last outage ended: calls that were sent before belong to it.
        next_at: When to send the next probe, or, while one is in flight, when to assume that it has connected.
        probe: The row whose call is in flight as a probe; None: there is none.
        held: Rows whose connection has failed, each with its error and the attempts to charge if it was alone.
        probe_every_s: Current time between two probes, in seconds.
    """

    def __init__(self, patience_s: float) -> None:
        """Create the outages of a run, none so far.

        Args:
            patience_s: Longest total time of outages, in seconds, >= 0.
        """
        self._patience_s = patience_s
        self.has_answered = False
        self.is_on = False
        self.over_at = -math.inf
        self.next_at = math.inf
        self.probe: _Row | None = None
        self.held: list[tuple[_Row, AichatError, int]] = []
        self.probe_every_s = FIRST_PROBE_S
        self._began_at: float | None = None
        self._ended_at = -math.inf
        self._away_s = 0.0
        self._failures_in_a_row = 0
        self._is_certain = False
        self._last_error: AichatError | None = None

    @property
    def is_suspected(self) -> bool:
        """Tell whether a connection has failed since the last answer."""
        return self._began_at is not None

    @property
    def began_at(self) -> float:
        """Return when the outage or the suspicion began."""
        return -math.inf if self._began_at is None else self._began_at

    def away_s(self, now: float) -> float:
        """Return the seconds since the outage began; 0 without one."""
        return now - self._began_at if self.is_on and self._began_at is not None else 0.0

    def final_error(self, now: float) -> AichatError | None:
        """Return the error to stop with when the caller's patience is used up; else None."""
        error = self._last_error
        if error is None or not self.has_answered or not self.is_on or now < self._deadline:
            return None
        text = f"{error} It has been away for {self._patience_s:g} s, as long as outage_patience_s allows."
        error.args = (text, *error.args[1:])
        return error

    @property
    def _deadline(self) -> float:
        """Return the time at which the patience is used up."""
        return (self._began_at or 0.0) + max(self._patience_s - self._away_s, 0.0)

    def connection_failed(
        self, now: float, error: AichatError, *, others_in_flight: int, wait_s: float | None = None
    ) -> None:
        """Note that a connection has failed.

        Args:
            now: The current time.
            error: Its error.
            others_in_flight: Other calls that are in flight.
            wait_s: Seconds until the next probe; None: as the rules say.
        """
        if self._began_at is None:
            self._begin(now)
        self._failures_in_a_row += 1
        self._is_certain |= isinstance(error, ConnectionFailedError)
        self._last_error = error
        if self._failures_in_a_row >= (_FAILURES_IN_A_ROW if others_in_flight else 2):
            self.is_on = True
        if wait_s is not None:
            self.next_at = now + wait_s

    def _begin(self, now: float) -> None:
        """Note the first failure after an answer."""
        calm_s = now - self._ended_at
        self._away_s = max(0.0, self._away_s - calm_s)
        if calm_s > self.probe_every_s:
            self.probe_every_s = FIRST_PROBE_S
        self._began_at = now
        self._failures_in_a_row = 0
        self._is_certain = False
        self.next_at = min(now + self.probe_every_s, self._deadline)

    def take_probe(self) -> _Row | None:
        """Take the row to probe with out of those held; None: none is held.

        It is one that has waited long and has not failed alone before; until the first answer it is always the same.
        """
        if not self.held:
            return None
        rows = [row for row, _, _ in self.held]
        if self.has_answered:
            place = next((place for place, row in enumerate(rows) if not row.lone_failures), 0)
        else:
            place = max(range(len(rows)), key=lambda place: rows[place].attempt)
        return self.held.pop(place)[0]

    def begin_probe(self, row: _Row) -> None:
        """Make this row the probe; its call is not sent yet."""
        self.probe = row
        self.next_at = math.inf

    def probe_sent(self, now: float) -> None:
        """Note that the probe is in flight."""
        if self.has_answered:
            self.next_at = now + CONNECTED_AFTER_S

    def probe_failed(self, now: float) -> None:
        """Schedule the next probe after twice the time."""
        self.probe = None
        if not self.has_answered:
            self.next_at = min(self.next_at, now + FIRST_PROBE_S)  # unless its row waits for a time of its own
            return
        self.is_on = True
        self.probe_every_s = min(2 * self.probe_every_s, MAX_PROBE_S)
        self.next_at = now + self.probe_every_s
        if now < self._deadline:
            self.next_at = min(self.next_at, self._deadline)

    def probe_unsent(self, now: float) -> None:
        """Schedule another probe: this one was not sent, for lack of a file descriptor, and tells nothing."""
        self.probe = None
        self.next_at = now + FIRST_PROBE_S

    def end(self, now: float) -> tuple[bool, list[tuple[_Row, AichatError, int]]]:
        """End the outage or the suspicion: a call was answered, or has connected.

        Returns:
            Whether there was an outage (if not, the failures were the rows' own), and the rows that were held.
        """
        was_outage = self.is_on and self._is_certain
        if was_outage and self._began_at is not None:
            self._away_s += now - self._began_at
            self.over_at = self._ended_at = now
        self._began_at = None
        self.is_on = False
        self.probe = None
        self.next_at = math.inf
        held, self.held = self.held, []
        return was_outage, held
