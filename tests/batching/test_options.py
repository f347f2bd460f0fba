"""Options of a run: their ranges are checked here, and only here, before anything is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aichat_magic.batching.options import BatchOptions
from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import OptionError
from aichat_magic.core.options import CallOptions
from aichat_magic.core.prices import Price
from aichat_magic.core.settings import Settings
from aichat_magic.core.usage import Usage
from aichat_magic.store.memory import MemoryStore

ABOVE_ZERO = ("requests_per_minute", "tokens_per_minute", "max_cost_usd", "max_total_tokens")
WRONG = [
    *(("concurrency", value) for value in (0, -1, 1.5, True, "many", 10_000)),
    *((name, value) for name in ABOVE_ZERO for value in (0, -1, float("nan"), float("inf"), True, "1", "x")),
    *(("max_retries", value) for value in (-1, 1.5, True, "1")),
    *(
        (name, value)
        for name in ("outage_patience_s", "limit_patience_s")
        for value in (-1, float("nan"), float("inf"), True, "1")
    ),
    ("progress", "yes"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_option_out_of_range_is_refused_before_anything_is_sent(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=name):
        BatchOptions.from_keywords({name: value})


def test_keywords_of_the_run_are_told_from_those_of_the_request() -> None:
    options, rest = BatchOptions.from_keywords({"concurrency": 4, "temperature": 0, "fresh": None})
    assert (options, rest) == (BatchOptions(concurrency=4), {"temperature": 0})


def test_budget_in_dollars_needs_a_known_price() -> None:
    chat = Chat(settings=Settings, store=MemoryStore())
    options = BatchOptions(max_cost_usd=1.0)
    with pytest.raises(OptionError, match="price of ollama/x is not known"):
        options.plan(chat, CallOptions(model="ollama/x"))
    priced = Chat(settings=lambda: Settings(prices={"ollama/x": Price(input=1, output=2)}), store=MemoryStore())
    assert options.plan(priced, CallOptions(model="ollama/x")).limiter.budget.is_bounded


def test_budget_of_a_run_that_may_leave_flex_reserves_at_the_normal_price() -> None:
    settings = Settings(environ={"OPENAI_API_KEY": "k"}, prices={"openai/x": Price(input=1, output=2)})
    options = BatchOptions(max_cost_usd=1.0, max_total_tokens=10_000_000)

    def reserved(tier: str) -> float:
        given = CallOptions.from_keywords({"model": "openai/x", "tier": tier, "max_tokens": 100_000})
        reservation = options.plan(Chat(settings=lambda: settings, store=MemoryStore()), given).limiter.budget.reserve(
            1
        )
        assert reservation is not None
        return reservation.cost_usd

    assert reserved("flex,auto") == reserved("auto") == pytest.approx(2 * reserved("flex"))


def test_budget_of_a_run_that_may_leave_flex_needs_both_prices() -> None:
    settings = Settings(environ={"OPENAI_API_KEY": "k"}, prices={"openai/x@flex": Price(input=1, output=2)})
    chat = Chat(settings=lambda: settings, store=MemoryStore())
    options = BatchOptions(max_cost_usd=1.0)
    assert options.plan(chat, CallOptions.from_keywords({"model": "openai/x", "tier": "flex"}))
    with pytest.raises(OptionError, match="price of openai/x is not known"):
        options.plan(chat, CallOptions.from_keywords({"model": "openai/x", "tier": "flex,auto"}))


def test_provider_without_flex_costs_the_normal_price_with_flex_auto() -> None:
    settings = Settings(environ={"DEEPSEEK_API_KEY": "k"}, prices={"deepseek/x": Price(input=1, output=2)})
    given = CallOptions.from_keywords({"model": "deepseek/x", "tier": "flex,auto"})
    with pytest.warns(UserWarning, match="normal tier is used"):
        plan = BatchOptions(max_cost_usd=1.0).plan(Chat(settings=lambda: settings, store=MemoryStore()), given)
    assert plan.call.billed_tier == ""
    assert plan.call.priced(Usage(input_tokens=1_000_000, output_tokens=0)).cost_usd == 1.0
    assert plan.call.without_flex() is None


def test_run_has_no_more_workers_than_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(settings=lambda: Settings(), store=MemoryStore())
    plan = BatchOptions.from_keywords({"concurrency": 8})[0].plan(chat, CallOptions(model="ollama/x"))
    alone = plan.limiter.workers_wanted
    few = SimpleNamespace(share=3, max_per_host=256)  # as in a process with few descriptors
    monkeypatch.setattr(type(chat.http), "limit", few)
    plan = BatchOptions.from_keywords({"concurrency": 8})[0].plan(chat, CallOptions(model="ollama/x"))
    assert (alone, plan.limiter.workers_wanted) == (8, 3)
