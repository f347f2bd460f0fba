"""The dialect part of the contract suite: every preset, against a loopback server that answers as its own does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
from providers.shapes import (
    SHAPES,
    TEXT,
    THINKING,
    Shape,
    Story,
    answer,
    broken,
    json_form,
    limited,
    nowhere,
    picky,
    whole,
)
from servers import ChatServer

from aichat_magic.batching.api import batch_async
from aichat_magic.chat.chat import Chat
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import EmptyReplyError, IncompleteReplyError, OptionError, RateLimitError
from aichat_magic.core.messages import ChatRequest, Message, PartialReply, Reply
from aichat_magic.core.options import CallOptions, Options
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.providers.openai import OpenAI
from aichat_magic.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
PRESETS: dict[str, type[AsyncProvider]] = {name: cls for cls in (OpenAI, Anthropic) for name in cls.presets}
HELLO = (Message("user", "What is six times seven?"),)


@pytest.fixture(params=PRESETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shape(name: str) -> Shape:
    return SHAPES[name]


def address(name: str, server: ChatServer) -> str:
    return server.root if name == "anthropic" else server.url


@asynccontextmanager
async def served(name: str, story: Story) -> AsyncGenerator[tuple[AsyncProvider, ChatServer], None]:
    """A provider, and the server of its shape that tells a story."""
    with ChatServer(answer(SHAPES[name], story)) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            endpoint = Endpoint(provider=name, base_url=address(name, server), key=Secret("sk-1"))
            yield PRESETS[name](endpoint, http), server


async def read(provider: AsyncProvider, *, is_streamed: bool, options: Options | None = None) -> Reply:
    request = ChatRequest(model="m", messages=HELLO, options=options or Options(), timeout_s=60)
    if not is_streamed:
        return await provider.complete(request)
    draft = PartialReply()
    async with contextlib.aclosing(provider.stream(request)) as chunks:
        async for chunk in chunks:
            draft.add(chunk)
    return draft.reply(model=f"{provider.name}/m", elapsed_s=0, messages=HELLO)


async def told(name: str, story: Story) -> Reply:
    """What comes of a story, which must be the same whole and streamed."""
    async with served(name, story) as (provider, _):
        replies = [await read(provider, is_streamed=is_streamed) for is_streamed in (False, True)]
    at_once, in_pieces = (dataclasses.replace(reply, messages=()) for reply in replies)
    assert at_once == in_pieces
    return at_once


def test_every_preset_has_its_shape() -> None:
    assert set(PRESETS) <= set(SHAPES)


async def test_text_and_usage_are_the_same_whole_and_streamed(name: str, shape: Shape) -> None:
    reply = await told(name, Story())
    assert (reply.text, reply.model, reply.finish_reason) == (TEXT, f"{name}/m", "stop")
    assert reply.usage == shape.expected
    assert reply.logprobs is None


async def test_version_is_the_servers(name: str, shape: Shape) -> None:
    assert (await told(name, Story())).model_version == shape.expected_version


async def test_cost_that_a_server_tells_is_believed_at_home_only(name: str, shape: Shape) -> None:
    url = PRESETS[name].presets[name].base_url
    mock = httpx.MockTransport(lambda request: httpx.Response(200, json=whole(shape, Story())))
    at_home = PRESETS[name](Endpoint(provider=name, base_url=url, key=Secret("sk-1")), HttpClient(mock=mock))
    if shape.cost_usd is not None:
        assert (await read(at_home, is_streamed=False)).usage.cost_usd == pytest.approx(shape.cost_usd)
    assert (await told(name, Story())).usage.cost_usd is None


async def test_cut_is_named(name: str) -> None:
    reply = await told(name, Story(text="The answer", finish="cut"))
    assert (reply.text, reply.finish_reason) == ("The answer", "length")


async def test_filter_is_named(name: str) -> None:
    reply = await told(name, Story(text="The", finish="filtered"))
    assert (reply.text, reply.finish_reason) == ("The", "refusal" if name == "anthropic" else "content_filter")


@pytest.mark.parametrize("name", [name for name in PRESETS if SHAPES[name].refuses])
async def test_refusal_is_named_and_its_words_are_the_text(name: str) -> None:
    reply = await told(name, Story(text="", refusal="I cannot do that."))
    assert (reply.text, reply.finish_reason) == ("I cannot do that.", "refusal")


async def test_stream_that_breaks_off_is_incomplete(name: str, shape: Shape) -> None:
    async with served(name, Story()) as (provider, server):
        server.answer = lambda received, attempt: broken(shape, Story())
        with pytest.raises(IncompleteReplyError):
            await read(provider, is_streamed=True)


@pytest.mark.parametrize("finish", ["cut", "filtered"])
async def test_row_without_an_answer_is_an_error_that_says_why(name: str, finish: str) -> None:
    with ChatServer(answer(SHAPES[name], Story(text="", finish=finish))) as server:  # type: ignore[arg-type]
        async with contextlib.aclosing(HttpClient()) as http:
            chat = Chat(settings=Settings, http=http, store=MemoryStore())
            call = CallOptions(model=f"{name}/m", base_url=address(name, server))
            (row,) = await batch_async(
                ["?"], chat=chat, model=call.model, base_url=call.base_url, progress=False, max_retries=0
            )
    assert isinstance(row, EmptyReplyError)
    assert (
        row.finish_reason
        == {"cut": "length", "filtered": "refusal" if name == "anthropic" else "content_filter"}[finish]
    )


# --- thinking, schemas, tiers, limits


async def test_thinking_is_told_apart_and_no_part_of_the_text(name: str, shape: Shape) -> None:
    reply = await told(name, Story(thinking=THINKING))
    shows = shape.message is not nowhere or name == "anthropic"
    assert (reply.text, reply.thinking) == (TEXT, THINKING if shows else "")
    assert reply.usage == shape.expected


async def test_thinking_that_used_up_the_limit_is_not_the_text(name: str) -> None:
    reply = await told(name, Story(text="", thinking=THINKING, finish="cut"))
    assert (reply.text, reply.finish_reason) == ("", "length")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_schema_is_asked_for_in_the_best_way_that_the_server_has(
    name: str, shape: Shape, is_streamed: bool
) -> None:
    inner = {
        "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False,
    }  # fmt: skip
    schema = json.dumps({"name": "reply", "strict": True, "schema": inner})
    async with served(name, Story()) as (provider, server):
        server.answer = picky(shape, Story(text='{"n": 42}'))
        reply = await read(provider, is_streamed=is_streamed, options=Options(schema=schema))
        assert json.loads(reply.text) == {"n": 42}
        assert json_form(server.bodies[-1]) == shape.schemas[0]
        assert "n" in json.dumps(server.bodies[-1])
        sent = len(server.bodies)
        await read(provider, is_streamed=is_streamed, options=Options(schema=schema))
        assert len(server.bodies) == sent + 1  # learned


async def test_tier_is_the_servers_word_for_it(name: str, shape: Shape) -> None:
    async with served(name, Story()) as (provider, server):
        if not shape.flex:
            request = ChatRequest(model="m", messages=HELLO, options=Options(tier="flex"))
            with pytest.raises(OptionError, match="flex"):
                provider.check(request)
            return
        await read(provider, is_streamed=False, options=Options(tier="flex"))
        assert server.bodies[0]["service_tier"] == shape.flex


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_wait_that_a_server_asks_for_is_found(name: str, shape: Shape, is_streamed: bool) -> None:
    async with served(name, Story()) as (provider, server):
        server.answer = lambda received, attempt: limited(shape)
        with pytest.raises(RateLimitError) as caught:
            await read(provider, is_streamed=is_streamed)
    assert caught.value.retry_after_s == pytest.approx(42, abs=2)
    assert caught.value.is_retryable
    assert not caught.value.is_fatal
