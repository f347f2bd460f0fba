"""One suite for every registered provider. A new provider adds one entry to `STAGES` and passes the rest."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest
from claude import echo as claude_echo
from servers import ChatServer

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import UnknownNameError
from aichat_magic.core.messages import ChatRequest, Chunk, Message, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.secrets import Secret
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.aichat import Aichat, set_cookies
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.providers.echo import Echo
from aichat_magic.providers.local import Local
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.registry import GROUP

pytestmark = pytest.mark.anyio
CANARY = "sk-canary-contract"
FINISH_REASONS = {"stop", "length", "content_filter", "refusal", "tool_calls"}
Stage = Callable[[Path], AbstractAsyncContextManager[tuple[AsyncProvider, str]]]


@asynccontextmanager
async def echo(models: Path) -> AsyncGenerator[tuple[AsyncProvider, str], None]:
    yield Echo(Endpoint(provider="echo"), HttpClient()), "echo"


@asynccontextmanager
async def openai(models: Path) -> AsyncGenerator[tuple[AsyncProvider, str], None]:
    with ChatServer() as server:
        async with contextlib.aclosing(HttpClient()) as http:
            yield OpenAI(Endpoint(provider="openai", base_url=server.url, key=Secret(CANARY)), http), "gpt-test"


@asynccontextmanager
async def anthropic(models: Path) -> AsyncGenerator[tuple[AsyncProvider, str], None]:
    with ChatServer(claude_echo) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            endpoint = Endpoint(provider="anthropic", base_url=server.root, key=Secret(CANARY))
            yield Anthropic(endpoint, http), "claude-test"


@asynccontextmanager
async def aichat(models: Path) -> AsyncGenerator[tuple[AsyncProvider, str], None]:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"response": True, "message": "hello there"})

    set_cookies("chat-gpt.org", {"session": CANARY})
    try:
        http = HttpClient(mock=httpx.MockTransport(answer))
        yield Aichat(Endpoint(provider="aichat", base_url="https://chat-gpt.org"), http), "gpt-3.5-turbo"
    finally:
        set_cookies("chat-gpt.org", {})


@asynccontextmanager
async def local(models: Path) -> AsyncGenerator[tuple[AsyncProvider, str], None]:
    async with contextlib.aclosing(HttpClient()) as http:
        yield Local(Endpoint(provider="local"), http), "smollm2-135m"


STAGES: dict[type[AsyncProvider], Stage] = {
    Echo: echo,
    OpenAI: openai,
    Anthropic: anthropic,
    Aichat: aichat,
    Local: local,
}


@pytest.fixture(params=STAGES, ids=lambda cls: cls.__name__.lower())
async def staged(request: pytest.FixtureRequest, model_cache: Path) -> AsyncIterator[tuple[AsyncProvider, str]]:
    async with STAGES[request.param](model_cache) as stage:
        yield stage


def asked(model: str, text: str = "Say hello.") -> ChatRequest:
    # Options are what each dialect can carry: two that all can.
    return ChatRequest(model=model, messages=(Message("user", text),), options=Options(temperature=0), timeout_s=60)


def test_every_registered_provider_is_in_the_suite() -> None:
    assert {entry.load() for entry in entry_points(group=GROUP)} == set(STAGES)


@pytest.mark.slow
async def test_reply_is_whole_and_named(staged: tuple[AsyncProvider, str]) -> None:
    provider, model = staged
    reply = await provider.complete(asked(model))
    assert isinstance(reply, Reply)
    assert reply.text
    assert reply.model == f"{provider.name}/{model}"
    assert reply.finish_reason in FINISH_REASONS
    assert isinstance(reply.usage, Usage)


@pytest.mark.slow
async def test_stream_ends_with_its_reason_and_says_what_complete_says(staged: tuple[AsyncProvider, str]) -> None:
    provider, model = staged
    chunks: list[Chunk] = []
    async with contextlib.aclosing(provider.stream(asked(model))) as stream:
        async for chunk in stream:
            chunks.append(chunk)
    assert chunks[-1].finish_reason in FINISH_REASONS
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    assert "".join(chunk.text for chunk in chunks) == (await provider.complete(asked(model))).text
    assert (len([chunk for chunk in chunks if chunk.text]) > 1) == provider.supports_stream


@pytest.mark.slow
async def test_requests_at_once_do_not_mix(staged: tuple[AsyncProvider, str]) -> None:
    provider, model = staged
    prompts = [f"Repeat this word: number{number}" for number in range(4)]
    together = await asyncio.gather(*(provider.complete(asked(model, prompt)) for prompt in prompts))
    if isinstance(provider, (Echo, OpenAI, Anthropic)):
        assert all(prompt in reply.text for prompt, reply in zip(prompts, together, strict=True))
    assert all(reply.text for reply in together)


@pytest.mark.slow
async def test_stream_left_early_leaves_the_provider_usable(staged: tuple[AsyncProvider, str]) -> None:
    provider, model = staged
    async with contextlib.aclosing(provider.stream(asked(model))) as stream:
        await anext(stream)
    assert (await provider.complete(asked(model))).text


async def test_nothing_of_the_call_stays_on_the_provider(staged: tuple[AsyncProvider, str]) -> None:
    provider, model = staged
    before = dict(vars(provider))
    await provider.complete(asked(model))
    assert dict(vars(provider)) == before


async def test_key_and_cookies_do_not_show(staged: tuple[AsyncProvider, str]) -> None:
    provider, _ = staged
    assert CANARY not in repr(provider) + str(vars(provider))


async def test_models_is_a_list_of_names(staged: tuple[AsyncProvider, str]) -> None:
    provider, _ = staged
    names = await provider.models()
    assert names == sorted(names)
    assert all(isinstance(name, str) and name for name in names)


@pytest.mark.parametrize("cls", STAGES, ids=lambda cls: cls.__name__.lower())
def test_flags_are_plain_statements(cls: type[AsyncProvider]) -> None:
    for name in ("working", "needs_auth", "supports_stream", "supports_gpt_35_turbo", "supports_gpt_4"):
        assert isinstance(getattr(cls, name), bool)
    assert cls.working or cls.not_working_reason


@pytest.mark.parametrize("cls", STAGES, ids=lambda cls: cls.__name__.lower())
async def test_unknown_keyword_of_create_async_names_the_nearest(cls: type[AsyncProvider]) -> None:
    keywords: dict[str, Any] = {"temperatur": 0}
    with pytest.raises((UnknownNameError, TypeError), match="temperature"):
        await cls.create_async("gpt-3.5-turbo", [{"role": "user", "content": "x"}], **keywords)


async def test_create_async_takes_every_option() -> None:
    with ChatServer() as server:
        hello = [{"role": "user", "content": "hi"}]
        more: dict[str, Any] = {"reasoning": "low", "tier": "flex", "options": {"top_k": 4}, "temperature": "unset"}
        await OpenAI.create_async("m", hello, base_url=server.url, strict_options=True, **more)
        sent = server.bodies[0]
    assert (sent["reasoning_effort"], sent["service_tier"], sent["top_k"]) == ("low", "flex", 4)
    assert "temperature" not in sent


async def test_create_async_gives_the_text() -> None:
    with ChatServer() as server:
        text = await OpenAI.create_async("m", [{"role": "user", "content": "hi"}], base_url=server.url, temperature=0)
    assert text == "echo: hi"
    assert await Echo.create_async("echo", [{"role": "user", "content": "hi"}]) == "hi"
