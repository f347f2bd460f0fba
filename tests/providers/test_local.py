import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import BadRequestError, ModelFileError, UnknownNameError
from aichat_magic.core.messages import ChatRequest, Chunk, Message
from aichat_magic.core.options import Options
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.llama.engine import close_all, loaded
from aichat_magic.providers.llama.weights import SMOLLM2
from aichat_magic.providers.local import Local

pytestmark = pytest.mark.anyio
MODEL = SMOLLM2.name
PERSON = {
    "name": "person",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    },
}


@pytest.fixture
async def local(model_cache: Path) -> AsyncIterator[Local]:
    async with contextlib.aclosing(HttpClient()) as http:
        yield Local(Endpoint(provider="local"), http)


def asked(text: str, model: str = MODEL, **options: Any) -> ChatRequest:
    given: dict[str, Any] = {"temperature": 0, "max_tokens": 24, **options}
    return ChatRequest(model=model, messages=(Message("user", text),), options=Options(**given), timeout_s=120)


async def streamed(local: Local, request: ChatRequest) -> list[Chunk]:
    async with contextlib.aclosing(local.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_streams_in_pieces_with_usage_and_without_cost(local: Local) -> None:
    chunks = await streamed(local, asked("What is the capital of France?"))
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    assert {chunk.model for chunk in chunks if chunk.text} == {MODEL}
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.input_tokens is not None
    assert usage.input_tokens > 5
    assert 0 < (usage.output_tokens or 0) <= 24
    assert usage.cost_usd == 0.0


async def test_reply_names_the_model_and_costs_nothing(local: Local) -> None:
    reply = await local.complete(asked("What is the capital of France?"))
    assert reply.text
    assert reply.model == "local/smollm2-135m"
    assert reply.usage.cost_usd == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0, 1.0])
async def test_equal_seed_gives_equal_text(local: Local, temperature: float) -> None:
    request = asked("Tell me a story about a dog.", temperature=temperature, seed=7)
    assert (await local.complete(request)).text == (await local.complete(request)).text


@pytest.mark.slow
async def test_options_reach_the_model(local: Local) -> None:
    short = await local.complete(asked("Count from 1 to 100.", max_tokens=3))
    assert (short.usage.output_tokens, short.finish_reason) == (3, "length")
    stopped = await local.complete(asked("Repeat: alpha beta gamma delta", stop=("beta",)))
    assert "beta" not in stopped.text
    warm = {(await local.complete(asked("Invent a name.", temperature=2.0, seed=seed))).text for seed in range(3)}
    assert len(warm) > 1


async def test_schema_is_kept(local: Local) -> None:
    reply = await local.complete(asked("Invent a person.", schema=json.dumps(PERSON), max_tokens=100))
    person = json.loads(reply.text)
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)


@pytest.mark.slow
async def test_more_requests_than_slots_are_all_answered(local: Local) -> None:
    replies = await asyncio.gather(*(local.complete(asked(f"Say {n}.", max_tokens=4)) for n in range(24)))
    assert all(reply.text for reply in replies)


class Wire:
    """Answers in the server's stead, and keeps what was asked and how many at a time."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.connection: list[str] = []
        self.inside = self.most = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        self.connection.append(request.headers["connection"])
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.02)
        self.inside -= 1
        return httpx.Response(200, json={"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]})


async def test_messages_that_do_not_fit_together_take_turns(model_cache: Path) -> None:
    """Without it llama.cpp ends all of them when the context is used up."""
    wire = Wire()
    local = Local(Endpoint(provider="local"), HttpClient(mock=httpx.MockTransport(wire)))
    await asyncio.gather(*(local.complete(asked("hi", max_tokens=100)) for _ in range(40)))
    assert wire.most == 16
    wire.most = 0
    await asyncio.gather(*(local.complete(asked("x" * 6000, max_tokens=1000)) for _ in range(20)))
    assert wire.most == 4  # 16,384 tokens hold four of 3,000 + 1,000
    assert len(wire.bodies) == 60


async def test_request_without_a_limit_gets_one(model_cache: Path) -> None:
    wire = Wire()
    local = Local(Endpoint(provider="local"), HttpClient(mock=httpx.MockTransport(wire)))
    for limit in (None, 5000):
        await local.complete(asked("hi", max_tokens=limit))
    assert [body["max_tokens"] for body in wire.bodies] == [256, 5000]


async def test_messages_longer_than_the_context_are_refused_in_words(local: Local) -> None:
    for ask in (local.complete, lambda request: streamed(local, request)):
        with pytest.raises(BadRequestError, match=r"longer than the 8,192 tokens that local/smollm2-135m can take"):
            await ask(asked("word " * 9000))


@pytest.mark.slow
async def test_context_is_known_before_and_after_loading(local: Local, model_cache: Path) -> None:
    path = str(model_cache / SMOLLM2.file)
    close_all()
    assert (local.context_tokens(MODEL), local.context_tokens(path)) == (8192, None)
    assert local.context_tokens("no-such-model") is None
    await local.complete(asked("Hi", path, max_tokens=1))
    assert (local.context_tokens(MODEL), local.context_tokens(path)) == (8192, 8192)


@pytest.mark.slow
async def test_loading_is_told_to_the_one_who_prepared(local: Local) -> None:
    close_all()
    told: list[str] = []
    await local.prepare(lambda words, done, total: told.append(words))
    assert loaded(MODEL, environ=os.environ) is None
    await local.complete(asked("Hi", max_tokens=1))
    await local.complete(asked("Hi", max_tokens=1))
    assert told == ["Loading smollm2-135m"]


async def test_models_are_the_default_and_the_users_own(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await local.models() == [MODEL]
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("AICHAT_MODEL_DIR", str(tmp_path))
    assert await local.models() == ["mine", MODEL]


async def test_names_that_lead_nowhere_are_told(local: Local) -> None:
    with pytest.raises(ModelFileError, match=r"There is no model file '/no/such\.gguf'"):
        await local.complete(asked("Hi", "/no/such.gguf"))
    with pytest.raises(UnknownNameError, match="Did you mean 'smollm2-135m'"):
        await streamed(local, asked("Hi", "smollm-135m"))


async def test_connection_is_not_kept_for_a_server_that_closes_it(model_cache: Path) -> None:
    """Of the connections kept after a stream about a third broke at the next request."""
    wire = Wire()
    local = Local(Endpoint(provider="local"), HttpClient(mock=httpx.MockTransport(wire)))
    await local.complete(asked("hi"))
    assert wire.connection == ["close"]


async def test_proxy_of_the_environment_is_not_used(model_cache: Path) -> None:
    environ = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    async with contextlib.aclosing(HttpClient(environ=environ)) as http:
        assert (await Local(Endpoint(provider="local"), http).complete(asked("Hi", max_tokens=2))).text


@pytest.mark.slow
async def test_stream_left_early_gives_its_place_back(local: Local) -> None:
    for number in range(20):  # more than there are slots
        stream = local.stream(asked(f"Count from {number} to 10000.", max_tokens=4000))
        async with contextlib.aclosing(stream):
            await anext(stream)
    async with asyncio.timeout(60):
        assert (await local.complete(asked("Hi", max_tokens=2))).text
