import contextlib
import json
from typing import Any

import httpx
import pytest
from servers import Answer, ChatServer, Received, cut, event_stream, payload, status, text

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import (
    BadRequestError,
    FlaggedPromptError,
    IncompleteReplyError,
    MalformedReplyError,
    ModelLoadingError,
    NotRunningError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedReplyError,
    ServerError,
    StreamError,
    UnsupportedOptionError,
)
from aichat_magic.core.messages import ChatRequest, Image, Message, PartialReply
from aichat_magic.core.options import Options
from aichat_magic.core.secrets import Secret
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.openai import OpenAI

pytestmark = pytest.mark.anyio
HELLO = (Message("system", "Be brief."), Message("user", "hello"))


def delta(content: Any, finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice], **more})}\n\n"


async def completed(answer: Answer, **options: Any) -> Any:
    with ChatServer(lambda received, attempt: answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(Endpoint(provider="openai", base_url=server.url), http)
            return await provider.complete(ChatRequest(model="m", messages=HELLO, options=Options(**options)))


async def streamed(answer: Answer) -> PartialReply:
    draft = PartialReply()
    with ChatServer(lambda received, attempt: answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(Endpoint(provider="openai", base_url=server.url), http)
            async with contextlib.aclosing(provider.stream(ChatRequest(model="m", messages=HELLO))) as chunks:
                async for chunk in chunks:
                    draft.add(chunk)
    return draft


async def body_sent(provider: str, *, is_streamed: bool = False, **options: Any) -> Received:
    with ChatServer() as server:
        async with contextlib.aclosing(HttpClient()) as http:
            endpoint = Endpoint(provider=provider, base_url=server.url, key=Secret("sk-1"))
            request = ChatRequest(model="m", messages=HELLO, options=Options(**options))
            if is_streamed:
                async for _ in OpenAI(endpoint, http).stream(request):
                    pass
            else:
                await OpenAI(endpoint, http).complete(request)
        return server.requests[0]


async def test_request_holds_model_messages_and_only_the_options_that_are_set() -> None:
    received = await body_sent("openai", temperature=0, stop=("x", "y"))
    assert received.path == "/v1/chat/completions"
    assert received.headers["authorization"] == "Bearer sk-1"
    assert received.json == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "temperature": 0,
        "stop": ["x", "y"],
    }


async def test_streamed_request_asks_for_the_totals_except_from_mistral() -> None:
    received = await body_sent("openai", is_streamed=True)
    assert received.json["stream"] is True
    assert received.json["stream_options"] == {"include_usage": True}
    assert "stream_options" not in (await body_sent("mistral", is_streamed=True)).json


async def test_mistral_has_its_own_name_for_the_seed() -> None:
    body = (await body_sent("mistral", seed=3)).json
    assert body["random_seed"] == 3
    assert "seed" not in body


def test_openai_itself_gets_the_new_name_for_max_tokens_and_others_the_old() -> None:
    request = ChatRequest(model="m", messages=HELLO, options=Options(max_tokens=5))
    own = OpenAI(Endpoint(provider="openai", base_url="https://api.openai.com/v1"), HttpClient())
    other = OpenAI(Endpoint(provider="openai", base_url="http://localhost:1/v1"), HttpClient())
    assert own._wire_options(request.options, request.model) == {"max_completion_tokens": 5}
    assert other._wire_options(request.options, request.model) == {"max_tokens": 5}


async def test_schema_becomes_the_response_format() -> None:
    body = (await body_sent("openai", schema='{"name":"r","strict":true,"schema":{"type":"object"}}')).json
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_prompt_reaches_the_server_byte_for_byte() -> None:
    prompt = "äöü 🎈 \u2028 \x85 \\n {x} $5 \"'"
    with ChatServer() as server:
        async with contextlib.aclosing(HttpClient()) as http:
            await OpenAI(Endpoint(provider="openai", base_url=server.url), http).complete(
                ChatRequest(model="m", messages=(Message("user", prompt),))
            )
        assert server.requests[0].json["messages"][0]["content"] == prompt


async def test_reply_has_text_model_and_usage() -> None:
    reply = await completed(text("hello there"))
    assert (reply.text, reply.model, reply.finish_reason) == ("hello there", "openai/m", "stop")
    assert reply.usage == Usage(input_tokens=3, output_tokens=2)


async def test_stream_gives_pieces_and_then_reason_and_usage() -> None:
    draft = await streamed(text("hello there you"))
    reply = draft.reply(model="openai/m", elapsed_s=0, messages=HELLO)
    assert (reply.text, reply.finish_reason) == ("hello there you", "stop")
    assert reply.usage == Usage(input_tokens=3, output_tokens=3)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("stop", "stop"), ("length", "length"), ("max_tokens", "length"), ("content_filter", "content_filter"),
     ("model_context_window_exceeded", "length"), ("sensitive", "content_filter"),
     ("SAFETY", "content_filter"), ("content_filter: RECITATION", "content_filter"), ("refusal", "refusal"),
     ("eos", "stop"), ("tool_calls", "tool_calls"), ("function_call", "tool_calls")],
)  # fmt: skip
async def test_finish_reasons_of_all_servers_become_ours(reason: str, ours: str) -> None:
    answer = payload({"choices": [{"message": {"content": "x"}, "finish_reason": reason}]})
    assert (await completed(answer)).finish_reason == ours


@pytest.mark.parametrize(
    ("message", "text_"),
    [
        ({"content": None}, ""),
        ({"content": ""}, ""),
        ({}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}, "ab"),
        ({"content": "\ud800\x00"}, "\ud800\x00"),
        ({"content": "x", "reasoning_content": "thoughts"}, "x"),
    ],
)
async def test_content_in_every_form_servers_use(message: dict[str, Any], text_: str) -> None:
    assert (await completed(payload({"choices": [{"message": message}]}))).text == text_


@pytest.mark.parametrize("reason", ["stop", None])
async def test_words_of_a_refusal_are_the_text_of_a_refusal(reason: str | None) -> None:
    answer = payload({"choices": [{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": reason}]})
    reply = await completed(answer)
    assert (reply.text, reply.finish_reason) == ("I cannot.", "refusal")


async def test_refusal_in_pieces_is_a_refusal() -> None:
    def piece(text: str) -> str:
        return "data: " + json.dumps({"choices": [{"delta": {"refusal": text}}]}) + "\n\n"

    reply = await streamed(event_stream([piece("I "), piece("cannot."), delta("", "stop"), "data: [DONE]\n\n"]))
    assert (reply.text, reply._finish_reason) == ("I cannot.", "refusal")


async def test_empty_refusal_is_none() -> None:
    answer = payload({"choices": [{"message": {"content": "yes", "refusal": ""}, "finish_reason": "stop"}]})
    assert (await completed(answer)).finish_reason == "stop"


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "network_error"])
async def test_reply_that_the_server_broke_off_may_be_tried_again(reason: str) -> None:
    words = reason.replace("_", " ")
    with pytest.raises(IncompleteReplyError, match=words):
        await completed(payload({"choices": [{"message": {"content": "half"}, "finish_reason": reason}]}))
    with pytest.raises(IncompleteReplyError, match=words):
        await streamed(event_stream([delta("half"), delta("", reason), "data: [DONE]\n\n"]))


@pytest.mark.parametrize(
    "usage",
    [
        None,
        3,
        {},
        {"prompt_tokens": "many"},
        {"prompt_tokens": -1},
        {"prompt_tokens_details": 3},
        {"prompt_tokens": True},
    ],
)
async def test_strange_usage_is_unknown_and_no_error(usage: Any) -> None:
    reply = await completed(payload({"choices": [{"message": {"content": "x"}}], "usage": usage}))
    assert reply.usage == Usage()


async def test_cached_tokens_are_counted() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
    reply = await completed(payload({"choices": [{"message": {"content": "x"}}], "usage": usage}))
    assert reply.usage.cached_tokens == 4


@pytest.mark.parametrize(
    "value",
    [[], "x", None, 3, {}, {"choices": []}, {"choices": 3}, {"choices": [3]}, {"choices": [{"message": 3}]},
     {"choices": [{"message": {"content": 3}}]}, b"", b"<html>Hello</html>", b"\xff\xfe", b"[" * 10_000,
     b'{"a": ' + b"9" * 5_000 + b"}"],
)  # fmt: skip
async def test_answer_that_is_no_chat_completion_is_a_malformed_reply(value: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        await completed(payload(value))
    assert isinstance(caught.value, (MalformedReplyError, RefusedReplyError))
    assert len(str(caught.value)) < 500


async def test_stream_with_totals_in_its_last_piece() -> None:
    answer = event_stream(
        [delta("a"), delta("b", "stop", usage={"prompt_tokens": 1, "completion_tokens": 2}), "data: [DONE]\n\n"]
    )
    draft = await streamed(answer)
    assert draft.reply(model="m", elapsed_s=0, messages=HELLO).usage == Usage(input_tokens=1, output_tokens=2)


async def test_stream_with_totals_in_groqs_place() -> None:
    answer = event_stream([delta("a"), delta("", "stop", x_groq={"usage": {"prompt_tokens": 1}}), "data: [DONE]\n\n"])
    assert (await streamed(answer)).reply(model="m", elapsed_s=0, messages=HELLO).usage.input_tokens == 1


@pytest.mark.parametrize("ending", [["data: [DONE]\n\n"], [delta("", "stop")], [delta(None, "length")]])
async def test_stream_ends_with_done_or_a_reason(ending: list[str]) -> None:
    assert (await streamed(event_stream([delta("a"), *ending]))).text == "a"


async def test_server_that_ignores_streaming_is_understood() -> None:
    answer = payload(
        {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 2}}
    )
    draft = await streamed(answer)
    assert draft.text == "whole"


@pytest.mark.parametrize("is_abrupt", [True, False])
async def test_stream_without_its_end_is_incomplete(is_abrupt: bool) -> None:
    with pytest.raises(IncompleteReplyError):
        await streamed(cut(after_chunks=2, abrupt=is_abrupt))


async def test_stream_cut_after_its_reason_is_whole() -> None:
    draft = await streamed(event_stream([delta("a"), delta("", "stop")], abrupt=True))
    assert draft.text == "a"


@pytest.mark.parametrize(
    "event",
    ['data: {"error": {"message": "out of memory"}}\n\n', 'data: {"error": "out of memory"}\n\n',
     'event: error\ndata: {"message": "out of memory"}\n\n'],
)  # fmt: skip
async def test_error_inside_a_stream_is_told_in_the_servers_words(event: str) -> None:
    with pytest.raises(StreamError, match="out of memory"):
        await streamed(event_stream([delta("a"), event]))


@pytest.mark.parametrize(
    "value",
    [
        {"error": "no instance left", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "x"}, "error": {"message": "no instance left"}}]},
    ],
)
async def test_failure_reported_with_status_200_is_told_in_the_servers_words(value: Any) -> None:
    with pytest.raises(StreamError, match="no instance left"):
        await completed(payload(value))


SLOW_DOWN = {"message": "Provider returned error", "code": 429, "metadata": {"raw": "busy, try again in 7s"}}


@pytest.mark.parametrize(
    ("error", "ours", "wait_s"),
    [
        ({"message": "no instance left", "code": 502}, ServerError, None),
        ({"message": "no instance left", "code": "503"}, ServerError, None),
        ({"message": "Overloaded", "type": "server_error", "code": None}, ServerError, None),
        ({"code": 503, "message": "Loading model", "type": "unavailable_error"}, ModelLoadingError, None),
        (SLOW_DOWN, RateLimitError, 7),
        ({"message": "no", "code": 429, "metadata": {"headers": {"Retry-After": "7"}}}, RateLimitError, 7),
        ({"message": "no", "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "7s"}]}, RateLimitError, 7),
        ({"message": "flagged by moderation", "code": 403}, FlaggedPromptError, None),
        ({"message": "Insufficient credits", "code": 402}, QuotaError, None),
        ({"message": "x is not supported", "code": "unsupported_parameter", "param": "seed", "status": 400},
         UnsupportedOptionError, None),
    ],
)  # fmt: skip
async def test_error_inside_a_200_is_the_one_of_the_status_that_it_stands_for(
    error: Any, ours: type[ProviderError], wait_s: float | None
) -> None:
    for value in ({"error": error}, {"choices": [{"message": {"content": ""}, "error": error}]}):
        with pytest.raises(ours) as whole:
            await completed(payload(value))
        with pytest.raises(ours) as in_stream:
            await streamed(event_stream([delta(""), f"data: {json.dumps(value)}\n\n"]))
        for caught in (whole.value, in_stream.value):
            assert type(caught) is ours
            assert caught.retry_after_s == wait_s
            assert caught.is_retryable == issubclass(ours, (ServerError, RateLimitError))


async def test_error_inside_a_200_after_some_text_ends_the_reply() -> None:
    for value in ({"error": SLOW_DOWN}, {"choices": [{"delta": {"content": ""}, "error": SLOW_DOWN}]}):
        with pytest.raises(StreamError, match="busy, try again in 7s") as caught:
            await streamed(event_stream([delta("a"), f"data: {json.dumps(value)}\n\n"]))
        assert not caught.value.is_retryable


async def test_reply_that_ended_with_an_error_is_no_reply() -> None:
    with pytest.raises(StreamError, match="no details"):
        await completed(payload({"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}))
    with pytest.raises(StreamError, match="no details"):
        await streamed(event_stream([delta("a"), delta("", "error"), "data: [DONE]\n\n"]))


async def test_status_error_tells_the_servers_words() -> None:
    answer = status(400, body={"error": {"message": "exceeds the available context size", "code": 400}})
    with pytest.raises(BadRequestError, match="exceeds the available context size"):
        await completed(answer)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"data": [{"id": "b"}, {"id": "a"}, {"size": 1}, 3]}, ["a", "b"]),
        ([{"id": "b"}, {"id": "a"}], ["a", "b"]),
        ({"models": [{"name": "b"}, {"id": "a", "name": "long"}]}, ["a", "b"]),
        ({"data": None, "models": [{"name": "a"}]}, ["a"]),
        ({"object": "list", "data": None}, []),
        ({"models": None}, []),
        ({"data": []}, []),
    ],
)
async def test_models_are_listed(value: Any, names: list[str]) -> None:
    http = HttpClient(mock=httpx.MockTransport(lambda request: httpx.Response(200, json=value)))
    assert await OpenAI(Endpoint(provider="openai", base_url="http://x/v1"), http).models() == names


async def test_images_follow_the_text_as_data_urls_and_other_messages_stay_text() -> None:
    images = (Image("image/png", b"\x89PNG"), Image("image/jpeg", b"\xff\xd8\xff"))
    messages = (Message("system", "Be brief."), Message("user", "What is it?", images), Message("assistant", "A cat."))
    with ChatServer() as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(Endpoint(provider="openai", base_url=server.url), http)
            await provider.complete(ChatRequest(model="m", messages=messages))
    assert server.requests[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/"}},
            ],
        },
        {"role": "assistant", "content": "A cat."},
    ]


@pytest.mark.parametrize("what", ["complete", "models"])
async def test_local_server_that_was_not_started_is_named_with_its_command(what: str) -> None:
    async with contextlib.aclosing(HttpClient(environ={})) as http:
        provider = OpenAI(Endpoint(provider="ollama", base_url="http://127.0.0.1:1/v1"), http)
        with pytest.raises(NotRunningError, match="Start it with `ollama serve`"):
            await (provider.models() if what == "models" else provider.complete(ChatRequest(model="m", messages=HELLO)))
