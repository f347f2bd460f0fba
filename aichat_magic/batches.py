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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any, Literal

from .chat import Call, Chat
from .errors import AichatError, BatchStoppedError, ChatInterrupt, OptionError, PromptError
from .limits import Budget, Limits, Outcome
from .messages import Message, Reply, Usage, estimate_tokens
from .render import money
from .retry import RetryBudget, give_up, next_wait_s
from .settings import Given
from .store import ReplyStore, RequestKeys

Row = str | tuple[Message, ...] | None
"""What one row asks: a prompt, the messages of a conversation, or nothing (a missing value)."""

_BLOCK = 512
_MAX_CONCURRENCY = 1000
_MAX_AUTO = 256
# So many failures in a row, with no retry left, and the server is down rather than unlucky.
_LAST_STRAW = 20
# How long requests that are out when a run stops may take to come home, in seconds: they are paid for.
_HOME_S = 10.0
_MISSING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        rows: Rows in all, None while it is not known.
        done: Rows that have their reply, their error, or nothing to ask.
        hits: Rows answered from the store or by an equal row of this run.
        errors: Rows that failed.
        missing: Rows with nothing to ask.
        calls: Requests sent, retries included.
        in_flight: Requests out now.
        concurrency: Most requests out at once, as it stands now.
        usage: What the replies of this run took; hits cost nothing.
        elapsed_s: Seconds since the run began.
        is_last: Whether the run is over.
    """

    rows: int | None = None
    done: int = 0
    hits: int = 0
    errors: int = 0
    missing: int = 0
    calls: int = 0
    in_flight: int = 0
    concurrency: int = 0
    usage: Usage = field(default_factory=Usage)
    elapsed_s: float = 0.0
    is_last: bool = False

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Names and values, in the order in which they are read."""
        usage = self.usage
        cost = money(usage.cost_usd if self.calls else 0.0)
        rate = self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0
        found = [
            ("rows", f"{self.done:,}" + (f" of {self.rows:,}" if self.rows not in (None, self.done) else "")),
            ("time", f"{self.elapsed_s:.1f} s, {rate:,.1f} rows/s"),
            ("calls", f"{self.calls:,}"),
            ("tokens", f"{usage.input_tokens or 0:,} + {usage.output_tokens or 0:,}"),
            ("cost", cost),
        ]
        others = (("hits", self.hits), ("missing", self.missing), ("errors", self.errors))
        return (*found, *((name, f"{count:,}") for name, count in others if count))

    def __str__(self) -> str:
        """One line."""
        (_, rows), (_, time_), *rest = self.facts()
        return " · ".join([f"{rows} rows", time_, *(f"{name} {value}" for name, value in rest)])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What one run asks, and how.

    Attributes:
        call: Provider, model, options and retry policy of every request; its messages are replaced by those of a row.
        system: System message before the prompt of a row; empty: none.
        limits: How many at once, and how fast.
        budget: What the run may spend.
        store: Where replies are looked up and kept; None: nowhere.
        is_fresh: Ask again although the store has a reply, and replace it.
    """

    call: Call
    system: str = ""
    limits: Limits
    budget: Budget
    store: ReplyStore | None = None
    is_fresh: bool = False

    def keys(self) -> RequestKeys:
        """Makes the keys of this run's requests."""
        endpoint, request = self.call.provider.endpoint, self.call.request
        # The whole address, not the host alone: one gateway may serve different models under different paths.
        place = endpoint.base_url
        return RequestKeys(provider=endpoint.provider, host=place, model=request.model, options=request.options)

    def messages(self, row: str | tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages that a row sends."""
        tail = (Message("user", row),) if isinstance(row, str) else row
        return (Message("system", self.system), *tail) if self.system else tail


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What a caller says of a run, beside what each request is.

    Attributes:
        concurrency: Most requests at once, or ``"auto"``: as many as the server takes well.
        requests_per_minute: Most requests a minute; None: as the server says.
        tokens_per_minute: Most tokens a minute; None: as the server says.
        max_cost_usd: What the run may cost, in US dollars; never passed by more than what was in flight.
        max_total_tokens: What the run may take, in tokens; likewise.
        fresh: Ask again although the store has a reply, and replace it.
        store: Whether replies are looked up and kept.
        progress: Whether a bar is drawn, or a callable that gets `Progress` values.
        max_retries: How often one request is sent again; None: as the settings say.
    """

    concurrency: int | Literal["auto"] = "auto"
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost_usd: float | None = None
    max_total_tokens: int | None = None
    fresh: bool = False
    store: bool = True
    progress: bool | Callable[[Progress], None] = True
    max_retries: int | None = None

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            OptionError: A value is outside its range.
        """
        is_whole = isinstance(self.concurrency, int) and not isinstance(self.concurrency, bool)
        if self.concurrency != "auto" and not (is_whole and 1 <= self.concurrency <= _MAX_CONCURRENCY):
            raise OptionError(
                f"concurrency must be 'auto' or a whole number from 1 to {_MAX_CONCURRENCY}, not {self.concurrency!r}."
            )
        for name in ("requests_per_minute", "tokens_per_minute", "max_cost_usd", "max_total_tokens"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                raise OptionError(f"{name} must be a number above 0, not {value!r}.")
        retries = self.max_retries
        if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int) or retries < 0):
            raise OptionError(f"max_retries must be a whole number, 0 or more, not {retries!r}.")
        if not callable(self.progress) and not isinstance(self.progress, bool):
            raise OptionError(f"progress must be True, False or a callable, not {self.progress!r}.")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> tuple[BatchOptions, dict[str, Any]]:
        """Take the keywords of a run out of all that a caller gave.

        Args:
            keywords: Keywords by name; None means: not given.

        Returns:
            The options, and the keywords that are left.

        Raises:
            OptionError: A value outside its range.
        """
        names = {f.name for f in fields(cls)}
        own = {name: value for name, value in keywords.items() if name in names and value is not None}
        return cls(**own), {name: value for name, value in keywords.items() if name not in names}

    def plan(self, chat: Chat, given: Given) -> BatchPlan:
        """The plan for these options; nothing is sent.

        Args:
            chat: Who will ask.
            given: Model, sampling options and so on.

        Raises:
            BadInputError: Something given cannot be used.
            MissingKeyError: No key for the provider.
        """
        settings = chat.settings
        # Any prompt will do: the messages are those of a row.
        call = chat.call((Message("user", "-"),), given, settings)
        if self.max_retries is not None:
            call = replace(call, policy=replace(call.policy, max_retries=self.max_retries))
        is_priced = call.priced(Usage(input_tokens=1, output_tokens=1)).cost_usd is not None
        if self.max_cost_usd is not None and not is_priced:
            raise OptionError(
                f"max_cost_usd cannot be kept: the price of {call.model} is not known. Set one in [prices] of the "
                f"configuration file, or limit max_total_tokens."
            )
        return BatchPlan(
            call=call,
            system=given.system or settings.system,
            limits=Limits(
                concurrency=self.concurrency,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                max_concurrency=_MAX_CONCURRENCY if self.concurrency != "auto" else _MAX_AUTO,
            ),
            budget=Budget(max_cost_usd=self.max_cost_usd, max_total_tokens=self.max_total_tokens),
            store=chat.store if self.store else None,
            is_fresh=self.fresh,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would send.

    Attributes:
        rows: Rows in all.
        missing: Rows with nothing to ask.
        unique: Different requests.
        stored: Those of them that the store answers.
        input_tokens: About how many tokens the others send, as `estimate_tokens` counts.
        cost_usd: What these tokens cost, without the replies; None where the price is not known.
    """

    rows: int
    missing: int
    unique: int
    stored: int
    input_tokens: int
    cost_usd: float | None

    def __str__(self) -> str:
        """One line."""
        cost = "unknown" if self.cost_usd is None else f"${self.cost_usd:.4f} and that of the replies"
        return (
            f"{self.rows:,} rows, {self.missing:,} missing, {self.unique:,} unique, {self.stored:,} stored already: "
            f"{self.unique - self.stored:,} requests with about {self.input_tokens:,} tokens, cost {cost}. "
            f"Nothing was sent."
        )

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row that is done.

    Attributes:
        row: Its position, from 0.
        reply: Its reply, or None.
        error: The error it ended with, or None.
        is_hit: Whether the reply came from the store or from an equal row.
    """

    row: int
    reply: Reply | None
    error: AichatError | None
    is_hit: bool


@dataclass(slots=True)
class _Job:
    """One unique request while it is on its way."""

    number: int
    key: bytes
    messages: tuple[Message, ...]
    attempt: int = 0


class Batch:
    """One run over many rows. The caller owns it, so that whatever stops the run, the finished rows are here.

    Attributes:
        stopped_by: The error that ended the run before its last row, or None.
        usage: What the replies of this run took.
        calls: Requests sent, retries included.
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
        known: Mapping[bytes, Reply] | None = None,
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
            known: Replies of an earlier run (`answered`), which are neither looked up nor sent again.
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
        self._known = known or {}
        self._keys = plan.keys()
        self._retries = RetryBudget()
        self._jobs: dict[bytes, int] = {}
        self._job_of_row = array("q")
        self._outcomes: list[Reply | AichatError | None] = []
        self._from_store = bytearray()
        self._rows_of_job: dict[int, list[int]] = {}
        self._ready: deque[_Job] = deque()
        self._later: list[tuple[float, int, _Job]] = []
        self._is_read = False
        self._open = 0
        self._out = 0
        self._failures_in_a_row = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._crash: BaseException | None = None
        self._changed = asyncio.Event()
        self._begin = self._told_at = 0.0
        self._done = self._missing = self._hits = self._errors = 0
        self.calls = 0
        self.usage = Usage()
        self.latencies_s = array("d")
        self.finished_s = array("d")
        self.elapsed_s = 0.0
        self.stopped_by: AichatError | None = None

    @property
    def model(self) -> str:
        """``provider/model`` that is asked."""
        return self._plan.call.model

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
        """What every row read so far has come to, in order."""
        for job in self._job_of_row:
            yield None if job == _MISSING else self._outcomes[job]

    @property
    def pending(self) -> int:
        """Rows read that have something to ask and are not done."""
        return sum(1 for job in self._job_of_row if job != _MISSING and self._outcomes[job] is None)

    def answered(self) -> dict[bytes, Reply]:
        """The replies so far by their keys, for a run over the same rows that need not ask them again."""
        found = ((key, self._outcomes[number]) for key, number in self._jobs.items())
        return {key: outcome for key, outcome in found if isinstance(outcome, Reply)}

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
            AichatError: The provider cannot be made ready, and nothing was sent; or a row cannot be read.
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
            while self._out and self._clock() < home_at:
                await self._wait_for_change(home_at)
            if self._crash is not None:
                raise self._crash
        finally:
            workers = list(self._workers)
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self.elapsed_s = self._clock() - self._begin
            self._tell(is_last=True)

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
        wanted = min(self._plan.limits.workers_wanted, len(self._workers) + len(self._ready))
        for _ in range(wanted - len(self._workers)):
            task = asyncio.create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Task[None]) -> None:
        """A worker has ended."""
        self._workers.discard(task)
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
            known = {job.key: self._known[job.key] for job in fresh if job.key in self._known}
            asked = [job.key for job in fresh if job.key not in known]
            if asked and store is not None:
                known |= await store.get(asked)
            for job in fresh:
                reply = known.get(job.key)
                if reply is None:
                    self._ready.append(job)
                else:
                    self._from_store[job.number] = 1
                    self._finish(job.number, reply)
            self._hire()
            self._tell()
            # Rows from the store alone must not keep everybody else from running.
            await asyncio.sleep(0)

    def _read_block(self) -> list[_Job]:
        """Read a block of rows; those jobs of it that are new."""
        fresh: list[_Job] = []
        first = len(self._job_of_row)
        for offset, row in enumerate(islice(self._source, _BLOCK)):
            if row is None:
                self._job_of_row.append(_MISSING)
                self._missing += 1
                self._done += 1
                if self._on_row is not None:
                    self._on_row(RowResult(first + offset, None, None, False))
                continue
            messages = self._plan.messages(row)
            key = self._keys.key(messages)
            number = self._jobs.setdefault(key, len(self._outcomes))
            self._job_of_row.append(number)
            if number == len(self._outcomes):
                self._outcomes.append(None)
                self._from_store.append(0)
                self._open += 1
                self._rows_of_job[number] = [first + offset]
                fresh.append(_Job(number, key, messages))
            elif (outcome := self._outcomes[number]) is not None:
                self._row_done(first + offset, outcome, is_hit=True)
            else:
                self._rows_of_job[number].append(first + offset)
        if len(self._job_of_row) - first < _BLOCK:
            self._is_read = True
        return fresh

    async def _work(self) -> None:
        """Send what is ready, until nothing is."""
        while self._ready and not self._is_stopped:
            await self._send(self._ready.popleft())
            self._hire()
            is_short = len(self._ready) < _BLOCK // 2 and not self._is_read
            if is_short or not self._open or self._is_stopped:
                self._changed.set()

    async def _send(self, job: _Job) -> None:
        """One attempt of one job, when the limits allow it."""
        plan = self._plan
        try:
            call = plan.call.with_messages(job.messages)
        except PromptError as error:
            self._finish(job.number, error)
            return
        await plan.limits.acquire(estimate_tokens(job.messages))
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
        began_s = self._clock()
        failed: AichatError | None = None
        try:
            reply = await self._chat.attempt(call, limits=self._plan.limits)
        except AichatError as error:
            failed = error
        if failed is not None:
            self._failed(job, failed)
            return
        self._failures_in_a_row = 0
        self._retries.earn()
        self._plan.budget.charge(call.priced(_counted(reply, job.messages)))
        self.usage = self.usage + reply.usage if self.finished_s else reply.usage
        # Kept for as long as the run is: without what only the limits need.
        reply = replace(reply, messages=(), rate_limits=None, elapsed_s=self._clock() - began_s)
        if self._plan.store is not None:
            await self._plan.store.put(job.key, reply)
        self.latencies_s.append(reply.elapsed_s)
        self.finished_s.append(self._clock() - self._begin)
        self._finish(job.number, reply)
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
            self._finish(job.number, error)
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

    # Counting -----------------------------------------------------------------------------------------------------

    def _finish(self, number: int, outcome: Reply | AichatError) -> None:
        """A job has its outcome; so have all its rows."""
        self._outcomes[number] = outcome
        self._open -= 1
        for position, row in enumerate(self._rows_of_job.pop(number)):
            self._row_done(row, outcome, is_hit=bool(position or self._from_store[number]))

    def _row_done(self, row: int, outcome: Reply | AichatError, *, is_hit: bool) -> None:
        self._done += 1
        if isinstance(outcome, Reply):
            self._hits += is_hit
            result = RowResult(row, outcome, None, is_hit)
        else:
            self._errors += 1
            result = RowResult(row, None, outcome, False)
        if self._on_row is not None:
            self._on_row(result)

    def _tell(self, *, is_last: bool = False) -> None:
        """An event, if the last one was long enough ago."""
        if self._on_progress is None:
            return
        now = self._clock()
        if is_last or now - self._told_at >= self._progress_every_s:
            self._told_at = now
            self._on_progress(self.progress(is_last=is_last))


def _spent(usage: Usage) -> str:
    """What a run has cost, in words."""
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{(usage.input_tokens or 0) + (usage.output_tokens or 0):,} tokens{cost}"


def _counted(reply: Reply, messages: tuple[Message, ...]) -> Usage:
    """The usage of a reply for a budget: what the server does not count is estimated, or no bound could be kept."""
    usage = reply.usage
    sent, came = usage.input_tokens, usage.output_tokens
    return replace(
        usage,
        input_tokens=estimate_tokens(messages) if sent is None else sent,
        output_tokens=estimate_tokens((Message("assistant", reply.text),)) if came is None else came,
    )


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


async def estimate(plan: BatchPlan, rows: Iterable[Row]) -> Estimate:
    """Count what a run would send. Sends nothing.

    Args:
        plan: What would be asked.
        rows: The rows.
    """
    keys = plan.keys()
    n_rows = n_missing = 0
    tokens: dict[bytes, int] = {}
    for row in rows:
        n_rows += 1
        if row is None:
            n_missing += 1
            continue
        messages = plan.messages(row)
        tokens.setdefault(keys.key(messages), estimate_tokens(messages))
    stored: Iterable[bytes] = ()
    if plan.store is not None and not plan.is_fresh:
        stored = await plan.store.get(list(tokens))
    n_unique, n_stored = len(tokens), 0
    for key in stored:
        tokens.pop(key)
        n_stored += 1
    n_tokens = sum(tokens.values())
    return Estimate(
        rows=n_rows,
        missing=n_missing,
        unique=n_unique,
        stored=n_stored,
        input_tokens=n_tokens,
        cost_usd=plan.call.priced(Usage(input_tokens=n_tokens, output_tokens=0)).cost_usd,
    )
