"""Runs against servers that tell their limits, in virtual time: what the wire says is what the limiter follows."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import simulation

from aichat_magic.core.messages import ChatRequest, Reply
from aichat_magic.http.errors import status_error
from aichat_magic.http.rate_limits import rate_limits_from

ROWS = 2000
LIMIT, PERIOD_S = 1200, 60.0  # 20 a second, in a bucket of 60 seconds' worth
EPOCH = 1_800_000_000.0


class Limited(simulation.Network):
    """A server with a bucket of requests, which tells its level in the headers of replies and of refusals."""

    def __init__(
        self, clock: Callable[[], float], *, tell: Callable[[float, float], Mapping[str, str]], **network: Any
    ) -> None:
        super().__init__(clock, **network)
        self._now = clock
        self._tell = tell
        self._level, self._at = float(LIMIT), 0.0

    async def complete(self, request: ChatRequest) -> Reply:
        now = self._now()
        self._level = min(LIMIT, self._level + (now - self._at) * LIMIT / PERIOD_S)
        self._at = now
        is_refused = self._level < 1
        self._level -= not is_refused
        headers = self._tell(self._level, now)
        if is_refused:
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


@pytest.mark.parametrize("dialect", DIALECTS)
def test_run_is_as_fast_as_the_limit_whatever_unit_the_server_writes(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "Network", partial(Limited, tell=DIALECTS[dialect]))
    rows = [f"row {number}" for number in range(ROWS)]
    runner, server = simulation.run_batch(rows, concurrency="auto", latency_s=lambda prompt: 0.3)
    assert all(isinstance(outcome, Reply) for outcome in runner.outcomes())
    assert runner.elapsed_s <= 1.1 * (ROWS - LIMIT) / LIMIT * PERIOD_S
    assert len(server.sent_at) <= 1.06 * ROWS
