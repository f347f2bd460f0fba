"""A schema is asked for in the best way that a model has, and every answer is checked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import pytest
from annotated_types import Ge, Le
from claude import claude
from picky import claude_error, no_bounds, no_json_schema, no_response_format, objects_to, openai_error, picky
from servers import Answer, ChatServer, Received, event_stream, payload, sse, text

import aichat_magic  # noqa: F401  # it is what gives pandas the accessor
from aichat_magic.chat import chat as chat_module
from aichat_magic.chat.chat import Chat
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import BadRequestError
from aichat_magic.core.messages import ChatRequest, Message, PartialReply, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.dialect import Dialect
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.profile import ModelProfiles
from aichat_magic.schema.schema import Schema
from aichat_magic.store.memory import MemoryStore

pytestmark = pytest.mark.anyio


@dataclass
class Review:
    stars: Annotated[int, Ge(1), Le(5)]


@dataclass
class City:
    name: str


@dataclass
class Open:
    counts: dict[str, int]


def wire(source: Any) -> str:
    schema = Schema.of(source)
    return json.dumps({"name": schema.name, "strict": schema.is_strict, "schema": schema.json_schema})


def request(source: Any, *messages: Message) -> ChatRequest:
    return ChatRequest(
        model="m", messages=messages or (Message("user", "hello"),), options=Options(schema=wire(source))
    )


@contextlib.asynccontextmanager
async def at(server: ChatServer, name: str, profiles: ModelProfiles | None = None) -> AsyncIterator[Dialect]:
    kind = Anthropic if name == "anthropic" else OpenAI
    async with contextlib.aclosing(HttpClient()) as http:
        provider = kind(Endpoint(provider=name, base_url=server.url), http)
        provider.profiles = profiles or provider.profiles
        yield provider


async def said(provider: Dialect, request: ChatRequest, is_streamed: bool) -> Reply:
    if not is_streamed:
        return await provider.complete(request)
    draft = PartialReply()
    async with contextlib.aclosing(provider.stream(request)) as chunks:
        async for chunk in chunks:
            draft.add(chunk)
    return draft.reply(model=request.model, elapsed_s=0.0, messages=request.messages)


def mode_of(body: Any) -> str:
    """How a request asks for its schema."""
    form = body.get("response_format") or body.get("output_config", {}).get("format") or {}
    system = str([body.get("system"), *(m["content"] for m in body["messages"] if m["role"] == "system")])
    in_words = "satisfies this JSON schema" in system
    kind = form.get("type", "none")
    if kind == "json_schema" and "minimum" not in str(form.get("schema") or form["json_schema"]["schema"]).replace(
        "(minimum", ""
    ):
        kind = "plain"
    return f"{kind} in words" if in_words else kind


FITS = '{"stars": 4}'
# The provider, the schema, what the server objects to, and how the requests ask for it, one after the other.
CASES: dict[str, tuple[str, Any, list[Any], list[str]]] = {
    "OpenAI": ("openai", Review, [], ["json_schema"]),
    "DeepSeek": ("deepseek", Review, [no_json_schema], ["json_object in words"]),
    "Groq's small models": (
        "groq",
        Review,
        [
            objects_to(
                "response_format.type",
                openai_error("This model does not support response format `json_schema`."),
                value="json_schema",
            )
        ],
        ["json_schema", "json_object in words"],
    ),
    "a server that knows neither": (
        "vllm",
        Review,
        [no_response_format],
        ["json_schema", "json_object in words", "none in words"],
    ),
    "LM Studio, schemas or text": (
        "lmstudio",
        Review,
        [
            lambda sent: openai_error("Failed to parse grammar") if mode_of(sent) in ("json_schema", "plain") else None,
            objects_to(
                "response_format.type",
                openai_error("'response_format.type' must be 'json_schema' or 'text'"),
                value="json_object",
            ),
        ],
        ["json_schema", "plain", "json_object in words", "none in words"],
    ),
    "a grammar without bounds": ("llamacpp", Review, [no_bounds], ["json_schema", "plain"]),
    "a grammar that fails, nothing to leave out": (
        "llamacpp",
        City,
        [
            lambda sent: (
                openai_error("Failed to initialize samplers: failed to parse grammar")
                if "json_schema" in str(sent.get("response_format"))
                else None
            )
        ],
        ["plain", "json_object in words"],
    ),
    "Cerebras": (
        "cerebras",
        Review,
        [
            lambda sent: (
                {"message": "Unsupported JSON schema fields: {'minimum'}", "param": "response_format", "code": "format"}
                if mode_of(sent) == "json_schema"
                else None
            )
        ],
        ["json_schema", "plain"],
    ),
    "Gemini": (
        "gemini",
        Review,
        [
            lambda sent: (
                [{"error": {"message": "Unknown name \"minimum\" at 'generation_config.schema': Cannot find field."}}]
                if mode_of(sent) == "json_schema"
                else None
            )
        ],
        ["json_schema", "plain"],
    ),
    "Anthropic": ("anthropic", Review, [no_bounds], ["plain"]),
    "Anthropic, what its grammars cannot say": ("anthropic", Open, [], ["none in words"]),
    "Anthropic, older": (
        "anthropic",
        Review,
        [objects_to("output_config", claude_error("output_config: Extra inputs are not permitted"))],
        ["plain", "none in words"],
    ),
    "Anthropic, older, in other words": (
        "anthropic",
        Review,
        [objects_to("output_config.format", claude_error("'claude-x' does not support output format."))],
        ["plain", "none in words"],
    ),
    "Anthropic, too complex": (
        "anthropic",
        Review,
        [objects_to("output_config.format", claude_error("Schema is too complex for compilation."))],
        ["plain", "none in words"],
    ),
}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "schema", "objections", "modes"), CASES.values(), ids=CASES)
async def test_schema_is_asked_for_in_the_best_way_that_is_taken(
    name: str, schema: Any, objections: list[Any], modes: list[str], is_streamed: bool
) -> None:
    answer: Callable[[str], Answer] = claude if name == "anthropic" else text
    with ChatServer(picky(*objections, answer=lambda received, attempt: answer(FITS))) as server:
        async with at(server, name) as provider:
            first = await said(provider, request(schema), is_streamed)
            await said(provider, request(schema), is_streamed)
    assert [mode_of(body) for body in server.bodies] == [*modes, modes[-1]]
    assert first.text == FITS
    assert bool(first.remarks) == (len(modes) > 1)
    assert all("checked" in remark for remark in first.remarks)


async def test_words_follow_the_users_own_system_message() -> None:
    messages = (Message("system", "Be brief."), Message("user", "hello"))
    with ChatServer() as server:
        async with at(server, "deepseek") as provider:
            await provider.complete(request(City, *messages))
    system, user = server.bodies[0]["messages"]
    assert system["content"].startswith("Be brief.\n\nAnswer with JSON only")
    assert user["content"] == "hello"


async def test_native_schema_of_anthropic_keeps_what_the_user_wants_of_output_config() -> None:
    with ChatServer(lambda received, attempt: claude(FITS)) as server:
        async with at(server, "anthropic") as provider:
            await provider.complete(request(Review))
    form = server.bodies[0]["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"]["properties"]["stars"] == {"description": "(minimum: 1, maximum: 5)", "type": "integer"}
    assert server.bodies[0]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]


async def test_one_schema_that_fails_does_not_change_how_others_are_asked_for() -> None:
    with ChatServer(picky(no_bounds)) as server:
        async with at(server, "llamacpp") as provider:
            await provider.complete(request(Review))
            await provider.complete(request(Open))
    assert server.bodies[-1]["response_format"]["json_schema"] == json.loads(wire(Open))


@pytest.mark.parametrize(
    "message",
    [
        "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
        "Generated JSON does not match the expected schema. Please adjust your prompt.",
    ],
)
async def test_answer_that_did_not_fit_is_no_reason_to_ask_otherwise(message: str) -> None:
    with ChatServer(picky(lambda sent: openai_error(message, code="json_validate_failed"))) as server:
        async with at(server, "groq") as provider:
            with pytest.raises(BadRequestError):
                await provider.complete(request(Review))
    assert len(server.requests) == 1


def thought(content: str | None, thinking: str) -> Answer:
    message = {"role": "assistant", "content": content, "reasoning_content": thinking}
    return payload({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def thought_in_pieces(thinking: str) -> Answer:
    pieces = [thinking[at : at + 3] for at in range(0, len(thinking), 3)]
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"reasoning_content": piece}}]} for piece in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return event_stream([*map(sse, events), sse("[DONE]")])


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("thinking", "is_moved"), [(FITS, True), (f" {FITS}\n", True), ("The stars are 4, so {", False)]
)
async def test_json_that_came_as_thinking_is_the_answer(thinking: str, is_moved: bool, is_streamed: bool) -> None:
    answer = thought_in_pieces(thinking) if is_streamed else thought(None, thinking)
    with ChatServer(lambda received, attempt: answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(Endpoint(provider="vllm", base_url=server.url), http)
            reply = await said(provider, request(Review), is_streamed)
    assert reply.text.strip() == (FITS if is_moved else "")
    assert any("as thinking" in remark for remark in reply.remarks) == is_moved
    assert (reply.thinking == "") == is_moved


# Extraction -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    chat = Chat(settings=lambda: Settings(environ={"ANTHROPIC_API_KEY": "k"}), store=MemoryStore(), random=lambda: 0.0)
    monkeypatch.setattr(chat_module, "shared_chat", lambda: chat)
    yield chat
    run(chat.http.aclose())


def extract(server: ChatServer, model: str, rows: list[str], **options: Any) -> pd.DataFrame:
    found: pd.DataFrame = pd.Series(rows).aichat.extract(
        schema=Review, model=model, base_url=server.url, progress=False, **options
    )
    return found


@pytest.mark.parametrize("name", ["deepseek", "anthropic", "vllm"])
def test_answers_are_checked_however_they_are_asked_for(name: str, chat: Chat) -> None:
    say: Callable[[str], Answer] = claude if name == "anthropic" else text

    def answer(received: Received, attempt: int) -> Answer:
        return say(FITS if "did not satisfy" in str(received.json["messages"]) else '{"stars": 9}')

    with ChatServer(picky(*([no_response_format] if name == "vllm" else [no_bounds]), answer=answer)) as server:
        if name == "vllm":
            with pytest.warns(UserWarning, match="asked for in words; every answer is checked"):
                found = extract(server, f"{name}/m", ["a", "b", "c"])
        else:
            found = extract(server, f"{name}/m", ["a", "b", "c"])
    assert found["stars"].tolist() == [4, 4, 4]
    assert "extract_error" not in found


def test_rows_of_an_extraction_learn_once(chat: Chat) -> None:
    rows = [f"row {number}" for number in range(60)]
    with (
        ChatServer(picky(no_json_schema, answer=lambda received, attempt: text(FITS))) as server,
        pytest.warns(UserWarning, match="JSON schemas") as caught,
    ):
        found = extract(server, "vllm/m", rows, concurrency=4)
    assert found["stars"].tolist() == [4] * 60
    assert len(server.requests) <= 60 + 4
    assert len([each for each in caught if "JSON schemas" in str(each.message)]) == 1


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("anthropic", claude('{"stars": ', stop="max_tokens"), "cut at max_tokens=7"),
        ("anthropic", claude("I would rather not.", stop="refusal"), "refused to answer"),
        ("deepseek", text('{"stars": ', finish="length"), "cut at max_tokens=7"),
        ("vllm", text('{"stars": ', finish="content_filter"), "content filter"),
    ],
)
def test_cut_and_refusal_are_named_and_not_asked_again(name: str, answer: Answer, words: str, chat: Chat) -> None:
    say: Callable[[str], Answer] = claude if name == "anthropic" else text
    with ChatServer(
        lambda received, attempt: answer if "bad" in str(received.json["messages"]) else say(FITS)
    ) as server:
        found = extract(server, f"{name}/m", ["good", "bad"], max_tokens=7)
        assert len(server.requests) == 2
    assert found["stars"].tolist()[0] == 4
    assert words in found["extract_error"][1]
