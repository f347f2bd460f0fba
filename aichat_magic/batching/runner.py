"""Rows of prompts become rows of replies: unique requests, workers, order, errors by row, resume.

Rows are read a block at a time. A request that was seen before in this run is only counted; one that the store knows is
taken from it; the rest are sent by a few workers. A reply is stored before it counts as done. What happens is told in
`Progress` values; nothing here draws.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from ..chat.chat import Call, Chat
from ..core.answers import no_answer
from ..core.errors import AichatError, BadInputError, BatchStoppedError
from ..core.messages import Reply, estimate_tokens
from ..core.usage import Usage, UsageSum
from .budget import Budget, Lease, counted
from .ledger import RowLedger
from .limiter import Outcome, outcome_of
from .options import BatchPlan, Row
from .progress import Progress, RowResult
from .queue import PendingRequest, RequestQueue
from .saver import ReplySaver

_BLOCK = 512
# How long requests that are out when a run stops may take to come home, in seconds: they are paid for.
_HOME_S = 10.0
# How long a run that is interrupted waits for the store to write what has come home, in seconds.
_LAST_WRITE_S = 0.5
# How often a run looks whether calls are stuck, in seconds.
_LOOK_EVERY_S = 0.5
# How often a run says that it waits for the network, in seconds.
_SAY_EVERY_S = 1.0
_UNSENT = Outcome(latency_s=0.0, kind="lost")


class BatchRunner:
    """One run over many rows. The caller owns it, so that whatever stops the run, the finished rows are here.

    Attributes:
        stopped_by: The error that ended the run before its last row, or None.
        calls: Requests sent, retries included.
        latencies_s: How long each reply took, in seconds.
        finished_s: When it was there, in seconds since the run began.
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
        """Prepare; nothing is sent before `run`.

        Args:
            chat: Who asks.
            plan: What is asked, and how.
            rows: The rows in order; read once, a block at a time.
            n_rows: How many they are, for the progress; None when it is not known.
            on_progress: Told where the run stands, at most every `progress_every_s`, and at its end.
            on_row: Told of every row as it is done.
            clock: Seconds that only go forward.
            sleep: Waits so many seconds.
            progress_every_s: Shortest time between two progress events, in seconds.
            known: Replies of an earlier run by key (its `reply`), which are neither looked up nor sent again.
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
        self._queue = RequestQueue(
            self, plan.call.policy, patience_s=plan.outage_patience_s, clock=clock, random=chat.random
        )
        self._out = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Task[None]] = set()
        self._saver = None if plan.store is None else ReplySaver(plan.store, self._begin_task, self._stored)
        self._crash: BaseException | None = None
        self._changed = asyncio.Event()
        self._begin = self._told_at = 0.0
        self._tally = UsageSum()
        self.calls = 0
        self.latencies_s = array("d")
        self.finished_s = array("d")
        self.elapsed_s = 0.0
        self.stopped_by: AichatError | None = None

    @property
    def model(self) -> str:
        """``provider/model`` that is asked."""
        return self._plan.call.model

    @property
    def usage(self) -> Usage:
        """What the replies of this run took."""
        return self._tally.total

    @property
    def budget(self) -> Budget:
        """What it may spend, and what it has spent."""
        return self._plan.budget

    # What the caller reads ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Rows read so far."""
        return len(self._rows)

    @property
    def n_rows(self) -> int:
        """Rows in all, as far as is known."""
        return max(len(self), self._n_rows or 0)

    def outcome(self, row: int) -> Reply | AichatError | None:
        """What a row has come to: its reply, its error, or None (nothing to ask, or not done)."""
        return self._rows.outcome(row)

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """What every row read so far has come to, in order, as `outcome` gives it."""
        return self._rows.outcomes()

    def texts(self) -> Iterator[str | None]:
        """The text of the reply of every row read so far, in order; None where there is none."""
        return self._rows.texts()

    def errors(self) -> dict[int, AichatError]:
        """The error of each row that failed, by the row's position."""
        return self._rows.errors_by_row()

    @property
    def pending(self) -> int:
        """Rows read that have something to ask and are not done."""
        return len(self) - self._rows.done

    def reply(self, key: bytes) -> Reply | None:
        """The reply to the request of this key, for a run over the same rows that need not ask it again."""
        return self._rows.reply(key)

    @property
    def replaced(self) -> int:
        """Replies of which characters were replaced that no text may hold."""
        return self._rows.replaced

    def progress(self, *, is_last: bool = False) -> Progress:
        """Where the run stands now."""
        rows, now = self._rows, self._clock()
        away_s = self._queue.outages.away_s(now)
        return Progress(
            rows=self._n_rows if self._n_rows is not None else (len(rows) if rows.is_read else None),
            done=rows.done,
            hits=rows.hits,
            errors=rows.errors,
            missing=rows.missing,
            calls=self.calls,
            in_flight=self._out,
            concurrency=self._plan.limits.concurrency,
            usage=self.usage,
            elapsed_s=self.elapsed_s or now - self._begin,
            away_s=away_s,
            try_every_s=self._queue.outages.try_every_s if away_s else 0.0,
            is_last=is_last,
        )

    # The run ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask until every row is done, or something stops the run (`stopped_by`).

        Raises:
            asyncio.CancelledError: The run was cancelled; what was finished stays.
            AichatError: The provider cannot be made ready, and nothing was sent.
        """
        self._begin = self._clock()
        try:
            await self._plan.call.provider.prepare(None)
            with self._chat.http.limit.shared():
                await self._ask_all()
        finally:
            await _end(self._watchers, 0.0)
            await _end(self._workers, 0.0)
            for patience_s in (_LAST_WRITE_S, 0.01):  # again for what came while a locked file was waited for
                if self._saver is not None:
                    self._saver.save()
                    await _end(self._saver.tasks, patience_s)
            await self._chat.http.close_idle()
            self._known = None
            self.elapsed_s = self._clock() - self._begin
            self._tell(is_last=True)
        if self._crash is not None:
            raise self._crash

    async def _ask_all(self) -> None:
        """Send what there is to ask, until nothing is left or the run is stopped, and see all of it come home."""
        while True:
            await self._read()
            if self._is_over():
                break
            self._hire()
            await self._wait_for_change(self._next_at())
            if (job := self._queue.wake()) is not None:
                self._begin_task(self._try(job), self._workers)
        home_at = self._clock() + _HOME_S
        while (self._out or not self._is_saved) and self._clock() < home_at:
            await self._wait_for_change(home_at)

    def _is_over(self) -> bool:
        """Whether nothing is left to send."""
        return self._is_stopped or (self._rows.is_read and not self._rows.open)

    @property
    def _is_stopped(self) -> bool:
        """Whether nothing may be sent any more."""
        return self.stopped_by is not None or self._crash is not None

    @property
    def _is_saved(self) -> bool:
        """Whether every reply that has come is stored."""
        return self._saver is None or self._saver.is_idle

    def _next_at(self) -> float:
        """When there will be something to do, if nothing changes before."""
        found = self._queue.next_at
        if self._queue.outages.is_on and self._on_progress is not None:
            self._tell()
            found = min(found, self._clock() + _SAY_EVERY_S)
        return found

    async def _wait_for_change(self, until: float) -> None:
        """Until there is something to do for `run`, or that moment has come."""
        self._changed.clear()
        waiter = asyncio.create_task(self._changed.wait())
        tasks: set[asyncio.Task[Any]] = {waiter}
        if until < math.inf:
            tasks.add(asyncio.create_task(self._wait_s(max(0.0, until - self._clock()))))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _wait_s(self, seconds: float) -> None:
        """Wait so long."""
        await self._sleep(seconds)

    def _hire(self) -> None:
        """Have as many workers as the limits allow and the work is enough for."""
        if not self._queue.may_send:
            return
        missing = min(self._plan.limits.workers_wanted - len(self._workers), len(self._queue.ready))
        for _ in range(missing):
            self._begin_task(self._work(), self._workers)
        limits = self._plan.limits
        if len(self._queue.ready) > len(self._workers) and limits.concurrency < limits.most and not self._watchers:
            self._begin_task(self._replace_stuck(), self._watchers)

    async def _replace_stuck(self) -> None:
        """Now and then, while rows wait, let other workers begin in place of those whose calls are stuck."""
        while self._queue.ready:
            await self._wait_s(_LOOK_EVERY_S)
            if self._plan.limits.has_stuck:
                self._hire()

    def _begin_task(self, work: Any, group: set[asyncio.Task[None]]) -> None:
        """Have something done beside all else; what goes wrong with it ends the run."""
        task = asyncio.create_task(work)
        group.add(task)
        task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Task[None]) -> None:
        """A worker or a watcher has ended, or something was stored."""
        for group in (self._workers, self._watchers, *([] if self._saver is None else [self._saver.tasks])):
            group.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash = error
            self._drop_all()
        self._changed.set()

    async def _read(self) -> None:
        """Read rows until there is enough to send, or no row is left."""
        store = None if self._plan.is_fresh else self._plan.store
        while not self._rows.is_read and not self._is_stopped and len(self._queue.ready) < _BLOCK:
            try:
                fresh = self._rows.read(_BLOCK)
            except Exception as error:  # the caller's own code makes the rows
                self._crash = error
                self._drop_all()
                return
            if fresh and self._known is not None:
                fresh = self._answer(fresh, self._known)
            if fresh and store is not None:
                fresh = self._answer(fresh, (await store.get([job.key for job in fresh])).get)
            self._queue.add(fresh)
            self._hire()
            self._tell()
            # Rows from the store alone must not keep everybody else from running.
            await asyncio.sleep(0)

    def _answer(self, jobs: list[PendingRequest], known: Callable[[bytes], Reply | None]) -> list[PendingRequest]:
        """Finish those jobs whose reply is known; the others."""
        others: list[PendingRequest] = []
        for job in jobs:
            if (reply := known(job.key)) is None:
                others.append(job)
            else:
                self.finish(job, reply, is_hit=True)
        return others

    async def _work(self) -> None:
        """Send what is ready, until nothing is, or there are enough others to do it, or all pause."""
        limits, workers = self._plan.limits, self._workers
        while self._queue.may_send and not self._is_stopped:
            await self._send(self._queue.ready.popleft())
            if (missing := limits.workers_wanted - len(workers)) > 0:
                self._hire()
            elif missing < 0:
                break
            if len(self._queue.ready) < _BLOCK // 2 and not self._rows.is_read:
                self._changed.set()

    async def _send(self, job: PendingRequest, *, is_try: bool = False) -> None:
        """One attempt of one job, when budget and limits allow it."""
        limits, budget = self._plan.limits, self._plan.budget
        try:
            call = self._plan.call.with_messages(job.messages)
        except BadInputError as error:
            self.finish(job, error)
            return
        tokens = estimate_tokens(job.messages) if budget.is_bounded or limits.counts_tokens else 0
        lease: Lease | None = None
        if budget.is_bounded:
            lease = await budget.acquire(tokens)
            if lease is None:
                if not self._is_stopped:
                    self.stop(BatchStoppedError(budget.shortfall(tokens)))
                return
        await limits.acquire(tokens)
        if not self._is_stopped and (is_try or not self._queue.outages.is_on):
            self._out += 1
            try:
                await self._attempt(job, call, lease)
            finally:
                self._out -= 1
            return
        limits.release(_UNSENT)
        if lease is not None:
            budget.report(lease, None)
        self._queue.put_back(job)

    async def _attempt(self, job: PendingRequest, call: Call, lease: Lease | None) -> None:
        """One attempt of one job: its reply is stored, then counted."""
        self._queue.sent(job)
        self.calls += 1
        outcome: Reply | AichatError
        try:
            outcome = await self._chat.attempt(call)
        except AichatError as error:
            outcome = error
        took_s = outcome.elapsed_s if isinstance(outcome, Reply) else self._clock() - job.sent_at
        self._plan.limits.release(outcome_of(outcome, took_s))
        if lease is not None:
            used = counted(outcome, job.messages, call.priced) if isinstance(outcome, Reply) else None
            self._plan.budget.report(lease, used)
        if not isinstance(outcome, Reply):
            self._queue.failed(job, outcome, others_out=self._out - 1)
            self._tell()
            return
        self._tally.add(outcome.usage)
        self.latencies_s.append(outcome.elapsed_s)
        self.finished_s.append(self._clock() - self._begin)
        if (empty := no_answer(outcome, call.request.options, call.provider.name)) is not None:  # it is paid for
            self._queue.failed(job, empty, others_out=self._out - 1)
            self._tell()
            return
        self._queue.succeeded()
        if self._saver is None:
            self.finish(job, outcome)
        else:
            await self._saver.keep(job, outcome, most=self._plan.limits.most - len(self._workers))
        self._tell()

    async def _try(self, job: PendingRequest) -> None:
        """Send a call to see whether an outage is over."""
        await self._send(job, is_try=True)
        self._queue.tried(job)

    # What becomes of it -------------------------------------------------------------------------------------------

    def stop(self, error: AichatError) -> None:
        """No further request; those that are out may come home."""
        if self.stopped_by is None:
            self.stopped_by = error
        self._drop_all()

    def _drop_all(self) -> None:
        """Nothing more is sent."""
        self._queue.close()
        self.changed()

    def changed(self) -> None:
        """There is something to do for `run`."""
        self._changed.set()

    def _stored(self, answers: Sequence[tuple[PendingRequest, Reply]]) -> None:
        """Replies are in the store: they count."""
        for job, reply in answers:
            self.finish(job, reply)
        self._tell()

    def finish(self, job: PendingRequest, outcome: Reply | AichatError, *, is_hit: bool = False) -> None:
        """A job has its outcome."""
        self._rows.finish(job, outcome, is_hit=is_hit)
        if not self._rows.open:
            self._changed.set()

    def _tell(self, *, is_last: bool = False) -> None:
        """An event, if the last one was long enough ago."""
        if self._on_progress is None:
            return
        now = self._clock()
        if is_last or now - self._told_at >= self._progress_every_s:
            self._told_at = now
            self._on_progress(self.progress(is_last=is_last))


async def _end(tasks: set[asyncio.Task[None]], patience_s: float) -> None:
    """Have tasks end: of themselves within so many seconds, or cancelled."""
    try:
        if tasks and patience_s:
            await asyncio.wait(tasks, timeout=patience_s)
    finally:
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
