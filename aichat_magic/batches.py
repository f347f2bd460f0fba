"""Rows of prompts become rows of replies: unique requests, workers, order, errors by row, resume.

Rows are read a block at a time. A request that was seen before in this run is only counted; one that the store knows is
taken from it; the rest are sent by a few workers. A reply is stored before it counts as done. What happens is told in
`Progress` values; nothing here draws.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import time
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .answers import no_answer
from .chat import Call, Chat
from .errors import AichatError, BadInputError, BatchStoppedError, ChatInterrupt
from .limits import Outcome
from .messages import Message, Reply, Tally, Usage, estimate_tokens
from .outcomes import Outcomes
from .plans import BatchPlan, Row
from .progress import Progress, RowResult
from .retry import RetryBudget, give_up, next_wait_s
from .store import ReplyStore

_BLOCK = 512
# So many failures in a row, with no retry left, and the server is down rather than unlucky.
_LAST_STRAW = 20
# How long requests that are out when a run stops may take to come home, in seconds: they are paid for.
_HOME_S = 10.0
# How long a run that is interrupted waits for the store to write what has come home, in seconds.
_LAST_WRITE_S = 0.5
# How often a run looks whether calls are stuck, in seconds.
_LOOK_EVERY_S = 0.5
# So many replies are stored at once, whether or not more are coming.
_ENOUGH = 64
_MISSING = -1


@dataclass(slots=True)
class _Job:
    """One unique request while it is on its way."""

    number: int
    row: int
    key: bytes
    messages: tuple[Message, ...]
    attempt: int = 0


@dataclass(slots=True)
class _Answer:
    """A reply on its way into the store."""

    job: _Job
    reply: Reply
    waiter: asyncio.Future[None] | None


class Batch:
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
        self._source: Iterator[Row] = iter(rows)
        self._n_rows = n_rows
        self._on_progress = on_progress
        self._on_row = on_row
        self._clock = clock
        self._sleep = sleep
        self._progress_every_s = progress_every_s
        self._known = known
        self._keys = plan.keys()
        self._retries = RetryBudget()
        self._jobs: dict[bytes, int] = {}
        self._job_of_row = array("q")
        self._outcomes = Outcomes()
        # Further rows that ask what an open job asks, by its number.
        self._twins: dict[int, list[int]] = {}
        self._ready: deque[_Job] = deque()
        self._later: list[tuple[float, int, _Job]] = []
        self._is_read = False
        self._open = 0
        self._out = 0
        self._failures_in_a_row = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Task[None]] = set()
        self._unsaved: list[_Answer] = []
        self._storing = 0
        self._savers: set[asyncio.Task[None]] = set()
        self._crash: BaseException | None = None
        self._changed = asyncio.Event()
        self._begin = self._told_at = 0.0
        self._done = self._missing = self._hits = self._errors = 0
        self._tally = Tally()
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

    # What the caller reads ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Rows read so far."""
        return len(self._job_of_row)

    @property
    def n_rows(self) -> int:
        """Rows in all, as far as is known."""
        return max(len(self), self._n_rows or 0)

    def outcome(self, row: int) -> Reply | AichatError | None:
        """What a row has come to: its reply, its error, or None (nothing to ask, or not done)."""
        job = self._job_of_row[row]
        return None if job == _MISSING else self._outcomes[job]

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """What every row read so far has come to, in order, as `outcome` gives it."""
        return self._outcomes.each(self._job_of_row)

    def texts(self) -> Iterator[str | None]:
        """The text of the reply of every row read so far, in order; None where there is none."""
        text = self._outcomes.text
        return (None if job == _MISSING else text(job) for job in self._job_of_row)

    def errors(self) -> dict[int, AichatError]:
        """The error of each row that failed, by the row's position."""
        if not self._errors:
            return {}
        found = ((row, self._outcomes.error(job)) for row, job in enumerate(self._job_of_row) if job != _MISSING)
        return {row: error for row, error in found if error is not None}

    @property
    def pending(self) -> int:
        """Rows read that have something to ask and are not done."""
        return len(self) - self._done

    def reply(self, key: bytes) -> Reply | None:
        """The reply to the request of this key, for a run over the same rows that need not ask it again."""
        number = self._jobs.get(key)
        outcome = None if number is None else self._outcomes[number]
        return outcome if isinstance(outcome, Reply) else None

    @property
    def replaced(self) -> int:
        """Replies of which characters were replaced that no text may hold."""
        return self._outcomes.replaced

    def progress(self, *, is_last: bool = False) -> Progress:
        """Where the run stands now."""
        return Progress(
            rows=self._n_rows if self._n_rows is not None else (len(self) if self._is_read else None),
            done=self._done,
            hits=self._hits,
            errors=self._errors,
            missing=self._missing,
            calls=self.calls,
            in_flight=self._out,
            concurrency=self._plan.limits.concurrency,
            usage=self.usage,
            elapsed_s=self.elapsed_s or self._clock() - self._begin,
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
            while True:
                await self._read()
                if self._is_over():
                    break
                self._hire()
                await self._wait_for_change(self._later[0][0] if self._later else math.inf)
                self._requeue()
            home_at = self._clock() + _HOME_S
            while (self._out or self._unsaved or self._savers) and self._clock() < home_at:
                await self._wait_for_change(home_at)
        finally:
            await _end(self._watchers, 0.0)
            await _end(self._workers, 0.0)
            for patience_s in (_LAST_WRITE_S, 0.01):  # again for what came while a locked file was waited for
                self._save()
                await _end(self._savers, patience_s)
            self._known = None
            self.elapsed_s = self._clock() - self._begin
            self._tell(is_last=True)
        if self._crash is not None:
            raise self._crash

    def _is_over(self) -> bool:
        """Whether nothing is left to send."""
        return self._is_stopped or (self._is_read and not self._open)

    @property
    def _is_stopped(self) -> bool:
        """Whether nothing may be sent any more."""
        return self.stopped_by is not None or self._crash is not None

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

    def _requeue(self) -> None:
        """Jobs whose time has come to be tried again are ready."""
        while self._later and self._later[0][0] <= self._clock():
            self._ready.append(heapq.heappop(self._later)[2])

    def _hire(self) -> None:
        """Have as many workers as the limits allow and the work is enough for."""
        missing = min(self._plan.limits.workers_wanted - len(self._workers), len(self._ready))
        for _ in range(missing):
            self._begin_task(self._work(), self._workers)
        limits = self._plan.limits
        if len(self._ready) > len(self._workers) and limits.concurrency < limits.most and not self._watchers:
            self._begin_task(self._replace_stuck(), self._watchers)

    async def _replace_stuck(self) -> None:
        """Now and then, while rows wait, let other workers begin in place of those whose calls are stuck."""
        while self._ready:
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
        for group in (self._workers, self._savers, self._watchers):
            group.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash = error
            self._drop_all()
        self._changed.set()

    async def _read(self) -> None:
        """Read rows until there is enough to send, or no row is left."""
        store = None if self._plan.is_fresh else self._plan.store
        while not self._is_read and not self._is_stopped and len(self._ready) < _BLOCK:
            try:
                fresh = self._read_block()
            except Exception as error:  # the caller's own code makes the rows
                self._crash = error
                self._drop_all()
                return
            if fresh and self._known is not None:
                fresh = self._answer(fresh, self._known)
            if fresh and store is not None:
                fresh = self._answer(fresh, (await store.get([job.key for job in fresh])).get)
            self._ready += fresh
            self._hire()
            self._tell()
            # Rows from the store alone must not keep everybody else from running.
            await asyncio.sleep(0)

    def _answer(self, jobs: list[_Job], known: Callable[[bytes], Reply | None]) -> list[_Job]:
        """Finish those jobs whose reply is known; the others."""
        others: list[_Job] = []
        for job in jobs:
            if (reply := known(job.key)) is None:
                others.append(job)
            else:
                self._finish(job, reply, is_hit=True)
        return others

    def _read_block(self) -> list[_Job]:
        """Read a block of rows; those jobs of it that are new."""
        fresh: list[_Job] = []
        first = len(self._job_of_row)
        for number, row in enumerate(islice(self._source, _BLOCK), first):
            if row is None:
                self._job_of_row.append(_MISSING)
                self._missing += 1
                self._done += 1
                if self._on_row is not None:
                    self._on_row(RowResult(number, None, None, False))
            elif isinstance(row, AichatError):
                job = self._outcomes.add()
                self._job_of_row.append(job)
                self._outcomes.fail(job, row)
                self._row_done(number, job, is_hit=False)
            else:
                self._take(number, self._plan.messages(row), fresh)
        if len(self._job_of_row) - first < _BLOCK:
            self._is_read = True
        return fresh

    def _take(self, row: int, messages: tuple[Message, ...], fresh: list[_Job]) -> None:
        """Take a row: the first that asks this is a job."""
        key = self._keys.key(messages)
        job = self._jobs.setdefault(key, len(self._outcomes))
        self._job_of_row.append(job)
        if job == len(self._outcomes):
            self._outcomes.add()
            self._open += 1
            fresh.append(_Job(job, row, key, messages))
        elif self._outcomes.is_open(job):
            self._twins.setdefault(job, []).append(row)
        else:
            self._row_done(row, job, is_hit=True)

    async def _work(self) -> None:
        """Send what is ready, until nothing is, or there are enough others to do it."""
        limits, workers = self._plan.limits, self._workers
        while self._ready and not self._is_stopped:
            await self._send(self._ready.popleft())
            if (missing := limits.workers_wanted - len(workers)) > 0:
                self._hire()
            elif missing < 0:
                break
            if len(self._ready) < _BLOCK // 2 and not self._is_read:
                self._changed.set()

    async def _send(self, job: _Job) -> None:
        """One attempt of one job, when the limits allow it."""
        plan = self._plan
        try:
            call = plan.call.with_messages(job.messages)
        except BadInputError as error:
            self._finish(job, error)
            return
        await plan.limits.acquire(estimate_tokens(job.messages) if plan.limits.counts_tokens else 0)
        if not self._is_stopped and plan.budget.allows():
            self._out += 1
            try:
                await self._attempt(job, call)
            finally:
                self._out -= 1
            return
        plan.limits.release(Outcome(latency_s=0.0, kind="error"))
        if not self._is_stopped:
            self._stop(BatchStoppedError(f"The budget of the run is spent: {_spent(plan.budget.spent)}."))

    async def _attempt(self, job: _Job, call: Call) -> None:
        """One attempt of one job: its reply is stored, then counted."""
        job.attempt += 1
        self.calls += 1
        failed: AichatError | None = None
        try:
            reply = await self._chat.attempt(call, limits=self._plan.limits)
        except AichatError as error:
            failed = error
        if failed is not None:
            self._failed(job, failed)
            return
        self._plan.budget.charge(_counted(reply, call))
        self._tally.add(reply.usage)
        self.latencies_s.append(reply.elapsed_s)
        self.finished_s.append(self._clock() - self._begin)
        if (empty := no_answer(reply, call.request.options, call.provider.name)) is not None:  # it is paid for
            self._failed(job, empty)
            return
        self._failures_in_a_row = 0
        self._retries.earn()
        if self._plan.store is None:
            self._finish(job, reply)
        else:
            await self._keep(job, reply)
        self._tell()

    def _failed(self, job: _Job, error: AichatError) -> None:
        """Try a job again later, give it up, or stop the run."""
        self._failures_in_a_row += 1
        wait_s = next_wait_s(error, job.attempt, self._plan.call.policy, self._chat.random)
        if wait_s is not None and not self._is_stopped and self._retries.spend():
            heapq.heappush(self._later, (self._clock() + wait_s, job.number, job))
            if self._later[0][2] is job:
                self._changed.set()
        else:
            give_up(error, job.attempt, self._plan.call.policy)
            if error.is_fatal or (wait_s is not None and self._failures_in_a_row >= _LAST_STRAW):
                self._stop(error)
            self._finish(job, error)
        self._tell()

    def _stop(self, error: AichatError) -> None:
        """No further request; those that are out may come home."""
        if self.stopped_by is None:
            self.stopped_by = error
        self._drop_all()

    def _drop_all(self) -> None:
        """Nothing more is sent."""
        self._ready.clear()
        self._later.clear()
        self._changed.set()

    # Storing and counting -----------------------------------------------------------------------------------------

    async def _keep(self, job: _Job, reply: Reply) -> None:
        """Have a reply stored, with all that come in the turns of the loop before one that brings none.

        A process that is killed loses what was sent and is not stored. That is no more than may be in flight at most: a
        worker that could make it more waits here.
        """
        loop = asyncio.get_running_loop()
        if not self._unsaved:
            loop.call_soon(self._save_at_rest, 1)
        self._storing += 1
        is_full = len(self._workers) + self._storing > self._plan.limits.most
        waiter = loop.create_future() if is_full else None
        self._unsaved.append(_Answer(job, reply, waiter))
        if waiter is not None:
            await waiter

    def _save_at_rest(self, seen: int) -> None:
        """Store the replies that have come, unless the last turn of the loop has brought one more: then, a turn later.

        A commit that two threads have to be woken for costs as much as several rows. With few requests in flight most
        of them come home one turn after the other.
        """
        count = len(self._unsaved)
        if seen < count < _ENOUGH:
            asyncio.get_running_loop().call_soon(self._save_at_rest, count)
        else:
            self._save()

    def _save(self) -> None:
        """Store the replies that have come."""
        if self._unsaved and not self._savers and self._plan.store is not None:
            self._begin_task(self._store(self._plan.store), self._savers)

    async def _store(self, store: ReplyStore) -> None:
        """Store replies until none is left; once stored, they count."""
        while self._unsaved:
            answers, self._unsaved = self._unsaved, []
            await store.put_many([(answer.job.key, answer.reply) for answer in answers])
            self._storing -= len(answers)
            for answer in answers:
                self._finish(answer.job, answer.reply)
                if answer.waiter is not None and not answer.waiter.done():
                    answer.waiter.set_result(None)
            self._tell()

    def _finish(self, job: _Job, outcome: Reply | AichatError, *, is_hit: bool = False) -> None:
        """A job has its outcome; so have all its rows."""
        if isinstance(outcome, Reply):
            self._outcomes.answer(job.number, outcome)
        else:
            self._outcomes.fail(job.number, outcome)
        self._open -= 1
        if not self._open:
            self._changed.set()
        self._row_done(job.row, job.number, is_hit=is_hit)
        for row in self._twins.pop(job.number, ()):
            self._row_done(row, job.number, is_hit=True)

    def _row_done(self, row: int, job: int, *, is_hit: bool) -> None:
        """A row has the outcome of its job."""
        error = self._outcomes.error(job)
        self._done += 1
        if error is not None:
            self._errors += 1
        else:
            self._hits += is_hit
        if self._on_row is not None:  # most runs make no object for a row
            outcome = self._outcomes[job]
            reply = outcome if isinstance(outcome, Reply) else None
            self._on_row(RowResult(row, reply, error, is_hit and error is None))

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


def _spent(usage: Usage) -> str:
    """What a run has cost, in words."""
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{(usage.input_tokens or 0) + (usage.output_tokens or 0):,} tokens{cost}"


def _counted(reply: Reply, call: Call) -> Usage:
    """The usage of a reply for a budget: what the server does not count is estimated, or no bound could be kept."""
    usage = reply.usage
    sent, came = usage.input_tokens, usage.output_tokens
    if sent is not None and came is not None:
        return usage
    estimated = Usage(
        input_tokens=estimate_tokens(call.request.messages) if sent is None else sent,
        output_tokens=estimate_tokens((Message("assistant", reply.text),)) if came is None else came,
        cached_tokens=usage.cached_tokens,
        cost_usd=usage.cost_usd,
    )
    return call.priced(estimated)


async def iterate_rows(make: Callable[[Callable[[RowResult], None]], Batch]) -> AsyncGenerator[RowResult, None]:
    """The rows of a run as they finish.

    Args:
        make: Makes the run; given what the run must tell of each row.

    Yields:
        Each row once, in the order in which they finish.

    Raises:
        AichatError: What stopped the run; the rows that finished before were given.
    """
    finished: asyncio.Queue[RowResult | None] = asyncio.Queue()
    batch = make(finished.put_nowait)
    task = asyncio.create_task(batch.run())
    task.add_done_callback(lambda _: finished.put_nowait(None))
    try:
        while (result := await finished.get()) is not None:
            yield result
        task.result()
        if batch.stopped_by is not None:
            raise batch.stopped_by
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AichatError, ChatInterrupt):
            await task
