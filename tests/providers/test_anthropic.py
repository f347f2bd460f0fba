"""Claude over the messages dialect, seen from its server: what is sent, and what each answer becomes."""

import base64
import contextlib
import json
import re
from typing import Any

import httpx
import pytest
from claude import STOP, begins, claude, echo, ends, event, message, piece
from servers import Answer, ChatServer, Received, event_stream, payload, status

from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import (
    BadInputError,
    BadRequestError,
    IncompleteReplyError,
    MalformedReplyError,
    NotFoundError,
    OptionError,
    PromptError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    StreamError,
)
from aichat_magic.core.messages import ChatRequest, Image, Message, PartialReply
from aichat_magic.core.options import Options
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.anthropic import Anthropic

pytestmark = pytest.mark.anyio
HELLO = (Message("system", "Be brief."), Message("user", "hello"))
LONG = "word " * 1200  # about 1,500 tokens
MARK = {"type": "ephemeral"}


def at(server: ChatServer, http: HttpClient, **endpoint: Any) -> Anthropic:
    return Anthropic(Endpoint(provider="anthropic", base_url=server.root, **endpoint), http)


async def completed(answer: Answer) -> Any:
    with ChatServer(lambda received, attempt: answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            return await at(server, http).complete(ChatRequest(model="m", messages=HELLO))


async def streamed(answer: Answer, draft: PartialReply | None = None) -> Any:
    draft = draft or PartialReply()
    with ChatServer(lambda received, attempt: answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            stream = at(server, http).stream(ChatRequest(model="m", messages=HELLO))
            async with contextlib.aclosing(stream) as chunks:
                async for chunk in chunks:
                    draft.add(chunk)
    return draft.reply(model="anthropic/m", elapsed_s=0, messages=HELLO)


async def sent(*messages: Message, is_streamed: bool = False, path: str = "", **options: Any) -> Received:
    with ChatServer(echo) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            endpoint = Endpoint(provider="anthropic", base_url=server.root + path, key=Secret("sk-1"))
            request = ChatRequest(model="m", messages=messages or HELLO, options=Options(**options))
            if is_streamed:
                async for _ in Anthropic(endpoint, http).stream(request):
                    pass
            else:
                await Anthropic(endpoint, http).complete(request)
        return server.requests[0]


def blocks(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def turns(*texts: str) -> tuple[Message, ...]:
    """Messages of user and assistant by turns."""
    return tuple(Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts))


# --- what is sent


async def test_request_holds_system_messages_a_limit_and_only_the_options_that_are_set() -> None:
    received = await sent(temperature=0, top_p=0.5, stop=("x", "y"))
    assert received.path == "/v1/messages"
    assert received.headers["x-api-key"] == "sk-1"
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in received.headers
    assert received.json == {
        "model": "m",
        "system": blocks("Be brief."),
        "messages": [{"role": "user", "content": blocks("hello")}],
        "max_tokens": 16_000,
        "temperature": 0,
        "top_p": 0.5,
        "stop_sequences": ["x", "y"],
    }


async def test_streamed_request_asks_for_a_stream_and_max_tokens_is_as_given() -> None:
    body = (await sent(is_streamed=True, max_tokens=7)).json
    assert (body["stream"], body["max_tokens"]) == (True, 7)
    assert "temperature" not in body


async def test_address_is_understood_with_and_without_its_version() -> None:
    assert (await sent(path="/v1")).path == "/v1/messages"
    assert (await sent(path="/proxy")).path == "/proxy/v1/messages"


async def test_system_messages_are_joined_and_turns_alternate() -> None:
    body = (
        await sent(
            Message("system", "One."),
            Message("user", "a"),
            Message("user", "b"),
            Message("assistant", ""),
            Message("system", "Two."),
            Message("user", " \n"),
            Message("user", "c"),
        )
    ).json
    assert body["system"] == blocks("One.\n\nTwo.")
    assert body["messages"] == [{"role": "user", "content": blocks("a", "b", "c")}]


async def test_prompt_reaches_the_server_byte_for_byte() -> None:
    prompt = " äöü 🎈 \u2028 \x85 \\n {x} $5 \"' \n"
    assert (await sent(Message("user", prompt))).json["messages"][0]["content"] == blocks(prompt)
    assert "system" not in (await sent(Message("user", prompt))).json


async def test_images_go_before_the_text() -> None:
    picture = Image("image/png", b"\x89PNG")
    block = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()},
    }
    body = (await sent(Message("user", "What is it?", (picture, picture)))).json
    assert body["messages"][0]["content"] == [block, block, *blocks("What is it?")]
    body = (await sent(Message("user", "", (picture,)), Message("user", "And now?"))).json
    assert body["messages"][0]["content"] == [block, *blocks("And now?")]


# --- what is refused before anything is sent


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"temperature": 1.2}, OptionError, "between 0 and 1, not 1.2"),
        ({"seed": 3}, BadInputError, "--seed"),
        ({"presence_penalty": 0}, BadInputError, "--presence-penalty"),
        ({"frequency_penalty": 1}, BadInputError, "--frequency-penalty"),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_option_that_the_api_does_not_have_is_named_and_nothing_is_sent(
    options: dict[str, Any], kind: type[Exception], words: str, is_streamed: bool
) -> None:
    request = ChatRequest(model="m", messages=HELLO, options=Options(**options))
    with ChatServer(echo) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = at(server, http)
            with pytest.raises(kind, match=re.escape(words)):
                await (anext(provider.stream(request)) if is_streamed else provider.complete(request))
            with pytest.raises(kind, match=re.escape(words)):
                Call(provider=provider, request=request, policy=RetryPolicy())
        assert not server.requests


async def test_system_message_alone_is_an_empty_prompt() -> None:
    with pytest.raises(PromptError, match="empty"):
        await sent(Message("system", "Be brief."), Message("user", " "))


# --- the cache of the long prefix


def marks(body: dict[str, Any]) -> list[str]:
    """Where the marks are: the role of the message and its place."""
    found = [f"system {n}" for n, block in enumerate(body.get("system", ())) if block.get("cache_control") == MARK]
    for number, turn in enumerate(body["messages"]):
        found += [f"{turn['role']} {number}" for block in turn["content"] if block.get("cache_control") == MARK]
    return found


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (turns("a", "b", "c"), []),
        (turns(LONG), []),
        (turns(LONG, "b", "c"), ["assistant 1"]),
        (turns("a", LONG, "c", "d", "e"), ["assistant 3"]),
        (turns("a", "b", LONG), []),
        ((Message("system", LONG), *turns("a")), ["system 0"]),
        ((Message("system", LONG), *turns("a", "b", "c")), ["system 0", "assistant 1"]),
        ((Message("system", LONG[:3000]), *turns(LONG[:3000], "b", "c")), ["assistant 1"]),
        ((Message("system", "Be brief."), *turns("a", "b", "c")), []),
    ],
)
async def test_long_beginning_that_will_be_repeated_is_marked_for_the_cache(
    messages: tuple[Message, ...], expected: list[str]
) -> None:
    assert marks((await sent(*messages)).json) == expected


async def test_beginning_stays_the_same_from_turn_to_turn_but_for_the_mark() -> None:
    def unmarked(value: Any) -> Any:
        return json.loads(json.dumps(value).replace(', "cache_control": {"type": "ephemeral"}', ""))

    first = (await sent(*turns(LONG, "b", "c"))).json
    second = (await sent(*turns(LONG, "b", "c", "d", "e"))).json
    assert marks(second) == ["assistant 3"]
    assert unmarked(second["messages"][:3]) == unmarked(first["messages"])


# --- what comes back


async def test_reply_has_text_model_and_usage() -> None:
    reply = await completed(claude("hello there"))
    assert (reply.text, reply.model, reply.finish_reason) == ("hello there", "anthropic/m", "stop")
    assert reply.usage == Usage(input_tokens=3, output_tokens=2)


async def test_stream_gives_pieces_and_then_reason_and_usage() -> None:
    reply = await streamed(claude("hello there you"))
    assert (reply.text, reply.finish_reason) == ("hello there you", "stop")
    assert reply.usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("tool_use", "tool_calls"), ("pause_turn", "stop"),
     ("max_tokens", "length"), ("model_context_window_exceeded", "length"), ("refusal", "refusal"),
     ("something new", "stop")],
)  # fmt: skip
async def test_stop_reasons_become_ours(reason: str, ours: str) -> None:
    assert (await completed(payload(message(stop=reason)))).finish_reason == ours
    assert (await streamed(event_stream([begins(), piece("a"), ends(reason), STOP]))).finish_reason == ours


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], ""),
        ([{"type": "thinking", "thinking": "hm", "signature": "x"}, *blocks("a", "b")], "ab"),
        ([{"type": "redacted_thinking", "data": "x"}, {"type": "tool_use", "input": {}}], ""),
        (blocks("\ud800\x00"), "\ud800\x00"),
    ],
)
async def test_only_blocks_of_text_are_the_reply(content: Any, text: str) -> None:
    assert (await completed(payload(message(content)))).text == text


async def test_thoughts_and_unknown_events_in_a_stream_are_no_text() -> None:
    events = [
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm", "text": "hm"}),
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "x"}),
        event("content_block_start", index=1, content_block={"type": "text", "text": "a"}),
        event("something_new", text="x"),
        piece("b"),
    ]
    assert (await streamed(event_stream([begins(), *events, ends(), STOP]))).text == "ab"


CACHE = {"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 7}


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_writes_for_an_hour_and_thinking_are_told_apart(is_streamed: bool) -> None:
    usage = {
        **CACHE,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 15},
        "output_tokens_details": {"thinking_tokens": 4},
    }
    if is_streamed:
        start = event("message_start", message=message([], stop=None, usage={**usage, "output_tokens": 1}))
        # The end repeats the counts, without the breakdown.
        end = ends(usage={**CACHE, "output_tokens_details": {"thinking_tokens": 4}})
        found = (await streamed(event_stream([start, piece("a"), end, STOP]))).usage
    else:
        found = (await completed(payload(message(usage=usage)))).usage
    assert (found.cache_write_tokens, found.cache_write_1h_tokens, found.reasoning_tokens) == (20, 15, 4)


@pytest.mark.parametrize("number", [-1, 1.5, "7", True, 2**63, [], {}])
async def test_hostile_counts_are_unknown_and_no_error(number: Any) -> None:
    usage = {
        **dict.fromkeys(CACHE, number),
        "cache_creation": {"ephemeral_1h_input_tokens": number},
        "output_tokens_details": {"thinking_tokens": number},
    }
    assert (await completed(payload(message(usage=usage)))).usage == Usage()
    most = dict.fromkeys(CACHE, 2**63 - 1)
    assert (await completed(payload(message(usage=most)))).usage.input_tokens is None


async def test_tokens_of_the_cache_are_input_tokens_too() -> None:
    expected = Usage(input_tokens=125, output_tokens=7, cached_tokens=100, cache_write_tokens=20)
    assert (await completed(payload(message(usage=CACHE)))).usage == expected
    reply = await streamed(event_stream([begins(**{**CACHE, "output_tokens": 1}), piece("a"), ends(usage=CACHE), STOP]))
    assert reply.usage == expected


@pytest.mark.parametrize(
    ("at_start", "at_end"),
    [
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 9, "output_tokens": 2}),
        ({"input_tokens": 9, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 2}),
        ({"input_tokens": 9}, {"input_tokens": None, "output_tokens": 2}),
    ],
)
async def test_counts_of_a_stream_are_found_wherever_the_server_puts_them(at_start: Any, at_end: Any) -> None:
    reply = await streamed(event_stream([begins(**at_start), piece("a"), ends(usage=at_end), STOP]))
    assert reply.usage == Usage(input_tokens=9, output_tokens=2)


@pytest.mark.parametrize("usage", [None, 3, {}, {"input_tokens": "many"}, {"input_tokens": -1, "output_tokens": True}])
async def test_strange_usage_is_unknown_and_no_error(usage: Any) -> None:
    assert (await completed(payload(message(usage=usage)))).usage == Usage()


async def test_refusal_has_the_servers_reason_where_it_gives_one() -> None:
    details = {"stop_details": {"type": "refusal", "category": "bio", "explanation": "I cannot."}}
    reply = await completed(payload(message([], stop="refusal", **details)))
    assert (reply.text, reply.finish_reason) == ("I cannot.", "refusal")
    reply = await streamed(event_stream([begins(), ends("refusal", **details), STOP]))
    assert (reply.text, reply.finish_reason) == ("I cannot.", "refusal")
    reply = await streamed(event_stream([begins(), piece("Well"), ends("refusal", **details), STOP]))
    assert (reply.text, reply.finish_reason) == ("Well", "refusal")
    assert (await completed(payload(message([], stop="refusal", stop_details=None)))).text == ""


async def test_reply_carries_the_limits_of_the_server() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-input-tokens-limit": "1000",
        "anthropic-ratelimit-input-tokens-remaining": "10",
    }
    limits = (await completed(payload(message(), headers=headers))).rate_limits
    assert (limits.limit_requests, limits.remaining_requests, limits.remaining_tokens) == (50, 49, 10)


@pytest.mark.parametrize(
    "value",
    [[], "x", None, 3, {}, {"content": "x"}, {"content": [3]}, {"content": [{"type": "text"}]},
     {"content": [{"type": "text", "text": 3}]}, {"choices": []}, b"", b"<html>Hello</html>", b"[" * 10_000],
)  # fmt: skip
async def test_answer_that_is_no_message_is_a_malformed_reply(value: Any) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        await completed(payload(value))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "event_",
    ["data: []\n\n", "data: {\n\n", event("message_start"), event("message_delta", delta=3),
     event("content_block_start"), event("content_block_delta", delta=None),
     event("content_block_delta", delta={"type": "text_delta"})],
)  # fmt: skip
async def test_event_that_is_none_of_the_dialect_is_a_malformed_reply(event_: str) -> None:
    with pytest.raises(MalformedReplyError):
        await streamed(event_stream([begins(), event_, ends(), STOP]))


async def test_server_that_ignores_streaming_is_understood() -> None:
    reply = await streamed(payload(message("whole", stop="max_tokens")))
    assert (reply.text, reply.finish_reason, reply.usage.output_tokens) == ("whole", "length", 2)


# --- streams that end early, and errors


@pytest.mark.parametrize("is_abrupt", [True, False])
async def test_stream_without_its_end_is_incomplete_and_what_came_is_kept(is_abrupt: bool) -> None:
    draft = PartialReply()
    with pytest.raises(IncompleteReplyError):
        await streamed(event_stream([begins(), piece("a")], abrupt=is_abrupt), draft)
    assert draft.text == "a"


@pytest.mark.parametrize("ending", [[ends()], [STOP], [ends(None), STOP]])
async def test_stream_ends_with_its_last_event_or_a_reason(ending: list[str]) -> None:
    reply = await streamed(event_stream([begins(), piece("a"), *ending]))
    assert (reply.text, reply.finish_reason) == ("a", "stop")


async def test_stream_cut_after_its_reason_is_whole() -> None:
    reply = await streamed(event_stream([begins(), piece("a"), ends("max_tokens")], abrupt=True))
    assert (reply.text, reply.finish_reason) == ("a", "length")


def error(kind: str, words: str = "Overloaded") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("code", "kind", "words", "ours"),
    [
        (529, "overloaded_error", "Overloaded", ServerError),
        (500, "api_error", "Internal server error", ServerError),
        (504, "timeout_error", "The request timed out", ServerError),
        (429, "rate_limit_error", "would exceed your limit of 50 requests", RateLimitError),
        (404, "not_found_error", "model: m", NotFoundError),
        (402, "billing_error", "Check your payment details", QuotaError),
        (400, "invalid_request_error", "`temperature` is deprecated for this model", BadRequestError),
        (400, "invalid_request_error", "Your credit balance is too low", QuotaError),
    ],
)
async def test_errors_are_told_in_the_servers_words_by_status_and_inside_a_stream(
    code: int, kind: str, words: str, ours: type[ProviderError]
) -> None:
    for answer in (status(code, body=error(kind, words)), event_stream([event("error", **error(kind, words))])):
        with pytest.raises(ours, match=re.escape(words)) as caught:
            await streamed(answer)
        assert caught.value.status == code
        assert caught.value.provider == "anthropic"
    with pytest.raises(ours, match=re.escape(words)):
        await completed(payload(error(kind, words)))


@pytest.mark.parametrize(
    "event_",
    [event("error", **error("overloaded_error")), 'event: error\ndata: {"message": "Overloaded"}\n\n',
     'data: {"type": "error", "error": "Overloaded"}\n\n'],
)  # fmt: skip
async def test_error_in_the_middle_of_a_reply_is_not_tried_again(event_: str) -> None:
    draft = PartialReply()
    with pytest.raises(StreamError, match="Overloaded") as caught:
        await streamed(event_stream([begins(), piece("a"), event_]), draft)
    assert not caught.value.is_retryable
    assert draft.text == "a"


async def test_overload_before_the_first_text_is_tried_again() -> None:
    def answer(received: Received, attempt: int) -> Answer:
        busy = event_stream([begins(), event("ping"), event("error", **error("overloaded_error"))])
        return busy if attempt == 1 else claude("hello there")

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    draft = PartialReply()
    with ChatServer(answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            request = ChatRequest(model="m", messages=HELLO)
            call = Call(provider=at(server, http), request=request, policy=RetryPolicy())
            chat = Chat(settings=Settings, http=http, sleep=sleep)
            async with contextlib.aclosing(chat.stream(call, draft)) as chunks:
                async for _ in chunks:
                    pass
        assert len(server.requests) == 2
    assert draft.text == "hello there"
    assert len(slept) == 1


# --- the list of models


async def test_models_are_listed_over_all_pages() -> None:
    asked: list[httpx.Request] = []
    pages = {"": ["c", "b"], "b": ["a/1"], "a/1": ["d"]}

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        names = pages[request.url.params.get("after_id", "")]
        data = [{"type": "model", "id": name} for name in names] + [{"name": "x"}, 3]
        return httpx.Response(200, json={"data": data, "has_more": names != ["d"], "last_id": names[-1]})

    endpoint = Endpoint(provider="anthropic", base_url="http://x", key=Secret("sk-1"))
    assert await Anthropic(endpoint, HttpClient(mock=httpx.MockTransport(answer))).models() == ["a/1", "b", "c", "d"]
    assert [str(request.url) for request in asked] == [
        "http://x/v1/models?limit=1000",
        "http://x/v1/models?limit=1000&after_id=b",
        "http://x/v1/models?limit=1000&after_id=a%2F1",
    ]
    assert asked[0].headers["x-api-key"] == "sk-1"
    assert asked[0].headers["anthropic-version"] == "2023-06-01"


async def test_list_of_models_without_an_end_is_left_at_some_page() -> None:
    page = {"data": [{"id": "a"}], "has_more": True, "last_id": "a"}
    http = HttpClient(mock=httpx.MockTransport(lambda request: httpx.Response(200, json=page)))
    assert await Anthropic(Endpoint(provider="anthropic", base_url="http://x"), http).models() == ["a"]


async def test_what_is_no_list_of_models_is_a_malformed_reply() -> None:
    http = HttpClient(mock=httpx.MockTransport(lambda request: httpx.Response(200, json={"models": []})))
    with pytest.raises(MalformedReplyError, match="list of models"):
        await Anthropic(Endpoint(provider="anthropic", base_url="http://x"), http).models()
