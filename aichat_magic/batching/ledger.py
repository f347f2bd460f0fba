"""The rows of a run, and the request of each: equal rows share one request and its result."""

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
    """The rows of one run, read once and a block at a time, with their results.

    Attributes:
        is_read: Whether no row is left to read.
        open: Requests without a result.
        done: Rows with a reply, an error, or a missing value.
        missing: Rows with a missing value: they send nothing.
        hits: Rows answered from the store, and duplicates of another row of the run.
        errors: Rows that failed.
        cut: Rows whose reply was cut by a limit of its tokens.
    """

    def __init__(self, plan: BatchPlan, rows: Iterable[Row], on_row: Callable[[RowResult], None] | None) -> None:
        """Create a ledger; nothing is read yet.

        Args:
            plan: Makes the messages and the keys of the rows.
            rows: The rows in order.
            on_row: Called with each row when it is done.
        """
        self._plan = plan
        self._keys = plan.keys()
        self._source: Iterator[Row] = iter(rows)
        self._on_row = on_row
        self._numbers: dict[bytes, int] = {}
        self._request_of_row = array("q")
        self._results = BatchResults()
        # Further rows with the same request as an open one, by its number.
        self._duplicates: dict[int, list[int]] = {}
        self.is_read = False
        self.open = self.done = self.missing = self.hits = self.errors = self.cut = 0

    def __len__(self) -> int:
        """Return the number of rows read so far."""
        return len(self._request_of_row)

    # Results ----------------------------------------------------------------------------------------------------------

    def outcome(self, row: int) -> Reply | AichatError | None:
        """Return the reply or the error of a row; None: its value is missing, or it is not done."""
        number = self._request_of_row[row]
        return None if number == _MISSING else self._results[number]

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """Yield the outcome of every row read so far, in order."""
        return self._results.each(self._request_of_row)

    def texts(self) -> Iterator[str | None]:
        """Yield the reply's text of every row read so far, in order; None where there is none."""
        text = self._results.text
        return (None if number == _MISSING else text(number) for number in self._request_of_row)

    def errors_by_row(self) -> dict[int, AichatError]:
        """Return the error of each failed row, by the row's position."""
        if not self.errors:
            return {}
        error_of = self._results.error
        found = ((row, error_of(number)) for row, number in enumerate(self._request_of_row) if number != _MISSING)
        return {row: error for row, error in found if error is not None}

    def cut_rows(self) -> list[int]:
        """Return the rows whose reply was cut by a limit of its tokens."""
        cut = self._results.cut
        return [row for row, number in enumerate(self._request_of_row) if number in cut] if cut else []

    @property
    def replaced(self) -> int:
        """Return the number of replies in which invalid characters were replaced."""
        return self._results.replaced

    def reply(self, key: bytes) -> Reply | None:
        """Return the reply to the request with this key, if there is one."""
        number = self._numbers.get(key)
        outcome = None if number is None else self._results[number]
        return outcome if isinstance(outcome, Reply) else None

    # Changes ----------------------------------------------------------------------------------------------------------

    def read(self, count: int) -> list[PendingRequest]:
        """Read up to `count` rows, and return the requests among them that are new."""
        new: list[PendingRequest] = []
        first = len(self)
        for position, row in enumerate(islice(self._source, count), first):
            if row is None:
                self._request_of_row.append(_MISSING)
                self.missing += 1
                self.done += 1
                if self._on_row is not None:
                    self._on_row(RowResult(position, None, None, False))
            elif isinstance(row, AichatError):
                number = self._results.add()
                self._request_of_row.append(number)
                self._results.set_error(number, row)
                self._row_done(position, number, is_hit=False)
            else:
                self._add_row(position, self._plan.messages(row), new)
        if len(self) - first < count:
            self.is_read = True
        return new

    def _add_row(self, row: int, messages: tuple[Message, ...], new: list[PendingRequest]) -> None:
        """Assign a row to its request; the first row with a request adds it to `new`."""
        key = self._keys.key(messages)
        number = self._numbers.setdefault(key, len(self._results))
        self._request_of_row.append(number)
        if number == len(self._results):
            self._results.add()
            self.open += 1
            new.append(PendingRequest(number, row, key, messages))
        elif self._results.is_open(number):
            self._duplicates.setdefault(number, []).append(row)
        else:
            self._row_done(row, number, is_hit=True)

    def finish(self, request: PendingRequest, outcome: Reply | AichatError, *, is_hit: bool = False) -> None:
        """Store the result of a request, and finish all its rows."""
        if isinstance(outcome, Reply):
            self._results.set_reply(request.number, outcome)
        else:
            self._results.set_error(request.number, outcome)
        self.open -= 1
        self._row_done(request.row, request.number, is_hit=is_hit)
        for row in self._duplicates.pop(request.number, ()):
            self._row_done(row, request.number, is_hit=True)

    def _row_done(self, row: int, number: int, *, is_hit: bool) -> None:
        """Count a row that has its result, and report it."""
        error = self._results.error(number)
        self.done += 1
        if error is not None:
            self.errors += 1
        else:
            self.hits += is_hit
            self.cut += number in self._results.cut
        if self._on_row is not None:  # most runs need no object for each row
            outcome = self._results[number]
            reply = outcome if isinstance(outcome, Reply) else None
            self._on_row(RowResult(row, reply, error, is_hit and error is None))
