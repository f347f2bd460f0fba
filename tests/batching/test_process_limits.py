"""Limits that the runs of a process share: fifty at once keep the limit that one has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from simulation import Network, batch_of, bucket, fixed_window, in_virtual_time

from aichat_magic.batching.leases import UNSENT, Lease, Outcome
from aichat_magic.batching.limiter import RunLimiter
from aichat_magic.batching.options import BatchOptions
from aichat_magic.batching.process_limits import ProcessLimits
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.batching.server_limit import ServerLimit
from aichat_magic.chat.chat import Chat
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import ProviderError, RateLimitError
from aichat_magic.core.messages import Reply
from aichat_magic.core.options import CallOptions
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings
from aichat_magic.store.memory import MemoryStore

HERE = Endpoint(provider="vllm", base_url="http://127.0.0.1:8000/v1")


def n_right(runner: BatchRunner) -> int:
    return sum(isinstance(outcome, Reply) for outcome in runner.outcomes())


def run_many(counts: list[int], *, starts_at: list[float] | None = None, **options: Any) -> tuple[Any, Network]:
    """Run so many batches at once in virtual time, each with so many rows."""
    names = ("gate", "refusal", "latency_s", "slots", "timeout_s")
    network = {name: options.pop(name) for name in names if name in options}

    async def main(clock: Callable[[], float]) -> tuple[list[BatchRunner], Network]:
        limits, server = ProcessLimits(clock=clock), Network(clock, **network)
        runners = []

        async def one(number: int, count: int) -> None:
            await asyncio.sleep(starts_at[number] if starts_at else 0)
            rows = [f"{number} row {row}" for row in range(count)]
            runner = batch_of(rows, server, clock, limits=limits, seed=number, **options)
            runners.append(runner)
            await runner.run()

        await asyncio.gather(*(one(number, count) for number, count in enumerate(counts)))
        return runners, server

    return in_virtual_time(main)  # type: ignore[no-any-return]


# --- whole runs


@pytest.mark.parametrize("hint", [True, False], ids=["wait named", "no wait named"])
@pytest.mark.parametrize("limit", ["window", "bucket"])
def test_fifty_runs_at_once_keep_the_limit_that_one_has(limit: str, hint: bool) -> None:
    def refusal(wait_s: float) -> ProviderError:
        return RateLimitError("busy", status=429, retry_after_s=wait_s if hint else None)

    gate = fixed_window(60) if limit == "window" else bucket(60, 60)
    runners, network = run_many([40] * 50, concurrency="auto", gate=gate, refusal=refusal, latency_s=lambda prompt: 0.1)
    assert [n_right(runner) for runner in runners] == [40] * 50
    assert len(network.sent_at) <= 1.06 * 2000
    assert 2000 / network.sent_at[-1] >= 0.8 * 60


@pytest.mark.parametrize("concurrency", [4, "auto"])
def test_pause_of_one_run_is_that_of_all(concurrency: Any) -> None:
    refused_at = []

    def gate(now: float) -> float | None:
        if 2 < now < 30:
            refused_at.append(now)
            return 30 - now
        return None

    runners, _ = run_many([200] * 10, concurrency=concurrency, gate=gate)
    assert [n_right(runner) for runner in runners] == [200] * 10
    assert len(refused_at) <= 80  # those in flight at that moment
    assert max(refused_at) < 3


def test_all_runs_together_have_the_window_of_one() -> None:
    _, alone = run_many([2000], concurrency="auto", slots=16, latency_s=lambda prompt: 0.2)
    _, many = run_many([40] * 50, concurrency="auto", slots=16, latency_s=lambda prompt: 0.2)
    assert many.most_in_flight <= 1.5 * alone.most_in_flight


def test_runs_are_served_in_turn() -> None:
    """A short one that comes later does not wait for the long one before it."""
    runners, _ = run_many(
        [2000, 30], starts_at=[0, 5], concurrency="auto", slots=4, timeout_s=60.0, latency_s=lambda prompt: 0.2
    )
    long, short = sorted(runners, key=lambda runner: -len(runner))
    assert n_right(long), n_right(short) == (2000, 30)
    assert short.elapsed_s < 0.2 * long.elapsed_s


def test_paced_runs_are_served_in_turn() -> None:
    runners, _ = run_many([300, 300, 300], concurrency="auto", gate=fixed_window(10))
    times = [runner.elapsed_s for runner in runners]
    assert max(times) - min(times) < 0.1 * max(times)


def test_own_limits_of_a_run_stay_its_own() -> None:
    async def main(clock: Callable[[], float]) -> list[float]:
        limits, server = ProcessLimits(clock=clock), Network(clock)
        slow = batch_of(["a", "b", "c"], server, clock, limits=limits, requests_per_minute=6)
        quick = batch_of([str(row) for row in range(500)], server, clock, limits=limits, concurrency="auto")
        await asyncio.gather(slow.run(), quick.run())
        return [slow.elapsed_s, quick.elapsed_s]

    slow_s, quick_s = in_virtual_time(main)
    assert slow_s == pytest.approx(20.3, abs=0.1)
    assert quick_s < 10


def test_fixed_concurrency_takes_no_place_of_the_others() -> None:
    runners, network = run_many([400], concurrency=50)
    assert network.most_in_flight == 50
    assert n_right(runners[0]) == 400


# --- threads and loops


def test_runs_in_threads_share_a_window() -> None:
    limits = ProcessLimits()
    in_flight, most, done = 0, 0, []
    lock = threading.Lock()

    async def work(limiter: RunLimiter) -> None:
        nonlocal in_flight, most
        for _ in range(30):
            lease = await limiter.acquire()
            assert lease is not None
            with lock:
                in_flight += 1
                most = max(most, in_flight)
            await asyncio.sleep(0.001)
            with lock:
                in_flight -= 1
            limiter.report(lease, Outcome(latency_s=0.001))

    async def main() -> None:
        limiter = RunLimiter(home=limits.home(HERE, "m", max_concurrency=3))
        await asyncio.gather(*(work(limiter) for _ in range(3)))
        limiter.close()
        done.append(True)

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 6
    assert most == 3


def play(script: Callable[[ProcessLimits, Callable[[], float]], Awaitable[Any]]) -> Any:
    async def main(clock: Callable[[], float]) -> Any:
        return await script(ProcessLimits(clock=clock), clock)

    return in_virtual_time(main)


def limiter_of(limits: ProcessLimits, clock: Callable[[], float], most: int = 2) -> RunLimiter:
    return RunLimiter(home=limits.home(HERE, "m", max_concurrency=most), clock=clock, sleep=asyncio.sleep)


def test_run_that_is_over_gives_its_places_back() -> None:
    async def script(limits: ProcessLimits, clock: Callable[[], float]) -> bool:
        dead, other = limiter_of(limits, clock), limiter_of(limits, clock)
        leases = [await dead.acquire(), await dead.acquire()]
        waiting = asyncio.create_task(other.acquire())
        await asyncio.sleep(1)
        assert not waiting.done()
        dead.close()
        assert isinstance(await asyncio.wait_for(waiting, 5), Lease)
        for lease in leases:
            assert lease is not None
            dead.report(lease, UNSENT)  # too late: it counts no more
        assert next(iter(limits._limits.values()))._in_flight == 1
        return True

    assert play(script)


def test_run_that_is_forgotten_gives_its_places_back() -> None:
    async def script(limits: ProcessLimits, clock: Callable[[], float]) -> bool:
        dead, other = limiter_of(limits, clock), limiter_of(limits, clock)
        await dead.acquire()
        await dead.acquire()
        waiting = asyncio.create_task(other.acquire())
        await asyncio.sleep(1)
        del dead
        await asyncio.wait_for(waiting, 5)
        return True

    assert play(script)


def test_run_that_does_not_take_its_turn_is_passed_over() -> None:
    """Such as one whose event loop is blocked by a cell."""

    async def script(limits: ProcessLimits, clock: Callable[[], float]) -> float:
        first = limiter_of(limits, clock, most=1)
        lease = await first.acquire()
        assert lease is not None
        server, blocked = limits.home(HERE, "m", max_concurrency=1)(lambda: None, True)
        assert server.ask(blocked, 0) == float("inf")
        waiting = asyncio.create_task(limiter_of(limits, clock, most=1).acquire())
        await asyncio.sleep(1)
        first.report(lease, Outcome(latency_s=1))
        at = clock()
        await asyncio.wait_for(waiting, 10)
        return clock() - at

    assert play(script) < 2


def test_probe_that_is_dropped_is_followed_by_another() -> None:
    async def script(limits: ProcessLimits, clock: Callable[[], float]) -> bool:
        first, other = limiter_of(limits, clock), limiter_of(limits, clock)
        server, _ = first._join()
        for _ in range(12):
            lease = await first.acquire()
            assert lease is not None
            first.report(lease, Outcome(latency_s=0, kind="throttled"))
            if server._standstill is not None:
                break
        probe = await first.acquire()
        assert probe is not None
        waiting = asyncio.create_task(other.acquire())
        await asyncio.sleep(100)
        assert not waiting.done()
        first.close()
        await asyncio.wait_for(waiting, 5)
        return True

    assert play(script)


# --- whose limit it is


def test_limit_belongs_to_key_host_and_model() -> None:
    limits = ProcessLimits()

    def limit(endpoint: Endpoint, model: str = "m") -> ServerLimit:
        return limits.home(endpoint, model, max_concurrency=8)(lambda: None, True)[0]

    def at(url: str, key: str | None = None) -> Endpoint:
        return Endpoint(provider="openai", base_url=url, key=Secret(key) if key else None)

    one = limit(at("https://api.openai.com/v1", "sk-one"))
    assert limit(at("https://api.openai.com/v1", "sk-one")) is one
    assert limit(at("https://api.openai.com/v2", "sk-one")) is one
    others = [
        limit(at("https://api.openai.com/v1", "sk-two")),
        limit(at("https://api.openai.com/v1")),
        limit(at("https://other.example/v1", "sk-one")),
        limit(at("https://api.openai.com/v1", "sk-one"), "n"),
    ]
    assert len({id(found) for found in (one, *others)}) == 5
    assert not any(b"sk-" in name for name in limits._limits)


def test_limit_is_forgotten_with_its_last_run() -> None:
    limits = ProcessLimits()
    join = limits.home(HERE, "m", max_concurrency=8)
    limit, run = join(lambda: None, True)
    limit.leave(run)
    assert join(lambda: None, True)[0] is not limit


def test_limits_are_those_of_the_parent_no_more_after_a_fork() -> None:
    limits = ProcessLimits()
    join = limits.home(HERE, "m", max_concurrency=8)
    limit, _ = join(lambda: None, True)
    limits._pid = -1
    limits._lock.acquire()  # as another thread of the parent did at that moment
    assert join(lambda: None, True)[0] is not limit


def test_runs_of_all_chats_of_a_process_share_their_limits() -> None:
    chats = [Chat(settings=Settings, store=MemoryStore()) for _ in range(2)]
    limiters = [BatchOptions().plan(chat, CallOptions(model="ollama/x")).limiter for chat in chats]
    assert isinstance(limiters[0], RunLimiter)
    assert isinstance(limiters[1], RunLimiter)
    assert limiters[0]._join()[0] is limiters[1]._join()[0]
