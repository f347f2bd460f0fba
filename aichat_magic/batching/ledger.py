"""Which row asks which request, and what each has come to: equal rows are one job, and their outcome is that of all."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ..core.errors import AichatError
from ..core.messages import Message, Reply
from .options import BatchPlan, Row
from .progress import RowResult
from .queue import PendingRequest
from .results import BatchResults

_MISSING = -1


class RowLedger:
    """The rows of one run. Read once, a block at a time.

    Attributes:
        is_read: Whether no row is left to read.
        open: Jobs without an outcome.
        done: Rows that have their outcome, or nothing to ask.
        missing: Rows with nothing to ask.
        hits: Rows answered by the store or by an equal row.
        errors: Rows that failed.
    """

    def __init__(self, plan: BatchPlan, rows: Iterable[Row], on_row: Callable[[RowResult], None] | None) -> None:
        """Begin; nothing is read yet.

        Args:
            plan: Makes the messages of rows, and keys of them.
            rows: The rows in order.
            on_row: Told of every row as it is done.
        """
        self._plan = plan
        self._keys = plan.keys()
        self._source: Iterator[Row] = iter(rows)
        self._on_row = on_row
        self._jobs: dict[bytes, int] = {}
        self._job_of_row = array("q")
        self._outcomes = BatchResults()
        # Further rows that ask what an open job asks, by its number.
        self._twins: dict[int, list[int]] = {}
        self.is_read = False
        self.open = self.done = self.missing = self.hits = self.errors = 0

    def __len__(self) -> int:
        """Rows read so far."""
        return len(self._job_of_row)

    # What has come of them ----------------------------------------------------------------------------------------

    def outcome(self, row: int) -> Reply | AichatError | None:
        """What a row has come to; None: nothing to ask, or not done."""
        job = self._job_of_row[row]
        return None if job == _MISSING else self._outcomes[job]

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """What every row read so far has come to, in order."""
        return self._outcomes.each(self._job_of_row)

    def texts(self) -> Iterator[str | None]:
        """The text of the reply of every row read so far, in order; None where there is none."""
        text = self._outcomes.text
        return (None if job == _MISSING else text(job) for job in self._job_of_row)

    def errors_by_row(self) -> dict[int, AichatError]:
        """The error of each row that failed, by the row's position."""
        if not self.errors:
            return {}
        found = ((row, self._outcomes.error(job)) for row, job in enumerate(self._job_of_row) if job != _MISSING)
        return {row: error for row, error in found if error is not None}

    @property
    def replaced(self) -> int:
        """Replies of which characters were replaced that no text may hold."""
        return self._outcomes.replaced

    def reply(self, key: bytes) -> Reply | None:
        """The reply to the request of this key."""
        number = self._jobs.get(key)
        outcome = None if number is None else self._outcomes[number]
        return outcome if isinstance(outcome, Reply) else None

    # The run writes -----------------------------------------------------------------------------------------------

    def read(self, count: int) -> list[PendingRequest]:
        """Read so many rows; those jobs of them that are new."""
        fresh: list[PendingRequest] = []
        first = len(self)
        for number, row in enumerate(islice(self._source, count), first):
            if row is None:
                self._job_of_row.append(_MISSING)
                self.missing += 1
                self.done += 1
                if self._on_row is not None:
                    self._on_row(RowResult(number, None, None, False))
            elif isinstance(row, AichatError):
                job = self._outcomes.add()
                self._job_of_row.append(job)
                self._outcomes.fail(job, row)
                self._row_done(number, job, is_hit=False)
            else:
                self._take(number, self._plan.messages(row), fresh)
        if len(self) - first < count:
            self.is_read = True
        return fresh

    def _take(self, row: int, messages: tuple[Message, ...], fresh: list[PendingRequest]) -> None:
        """Take a row: the first that asks this is a job."""
        key = self._keys.key(messages)
        job = self._jobs.setdefault(key, len(self._outcomes))
        self._job_of_row.append(job)
        if job == len(self._outcomes):
            self._outcomes.add()
            self.open += 1
            fresh.append(PendingRequest(job, row, key, messages))
        elif self._outcomes.is_open(job):
            self._twins.setdefault(job, []).append(row)
        else:
            self._row_done(row, job, is_hit=True)

    def finish(self, job: PendingRequest, outcome: Reply | AichatError, *, is_hit: bool = False) -> None:
        """A job has its outcome; so have all its rows."""
        if isinstance(outcome, Reply):
            self._outcomes.answer(job.number, outcome)
        else:
            self._outcomes.fail(job.number, outcome)
        self.open -= 1
        self._row_done(job.row, job.number, is_hit=is_hit)
        for row in self._twins.pop(job.number, ()):
            self._row_done(row, job.number, is_hit=True)

    def _row_done(self, row: int, job: int, *, is_hit: bool) -> None:
        """A row has the outcome of its job."""
        error = self._outcomes.error(job)
        self.done += 1
        if error is not None:
            self.errors += 1
        else:
            self.hits += is_hit
        if self._on_row is not None:  # most runs make no object for a row
            outcome = self._outcomes[job]
            reply = outcome if isinstance(outcome, Reply) else None
            self._on_row(RowResult(row, reply, error, is_hit and error is None))
