"""Runs of a batch in virtual time: an event loop that never waits, servers with rate limits, an engine of workers."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from aichat_magic.limits import Limits, Outcome


class _Skip(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, the clock jumps there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "every task waits for ever"
            self.now += timeout
        return ready


def in_virtual_time(main: Callable[[Callable[[], float]], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``main(clock)``; `asyncio.sleep` in it takes no time."""
    selector = _Skip()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]  # the very point
    try:
        return loop.run_until_complete(main(loop.time))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# --- rate limits of servers: seconds to wait, or None when the call is admitted

Gate = Callable[[float], float | None]
Kind = Literal["ok", "throttled", "timeout", "error"]
Fault = Callable[[int, int], Kind | None]


def fixed_window(count: int, *, period_s: float = 1.0, phase_s: float = 0.0, retry_after_s: float | None = 1.0) -> Gate:
    """So many calls in each period. `retry_after_s` None: exactly until the next period begins."""
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
    """A token bucket."""
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
    """By row and attempt: 5 % 429, 4 % 500, nothing to do with the rate."""

    def fault(row: int, attempt: int) -> Kind | None:
        dice = random.Random(f"{seed}-{row}-{attempt}").random()
        return "throttled" if dice < 0.05 else "error" if dice < 0.09 else None

    return fault


@dataclass
class Result:
    """What a run came to."""

    limits: Limits
    seconds: float = 0.0
    lost: int = 0
    sent_at: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return len(self.sent_at)

    @property
    def most_at_once(self) -> int:
        return self.limits.max_seen


async def drive(
    limits: Limits,
    rows: int,
    ask: Callable[[int, int], Awaitable[tuple[Kind, float | None]]],
    clock: Callable[[], float],
    dice: random.Random,
) -> Result:
    """An engine of workers: a row is tried five times; one that waits for its next try holds no worker."""
    loop = asyncio.get_running_loop()
    result = Result(limits)
    began_at = clock()
    waiting = [(row, 1) for row in reversed(range(rows))]
    open_rows = rows
    finished = loop.create_future()
    workers: set[asyncio.Task[None]] = set()

    async def work() -> None:
        nonlocal open_rows
        while waiting and len(workers) <= limits.workers_wanted:
            row, attempt = waiting.pop()
            await limits.acquire()
            sent_at = clock()
            result.sent_at.append(sent_at)
            kind, wait_s = await ask(row, attempt)
            if kind == "throttled":
                result.refused_at.append(clock())
            limits.release(Outcome(latency_s=clock() - sent_at, kind=kind, tokens=10, retry_after_s=wait_s))
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
        for _ in range(min(limits.workers_wanted - len(workers), len(waiting))):
            task = loop.create_task(work())
            workers.add(task)
            task.add_done_callback(workers.discard)

    async def look() -> None:
        while True:
            await asyncio.sleep(0.5)
            if limits.has_stuck:
                more()

    # As a run does: calls that are stuck give their places away without one coming to an end.
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
    """A batch of `rows` against a server, in virtual time.

    `slots`: calls that the server works on at once. `busy_s`: time of the one processor that each call takes.
    `refusal_s`: how long a refusal takes; None: as long as a reply. `hang_s`: how long one that ends in a timeout does.
    `options`: those of `Limits`.
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

        limits = Limits(clock=clock, sleep=asyncio.sleep, **options)
        return await drive(limits, rows, ask, clock, dice)

    result: Result = in_virtual_time(main)
    return result
