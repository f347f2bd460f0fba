"""Options of a run: their ranges are checked here, and only here, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from aichat_magic.batching.options import BatchOptions
from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import OptionError
from aichat_magic.core.options import CallOptions
from aichat_magic.core.prices import Price
from aichat_magic.core.settings import Settings
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
