"""Runs over rows: unique requests, order, faults, budgets, resume. Time passes only while somebody sleeps."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest

from aichat_magic.batching.api import batch_async, iterate_rows
from aichat_magic.batching.budget import Budget
from aichat_magic.batching.estimate import estimate_run
from aichat_magic.batching.limiter import RunLimiter
from aichat_magic.batching.options import BatchPlan
from aichat_magic.batching.progress import Progress, RowResult
from aichat_magic.batching.run import BatchRun
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import (
    AichatError,
    AuthenticationError,
    BadRequestError,
    BatchStoppedError,
    HostNotFoundError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from aichat_magic.core.messages import ChatRequest, Chunk, Message, Reply
from aichat_magic.core.settings import Settings
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.store.memory import MemoryStore

pytestmark = pytest.mark.anyio

Fault = Callable[[str, int], AichatError | None]


def no_fault(prompt: str, attempt: int) -> None:
    return None


class Server(AsyncProvider):
    """A provider without a wire: answers ``reply to <prompt>``, with faults by prompt and attempt."""

    def __init__(self, fault: Fault = no_fault, *, hold: asyncio.Event | None = None) -> None:
        super().__init__(Endpoint(provider="openai"), HttpClient())
        self.fault = fault
        self.hold = hold
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0

    async def complete(self, request: ChatRequest) -> Reply:
        prompt = request.messages[-1].content
        self.calls[prompt] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await (self.hold.wait() if self.hold is not None else asyncio.sleep(0))
        finally:
            self.in_flight -= 1
        error = self.fault(prompt, self.calls[prompt])
        if error is not None:
            raise error
        self.answered[prompt] += 1
        return Reply(
            text=f"reply to {prompt}", model="openai/m", usage=Usage(input_tokens=10, output_tokens=5, cost_usd=0.01)
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(text=(await self.complete(request)).text)


class Clock:
    """Seconds that pass while somebody sleeps; all sleepers of one moment wake in order."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(20):
            await asyncio.sleep(0)
        self.now = max(self.now, until)


def batch(
    rows: Any,
    server: Server,
    *,
    store: MemoryStore | None = None,
    max_retries: int = 4,
    is_fresh: bool = False,
    **keywords: Any,
) -> BatchRunner:
    clock = Clock()
    chat = Chat(settings=Settings, clock=clock, sleep=clock.sleep, random=lambda: 0.5)
    concurrency = keywords.pop("concurrency", 8)
    plan = BatchPlan(
        call=Call(
            provider=server,
            request=ChatRequest(model="m", messages=(Message("user", "-"),)),
            policy=RetryPolicy(max_retries=max_retries),
        ),
        system=keywords.pop("system", ""),
        limiter=RunLimiter(
            concurrency=concurrency, budget=keywords.pop("budget", None), clock=clock, sleep=clock.sleep
        ),
        store=store,
        is_fresh=is_fresh,
    )
    return BatchRunner(chat, plan, rows, clock=clock, sleep=clock.sleep, **keywords)


async def done(*args: Any, **keywords: Any) -> BatchRunner:
    runner = batch(*args, **keywords)
    await asyncio.wait_for(runner.run(), 60)
    return runner


def texts(runner: BatchRunner) -> list[Any]:
    return [outcome.text if isinstance(outcome, Reply) else outcome for outcome in runner.outcomes()]


async def test_rows_come_back_in_order() -> None:
    runner = await done([f"p{n}" for n in range(2000)], Server())
    assert texts(runner) == [f"reply to p{n}" for n in range(2000)]


async def test_equal_requests_are_sent_once_and_missing_rows_not_at_all() -> None:
    server = Server()
    runner = await done(["a", None, "b", "a", None, "a"], server)
    assert texts(runner) == ["reply to a", None, "reply to b", "reply to a", None, "reply to a"]
    assert server.calls == {"a": 1, "b": 1}
    progress = runner.progress()
    assert (progress.done, progress.missing, progress.hits, progress.calls) == (6, 2, 2, 2)


async def test_no_rows_is_no_work() -> None:
    runner = await done([], Server())
    assert texts(runner) == []


async def test_conversations_are_sent_whole_with_the_system_message_before() -> None:
    server = Server()
    row = (Message("user", "x"), Message("assistant", "y"), Message("user", "z"))
    seen: list[tuple[Message, ...]] = []
    complete = server.complete

    async def watched(request: ChatRequest) -> Reply:
        seen.append(request.messages)
        return await complete(request)

    server.complete = watched  # type: ignore[method-assign]  # to see what is sent
    await done([row], server, system="Be brief.")
    assert seen == [(Message("system", "Be brief."), *row)]


async def test_no_more_are_in_flight_than_allowed() -> None:
    server = Server()
    await done([str(n) for n in range(500)], server, concurrency=7)
    assert server.most_in_flight == 7


async def test_tasks_are_bounded_by_the_concurrency() -> None:
    server, most = Server(), 0

    def watch(result: RowResult) -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))

    await done([str(n) for n in range(5000)], server, concurrency=8, on_row=watch)
    assert most < 8 * 3 + 8


async def test_rows_are_read_a_block_at_a_time() -> None:
    read = 0

    def rows() -> Any:
        nonlocal read
        for n in range(100_000):
            read += 1
            yield str(n)

    hold = asyncio.Event()
    runner = batch(rows(), Server(hold=hold), concurrency=4)
    task = asyncio.create_task(runner.run())
    for _ in range(50):
        await asyncio.sleep(0)
    assert 0 < read < 3000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_fault_that_passes_costs_a_retry_and_nothing_else() -> None:
    def fault(prompt: str, attempt: int) -> AichatError | None:
        if int(prompt) % 20 == 0 and attempt == 1:
            return RateLimitError("busy", status=429, retry_after_s=1.0)
        return ServerError("down", status=500) if int(prompt) % 33 == 0 and attempt <= 2 else None

    server = Server(fault)
    runner = await done([str(n) for n in range(1000)], server)
    assert texts(runner) == [f"reply to {n}" for n in range(1000)]
    assert set(server.answered.values()) == {1}
    assert runner.calls <= 1000 + 50 + 31 * 2


async def test_one_bad_row_of_many_is_one_error() -> None:
    def fault(prompt: str, attempt: int) -> AichatError | None:
        return BadRequestError("no", status=400) if prompt == "500" else None

    runner = await done([str(n) for n in range(1000)], Server(fault))
    outcomes = list(runner.outcomes())
    assert isinstance(outcomes[500], BadRequestError)
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 999
    assert runner.stopped_by is None


@pytest.mark.parametrize(
    "error",
    [AuthenticationError("no", status=401), QuotaError("spent", status=429), HostNotFoundError("no host")],
    ids=lambda error: type(error).__name__,
)
async def test_error_that_meets_every_row_stops_the_run_and_keeps_what_is_done(error: AichatError) -> None:
    server = Server(lambda prompt, attempt: error if int(prompt) >= 100 else None)
    runner = await done([str(n) for n in range(10_000)], server, concurrency=4)
    assert runner.stopped_by is error
    assert texts(runner)[:100] == [f"reply to {n}" for n in range(100)]
    assert sum(server.calls.values()) <= 100 + 4 * 15
    assert runner.pending > 0


async def test_server_that_is_down_ends_the_run_soon_and_says_why() -> None:
    server = Server(lambda prompt, attempt: ServerError("down", status=500))
    runner = await done([str(n) for n in range(1000)], server)
    assert isinstance(runner.stopped_by, ServerError)
    assert sum(server.calls.values()) < 200


async def test_cancelled_run_keeps_what_is_done_and_sends_nothing_more() -> None:
    store = MemoryStore()
    server = Server()
    runner = batch(
        [str(n) for n in range(5000)], server, store=store, on_row=lambda row: row.row == 300 and task.cancel()
    )
    others = asyncio.all_tasks()
    task = asyncio.create_task(runner.run())
    with pytest.raises(asyncio.CancelledError):
        await task
    sent = sum(server.calls.values())
    assert 300 <= runner.progress().done <= sent < 1000
    await asyncio.sleep(0.05)
    assert sum(server.calls.values()) == sent
    assert asyncio.all_tasks() == others
    again = await done([str(n) for n in range(5000)], server, store=store)
    assert texts(again) == [f"reply to {n}" for n in range(5000)]
    assert sum(server.calls.values()) <= 5000 + 8


async def test_stored_replies_are_not_sent_again_unless_fresh() -> None:
    store, server = MemoryStore(), Server()
    await done(["a", "b"], server, store=store)
    runner = await done(["b", "a", "c", "b"], server, store=store)
    assert server.calls == {"a": 1, "b": 1, "c": 1}
    assert (runner.progress().hits, runner.progress().calls) == (3, 1)
    assert runner.usage.input_tokens == 10
    await done(["a"], server, store=store, is_fresh=True)
    assert server.calls["a"] == 2


async def test_failures_are_not_stored() -> None:
    store = MemoryStore()
    await done(["a"], Server(lambda prompt, attempt: BadRequestError("no", status=400)), store=store)
    runner = await done(["a"], Server(), store=store)
    assert texts(runner) == ["reply to a"]


async def test_reply_is_stored_before_it_counts() -> None:
    stored: list[bytes] = []

    class Slow(MemoryStore):
        async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
            await asyncio.sleep(0)
            await super().put_many(replies)
            stored.extend(key for key, _ in replies)

    seen: list[int] = []
    await done([str(n) for n in range(50)], Server(), store=Slow(), on_row=lambda row: seen.append(len(stored)))
    assert all(count > position for position, count in enumerate(seen))


async def test_no_more_are_sent_and_not_stored_than_may_be_in_flight() -> None:
    """So many a kill can cost; also with a store that is slow."""
    stored, most = 0, 0

    class Slow(MemoryStore):
        async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
            nonlocal stored
            for _ in range(20):
                await asyncio.sleep(0)
            await super().put_many(replies)
            stored += len(replies)

    server = Server()
    complete = server.complete

    async def watched(request: ChatRequest) -> Reply:
        nonlocal most
        most = max(most, sum(server.calls.values()) + 1 - stored)
        return await complete(request)

    server.complete = watched  # type: ignore[method-assign]  # to see how many are unsaved
    await done([str(n) for n in range(200)], server, store=Slow(), concurrency=8)
    assert most == 8


async def test_a_run_goes_on_while_calls_that_nobody_answers_take_every_place() -> None:
    server = Server()
    complete = server.complete
    for_ever = asyncio.Event()

    async def stuck(request: ChatRequest) -> Reply:
        if 2 <= int(request.messages[-1].content) < 20:
            await for_ever.wait()
        return await complete(request)

    server.complete = stuck  # type: ignore[method-assign]  # more than the first window of "auto" has places
    runner = batch([str(n) for n in range(100)], server, concurrency="auto")
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(60):
        while sum(server.answered.values()) < 82:  # noqa: ASYNC110  # a few turns of the loop
            await asyncio.sleep(0)
    for_ever.set()
    await task
    assert runner.progress().done == 100


async def test_replies_that_come_one_turn_of_the_loop_after_the_other_are_stored_together() -> None:
    """Each group costs two threads a meeting, more than a row does."""
    groups: list[int] = []

    class Watched(MemoryStore):
        async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
            groups.append(len(replies))
            await super().put_many(replies)

    server = Server()
    complete = server.complete

    async def in_turn(request: ChatRequest) -> Reply:
        for _ in range(int(request.messages[-1].content) // 2):
            await asyncio.sleep(0)
        return await complete(request)

    server.complete = in_turn  # type: ignore[method-assign]  # two answer after one turn, the next two after two
    await done([str(n) for n in range(8)], server, store=Watched(), concurrency=8)
    assert groups == [8]


async def test_replies_that_have_come_home_are_stored_when_a_run_is_cancelled() -> None:
    """Those, too, that came while others were being written."""
    free = asyncio.Event()

    class Slow(MemoryStore):
        async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
            await free.wait()
            await super().put_many(replies)

    server, store = Server(), Slow()
    runner = batch([str(n) for n in range(100)], server, store=store, concurrency="auto")
    task = asyncio.create_task(runner.run())
    while sum(server.answered.values()) < 50:  # noqa: ASYNC110  # a few turns of the loop
        await asyncio.sleep(0)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, free.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.summary().rows == sum(server.answered.values()) == runner.progress().done


@pytest.mark.parametrize(
    ("budget", "most"), [(Budget(max_total_tokens=1500), 100), (Budget(max_cost_usd=1.0), 100)], ids=["tokens", "cost"]
)
async def test_budget_is_used_up_and_not_passed(budget: Budget, most: int) -> None:
    server = Server()
    runner = await done([str(n) for n in range(1000)], server, budget=budget, concurrency=8)
    assert most - 2 <= sum(server.calls.values()) <= most
    assert isinstance(runner.stopped_by, BatchStoppedError)
    assert "budget" in str(runner.stopped_by)
    assert sum(isinstance(outcome, Reply) for outcome in runner.outcomes()) == sum(server.calls.values())


async def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    told: list[Progress] = []
    await done([str(n) for n in range(100)], Server(), on_progress=told.append, n_rows=100)
    assert told[-1].is_last
    assert (told[-1].done, told[-1].rows, told[-1].calls) == (100, 100, 100)
    assert told[-1].usage == Usage(input_tokens=1000, output_tokens=500, cost_usd=pytest.approx(1.0))
    assert "100 rows" in str(told[-1])
    assert len(told) < 50


async def test_rows_are_given_as_they_finish() -> None:
    server = Server(lambda prompt, attempt: BadRequestError("no", status=400) if prompt == "1" else None)
    seen = [result async for result in iterate_rows(lambda tell: batch(["0", "1", "0", None], server, on_row=tell))]
    assert sorted(result.row for result in seen) == [0, 1, 2, 3]
    by_row = {result.row: result for result in seen}
    assert by_row[0].reply is not None
    assert isinstance(by_row[1].error, BadRequestError)
    assert by_row[2].is_hit
    assert (by_row[3].reply, by_row[3].error) == (None, None)


async def test_leaving_the_iterator_early_ends_the_run() -> None:
    server = Server()
    rows = iterate_rows(lambda tell: batch((str(n) for n in range(10_000)), server, on_row=tell))
    async for _ in rows:
        break
    await rows.aclose()
    sent = sum(server.calls.values())
    await asyncio.sleep(0.02)
    assert sum(server.calls.values()) == sent < 2000


@pytest.mark.parametrize("good", [1, 3000], ids=["in the first block", "in a later block"])
async def test_bad_row_of_the_source_ends_the_run_with_its_error(good: int) -> None:
    def rows() -> Any:
        yield from map(str, range(good))
        raise BadRequestError("the row is bad", status=400)

    with pytest.raises(BadRequestError, match="the row is bad"):
        await asyncio.wait_for(done(rows(), Server()), 60)


async def test_error_of_the_progress_callback_is_not_lost() -> None:
    def show(progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(done(map(str, range(3000)), Server(), on_progress=show), 60)


async def test_requests_that_are_out_when_a_run_stops_come_home_and_nobody_else_is_waited_for() -> None:
    """The others wait for the end of a pause of two minutes."""

    def fault(prompt: str, attempt: int) -> AichatError | None:
        if prompt == "0":
            return RateLimitError("busy", status=429, retry_after_s=110.0)
        return AuthenticationError("no", status=401) if prompt == "3" else None

    runner = batch(map(str, range(1000)), Server(fault), concurrency=4)
    forever = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (forever.wait() if seconds > 60 else asyncio.sleep(0))

    runner._plan.limiter._sleep = sleep
    await asyncio.wait_for(runner.run(), 60)
    assert isinstance(runner.stopped_by, AuthenticationError)
    assert texts(runner)[1:3] == ["reply to 1", "reply to 2"]


async def test_estimate_counts_and_sends_nothing() -> None:
    store, server = MemoryStore(), Server()
    await done(["a"], server, store=store)
    runner = batch([], server, store=store)
    found = await estimate_run(runner._plan, ["a", "b", "b", None])
    assert (found.rows, found.missing, found.unique, found.stored) == (4, 1, 2, 1)
    assert found.input_tokens == 5
    assert server.calls == {"a": 1}
    assert "Nothing was sent" in str(found)


async def test_known_replies_are_not_asked_again_whatever_the_store() -> None:
    server = Server(lambda prompt, attempt: BadRequestError("no", status=400) if prompt == "3" else None)
    first = await done([str(n) for n in range(10)], server)
    server.fault = no_fault
    again = await done([str(n) for n in range(10)], server, is_fresh=True, known=first.reply)
    assert texts(again) == [f"reply to {n}" for n in range(10)]
    assert server.calls == {str(n): 1 + (n == 3) for n in range(10)}


async def test_budget_holds_where_the_server_counts_no_tokens() -> None:
    server = Server()
    complete = server.complete

    async def uncounted(request: ChatRequest) -> Reply:
        return Reply(text=(await complete(request)).text, model="openai/m")

    server.complete = uncounted  # type: ignore[method-assign]  # a server that counts nothing
    runner = await done([str(n) for n in range(100)], server, budget=Budget(max_total_tokens=50), concurrency=1)
    assert 2 <= sum(server.calls.values()) <= 6
    assert isinstance(runner.stopped_by, BatchStoppedError)


async def test_provider_that_cancels_itself_fails_its_row_and_holds_up_nobody() -> None:
    server = Server()
    complete = server.complete

    async def cancelled(request: ChatRequest) -> Reply:
        if request.messages[-1].content == "3":
            raise asyncio.CancelledError
        return await complete(request)

    server.complete = cancelled  # type: ignore[method-assign]  # as some client libraries do
    runner = await asyncio.wait_for(done([str(n) for n in range(10)], server), 60)
    assert list(runner.errors()) == [3]
    assert "cancelled" in str(runner.errors()[3])


async def test_error_of_a_stopped_batch_has_the_run_that_frames_have() -> None:
    server = Server(lambda prompt, attempt: AuthenticationError("no", status=401) if prompt == "5" else None)
    chat = Chat(settings=Settings, store=MemoryStore())
    call = chat.call

    def ours(*given: Any) -> Call:
        return dataclasses.replace(call(*given), provider=server)

    chat.call = ours  # type: ignore[method-assign]  # the server without a wire
    with pytest.raises(BatchStoppedError) as caught:
        await batch_async([str(n) for n in range(20)], chat=chat, model="ollama/m", progress=False, concurrency=1)
    run = caught.value.run
    assert isinstance(run, BatchRun)
    assert [reply is not None for reply in run.replies] == [True] * 5 + [False] * 15
    server.fault = no_fault
    again = await asyncio.to_thread(run.retry)
    assert [str(reply) for reply in again.replies] == [f"reply to {n}" for n in range(20)]
    assert server.calls["0"] == 1
