"""When the way to a server is gone for everybody: how a run tells it, how it waits, when it goes on. Pure arithmetic.

The rule, in plain words. A connection *breaks* when it is refused or reset, when it ends without an answer or within
one, when there is no host of that name or no way to it.

1. **One event.** A row whose connection breaks is held until the next call has come home. If that one was answered, by
   whatever status, the break was the row's own and is tried again as any failure is. Three breaks in a row without an
   answer between them are an outage; so are two when no other call is out, which is how a run with one call in flight
   tells it. A lone break of which nobody else can say anything is looked into after a second.
2. **All pause, one tries**: after 1 s, then 2 s and so on up to 30 s, with a row that is waiting anyhow, each time
   another one. When it is answered, or is out so long that it must have got through, everybody goes on.
3. **Rows do not pay for it.** What broke in an outage, or was sent before it was over and failed later, has spent no
   attempt, no retry of the run, nothing of its last straw. But a row can itself be what breaks connections, too long
   for a proxy or too slow for one: one that broke before while others were answered is no witness of an outage and
   spends an attempt where it is the one to try, and one that three outages have met is on its own.
4. **It ends.** The time away is added up over the outages of a run; time that goes well makes up for it. When it comes
   to the patience of the caller the run stops, with what is finished kept and the rest pending.
5. **A server that was never there** is not waited for. Until something has answered, one row tries, as often and as
   soon as a single request would; if that was in vain and others broke as well, the run stops with its error.

Answers that break off show that somebody is there: alone they make no outage, however many they are.
"""

from __future__ import annotations

import math
from typing import Generic, Protocol, TypeVar

from ..core.errors import AichatError, ConnectionFailedError

FIRST_TRY_S = 1.0
LONGEST_TRY_S = 30.0
# Longer than a connection may take to be made: a call that is out for so long has got through.
THROUGH_S = 20.0
# A row that as many outages have met is no longer held for another one.
MOST_OUTAGES = 3
# So many breaks in a row, while other calls are out. Of 2,000 calls of which 1 % break by themselves, 3 in a row are
# one in 500 runs, and cost it the time until the next call comes home.
_IN_A_ROW = 3


class Breakable(Protocol):
    """A row, as far as it matters here.

    Attributes:
        attempt: Attempts that it has spent.
        breaks: How often its connection broke while others were answered.
    """

    attempt: int
    breaks: int


_Row = TypeVar("_Row", bound=Breakable)


class Outages(Generic[_Row]):
    """The outages of one run, one after the other.

    Attributes:
        has_answered: Whether the server has answered anything in this run.
        is_on: Whether all pause.
        over_at: When the last outage was over: what was sent before belongs to it.
        next_at: When something is to be done: a call to be sent, or, while one is out, to be taken for got through.
        trying: The row whose call is out to see whether the outage is over; None: there is none.
        held: Rows whose connection has broken, each with its error and the attempts that count if it was alone.
        try_every_s: Seconds between two tries, as it stands now.
    """

    def __init__(self, patience_s: float) -> None:
        """Begin a run.

        Args:
            patience_s: Longest time that the server may be away, in seconds, >= 0.
        """
        self._patience_s = patience_s
        self.has_answered = False
        self.is_on = False
        self.over_at = -math.inf
        self.next_at = math.inf
        self.trying: _Row | None = None
        self.held: list[tuple[_Row, AichatError, int]] = []
        self.try_every_s = FIRST_TRY_S
        self._began_at: float | None = None
        self._ended_at = -math.inf
        self._away_s = 0.0
        self._in_a_row = 0
        self._is_certain = False
        self._last: AichatError | None = None

    @property
    def is_calm(self) -> bool:
        """Whether no break waits to be explained."""
        return self._began_at is None

    def away_s(self, now: float) -> float:
        """Seconds since the outage began; 0 when there is none."""
        return now - self._began_at if self.is_on and self._began_at is not None else 0.0

    def given_up(self, now: float) -> AichatError | None:
        """The error to stop with, once the server has been away for as long as the caller is patient; else None."""
        error = self._last
        if error is None or not self.has_answered or not self.is_on or now < self._deadline:
            return None
        said = f"{error} It has been away for {self._patience_s:g} s, as long as outage_patience_s allows."
        error.args = (said, *error.args[1:])
        return error

    @property
    def _deadline(self) -> float:
        """When the patience is at its end."""
        return (self._began_at or 0.0) + max(self._patience_s - self._away_s, 0.0)

    def broke(self, now: float, error: AichatError, *, others_out: int, wait_s: float | None = None) -> None:
        """A connection has broken.

        Args:
            now: The time.
            error: How.
            others_out: Calls that are out besides.
            wait_s: Seconds until it is looked into; None: as the rule says.
        """
        if self._began_at is None:
            self._begin(now)
        self._in_a_row += 1
        self._is_certain |= isinstance(error, ConnectionFailedError)
        self._last = error
        if self._in_a_row >= (_IN_A_ROW if others_out else 2):
            self.is_on = True
        if wait_s is not None:
            self.next_at = now + wait_s

    def _begin(self, now: float) -> None:
        """The first break after an answer."""
        calm_s = now - self._ended_at
        self._away_s = max(0.0, self._away_s - calm_s)
        if calm_s > self.try_every_s:
            self.try_every_s = FIRST_TRY_S
        self._began_at = now
        self._in_a_row = 0
        self._is_certain = False
        self.next_at = min(now + self.try_every_s, self._deadline)

    def next_held(self) -> _Row | None:
        """Take the row to try with; None: there is none.

        It is one that has waited long and not broken alone before; until something has answered, it is always the same.
        """
        if not self.held:
            return None
        rows = [row for row, _, _ in self.held]
        if self.has_answered:
            place = next((place for place, row in enumerate(rows) if not row.breaks), 0)
        else:
            place = max(range(len(rows)), key=lambda place: rows[place].attempt)
        return self.held.pop(place)[0]

    def tries(self, row: _Row) -> None:
        """This row is chosen to see whether the outage is over; its call is not sent yet."""
        self.trying = row
        self.next_at = math.inf

    def sent(self, now: float) -> None:
        """Its call is sent."""
        if self.has_answered:
            self.next_at = now + THROUGH_S

    def missed(self, now: float) -> None:
        """Its call came to nothing: the next try takes twice as long."""
        self.trying = None
        if not self.has_answered:
            self.next_at = min(self.next_at, now + FIRST_TRY_S)  # unless its row has said how long it waits
            return
        self.is_on = True
        self.try_every_s = min(2 * self.try_every_s, LONGEST_TRY_S)
        self.next_at = now + self.try_every_s
        if now < self._deadline:
            self.next_at = min(self.next_at, self._deadline)

    def unsent(self, now: float) -> None:
        """Its call was not sent, for want of a file descriptor: nothing is known, and another one tries."""
        self.trying = None
        self.next_at = now + FIRST_TRY_S

    def over(self, now: float) -> tuple[bool, list[tuple[_Row, AichatError, int]]]:
        """A call was answered, or has got through.

        Returns:
            Whether there was an outage (if not, those breaks were lone ones), and what was held.
        """
        was_outage = self.is_on and self._is_certain
        if was_outage and self._began_at is not None:
            self._away_s += now - self._began_at
            self.over_at = self._ended_at = now
        self._began_at = None
        self.is_on = False
        self.trying = None
        self.next_at = math.inf
        held, self.held = self.held, []
        return was_outage, held
