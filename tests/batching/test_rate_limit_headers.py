"""Runs against servers that tell their limits, in virtual time: what the wire says is what the limiter follows."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping

import pytest
from simulation import Network, in_virtual_time

from aichat_magic.batching.budget import Budget
from aichat_magic.batching.limiter import Limiter
from aichat_magic.batching.options import BatchPlan
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.messages import ChatRequest, Message, Reply
from aichat_magic.core.settings import Settings
from aichat_magic.http.errors import status_error
from aichat_magic.http.rate_limits import rate_limits_from

ROWS = 2000
LIMIT, PERIOD_S = 1200, 60.0  # 20 a second, in a bucket of 60 seconds' worth
EPOCH = 1_800_000_000.0


class Limited(Network):
    """A server with a bucket of requests, which tells its level in the headers of replies and of refusals."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[float, float], Mapping[str, str]]) -> None:
        super().__init__(clock, latency_s=lambda prompt: 0.3)
        self._now = clock
        self._tell = tell
        self._level, self._at = float(LIMIT), 0.0
        self.refused = 0

    async def complete(self, request: ChatRequest) -> Reply:
        now = self._now()
        self._level = min(LIMIT, self._level + (now - self._at) * LIMIT / PERIOD_S)
        self._at = now
        is_refused = self._level < 1
        self._level -= not is_refused
        headers = self._tell(self._level, now)
        if is_refused:
            self.refused += 1
            self.sent_at.append(now)
            await asyncio.sleep(0.05)
            body = json.dumps({"error": {"message": "Rate limit reached."}}).encode()
            raise status_error(429, headers, body, provider="p", wall_clock=lambda: EPOCH + now)
        reply = await super().complete(request)
        return dataclasses.replace(reply, rate_limits=rate_limits_from(headers, EPOCH + self._now()))


def full_in_s(level: float) -> float:
    return (LIMIT - level) / LIMIT * PERIOD_S


def counts(level: float) -> dict[str, str]:
    return {"x-ratelimit-limit-requests": str(LIMIT), "x-ratelimit-remaining-requests": str(int(level))}


DIALECTS = {
    "OpenAI": lambda level, now: {**counts(level), "x-ratelimit-reset-requests": f"{full_in_s(level):.3f}s"},
    "Azure": lambda level, now: {
        **counts(level),
        "x-ratelimit-reset-requests": f"{full_in_s(level) * 1000:.0f}",
        "x-ratelimit-renewalperiod-requests": f"{PERIOD_S:.0f}",
    },
    "Azure, without the period": lambda level, now: {
        **counts(level),
        "x-ratelimit-reset-requests": f"{full_in_s(level) * 1000:.0f}",
    },
    "IETF": lambda level, now: {
        "ratelimit": f'"a";r={int(level)};t={full_in_s(level):.0f}',
        "ratelimit-policy": f'"a";q={LIMIT};w={PERIOD_S:.0f}',
    },
    "OpenRouter": lambda level, now: {
        "x-ratelimit-limit": str(LIMIT),
        "x-ratelimit-remaining": str(int(level)),
        "x-ratelimit-reset": f"{(EPOCH + now + full_in_s(level)) * 1000:.0f}",
    },
}


def run(tell: Callable[[float, float], Mapping[str, str]]) -> tuple[BatchRunner, Limited, float]:
    """Run the rows, and return the runner, the server and the seconds it took."""

    async def main(clock: Callable[[], float]) -> tuple[BatchRunner, Limited, float]:
        server = Limited(clock, tell)
        chat = Chat(settings=Settings, clock=clock, sleep=asyncio.sleep, random=lambda: 0.5)
        request = ChatRequest(model="m", messages=(Message("user", "-"),))
        call = Call(provider=server, request=request, policy=RetryPolicy())
        limiter = Limiter(concurrency="auto", clock=clock, sleep=asyncio.sleep)
        plan = BatchPlan(call=call, limiter=limiter, budget=Budget(), outage_patience_s=600.0)
        runner = BatchRunner(chat, plan, [f"row {n}" for n in range(ROWS)], clock=clock, sleep=asyncio.sleep)
        await runner.run()
        return runner, server, clock()

    result: tuple[BatchRunner, Limited, float] = in_virtual_time(main)
    return result


@pytest.mark.parametrize("dialect", DIALECTS)
def test_run_is_as_fast_as_the_limit_whatever_unit_the_server_writes(dialect: str) -> None:
    runner, server, seconds = run(DIALECTS[dialect])
    assert all(isinstance(outcome, Reply) for outcome in runner.outcomes())
    least_s = (ROWS - LIMIT) / LIMIT * PERIOD_S
    assert seconds <= 1.1 * least_s
    assert len(server.sent_at) <= 1.06 * ROWS
