"""The batch runner: unique requests, workers, order, errors by row, resume.

Rows are read a block at a time. A duplicate of an earlier row shares its request; a request whose reply is in the store
is not sent; the others are sent by workers. A reply is stored before its rows count as done. The runner reports
`Progress` values and draws nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..chat.chat import Call, Chat
from ..core.answers import no_answer
from ..core.errors import AichatError, BadInputError, BatchStoppedError, NoCapacityError, UnexpectedError
from ..core.messages import Reply, estimate_tokens
from ..core.usage import Usage, UsageSum
from .budget import Budget, counted_usage
from .leases import UNSENT, Lease, Outcome, outcome_of
from .ledger import RowLedger
from .options import BatchPlan, Row
from .progress import Progress, RowResult
from .queue import PendingRequest, RequestQueue
from .saver import ReplySaver

_BLOCK = 512
# How long a run that stops waits for the requests in flight, in seconds: they are paid for.
_DRAIN_S = 10.0
# How long an interrupted run waits until the store has written the replies that have arrived, in seconds.
_LAST_WRITE_S = 0.5
# How often a run checks whether calls are overdue, in seconds.
_OVERDUE_CHECK_EVERY_S = 0.5
# How often a run reports its progress during an outage or a pause, in seconds.
_PAUSE_PROGRESS_EVERY_S = 1.0


class BatchRunner:
    """One run over many rows. It keeps the finished rows, whatever stops it.

    Attributes:
        stopped_by: The error that stopped the run before its last row, or None.
        remarks: What was sent otherwise than asked, one line each, in order; the keys of a dict.
        calls: Requests sent, including retries.
        latencies_s: Latency of each reply, in seconds.
        finished_s: Arrival of each reply, in seconds since the run began.
        elapsed_s: Duration of the run, in seconds; 0 until its end.
    """

    def __init__(
        self,
        chat: Chat,
        plan: BatchPlan,
        rows: Iterable[Row],
        *,
        n_rows: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_row: Callable[[RowResult], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        progress_every_s: float = 0.2,
        known: Callable[[bytes], Reply | None] | None = None,
    ) -> None:
        """Create a run; nothing is sent before `run`.

        Args:
            chat: Sends the requests.
            plan: The requests' settings, limiter, budget and store.
            rows: The rows in order; read once, a block at a time.
            n_rows: Number of rows, for the progress; None when it is unknown.
            on_progress: Called with the progress, at most every `progress_every_s`, and at the end.
            on_row: Called with each row when it is done.
            clock: Monotonic clock, in seconds.
            sleep: Waits so many seconds.
            progress_every_s: Shortest time between two progress reports, in seconds.
            known: Returns the reply of an earlier run by key (its `reply`); such requests are not sent again.
        """
        self._chat = chat
        self._plan = plan
        self._rows = RowLedger(plan, rows, on_row)
        self._n_rows = n_rows
        self._on_progress = on_progress
        self._clock = clock
        self._sleep = sleep
        self._progress_every_s = progress_every_s
        self._known = known
        self._has_other_tier = plan.call.without_flex() is not None
        self._queue = RequestQueue(
            self,
            plan.call.policy,
            patience_s=plan.outage_patience_s,
            limit_patience_s=plan.limit_patience_s,
            clock=clock,
            random=chat.random,
            has_other_tier=self._has_other_tier,
        )
        self._is_special = plan.limiter.budget.is_bounded or self._has_other_tier
        self._in_flight = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Task[None]] = set()
        self._saver = None if plan.store is None else ReplySaver(plan.store, self._start_task, self._on_stored)
        self._crash: BaseException | None = None
        self._changed = asyncio.Event()
        self._began_at = self._reported_at = 0.0
        self._tally = UsageSum()
        self.remarks: dict[str, None] = {}
        self.calls = 0
        self.latencies_s = array("d")
        self.finished_s = array("d")
        self.elapsed_s = 0.0
        self.stopped_by: AichatError | None = None

    @property
    def call(self) -> Call:
        """Return the call that each row's is made from."""
        return self._plan.call

    @property
    def model(self) -> str:
        """Return the model as ``provider/model``."""
        return self._plan.call.model

    @property
    def max_tokens(self) -> int | None:
        """Return the user's limit of the tokens of each reply; None without one."""
        return self._plan.call.request.options.max_tokens

    @property
    def usage(self) -> Usage:
        """Return the usage of this run's replies."""
        return self._tally.total

    @property
    def budget(self) -> Budget:
        """Return the budget, with what is spent of it."""
        return self._plan.limiter.budget

    # Results ----------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of rows read so far."""
        return len(self._rows)

    @property
    def n_rows(self) -> int:
        """Return the number of all rows, as far as is known."""
        return max(len(self), self._n_rows or 0)

    def outcome(self, row: int) -> Reply | AichatError | None:
        """Return the reply or the error of a row; None: its value is missing, or it is not done."""
        return self._rows.outcome(row)

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """Yield the outcome of every row read so far, in order."""
        return self._rows.outcomes()

    def texts(self) -> Iterator[str | None]:
        """Yield the reply's text of every row read so far, in order; None where there is none."""
        return self._rows.texts()

    def errors(self) -> dict[int, AichatError]:
        """Return the error of each failed row, by the row's position."""
        return self._rows.errors_by_row()

    def cut_rows(self) -> list[int]:
        """Return the rows whose reply was cut by a limit of its tokens."""
        return self._rows.cut_rows()

    @property
    def pending(self) -> int:
        """Return the number of rows that were read and are not done."""
        return len(self) - self._rows.done

    def reply(self, key: bytes) -> Reply | None:
        """Return the reply to the request with this key, for the `known` of another run over the same rows."""
        return self._rows.reply(key)

    @property
    def replaced(self) -> int:
        """Return the number of replies in which invalid characters were replaced."""
        return self._rows.replaced

    def progress(self, *, is_last: bool = False) -> Progress:
        """Return the current progress."""
        rows, now = self._rows, self._clock()
        away_s = self._queue.outages.away_s(now)
        pause_s, reason = (0.0, "") if is_last else self._plan.limiter.pause
        return Progress(
            rows=self._n_rows if self._n_rows is not None else (len(rows) if rows.is_read else None),
            done=rows.done,
            hits=rows.hits,
            errors=rows.errors,
            missing=rows.missing,
            cut=rows.cut,
            calls=self.calls,
            in_flight=self._in_flight,
            concurrency=self._plan.limiter.concurrency,
            usage=self.usage,
            elapsed_s=self.elapsed_s or now - self._began_at,
            away_s=away_s,
            try_every_s=self._queue.outages.probe_every_s if away_s else 0.0,
            pause_s=pause_s,
            pause_reason=reason if pause_s >= 1 else "",
            is_last=is_last,
        )

    # The run ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send requests until every row is done or the run is stopped (`stopped_by`).

        Raises:
            asyncio.CancelledError: The run was cancelled; finished rows are kept.
            AichatError: The provider could not be prepared; nothing was sent.
        """
        self._began_at = self._clock()
        try:
            await self._plan.call.provider.prepare(None)
            with self._chat.http.limit.shared():
                await self._send_all()
        finally:
            await _end_tasks(self._watchers, 0.0)
            await _end_tasks(self._workers, 0.0)
            for patience_s in (_LAST_WRITE_S, 0.01):  # twice: more may arrive while a locked file is waited for
                if self._saver is not None:
                    self._saver.flush()
                    await _end_tasks(self._saver.tasks, patience_s)
            await self._chat.http.close_idle()
            self._known = None
            self._plan.limiter.close()
            self.elapsed_s = self._clock() - self._began_at
            self._report_progress(is_last=True)
        if self._crash is not None:
            raise self._crash

    async def _send_all(self) -> None:
        """Send requests until none is left or the run is stopped, then wait for those in flight."""
        while True:
            await self._read()
            if self._is_over():
                break
            self._start_workers()
            await self._wait_for_change(self._next_at())
            if (probe := self._queue.wake()) is not None:
                self._start_task(self._send_probe(probe), self._workers)
        drain_until = self._clock() + _DRAIN_S
        while (self._in_flight or not self._is_saved) and self._clock() < drain_until:
            if self._saver is not None:
                self._saver.flush()  # a callback that raised has ended the write
            await self._wait_for_change(drain_until)

    def _is_over(self) -> bool:
        """Tell whether nothing is left to send."""
        return self._is_stopped or (self._rows.is_read and not self._rows.open)

    @property
    def _is_stopped(self) -> bool:
        """Tell whether nothing may be sent any more."""
        return self.stopped_by is not None or self._crash is not None

    @property
    def _is_saved(self) -> bool:
        """Tell whether every reply that has arrived is stored."""
        return self._saver is None or self._saver.is_idle

    def _next_at(self) -> float:
        """Return the time at which there will be something to do, if nothing changes before."""
        next_at = self._queue.next_at
        if self._on_progress is not None and (self._queue.outages.is_on or self._plan.limiter.pause[0] >= 1):
            self._report_progress()
            next_at = min(next_at, self._clock() + _PAUSE_PROGRESS_EVERY_S)
        return next_at

    async def _wait_for_change(self, until: float) -> None:
        """Wait until there is something to do, but no longer than until this time."""
        self._changed.clear()
        waiter = asyncio.create_task(self._changed.wait())
        tasks: set[asyncio.Task[Any]] = {waiter}
        if until < math.inf:
            tasks.add(asyncio.ensure_future(self._sleep(max(0.0, until - self._clock()))))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _start_workers(self) -> None:
        """Start workers for the requests that are ready, up to the concurrency limit."""
        if not self._queue.may_send:
            return
        limiter, ready = self._plan.limiter, self._queue.ready
        for _ in range(min(limiter.workers_wanted - len(self._workers), len(ready))):
            self._start_task(self._work(), self._workers)
        if len(ready) > len(self._workers) and limiter.concurrency < limiter.max_concurrency and not self._watchers:
            self._start_task(self._replace_overdue(), self._watchers)

    async def _replace_overdue(self) -> None:
        """Start other workers in place of those with an overdue call, as long as requests are ready."""
        while self._queue.ready:
            await self._sleep(_OVERDUE_CHECK_EVERY_S)
            self._start_workers()

    def _start_task(self, work: Any, group: set[asyncio.Task[None]]) -> None:
        """Start a coroutine as a task of a set; an exception in it ends the run."""
        task = asyncio.create_task(work)
        group.add(task)
        task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """Remove a task that has ended: a worker, a watcher or a write to the store."""
        for group in (self._workers, self._watchers, *([] if self._saver is None else [self._saver.tasks])):
            group.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash = error
            self._stop_sending()
        self._changed.set()

    async def _read(self) -> None:
        """Read rows until enough requests are ready, or no row is left."""
        store = None if self._plan.is_fresh else self._plan.store
        while not self._rows.is_read and not self._is_stopped and len(self._queue.ready) < _BLOCK:
            try:
                new = self._rows.read(_BLOCK)
            except Exception as error:  # the rows come from the caller's code
                self._crash = error
                self._stop_sending()
                return
            if new and self._known is not None:
                new = self._finish_known(new, self._known)
            if new and store is not None:
                new = self._finish_known(new, (await store.get([request.key for request in new])).get)
            self._queue.add(new)
            self._start_workers()
            self._report_progress()
            # Let other tasks run, also when all rows come from the store.
            await asyncio.sleep(0)

    def _finish_known(
        self, requests: list[PendingRequest], known: Callable[[bytes], Reply | None]
    ) -> list[PendingRequest]:
        """Finish the requests whose reply is known, and return the others."""
        others: list[PendingRequest] = []
        for request in requests:
            if (reply := known(request.key)) is None:
                others.append(request)
            else:
                self.finish(request, reply, is_hit=True)
        return others

    async def _work(self) -> None:
        """Send requests until none is ready, the run pauses, or fewer workers are wanted."""
        limiter, workers = self._plan.limiter, self._workers
        while self._queue.may_send and not self._is_stopped:
            await self._send(self._queue.ready.popleft())
            if (n_missing := limiter.workers_wanted - len(workers)) > 0:
                self._start_workers()
            elif n_missing < 0:
                break
            if len(self._queue.ready) < _BLOCK // 2 and not self._rows.is_read:
                self._changed.set()

    async def _send(self, request: PendingRequest, *, is_probe: bool = False) -> None:
        """Make one attempt of a request, as soon as budget and limiter allow it."""
        limiter = self._plan.limiter
        try:
            call = self._plan.call.with_messages(request.messages)
        except BadInputError as error:
            self.finish(request, error)
            return
        if request.lacks_capacity:
            call = call.without_flex() or call
        tokens = estimate_tokens(request.messages) if limiter.counts_tokens else 0
        lease = await limiter.acquire(tokens)
        if lease is None:
            if not self._is_stopped:
                self.stop(BatchStoppedError(limiter.budget.shortfall(tokens)))
            return
        if not self._is_stopped and (is_probe or not self._queue.outages.is_on):
            self._in_flight += 1
            try:
                await self._attempt(request, call, lease)
            finally:
                self._in_flight -= 1
            return
        limiter.report(lease, UNSENT)
        self._queue.put_back(request)

    async def _attempt(self, request: PendingRequest, call: Call, lease: Lease) -> None:
        """Make one attempt of a request; a reply is stored before it counts."""
        self._queue.sent(request)
        self.calls += 1
        outcome: Reply | AichatError
        try:
            outcome = await self._chat.attempt(call)
        except AichatError as error:
            outcome = error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                self._plan.limiter.report(lease, UNSENT)
                raise
            outcome = UnexpectedError(f"Provider {call.provider.name!r} failed: it cancelled its own request.")
        took_s = outcome.elapsed_s if isinstance(outcome, Reply) else self._clock() - request.sent_at
        ended = outcome_of(outcome, took_s)
        if self._is_special:
            ended = self._special_outcome(outcome, ended, request, call)
        verdict = self._plan.limiter.report(lease, ended)
        if not isinstance(outcome, Reply):
            self._queue.failed(request, outcome, others_in_flight=self._in_flight - 1, verdict=verdict)
            self._report_progress()
            return
        self._tally.add(outcome.usage)
        self.remarks |= dict.fromkeys(outcome.remarks)
        self.latencies_s.append(outcome.elapsed_s)
        self.finished_s.append(self._clock() - self._began_at)
        # A reply without an answer is charged all the same.
        if (empty := no_answer(outcome, call.request.options, call.provider.name)) is not None:
            self._queue.failed(request, empty, others_in_flight=self._in_flight - 1)
            self._report_progress()
            return
        self._queue.succeeded(request)
        if self._saver is None:
            self.finish(request, outcome)
        else:
            await self._saver.save(request, outcome, most=self._plan.limiter.max_concurrency - len(self._workers))
        self._report_progress()

    def _special_outcome(
        self, result: Reply | AichatError, ended: Outcome, request: PendingRequest, call: Call
    ) -> Outcome:
        """Return the outcome of an attempt in a run with a budget, or with another tier for want of capacity."""
        if isinstance(result, Reply):
            return replace(ended, usage=counted_usage(result, request.messages, call.priced))
        if isinstance(result, NoCapacityError) and self._has_other_tier and not request.lacks_capacity:
            return replace(ended, kind="error")  # it is sent again at once, at another tier
        return ended

    async def _send_probe(self, request: PendingRequest) -> None:
        """Send a request to find out whether an outage is over."""
        await self._send(request, is_probe=True)
        self._queue.probe_ended(request)

    # Changes ----------------------------------------------------------------------------------------------------------

    def stop(self, error: AichatError) -> None:
        """Send no further request; those in flight may finish."""
        if self.stopped_by is None:
            self.stopped_by = error
        self._stop_sending()

    def _stop_sending(self) -> None:
        """Send nothing more."""
        self._queue.close()
        self.changed()

    def changed(self) -> None:
        """Wake `run`: there is something to do."""
        self._changed.set()

    def _on_stored(self, replies: Sequence[tuple[PendingRequest, Reply]]) -> None:
        """Finish the requests whose replies are stored."""
        for request, reply in replies:
            self.finish(request, reply)
        self._report_progress()

    def finish(self, request: PendingRequest, outcome: Reply | AichatError, *, is_hit: bool = False) -> None:
        """Store the result of a request."""
        self._rows.finish(request, outcome, is_hit=is_hit)
        if not self._rows.open:
            self._changed.set()

    def _report_progress(self, *, is_last: bool = False) -> None:
        """Report the progress, if the last report was long enough ago."""
        if self._on_progress is None:
            return
        now = self._clock()
        if is_last or now - self._reported_at >= self._progress_every_s:
            self._reported_at = now
            self._on_progress(self.progress(is_last=is_last))


async def _end_tasks(tasks: set[asyncio.Task[None]], patience_s: float) -> None:
    """Wait for tasks for so many seconds, then cancel those that are left."""
    try:
        if tasks and patience_s:
            await asyncio.wait(tasks, timeout=patience_s)
    finally:
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
