"""What a server refuses is learned, told and not asked again."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from claude import claude
from hypothesis import given
from hypothesis import strategies as st
from picky import (
    claude_error,
    no_stream_options,
    no_streams,
    no_temperature,
    objects_to,
    only_temperature_1,
    openai_error,
    other_token_limit,
    picky,
)
from servers import Answer, ChatServer, Received, text

from aichat_magic.batching.api import batch, batch_iter_async
from aichat_magic.batching.options import BatchOptions
from aichat_magic.batching.run import run_rows
from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import BadRequestError, OptionError, UnsupportedOptionError
from aichat_magic.core.messages import ChatRequest, Message, PartialReply, Reply
from aichat_magic.core.options import CallOptions, Options
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.dialect import Dialect
from aichat_magic.providers.learning import learned_profile
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.profile import SCHEMA_MODES, ModelProfile, ModelProfiles
from aichat_magic.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
HELLO = (Message("user", "hello"),)
OPTIONS = {"temperature": 0.2, "max_tokens": 9}


@contextlib.asynccontextmanager
async def at(server: ChatServer, kind: type[Dialect] = OpenAI, name: str = "vllm") -> AsyncIterator[Dialect]:
    async with contextlib.aclosing(HttpClient()) as http:
        yield kind(Endpoint(provider=name, base_url=server.url), http)


def asked(model: str = "m", **options: Any) -> ChatRequest:
    return ChatRequest(model=model, messages=HELLO, options=Options(**options))


async def said(provider: Dialect, request: ChatRequest, *, is_streamed: bool = False) -> Reply:
    if not is_streamed:
        return await provider.complete(request)
    draft = PartialReply()
    async with contextlib.aclosing(provider.stream(request)) as chunks:
        async for chunk in chunks:
            draft.add(chunk)
    return draft.reply(model=request.model, elapsed_s=0.0, messages=request.messages)


# Options, what the server says to them, what the second request has instead, and what the user is told.
LEARNED: dict[str, tuple[dict[str, Any], Any, dict[str, Any], str]] = {
    "an option": (OPTIONS, no_temperature, {"temperature": None, "max_tokens": 9}, "temperature=0.2 (left out)"),
    "a value": (OPTIONS, only_temperature_1, {"temperature": None}, "temperature=0.2 (left out)"),
    "another name": (
        OPTIONS,
        other_token_limit,
        {"max_tokens": None, "max_completion_tokens": 9, "temperature": 0.2},
        "max_tokens (sent as max_completion_tokens)",
    ),
    "a limit of which the other name is not told": (
        OPTIONS,
        objects_to("max_tokens", openai_error("Unrecognized request argument supplied: max_tokens")),
        {"max_tokens": None, "max_completion_tokens": 9},
        "max_tokens (sent as max_completion_tokens)",
    ),
    "in camel case": (
        {"presence_penalty": 0.5},
        objects_to("presence_penalty", {"error": "Argument not supported on this model: presencePenalty"}),
        {"presence_penalty": None},
        "presence_penalty=0.5 (left out)",
    ),
    "422, as FastAPI": (
        {"seed": 7},
        objects_to("seed", {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}),
        {"seed": None},
        "seed=7 (left out)",
    ),
    "a list": (
        {"stop": ("a", "b")},
        objects_to("stop", openai_error("Unsupported parameter: 'stop' is not supported with this model.")),
        {"stop": None},
        'stop=["a", "b"] (left out)',
    ),
    "one of two": (
        {"temperature": 0.3, "top_p": 0.5},
        objects_to(
            "top_p",
            openai_error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
            beside="temperature",
        ),
        {"temperature": 0.3, "top_p": None},
        "top_p=0.5 (left out)",
    ),
    "in words alone": (
        OPTIONS,
        objects_to("temperature", openai_error("invalid temperature: only 1 is allowed for this model")),
        {"temperature": None},
        "temperature=0.2 (left out)",
    ),
}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("options", "objection", "second", "told"), LEARNED.values(), ids=LEARNED)
async def test_request_is_sent_again_as_the_server_takes_it(
    options: dict[str, Any], objection: Any, second: dict[str, Any], told: str, is_streamed: bool
) -> None:
    with ChatServer(picky(objection, code=422 if "seed" in options else 400)) as server:
        async with at(server) as provider:
            for _ in range(2):
                reply = await said(provider, asked(**options), is_streamed=is_streamed)
                assert reply.text == "as you like"
                assert reply.remarks == (f"vllm/m does not take {told}.",)
        first, *others = server.bodies
    assert len(others) == 2, "the refusal was not remembered"
    assert {name: first[name] for name in options} == json.loads(json.dumps(options))
    for body in others:
        assert {name: body.get(name) for name in second} == second
        assert body["messages"] == first["messages"]


async def test_what_nobody_asked_for_is_left_out_and_what_that_means_is_told() -> None:
    with ChatServer(picky(no_stream_options)) as server:
        async with at(server) as provider:
            reply = await said(provider, asked(), is_streamed=True)
    assert "stream_options" not in server.bodies[-1]
    assert server.bodies[-1]["stream"] is True
    assert reply.text == "as you like"
    assert "without token counts" in reply.remarks[0]


async def test_server_that_does_not_stream_is_asked_for_the_whole() -> None:
    with ChatServer(picky(no_streams)) as server:
        async with at(server) as provider:
            for _ in range(2):
                reply = await said(provider, asked(), is_streamed=True)
                assert (reply.text, reply.finish_reason) == ("as you like", "stop")
                assert reply.usage.output_tokens == 3
                assert "streaming" in reply.remarks[0]
            # Who asks for the whole anyway misses nothing.
            assert (await provider.complete(asked())).remarks == ()
    assert [body.get("stream") for body in server.bodies] == [True, None, None, None]
    assert all("stream_options" not in body for body in server.bodies[1:])


async def test_several_refusals_are_learned_one_after_the_other_and_told_in_one_line() -> None:
    objections = (no_streams, other_token_limit, only_temperature_1)
    with ChatServer(picky(*objections)) as server:
        async with at(server) as provider:
            reply = await said(provider, asked(**OPTIONS), is_streamed=True)
            assert len(server.requests) == 4
            await said(provider, asked(**OPTIONS), is_streamed=True)
            assert len(server.requests) == 5
    assert len(reply.remarks) == 1
    for word in ("temperature=0.2", "max_completion_tokens", "streaming"):
        assert word in reply.remarks[0]


async def test_request_is_sent_again_four_times_at_most() -> None:
    def answer(received: Received, attempt: int) -> Answer:
        name = next(name for name in ("a_b", *OPTIONS_OF_FIVE, "model") if name in received.json)
        return picky(objects_to(name, openai_error(f"Unknown parameter: '{name}'.")))(received, attempt)

    OPTIONS_OF_FIVE = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
    with ChatServer(answer) as server:
        async with at(server) as provider:
            with pytest.raises(UnsupportedOptionError, match="seed"):
                await provider.complete(asked(**dict.fromkeys(OPTIONS_OF_FIVE, 1)))
            assert len(server.requests) == 5
            # What the server has not accepted in the end is not known either.
            with pytest.raises(UnsupportedOptionError):
                await provider.complete(asked(temperature=1, seed=1, top_p=1, presence_penalty=1, frequency_penalty=1))


@pytest.mark.parametrize(
    "message",
    [
        "Invalid type for 'temperature': expected a number, but got a string.",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "Your prompt about temperature, top_p and so on was odd.",
        "Invalid value: 'tool'. Supported values are: 'system', 'assistant', 'user'.",
        "Unsupported service_tier: flex",
        "",
    ],
)
async def test_error_about_something_else_is_raised_at_once(message: str) -> None:
    with ChatServer(picky(lambda sent: openai_error(message))) as server:
        async with at(server) as provider:
            with pytest.raises(BadRequestError):
                await provider.complete(asked(temperature=0.5, max_tokens=100_000, top_p=0.5))
    assert len(server.requests) == 1


async def test_guess_that_does_not_help_is_not_remembered() -> None:
    """The words name an option and object to something, but to something else."""
    words = "This request may not be answered: its talk of temperature is not allowed."
    with ChatServer(picky(objects_to("messages", openai_error(words), unless=is_good))) as server:
        async with at(server) as provider:
            with pytest.raises(BadRequestError):
                await provider.complete(asked(temperature=0.5))
            reply = await provider.complete(
                ChatRequest(model="m", messages=(Message("user", "good"),), options=Options(temperature=0.5))
            )
    assert reply.remarks == ()
    assert server.bodies[-1]["temperature"] == 0.5


def is_good(messages: Any) -> bool:
    return messages[-1]["content"] == "good"


async def test_value_that_is_refused_leaves_others_alone() -> None:
    with ChatServer(picky(only_temperature_1)) as server:
        async with at(server) as provider:
            for temperature in (0.2, 1, 0.2):
                await provider.complete(asked(temperature=temperature))
    assert [body.get("temperature") for body in server.bodies] == [0.2, None, 1, None]


async def test_refusal_holds_for_its_model_and_its_server_alone() -> None:
    profiles = ModelProfiles()
    with ChatServer(picky(no_temperature)) as server, ChatServer() as other:
        for place, model in ((server, "m"), (server, "n"), (other, "m")):
            async with at(place) as provider:
                provider.profiles = profiles
                await provider.complete(asked(model, **OPTIONS))
    assert [(body["model"], "temperature" in body) for body in server.bodies] == [
        ("m", True),
        ("m", False),
        ("n", True),
        ("n", False),
    ]
    assert other.bodies[0]["temperature"] == 0.2


async def test_strict_options_make_a_refusal_an_error() -> None:
    with ChatServer(picky(no_temperature, other_token_limit)) as server:
        async with at(server) as provider:
            with pytest.raises(UnsupportedOptionError, match=r"'temperature'.*strict_options"):
                await provider.complete(asked(**OPTIONS, strict_options=True))
            assert len(server.requests) == 1
            # Under another name it is the option that was asked for.
            await provider.complete(asked(max_tokens=9, strict_options=True))
            # Once it is known, nothing is sent.
            await provider.complete(asked(**OPTIONS))
            n_sent = len(server.requests)
            for is_streamed in (False, True):
                with pytest.raises(OptionError, match=r"temperature=0.2.*strict_options"):
                    await said(provider, asked(**OPTIONS, strict_options=True), is_streamed=is_streamed)
            assert len(server.requests) == n_sent
            # What nobody has asked for is no option.
    with ChatServer(picky(no_stream_options)) as server:
        async with at(server) as provider:
            assert (await said(provider, asked(strict_options=True), is_streamed=True)).text


# Anthropic ------------------------------------------------------------------------------------------------------------

ADAPTIVE = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}
ENABLED = {"thinking": {"type": "enabled", "budget_tokens": 5000}}


class Thinks(Anthropic):
    """Claude, which is asked to think in the form that the model's name says."""

    def _body(self, fitting: Any, *, is_streamed: bool) -> dict[str, Any]:
        forms = {"adaptive": ADAPTIVE, "enabled": ENABLED}
        return {**super()._body(fitting, is_streamed=is_streamed), **forms.get(fitting.request.model, {})}


NO_ENABLED = '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
# The model, its options, what the server says to them, what is sent then, and what the user is told.
CLAUDE: dict[str, tuple[str, dict[str, Any], Any, dict[str, Any], str]] = {
    "deprecated": (
        "m",
        {"temperature": 0.2},
        objects_to("temperature", claude_error("`temperature` is deprecated for this model.")),
        {"temperature": None},
        "temperature=0.2 (left out)",
    ),
    "enabled": (
        "enabled",
        {},
        objects_to(
            "thinking.type", claude_error(NO_ENABLED + '"output_config.effort" to control it.'), value="enabled"
        ),
        {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "medium"},
        },
        "this form of thinking (sent as adaptive)",
    ),
    "enabled, as a path": (
        "enabled",
        {},
        objects_to("thinking.type", claude_error("thinking.type.enabled: not supported here."), value="enabled"),
        {"output_config": {"effort": "medium"}},
        "this form of thinking (sent as adaptive)",
    ),
    "adaptive": (
        "adaptive",
        {},
        objects_to("thinking.type", claude_error("adaptive thinking is not supported on this model"), value="adaptive"),
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": None},
        "this form of thinking (sent as enabled)",
    ),
    "adaptive, as a union": (
        "adaptive",
        {},
        objects_to(
            "thinking.type",
            claude_error("thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags"),
            value="adaptive",
        ),
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        "this form of thinking (sent as enabled)",
    ),
    "effort": (
        "adaptive",
        {},
        objects_to("output_config.effort", claude_error("This model does not support the effort parameter.")),
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": None},
        "this form of thinking (sent as enabled)",
    ),
    "beside thinking": (
        "adaptive",
        {"temperature": 0.2},
        objects_to(
            "temperature",
            claude_error("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."),
            beside="thinking",
            unless=lambda value: value == 1,
        ),
        {"temperature": None, "thinking": {"type": "adaptive"}},
        "temperature=0.2 (left out)",
    ),
}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("model", "options", "objection", "second", "told"), CLAUDE.values(), ids=CLAUDE)
async def test_request_to_claude_is_sent_again_as_the_model_takes_it(
    model: str, options: dict[str, Any], objection: Any, second: dict[str, Any], told: str, is_streamed: bool
) -> None:
    with ChatServer(picky(objection, answer=lambda received, attempt: claude("yes"))) as server:
        async with at(server, Thinks, "anthropic") as provider:
            for _ in range(2):
                reply = await said(provider, asked(model, **options), is_streamed=is_streamed)
                assert reply.text == "yes"
                assert reply.remarks == (f"anthropic/{model} does not take {told}.",)
    assert len(server.requests) == 3
    for body in server.bodies[1:]:
        assert {name: body.get(name) for name in second} == second
        assert body["max_tokens"] == 16_000


async def test_option_refused_beside_thinking_is_sent_without_thinking() -> None:
    _, _, objection, _, _ = CLAUDE["beside thinking"]
    with ChatServer(picky(objection, answer=lambda received, attempt: claude("yes"))) as server:
        async with at(server, Thinks, "anthropic") as thinks, at(server, Anthropic, "anthropic") as provider:
            provider.profiles = thinks.profiles
            await thinks.complete(asked("adaptive", temperature=0.2))
            reply = await provider.complete(asked("adaptive", temperature=0.2))
    assert server.bodies[-1]["temperature"] == 0.2
    assert reply.remarks == ()


async def test_model_that_does_not_think_at_all_is_asked_without_thinking() -> None:
    objection = objects_to("thinking", claude_error("thinking is not supported by this model"))
    with ChatServer(picky(objection, answer=lambda received, attempt: claude("yes"))) as server:
        async with at(server, Thinks, "anthropic") as provider:
            reply = await provider.complete(asked("enabled"))
    assert len(server.requests) == 3
    assert "thinking" not in server.bodies[-1]
    assert "reasoning (left out)" in reply.remarks[0]


async def test_thinking_that_has_no_room_is_left_out_and_told() -> None:
    objection = objects_to(
        "thinking.type", claude_error("adaptive thinking is not supported on this model"), value="adaptive"
    )
    with ChatServer(picky(objection, answer=lambda received, attempt: claude("yes"))) as server:
        async with at(server, Thinks, "anthropic") as provider:
            reply = await provider.complete(asked("adaptive", max_tokens=500))
    assert server.bodies[-1].keys() & {"thinking", "output_config"} == set()
    assert "reasoning (left out)" in reply.remarks[0]


# Runs, scripts, conversations -----------------------------------------------------------------------------------------


@pytest.fixture
def chat() -> Any:
    chat = Chat(settings=Settings, store=MemoryStore(), random=lambda: 0.0)
    yield chat
    run(chat.http.aclose())


def test_rows_of_a_run_learn_once(chat: Chat) -> None:
    rows = [f"row {number}" for number in range(2000)]
    with ChatServer(picky(no_temperature, answer=echo)) as server:
        options = BatchOptions(concurrency=64, progress=False)
        given = CallOptions(model="vllm/m", base_url=server.url, options=Options(temperature=0.2))
        result = run_rows(chat, lambda: rows, n_rows=len(rows), given=given, options=options)
        assert len(server.requests) - len(rows) <= 64
    assert [reply.text for reply in result.replies if reply] == rows
    assert result.errors == {}
    # Sending again for the server is no attempt of a row.
    assert result.progress.calls == len(rows)
    assert result.remarks() == ["vllm/m does not take temperature=0.2 (left out)."]
    assert repr(result).count("left out") == 1


def test_auto_concurrency_learns_from_its_first_rows(chat: Chat) -> None:
    rows = [f"row {number}" for number in range(300)]
    with ChatServer(picky(no_temperature, other_token_limit, answer=echo)) as server:
        replies = batch(
            rows, chat=chat, model="vllm/m", base_url=server.url, temperature=0.2, max_tokens=9, progress=False
        )
        assert len(server.requests) - len(rows) <= 2 * 16
    assert [str(reply) for reply in replies] == rows


def echo(received: Received, attempt: int) -> Answer:
    return text(received.last_message)


def test_key_of_a_request_has_the_options_as_the_user_wrote_them(chat: Chat) -> None:
    with ChatServer(picky(no_temperature, answer=echo)) as server:
        for temperature, calls in ((0.2, 4), (0.2, 4), (0.3, 6)):
            # One by one, so that the calls can be counted.
            batch(
                ["a", "b", "c"],
                chat=chat,
                model="vllm/m",
                base_url=server.url,
                temperature=temperature,
                progress=False,
                concurrency=1,
            )
            assert len(server.requests) >= calls
        before = len(server.requests)
        batch(["a"], chat=chat, model="vllm/m", base_url=server.url, temperature=0.2, progress=False)
        assert len(server.requests) == before
    assert before == 4 + 3


def test_threads_share_what_was_learned(chat: Chat) -> None:
    with ChatServer(picky(no_temperature, answer=echo)) as server:
        given = CallOptions(model="vllm/m", base_url=server.url, options=Options(temperature=0.2))

        def ask(number: int) -> None:
            run(chat.ask(chat.call((Message("user", f"{number}"),), given)))
            run(chat.http.aclose())

        ask(0)
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 2 + 8


async def rows_of(chat: Chat, options: Any) -> list[Any]:
    return [row async for row in batch_iter_async(["hello", "you"], chat=chat, store=False, **options)]


def test_scripts_are_warned(chat: Chat) -> None:
    from aichat_magic.chat.api import ask, stream

    with ChatServer(picky(no_temperature, answer=echo)) as server:
        options: Any = {"model": "vllm/m", "base_url": server.url, "temperature": 0.2}
        asking: list[Callable[[], object]] = [
            lambda: ask("hello", chat=chat, **options),
            lambda: list(stream("hello", chat=chat, **options)),
            lambda: Conversation(chat=chat).ask("hello", **options),
            lambda: list(Conversation(chat=chat).stream("hello", **options)),
            lambda: batch(["hello", "you"], chat=chat, store=False, progress=False, **options),
            lambda: run(rows_of(chat, options)),
        ]
        for each in asking:
            with pytest.warns(UserWarning, match=re.escape("vllm/m does not take temperature=0.2 (left out).")) as told:
                each()
            assert len(told) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert str(asking[0]()) == "hello"  # a reply is not lost to a warning


# Any words ------------------------------------------------------------------------------------------------------------

BODY = {
    "model": "m",
    "messages": [],
    "temperature": 0.2,
    "max_tokens": 9,
    "top_p": 0.5,
    "stop": ["a"],
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "low"},
}
WORDS = st.lists(
    st.sampled_from(
        [
            *BODY,
            "effort",
            "only",
            "is not supported",
            "use",
            "instead",
            "schema",
            "'",
            "grammar",
            "max_completion_tokens",
        ]
    )
    | st.text(max_size=5),
    max_size=12,
).map(" ".join)
SCHEMA = json.dumps({"name": "r", "strict": True, "schema": {"type": "object", "properties": {"a": {"minimum": 3}}}})


@given(WORDS, st.none() | st.sampled_from([*BODY, "effort", "think", "response_format", "x"]), st.none() | WORDS)
def test_whatever_is_learned_changes_the_request_and_learning_ends(
    words: str, option: str | None, instead: str | None
) -> None:
    error = (
        BadRequestError(words, status=400)
        if option is None
        else UnsupportedOptionError(words, status=400, option=option, instead=instead)
    )
    for schema in (None, SCHEMA):
        profile, bodies = ModelProfile(), []
        for _ in range(12):
            body, _ = profile.fitted(BODY)
            bodies.append((body, None if schema is None else profile.mode_of(schema)))
            assert {"model", "messages"} <= body.keys()
            learned = learned_profile(
                profile,
                error,
                body,
                schema=schema,
                mode=None if schema is None else profile.mode_of(schema),
                modes=SCHEMA_MODES,
                thinking_forms=("adaptive", "enabled"),
            )
            if learned is None:
                break
            profile = learned
        else:
            pytest.fail("there is no end")
        assert len({repr(each) for each in bodies}) == len(bodies), "the same request again"
    assert BODY["temperature"] == 0.2


@pytest.mark.parametrize(
    "words",
    [
        "For this deployment logit_bias may not be part of a request.",
        "Requests that carry logit_bias cannot be served here.",
    ],
)
def test_field_that_only_a_sentence_names_is_learned(words: str) -> None:
    body = {"model": "m", "messages": [], "logit_bias": {"1": 2}, "seed": 3}
    learned = learned_profile(
        ModelProfile(),
        BadRequestError(words, status=400),
        body,
        schema=None,
        mode=None,
        modes=SCHEMA_MODES,
        thinking_forms=(),
    )
    assert learned is not None
    assert learned.fitted(body)[0] == {"model": "m", "messages": [], "seed": 3}
