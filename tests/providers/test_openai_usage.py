"""Usage in the forms in which servers report it. The shapes are those of recorded answers, the numbers are ours."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import ChatServer, event_stream, payload, sse

from aichat_magic.batching.api import batch_async
from aichat_magic.chat.chat import Chat
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import BatchStoppedError
from aichat_magic.core.messages import ChatRequest, Message, PartialReply, Reply
from aichat_magic.core.options import CallOptions
from aichat_magic.core.prices import Price
from aichat_magic.core.settings import Settings
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.openai_usage import reported_usage
from aichat_magic.store.memory import MemoryStore

HELLO = (Message("user", "hello"),)


def counted(prompt: Any, completion: Any, total: Any = None, reasoning: Any = None, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning is not None else {}
    return {name: value for name, value in {**usage, **details, **more}.items() if value is not None}


# --- thinking, inside and outside of what is called completion


@pytest.mark.parametrize(
    ("usage", "output", "reasoning"),
    [
        (counted(10, 320, 330, 300), 320, 300),  # OpenAI, DeepSeek, Groq: inside
        (counted(10, 20, 330, 300), 320, 300),  # xAI: outside, and in the total
        (counted(10, 20, 330), 320, 300),  # Gemini: only in the total
        (counted(10, 0, 310), 300, 300),  # Gemini: thinking has used the whole limit
        (counted(10, None, 310), 300, None),  # Gemini: the same, without the count
        (counted(10, 20, 30, 300), 320, 300),  # more thinking than output: it is outside, whatever the total is
        (counted(10, 20, None, 300), 320, 300),
        (counted(10, 320, None, 300), 320, 300),
        (counted(10, 20, 30, reasoning_tokens=300), 320, 300),  # Perplexity: beside the counts
        (counted(10, 20, 30), 20, None),
        (counted(10, 20, 30, 0), 20, 0),
        (counted(10, 20, 5), 20, None),  # a total that cannot be
        (counted(None, 20, 500), 20, None),  # a total that tells nothing
        (counted(10, 300, 210, 200), 300, 200),
    ],
)
def test_output_has_all_thinking_in_it(usage: dict[str, Any], output: int, reasoning: int | None) -> None:
    found = reported_usage({"usage": usage})
    assert found is not None
    assert (found.output_tokens, found.reasoning_tokens) == (output, reasoning)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_no_form_bills_less_than_was_written(
    prompt: int, text: int, thinking: int, is_inside: bool, is_named: bool
) -> None:
    usage = counted(
        prompt, text + (thinking if is_inside else 0), prompt + text + thinking, thinking if is_named else None
    )
    found = reported_usage({"usage": usage})
    assert found == Usage(
        input_tokens=prompt,
        output_tokens=text + thinking,
        reasoning_tokens=thinking if is_named else thinking or None if not is_inside else None,
    )


# --- the cache


@pytest.mark.parametrize(
    ("usage", "read", "written"),
    [
        (counted(100, 1, prompt_tokens_details={"cached_tokens": 40}), 40, None),
        (counted(100, 1, prompt_tokens_details={"cached_tokens": 40, "cache_write_tokens": 30}), 40, 30),  # OpenRouter
        (counted(100, 1, prompt_cache_hit_tokens=40, prompt_cache_miss_tokens=60), 40, None),  # DeepSeek
        (counted(None, 1, prompt_cache_hit_tokens=40, prompt_cache_miss_tokens=60), 40, None),
        (counted(100, 1, num_cached_tokens=40), 40, None),  # Mistral
        (counted(100, 1, num_cached_tokens=40, prompt_tokens_details={"cached_tokens": 0}), 40, None),
        (counted(100, 1, cached_tokens=40), 40, None),  # Moonshot, Together
        (counted(100, 1, cache_read_input_tokens=40, cache_creation_input_tokens=30), 40, 30),  # LiteLLM
    ],
)
def test_cached_and_written_tokens_are_found(usage: dict[str, Any], read: int, written: int | None) -> None:
    found = reported_usage({"usage": usage})
    assert found is not None
    assert (found.input_tokens, found.cached_tokens, found.cache_write_tokens) == (100, read, written)


# --- places


@pytest.mark.parametrize(
    "content",
    [
        {"usage": counted(10, 2)},
        {"x_groq": {"id": "r", "usage": counted(10, 2)}},
        {"usage": None, "x_groq": {"usage": counted(10, 2)}},
        {"choices": [{"index": 0, "delta": {}, "usage": counted(10, 2)}]},  # Moonshot
        {"usage": {"input_tokens": 10, "output_tokens": 2}},
        {"timings": {"prompt_n": 4, "cache_n": 6, "predicted_n": 2, "predicted_ms": 9.5}},  # llama.cpp
    ],
)
def test_usage_is_found_wherever_it_stands(content: dict[str, Any]) -> None:
    found = reported_usage(content)
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (10, 2)


@pytest.mark.parametrize(
    "content",
    [{}, {"usage": None}, {"usage": "much"}, {"choices": [{"usage": 3}, None]}, {"x_groq": 3}, {"timings": 1}],
)
def test_response_without_usage_has_none(content: dict[str, Any]) -> None:
    assert reported_usage(content) is None


HOSTILE = [-1, 1.5, 10.0, "10", True, 2**63, 10**400, float("nan"), float("inf"), [], {}]


@pytest.mark.parametrize("number", HOSTILE, ids=lambda value: repr(value)[:12])
def test_hostile_numbers_are_unknown_and_spoil_no_others(number: Any) -> None:
    usage = {
        "prompt_tokens": 10, "completion_tokens": 2, "total_tokens": number, "num_cached_tokens": number,
        "prompt_tokens_details": {"cached_tokens": number, "cache_write_tokens": number},
        "completion_tokens_details": {"reasoning_tokens": number},
    }  # fmt: skip
    assert reported_usage({"usage": usage}) == Usage(input_tokens=10, output_tokens=2)
    assert reported_usage({"usage": {"prompt_tokens": number, "completion_tokens": number}}) == Usage()
    assert reported_usage({"timings": {"predicted_n": number}}) is None
    details = {"prompt_tokens_details": number, "completion_tokens_details": number, "cost_details": number}
    assert reported_usage({"usage": counted(10, 2, **details)}) == Usage(input_tokens=10, output_tokens=2)


# --- cost


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        ({"cost": 0.25}, 0.25),
        ({"cost": 0}, 0.0),
        ({"cost": 0.25, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.25}}, 0.25),
        ({"cost": 0.0125, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}, 0.2625),
        ({"cost": 0.0125, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0.0125, "is_byok": True}, None),
        ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),  # xAI
        ({"cost": {"input_tokens_cost": 0.1, "request_cost": 0.005, "total_cost": 0.25}}, 0.25),  # Perplexity
        ({"cost": {}}, None),
        ({}, None),
        *(({"cost": number}, None) for number in HOSTILE if number not in (1.5, 10.0, 2**63)),
        *(({"cost_in_usd_ticks": number}, None) for number in (-1, "5", True, float("nan"))),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_cost_that_a_server_tells(usage: dict[str, Any], dollars: float | None) -> None:
    found = reported_usage({"usage": usage})
    assert found is not None
    assert found.cost_usd == (None if dollars is None else pytest.approx(dollars))


async def asked_at(base_url: str, usage: dict[str, Any], own: Price | None = None) -> Reply:
    """Ask OpenRouter's model under an address, without a network."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    http = HttpClient(mock=httpx.MockTransport(lambda request: httpx.Response(200, json=body)))
    settings = Settings(environ={"OPENROUTER_API_KEY": "k"}, prices={"openrouter/lab/m": own} if own else {})
    chat = Chat(settings=lambda: settings, http=http, store=MemoryStore())
    call = chat.call(HELLO, CallOptions(model="openrouter/lab/m", base_url=base_url))
    return await chat.attempt(call)


@pytest.mark.anyio
async def test_servers_own_cost_is_believed_at_home_only() -> None:
    usage = counted(1_000_000, 0, cost=0.25)
    own = Price(input=2, output=0)
    assert (await asked_at("", usage)).usage.cost_usd == 0.25
    assert (await asked_at("", usage, own)).usage.cost_usd == 0.25  # the bill, not the list
    assert (await asked_at("http://127.0.0.1:9/v1", usage)).usage.cost_usd is None
    assert (await asked_at("http://127.0.0.1:9/v1", usage, own)).usage.cost_usd == 2.0


# --- streams


def event(text: str = "", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": more.pop("finish", None)}
    return sse({"choices": [choice], "model": "m-1", **more})


DONE = sse("[DONE]")


async def streamed(*events: bytes) -> Usage | None:
    draft = PartialReply()
    with ChatServer(lambda received, attempt: event_stream(events)) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(Endpoint(provider="gemini", base_url=server.url), http)
            async with contextlib.aclosing(provider.stream(ChatRequest(model="m", messages=HELLO))) as chunks:
                async for chunk in chunks:
                    draft.add(chunk)
    assert draft.text == "a b"
    return draft.reply(model="gemini/m", elapsed_s=0, messages=HELLO).usage


@pytest.mark.anyio
@pytest.mark.parametrize(
    "events",
    [
        # Each event has the counts so far (vLLM, Gemini, Perplexity).
        [event("a ", usage=counted(10, 1, 11)), event("b", usage=counted(10, 2, 12)),
         event(finish="stop", usage=counted(10, 2, 17)), DONE],
        # After the reason, in an event without choices (OpenAI, Azure).
        [event("a "), event("b"), event(finish="stop"), sse({"choices": [], "usage": counted(10, 7, 17, 5)}), DONE],
        # The same without the end that OpenAI sends.
        [event("a "), event("b"), event(finish="stop"), sse({"choices": [], "usage": counted(10, 7, 17, 5)})],
        # With the reason, and nothing after it.
        [event("a "), event("b", finish="stop", usage=counted(10, 2, 17))],
        # At the start what is known then; later events have other parts of it, or zeros.
        [event("a ", usage=counted(10, 0)), event("b", usage=counted(0, 7, 7, 5)),
         event(finish="stop", usage={}), DONE],
        # null, until it is known (OpenAI), also in Groq's place.
        [event("a ", usage=None), event("b", usage=None),
         event(finish="stop", usage=None, x_groq={"usage": counted(10, 7, 17, 5)}), DONE],
    ],
    ids=["cumulative", "after", "no-done", "with-reason", "parts", "groq"],
)  # fmt: skip
async def test_stream_has_its_totals_however_they_come(events: list[bytes]) -> None:
    assert await streamed(*events) == Usage(input_tokens=10, output_tokens=7, reasoning_tokens=5)


@pytest.mark.anyio
async def test_stream_without_usage_has_none() -> None:
    assert await streamed(event("a "), event("b", finish="stop"), DONE) == Usage()


# --- budgets


@pytest.mark.anyio
@pytest.mark.parametrize("is_named", [True, False], ids=["xai", "gemini"])
async def test_budget_holds_where_the_thinking_is_only_in_the_total(is_named: bool) -> None:
    """Each reply has 20 tokens of text and 9,980 of thinking, a cent altogether; 200 rows would cost two dollars."""
    usage = counted(10, 20, 10_010, 9_980 if is_named else None)
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    prices = {"gemini/m": Price(input=0, output=1)}
    with ChatServer(lambda received, attempt: payload(body)) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            chat = Chat(settings=lambda: Settings(prices=prices), http=http, store=MemoryStore())
            with pytest.raises(BatchStoppedError, match=r"max_cost_usd=0\.25") as caught:
                await batch_async(
                    [f"row {number}" for number in range(200)],
                    chat=chat, model="gemini/m", base_url=server.url, max_cost_usd=0.25, concurrency=4, progress=False,
                )  # fmt: skip
        spent = caught.value.run.usage
        assert spent.cost_usd == pytest.approx(0.01 * len(server.bodies))
        assert 0.15 < spent.cost_usd <= 0.25
        assert spent.reasoning_tokens == 9_980 * len(server.bodies)
