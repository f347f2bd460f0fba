"""Which of the choices is read, and how often its text is."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from servers import Answer, ChatServer, event_stream, payload, sse

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.messages import ChatRequest, Message, PartialReply, Reply
from aichat_magic.core.options import Options
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.openai import OpenAI

pytestmark = pytest.mark.anyio
DONE = sse("[DONE]")
LOGPROBS = Options(extra='{"logprobs":true}')


def choice(text: str | None = None, *, index: int | None = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One choice of an event; with `message` a whole one."""
    place = {} if index is None else {"index": index}
    delta = {} if text is None else {"delta": {"content": text}}
    return {**place, **delta, "finish_reason": finish, **more}


def whole(text: str, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text, **more}}


def event(*choices: dict[str, Any], **more: Any) -> bytes:
    return sse({"object": "chat.completion.chunk", "choices": list(choices), **more})


async def read(answer: Answer, *, is_streamed: bool, provider: str = "openai", options: Options | None = None) -> Reply:
    request = ChatRequest(model="m", messages=(Message("user", "hello"),), options=options or Options())
    with ChatServer(lambda received, attempt: answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            source = OpenAI(Endpoint(provider=provider, base_url=server.url), http)
            if not is_streamed:
                return await source.complete(request)
            draft = PartialReply()
            async with contextlib.aclosing(source.stream(request)) as chunks:
                async for chunk in chunks:
                    draft.add(chunk)
    return draft.reply(model=f"{provider}/m", elapsed_s=0, messages=request.messages)


async def streamed(*events: bytes, **more: Any) -> Reply:
    return await read(event_stream(events), is_streamed=True, **more)


# --- the whole message in a stream


@pytest.mark.parametrize(
    "events",
    [
        # The last event repeats the whole reply.
        [event(choice("ab ")), event(choice("cd")), event(choice(finish="stop", **whole("ab cd"))), DONE],
        [event(choice("ab ")), event(choice("cd")), event(choice("", finish="stop", **whole("ab cd"))), DONE],
        [event(choice("ab ")), event(choice("cd", finish="stop", **whole("ab cd"))), DONE],
        # It has more than the deltas had, or other white space.
        [event(choice("ab ")), event(choice(finish="stop", **whole("ab cd"))), DONE],
        [event(choice("ab ")), event(choice("", finish="stop", **whole("ab cd"))), DONE],
        [event(choice("ab cd")), event(choice(finish="stop", **whole("ab cd".strip()))), DONE],
        # Each event has all of the text so far.
        [event(choice(**whole("ab"))), event(choice(**whole("ab c"))),
         event(choice(finish="stop", **whole("ab cd"))), DONE],
        # Each event has its piece under the other name.
        [event(choice(**whole("ab "))), event(choice(**whole("cd"))), event(choice(finish="stop", **whole(""))), DONE],
        # Both, the same in both.
        [event(choice("ab ", **whole("ab "))), event(choice("cd", finish="stop", **whole("ab cd"))), DONE],
        # Only a whole message, as one event or as a server sends it that does not stream.
        [event(choice(finish="stop", **whole("ab cd"))), DONE],
        [event(choice("", **whole("ab cd"), finish="stop"))],
        # The last message without the thinking that the deltas had, or as a list of parts.
        [event({"index": 0, "delta": {"reasoning_content": "hm"}}), event(choice("ab cd")),
         event(choice(finish="stop", **whole("ab cd", reasoning_content="hm"))), DONE],
        [event(choice("ab ")), event(choice("cd")),
         event(choice(finish="stop", **whole([{"type": "text", "text": "ab cd"}]))), DONE],  # type: ignore[arg-type]
        # Its beginning differs: it is the same reply all the same.
        [event(choice("ab ")), event(choice("cd")), event(choice(**whole("Ab cd"), finish="stop"))],
    ],
)  # fmt: skip
async def test_text_of_a_stream_is_there_once(events: list[bytes]) -> None:
    reply = await streamed(*events)
    assert (reply.text, reply.finish_reason) == ("ab cd", "stop")


async def test_refusal_that_is_repeated_as_a_message_is_there_once() -> None:
    pieces = [{"index": 0, "delta": {"refusal": text}} for text in ("I ", "cannot.")]
    last = choice(finish="stop", message={"role": "assistant", "content": None, "refusal": "I cannot."})
    reply = await streamed(*map(event, pieces), event(last), DONE)
    assert (reply.text, reply.finish_reason) == ("I cannot.", "refusal")


async def test_long_stream_of_whole_messages_comes_out_whole() -> None:
    words = [f"word{number} " for number in range(300)]
    events = [event(choice(**whole("".join(words[: number + 1])))) for number in range(len(words))]
    assert (await streamed(*events, event(choice(finish="stop")), DONE)).text == "".join(words)


# --- several choices


@pytest.mark.parametrize(
    "events",
    [
        # As they come, in any order.
        [event(choice("X", index=1)), event(choice("ab ")), event(choice("Y", index=1, finish="length")),
         event(choice("cd")), event(choice(finish="stop")), DONE],
        # In one event.
        [event(choice("X", index=1), choice("ab ")), event(choice("cd"), choice("Y", index=1)),
         event(choice("", index=2, finish="length"), choice(finish="stop")), DONE],
        # The other one goes on after the first has ended.
        [event(choice("ab cd")), event(choice(finish="stop")), event(choice("X", index=1)),
         event(choice(index=1, finish="content_filter")), DONE],
        # The first event has none (Azure), and the last has the usage.
        [event(prompt_filter_results=[]), event(choice("ab cd")), event(choice(finish="stop")), event(), DONE],
        # Without an index.
        [event(choice("ab ", index=None)), event(choice("cd", index=None, finish="stop")), DONE],
        # The other one's whole message is not this one's.
        [event(choice("ab ")), event(choice(index=1, **whole("XY"))), event(choice("cd", finish="stop")), DONE],
    ],
)  # fmt: skip
async def test_only_the_first_choice_of_a_stream_is_read(events: list[bytes]) -> None:
    reply = await streamed(*events)
    assert (reply.text, reply.finish_reason) == ("ab cd", "stop")


@pytest.mark.parametrize(
    "choices",
    [
        [choice(index=1, finish="length", **whole("X")), choice(finish="stop", **whole("ab cd"))],
        [choice(finish="stop", **whole("ab cd")), choice(index=1, finish="length", **whole("X"))],
        [choice(index=None, finish="stop", **whole("ab cd"))],
        [choice(index=1, finish="stop", **whole("ab cd")), choice(index=2, finish="length", **whole("X"))],
    ],
)
async def test_only_the_first_choice_of_a_whole_response_is_read(choices: list[dict[str, Any]]) -> None:
    reply = await read(payload({"choices": choices}), is_streamed=False)
    assert (reply.text, reply.finish_reason) == ("ab cd", "stop")


# --- versions


@pytest.mark.parametrize(
    ("more", "version"),
    [
        ({"model": "gpt-5-mini-2025-08-07"}, "gpt-5-mini-2025-08-07"),
        ({"model": "lab/m", "provider": "DeepInfra"}, "lab/m via DeepInfra"),  # OpenRouter
        ({"model": "m", "provider": None}, "m"),
        ({}, ""),
        ({"model": 3, "provider": "x"}, ""),
    ],
)
async def test_version_is_what_the_server_says_whole_and_streamed(more: dict[str, Any], version: str) -> None:
    body = {"choices": [choice(finish="stop", **whole("hi"))], **more}
    assert (await read(payload(body), is_streamed=False)).model_version == version
    events = [event(choice("hi"), **more), event(choice(finish="stop"), **more), DONE]
    assert (await streamed(*events)).model_version == version


async def test_version_in_the_last_event_only_is_found() -> None:
    events = [event(model=""), event(choice("hi"), model=""), event(choice(finish="stop"), model="gpt-x-2026"), DONE]
    assert (await streamed(*events)).model_version == "gpt-x-2026"


async def test_endless_name_is_cut() -> None:
    body = {"choices": [choice(finish="stop", **whole("hi"))], "model": "m" * 10**6}
    assert len((await read(payload(body), is_streamed=False)).model_version) <= 200


# --- log probabilities


def token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}


TOKENS = [token("ab", -0.1), token(" cd", -0.2)]


async def test_logprobs_are_the_same_whole_and_streamed() -> None:
    body = {"choices": [choice(finish="stop", **whole("ab cd"), logprobs={"content": TOKENS, "refusal": None})]}
    events = [
        event(choice("", logprobs={"content": []})),
        event(choice("ab", logprobs={"content": TOKENS[:1]})),
        event(choice(" cd", logprobs={"content": TOKENS[1:]})),
        event(choice(finish="stop", logprobs=None)),
        DONE,
    ]
    again = event(choice(finish="stop", **whole("ab cd"), logprobs={"content": TOKENS}))
    assert (await read(payload(body), is_streamed=False, options=LOGPROBS)).logprobs == TOKENS
    assert (await streamed(*events, options=LOGPROBS)).logprobs == TOKENS
    assert (await streamed(*events[:3], again, DONE, options=LOGPROBS)).logprobs == TOKENS


@pytest.mark.parametrize("asked", [Options(), Options(extra='{"logprobs":false}'), Options(extra='{"top_k":4}')])
async def test_logprobs_that_nobody_asked_for_are_left_out(asked: Options) -> None:
    body = {"choices": [choice(finish="stop", **whole("ab"), logprobs={"content": TOKENS[:1]})]}
    assert (await read(payload(body), is_streamed=False, options=asked)).logprobs is None
    events = [event(choice("ab", finish="stop", logprobs={"content": TOKENS[:1]})), DONE]
    assert (await streamed(*events, options=asked)).logprobs is None


async def test_logprobs_in_lists_of_their_own() -> None:
    found = {"tokens": ["ab", " cd"], "token_logprobs": [-0.1, -0.2], "token_ids": [1, 2]}  # Together
    body = {"choices": [choice(finish="stop", **whole("ab cd"), logprobs=found)]}
    reply = await read(payload(body), is_streamed=False, options=LOGPROBS)
    assert reply.logprobs == [{"token": "ab", "logprob": -0.1}, {"token": " cd", "logprob": -0.2}]


@pytest.mark.parametrize(
    "found", [3, [], "x", {}, {"content": 3}, {"content": [3]}, {"tokens": 1, "token_logprobs": 2}]
)
async def test_strange_logprobs_are_none(found: Any) -> None:
    body = json.loads(json.dumps({"choices": [choice(finish="stop", **whole("ab"), logprobs=found)]}))
    assert (await read(payload(body), is_streamed=False, options=LOGPROBS)).logprobs is None
