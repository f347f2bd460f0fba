"""Budgets: the upper bound of a call is reserved before it is sent, and corrected when it has ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from simulation import in_virtual_time, run_batch

from aichat_magic.batching.budget import Budget, Reservation, counted_usage
from aichat_magic.batching.leases import UNSENT
from aichat_magic.batching.limiter import RunLimiter
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.chat.chat import Call
from aichat_magic.core.errors import BatchStoppedError, ConnectionFailedError, ProviderError, ServerError
from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.prices import Price, PriceList
from aichat_magic.core.usage import Usage

ROWS = [f"row {number}" for number in range(3000)]
TWO_DOLLARS = Usage(input_tokens=10, output_tokens=1000)
PRICES = PriceList({"vllm/m": Price(input=1, output=2000)})


def bounded(**bounds: Any) -> Callable[[Call], Budget]:
    """Return a function that makes a budget as a plan does."""
    return lambda call: Budget(**bounds, max_tokens=call.request.options.max_tokens, priced=call.priced)


def spent_usd(runner: BatchRunner) -> float:
    cost_usd = runner.budget.spent.cost_usd
    assert cost_usd is not None
    return cost_usd


# --- runs, in virtual time


@pytest.mark.parametrize("in_flight", [1, 64, 256, "auto"])
@pytest.mark.parametrize("max_tokens", [None, 1000, 4000])
@pytest.mark.parametrize("dollars", [10, 100, 1001])
def test_two_dollars_a_reply(in_flight: Any, max_tokens: int | None, dollars: float) -> None:
    runner, network = run_batch(
        ROWS,
        concurrency=in_flight,
        budget=bounded(max_cost_usd=dollars),
        options=Options(max_tokens=max_tokens),
        prices=PRICES,
        usage=lambda prompt: TWO_DOLLARS,
    )
    assert spent_usd(runner) <= dollars
    # No more is left than a call might have taken.
    assert spent_usd(runner) > dollars - 2 * (max_tokens or 1250) / 1000 - 0.1
    assert isinstance(runner.stopped_by, BatchStoppedError)
    assert f"max_cost_usd={dollars}" in str(runner.stopped_by)
    assert f"${spent_usd(runner):.4f}" in str(runner.stopped_by)
    assert runner.errors() == {}
    assert runner.progress().done == sum(network.reached.values())


def test_a_budget_that_is_large_holds_nobody_up_for_long() -> None:
    calm, _ = run_batch(ROWS)
    for options in (Options(), Options(max_tokens=2000)):
        runner, network = run_batch(
            ROWS,
            budget=bounded(max_cost_usd=100_000.0),
            options=options,
            prices=PRICES,
            usage=lambda prompt: TWO_DOLLARS,
        )
        assert runner.stopped_by is None
        assert network.most_in_flight == 64
        assert runner.elapsed_s <= calm.elapsed_s + 2 * 0.3


@pytest.mark.parametrize("in_flight", [64, 256])
@pytest.mark.parametrize("max_tokens", [None, 500])
def test_tokens_that_the_server_does_not_count(in_flight: int, max_tokens: int | None) -> None:
    runner, network = run_batch(
        ROWS,
        concurrency=in_flight,
        budget=bounded(max_total_tokens=3000),
        options=Options(max_tokens=max_tokens),
        usage=lambda prompt: Usage(),
    )
    assert isinstance(runner.stopped_by, BatchStoppedError)
    assert "max_total_tokens=3000" in str(runner.stopped_by)
    spent = runner.budget.spent
    assert (spent.input_tokens or 0) + (spent.output_tokens or 0) <= 3000
    assert sum(network.reached.values()) > (100 if max_tokens is None else 10)


@pytest.mark.parametrize("in_flight", [64, 256])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.5])
def test_input_that_is_dearer_than_output(in_flight: int, ratio: float) -> None:
    """And longer, or shorter, than it is estimated to be."""
    long = {row: "x" * 4 * random.Random(row).randint(500, 2000) for row in ROWS}
    rows = [f"{row} {long[row]}" for row in ROWS]
    runner, _ = run_batch(
        rows,
        concurrency=in_flight,
        budget=bounded(max_cost_usd=10.0),
        options=Options(max_tokens=10),
        prices=PriceList({"vllm/m": Price(input=100, output=1)}),
        usage=lambda prompt: Usage(input_tokens=int(ratio * len(prompt) / 4), output_tokens=5),
    )
    assert 0.9 * 10 < spent_usd(runner) <= 10 * 1.1


@pytest.mark.parametrize("in_flight", [64, 256])
def test_replies_that_grow_pass_the_bound_by_no_more_than_calls_in_flight_were_longer_than_thought(
    in_flight: int,
) -> None:
    number = {row: position for position, row in enumerate(ROWS)}
    excess = 0.0

    class Watched(Budget):
        def settle(self, reservation: Reservation, usage: Usage | None) -> None:
            nonlocal excess
            if usage is not None and usage.cost_usd is not None:
                excess += max(0.0, usage.cost_usd - reservation.cost_usd)
            super().settle(reservation, usage)

    runner, _ = run_batch(
        ROWS,
        concurrency=in_flight,
        budget=lambda call: Watched(max_cost_usd=10.0, priced=call.priced),
        prices=PRICES,
        usage=lambda prompt: Usage(input_tokens=10, output_tokens=2 + number[prompt] // 2),
    )
    assert isinstance(runner.stopped_by, BatchStoppedError)
    assert 9 < spent_usd(runner) <= 10 + excess
    # Half of what is left is held at most, so that it stays in bounds even so.
    assert spent_usd(runner) < 10.5


def test_server_that_bills_more_than_its_known_price() -> None:
    runner, _ = run_batch(
        ROWS,
        budget=bounded(max_cost_usd=10.0),
        options=Options(max_tokens=100),
        prices=PriceList({"vllm/m": Price(input=1, output=1)}),
        usage=lambda prompt: Usage(input_tokens=10, output_tokens=100, cost_usd=0.5),
    )
    assert 9 < spent_usd(runner) <= 10


def test_server_that_does_not_keep_to_max_tokens() -> None:
    runner, _ = run_batch(
        ROWS,
        budget=bounded(max_total_tokens=100_000),
        options=Options(max_tokens=10),
        usage=lambda prompt: Usage(input_tokens=10, output_tokens=2000),
    )
    spent = runner.budget.spent
    assert 95_000 < (spent.input_tokens or 0) + (spent.output_tokens or 0) <= 100_000


def test_failed_calls_give_back_what_was_set_aside() -> None:
    def fault(prompt: str, attempt: int) -> ProviderError | None:
        dice = random.Random(f"{prompt} {attempt}").random()
        return (
            ServerError("down", status=500) if dice < 0.1 else ConnectionFailedError("reset") if dice < 0.12 else None
        )

    runner, _ = run_batch(
        ROWS,
        budget=bounded(max_cost_usd=1000.0),
        options=Options(max_tokens=1000),
        prices=PRICES,
        usage=lambda prompt: TWO_DOLLARS,
        fault=fault,
        away=[(2, 4)],
    )
    assert 995 < spent_usd(runner) <= 1000


def test_budget_that_does_not_cover_one_call_sends_none_and_says_so() -> None:
    runner, network = run_batch(
        ROWS, budget=bounded(max_total_tokens=1000), options=Options(max_tokens=4096), usage=lambda prompt: Usage()
    )
    assert not network.reached
    assert "max_tokens=4096" in str(runner.stopped_by)
    assert "max_total_tokens=1000" in str(runner.stopped_by)


def test_run_goes_on_when_the_first_call_hangs() -> None:
    runner, _ = run_batch(
        ROWS[:100],
        budget=bounded(max_total_tokens=10**6),
        latency_s=lambda prompt: 500.0 if prompt == "row 0" else 0.1,
    )
    assert runner.stopped_by is None
    assert sorted(runner.finished_s)[-2] < 10


# --- the arithmetic


def test_budget_ends_a_run_at_its_bound() -> None:
    budget = Budget(max_cost_usd=1.0, max_total_tokens=100)
    for tokens, cost_usd, is_left in [(40, 0.2, True), (60, 0.2, False)]:
        lease = budget.reserve(1)
        assert lease is not None
        budget.settle(lease, Usage(input_tokens=1, output_tokens=tokens - 1, cost_usd=cost_usd))
        assert budget.allows() is is_left
    assert budget.spent.cost_usd == pytest.approx(0.4)
    assert budget.spent.output_tokens == 98
    assert budget.reserve(1) is None


def test_budget_in_money_ends_with_the_first_unknown_price() -> None:
    budget = Budget(max_cost_usd=1.0)
    lease = budget.reserve(1)
    assert lease is not None
    budget.settle(lease, Usage(input_tokens=1))
    assert not budget.allows()
    assert "without a price" in budget.shortfall(1)


def test_budget_without_bounds_allows_all() -> None:
    budget = Budget()
    assert not budget.is_bounded
    assert budget.allows()


def test_two_calls_go_out_until_one_has_come_home() -> None:
    budget = Budget(max_total_tokens=10**6)
    first, second = budget.reserve(10), budget.reserve(10)
    assert first is not None
    assert second is not None
    assert budget.reserve(10) is None
    budget.settle(first, Usage(input_tokens=10, output_tokens=10))
    assert sum(budget.reserve(10) is not None for _ in range(1000)) > 900


def test_who_waits_is_served_first_and_a_cancelled_one_takes_nothing() -> None:
    async def main(clock: Callable[[], float]) -> list[int]:
        limiter = RunLimiter(budget=Budget(max_total_tokens=100, max_tokens=40), clock=clock, sleep=asyncio.sleep)
        out = [await limiter.acquire(2), await limiter.acquire(2)]
        served: list[int] = []

        async def wait(number: int) -> None:
            lease = await limiter.acquire(2)
            assert lease is not None
            served.append(number)
            limiter.report(lease, UNSENT)

        tasks = [asyncio.create_task(wait(number)) for number in range(4)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        assert served == []
        for lease in out:
            assert lease is not None
            limiter.report(lease, UNSENT)
        await asyncio.gather(*tasks, return_exceptions=True)
        return served

    assert in_virtual_time(main) == [1, 2, 3]


def test_what_a_server_does_not_count_is_estimated() -> None:
    reply = Reply(text="12345678", model="vllm/m", usage=Usage(output_tokens=7))
    used = counted_usage(reply, (Message("user", "1234"),), lambda usage: usage)
    assert (used.input_tokens, used.output_tokens) == (5, 7)
