"""Runs in virtual time: an event loop that never waits, servers with rate limits, and a set of workers."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
import selectors
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aichat_magic.batching.budget import Budget
from aichat_magic.batching.leases import Outcome
from aichat_magic.batching.limiter import RunLimiter
from aichat_magic.batching.options import BatchPlan
from aichat_magic.batching.process_limits import ProcessLimits
from aichat_magic.batching.progress import Progress
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import (
    ConnectionFailedError,
    DeadlineError,
    NotRunningError,
    ProviderError,
    RateLimitError,
)
from aichat_magic.core.messages import ChatRequest, Chunk, Message, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.prices import PriceList
from aichat_magic.core.settings import Settings
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.base import AsyncProvider


class _Skip(selectors.DefaultSelector):
    """A selector that advances the clock to the next timer instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "every task waits forever"
            self.now += timeout
        return ready


def in_virtual_time(main: Callable[[Callable[[], float]], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``main(clock)``; `asyncio.sleep` in it takes no time."""
    selector = _Skip()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]  # virtual time
    try:
        return loop.run_until_complete(main(loop.time))
    finally:
        for task in (left := asyncio.all_tasks(loop)):  # what a server still works on
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# --- rate limits of servers: seconds to wait, or None if the call is admitted

Gate = Callable[[float], float | None]
Kind = Literal["ok", "throttled", "timeout", "error"]
Fault = Callable[[int, int], Kind | None]


def fixed_window(count: int, *, period_s: float = 1.0, phase_s: float = 0.0, retry_after_s: float | None = 1.0) -> Gate:
    """Admit so many calls in each period. `retry_after_s` None: exactly until the next period begins."""
    seen = {"window": -1, "calls": 0}

    def admit(now: float) -> float | None:
        window = math.floor((now + phase_s) / period_s)
        if window != seen["window"]:
            seen.update(window=window, calls=0)
        if seen["calls"] >= count:
            return retry_after_s or (window + 1) * period_s - phase_s - now
        seen["calls"] += 1
        return None

    return admit


def bucket(per_second: float, capacity: float, *, retry_after_s: float = 1.0) -> Gate:
    """Admit calls as a token bucket does."""
    state = {"at": 0.0, "level": capacity}

    def admit(now: float) -> float | None:
        state["level"] = min(capacity, state["level"] + (now - state["at"]) * per_second)
        state["at"] = now
        if state["level"] < 1:
            return retry_after_s
        state["level"] -= 1
        return None

    return admit


def random_faults(seed: int) -> Fault:
    """Fail 5 % of the attempts with 429 and 4 % with 500, independent of the rate."""

    def fault(row: int, attempt: int) -> Kind | None:
        dice = random.Random(f"{seed}-{row}-{attempt}").random()
        return "throttled" if dice < 0.05 else "error" if dice < 0.09 else None

    return fault


@dataclass
class Result:
    """The result of a simulated run."""

    limiter: RunLimiter
    seconds: float = 0.0
    lost: int = 0
    sent_at: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def calls(self) -> int:
        return len(self.sent_at)


async def drive(
    limiter: RunLimiter,
    rows: int,
    ask: Callable[[int, int], Awaitable[tuple[Kind, float | None]]],
    clock: Callable[[], float],
    dice: random.Random,
) -> Result:
    """Run rows with a set of workers: five attempts a row; a row that waits for its next attempt holds no worker."""
    loop = asyncio.get_running_loop()
    result = Result(limiter)
    began_at = clock()
    waiting = [(row, 1) for row in reversed(range(rows))]
    open_rows = rows
    finished = loop.create_future()
    workers: set[asyncio.Task[None]] = set()

    async def work() -> None:
        nonlocal open_rows
        while waiting and len(workers) <= limiter.workers_wanted:
            row, attempt = waiting.pop()
            lease = await limiter.acquire()
            assert lease is not None
            sent_at = clock()
            result.sent_at.append(sent_at)
            result.most_at_once = max(result.most_at_once, limiter.in_flight)
            kind, wait_s = await ask(row, attempt)
            if kind == "throttled":
                result.refused_at.append(clock())
            limiter.report(lease, Outcome(latency_s=clock() - sent_at, kind=kind, tokens=10, retry_after_s=wait_s))
            if kind == "ok" or attempt == 5:
                result.lost += kind != "ok"
                open_rows -= 1
                if not open_rows:
                    finished.set_result(None)
            else:
                loop.call_later((wait_s or 0.0) + dice.random() * 0.5, again, (row, attempt + 1))
            more()

    def again(item: tuple[int, int]) -> None:
        waiting.append(item)
        more()

    def more() -> None:
        for _ in range(min(limiter.workers_wanted - len(workers), len(waiting))):
            task = loop.create_task(work())
            workers.add(task)
            task.add_done_callback(workers.discard)

    async def look() -> None:
        while True:
            await asyncio.sleep(0.5)
            more()

    # As in a run: overdue calls are replaced although none has finished.
    looker = loop.create_task(look())
    more()
    await finished
    looker.cancel()
    await asyncio.gather(*workers)
    result.seconds = clock() - began_at
    return result


def simulate(
    rows: int,
    *,
    latency: Callable[[random.Random], float],
    gate: Gate | None = None,
    fault: Fault | None = None,
    slots: int = 10**6,
    busy_s: float = 0.0,
    refusal_s: float | None = None,
    hang_s: float = 5.0,
    seed: int = 0,
    **options: Any,
) -> Result:
    """Run so many rows against a server, in virtual time.

    `slots`: calls that the server processes at once. `busy_s`: time of its only processor that each call takes.
    `refusal_s`: latency of a refusal; None: that of a reply. `hang_s`: latency of a call that ends in a timeout.
    `options`: those of `Limiter`.
    """

    async def main(clock: Callable[[], float]) -> Result:
        dice = random.Random(seed)
        free, processor = asyncio.Semaphore(slots), asyncio.Lock()

        async def ask(row: int, attempt: int) -> tuple[Kind, float | None]:
            if busy_s:
                async with processor:
                    await asyncio.sleep(busy_s)
            if fault is not None and (kind := fault(row, attempt)):
                await asyncio.sleep(hang_s if kind == "timeout" else latency(dice))
                return kind, 1.0 if kind == "throttled" else None
            if gate is not None and (wait_s := gate(clock())) is not None:
                await asyncio.sleep(latency(dice) if refusal_s is None else refusal_s)
                return "throttled", wait_s
            async with free:
                await asyncio.sleep(latency(dice))
            return "ok", None

        limiter = RunLimiter(clock=clock, sleep=asyncio.sleep, **options)
        return await drive(limiter, rows, ask, clock, dice)

    result: Result = in_virtual_time(main)
    return result


# --- whole runs


class Network(AsyncProvider):
    """A server in virtual time, and a network that is away now and then.

    Attributes:
        reached: Number of requests that reached the server, by prompt.
        sent_at: Time of each call.
        most_in_flight: Most calls in flight at once.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        latency_s: Callable[[str], float] = lambda prompt: 0.3,
        away: Sequence[tuple[float, float]] = (),
        broken: type[ProviderError] = ConnectionFailedError,
        refused: type[ProviderError] = NotRunningError,
        usage: Callable[[str], Usage] = lambda prompt: Usage(input_tokens=10, output_tokens=5),
        fault: Callable[[str, int], ProviderError | None] = lambda prompt, attempt: None,
        hangs_s: Callable[[str], float] = lambda prompt: 0.0,
        late: type[ProviderError] = DeadlineError,
        drains: bool = False,
        gate: Gate | None = None,
        refusal: Callable[[float], ProviderError] = lambda wait_s: RateLimitError(
            "busy", status=429, retry_after_s=wait_s
        ),
        slots: int | None = None,
        timeout_s: float = math.inf,
        finishes_abandoned: bool = False,
    ) -> None:
        """Create a server; `away`: begin and end of each outage, which calls in flight meet as `broken`, new ones as
        `refused`. `hangs_s`: how long a call in flight hangs before it fails, with `late`. `drains`: calls in
        flight are answered all the same, as by a server that restarts gracefully. `gate`: its limit; calls beyond it
        are answered with `refusal(seconds to wait)`. `slots`: calls that it answers at once, others queue; after
        `timeout_s` the client gives up, which the server notices or, if it `finishes_abandoned` calls, does not.
        """
        super().__init__(Endpoint(provider="vllm", base_url="http://127.0.0.1:8000/v1"), HttpClient())
        self._clock = clock
        self._latency_s = latency_s
        self._away = away
        self._broken, self._refused = broken, refused
        self._usage = usage
        self._fault = fault
        self._hangs_s = hangs_s
        self._late = late
        self._drains = drains
        self._gate, self._refusal = gate, refusal
        self._free = None if slots is None else asyncio.Semaphore(slots)
        self._timeout_s = timeout_s
        self._finishes_abandoned = finishes_abandoned
        self.reached: Counter[str] = Counter()
        self.sent_at: list[float] = []
        self.in_flight = self.most_in_flight = 0

    async def complete(self, request: ChatRequest) -> Reply:
        prompt = request.messages[-1].content
        now = self._clock()
        self.sent_at.append(now)
        if any(begin <= now < end for begin, end in self._away):
            await asyncio.sleep(0.001)
            raise self._refused("Cannot reach http://127.0.0.1:8000/v1/chat/completions: connection refused.")
        self.reached[prompt] += 1
        if self._gate is not None and (wait_s := self._gate(now)) is not None:
            await asyncio.sleep(0.05)
            raise self._refusal(wait_s)
        if self._free is not None:
            return await self._queued(prompt, self._free)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        ends_at = now + self._latency_s(prompt)
        breaks_at = min((begin for begin, _ in self._away if begin > now and not self._drains), default=math.inf)
        await asyncio.sleep(min(ends_at, breaks_at) - now)
        if breaks_at < ends_at and (hangs_s := self._hangs_s(prompt)):
            await asyncio.sleep(hangs_s)
            self.in_flight -= 1
            raise self._late("127.0.0.1:8000 did not finish within 600 s.")
        self.in_flight -= 1
        if breaks_at < ends_at:
            raise self._broken("Cannot reach http://127.0.0.1:8000/v1/chat/completions: the connection was reset.")
        if (error := self._fault(prompt, self.reached[prompt])) is not None:
            raise error
        return Reply(text=f"reply to {prompt}", model="vllm/m", usage=self._usage(prompt))

    async def _queued(self, prompt: str, free: asyncio.Semaphore) -> Reply:
        """Answer a call in its turn, or time out."""

        async def work() -> None:
            async with free:
                await asyncio.sleep(self._latency_s(prompt))

        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        task = asyncio.ensure_future(work())
        done, _ = await asyncio.wait({task}, timeout=None if self._timeout_s == math.inf else self._timeout_s)
        self.in_flight -= 1
        if not done:
            if not self._finishes_abandoned:
                task.cancel()
            raise DeadlineError(f"127.0.0.1:8000 did not finish within {self._timeout_s:g} s.")
        if (error := self._fault(prompt, self.reached[prompt])) is not None:
            raise error
        return Reply(text=f"reply to {prompt}", model="vllm/m", usage=self._usage(prompt))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(text=(await self.complete(request)).text)


def batch_of(
    rows: Sequence[str],
    server: Network,
    clock: Callable[[], float],
    *,
    concurrency: int | Literal["auto"] = 64,
    budget: Callable[[Call], Budget] = lambda call: Budget(),
    options: Options = Options(),  # noqa: B008  # frozen
    prices: PriceList | None = None,
    max_retries: int = 4,
    patience_s: float = 600.0,
    limit_patience_s: float = 600.0,
    on_progress: Callable[[Progress], None] | None = None,
    limits: ProcessLimits | None = None,
    requests_per_minute: float | None = None,
    seed: int = 0,
) -> BatchRunner:
    """Return a run over rows that has not begun; `limits`: those that it shares with other runs."""
    chat = Chat(settings=Settings, clock=clock, sleep=asyncio.sleep, random=random.Random(seed).random)
    call = Call(
        provider=server,
        request=ChatRequest(model="m", messages=(Message("user", "-"),), options=options),
        policy=RetryPolicy(max_retries=max_retries),
        prices=prices or PriceList(),
    )
    plan = BatchPlan(
        call=call,
        limiter=RunLimiter(
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            budget=budget(call),
            home=None if limits is None else limits.home(server.endpoint, "m", max_concurrency=256),
            clock=clock,
            sleep=asyncio.sleep,
        ),
        outage_patience_s=patience_s,
        limit_patience_s=limit_patience_s,
    )
    return BatchRunner(chat, plan, rows, clock=clock, sleep=asyncio.sleep, on_progress=on_progress)


RUN_OPTIONS = frozenset(inspect.signature(batch_of).parameters)


def run_batch(rows: Sequence[str], **options: Any) -> tuple[BatchRunner, Network]:
    """Run rows in virtual time; keywords of `batch_of`, and of the `Network` that answers."""
    network = {name: options.pop(name) for name in list(options) if name not in RUN_OPTIONS}

    async def main(clock: Callable[[], float]) -> tuple[BatchRunner, Network]:
        server = Network(clock, **network)
        runner = batch_of(rows, server, clock, **options)
        await runner.run()
        return runner, server

    result: tuple[BatchRunner, Network] = in_virtual_time(main)
    return result
