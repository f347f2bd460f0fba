import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from picky import no_temperature, picky
from servers import Answer, ChatServer, Received, payload, status, text

from aichat_magic.batching.api import batch_async, batch_iter_async
from aichat_magic.chat.api import ask, ask_async, stream, stream_async
from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.conversation import Conversation
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import (
    AichatError,
    AuthenticationError,
    BadInputError,
    ConfigError,
    IncompleteReplyError,
    ModelLoadingError,
    NoCapacityError,
    OptionError,
    PromptError,
    RateLimitError,
    ServerError,
    UnexpectedError,
    UnknownNameError,
)
from aichat_magic.core.messages import ChatRequest, Chunk, Image, Message, PartialReply, Reply
from aichat_magic.core.options import CallOptions, Options
from aichat_magic.core.prices import Price, PriceList
from aichat_magic.core.settings import Settings, changed, load_settings
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.providers.openai import OpenAI
from aichat_magic.store.keys import request_key
from aichat_magic.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
HELLO = (Message("user", "hello"),)


class Scripted(AsyncProvider):
    """Does what its script says, one entry for each attempt: an error, or the pieces of a reply, or both."""

    def __init__(self, *script: list[str | Exception] | Exception) -> None:
        super().__init__(Endpoint(provider="scripted"), HttpClient())
        self.script = list(script)
        self.calls = 0
        self.tiers: list[str | None] = []

    async def complete(self, request: ChatRequest) -> Reply:
        text = ""
        async for chunk in self.stream(request):
            text += chunk.text
        return Reply(text=text, model="scripted/m")

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        self.calls += 1
        self.tiers.append(request.options.tier)
        step = self.script.pop(0)
        for piece in step if isinstance(step, list) else [step]:
            if isinstance(piece, Exception):
                raise piece
            yield Chunk(text=piece)
        yield Chunk(finish_reason="stop")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def setup(*script: list[str | Exception] | Exception, max_retries: int = 4) -> tuple[Chat, Call, Clock, Scripted]:
    clock = Clock()
    provider = Scripted(*script)
    chat = Chat(settings=Settings, clock=clock, sleep=clock.sleep, random=lambda: 0.5)
    call = Call(
        provider=provider, request=ChatRequest(model="m", messages=HELLO), policy=RetryPolicy(max_retries=max_retries)
    )
    return chat, call, clock, provider


def busy(retry_after_s: float | None = None) -> RateLimitError:
    return RateLimitError("busy", status=429, retry_after_s=retry_after_s)


async def test_reply_tells_time_and_messages() -> None:
    chat, call, _, _ = setup(busy(), ["hi"])
    reply = await chat.ask(call)
    assert (reply.text, reply.messages) == ("hi", HELLO)
    assert reply.elapsed_s > 0


async def test_rate_limit_waits_for_retry_after() -> None:
    chat, call, clock, provider = setup(busy(2.0), ["hi"])
    assert (await chat.ask(call)).text == "hi"
    assert provider.calls == 2
    assert sum(clock.slept) >= 2.0


async def test_waits_grow_from_attempt_to_attempt() -> None:
    chat, call, clock, _ = setup(*[ServerError("down", status=500)] * 4, ["hi"])
    await chat.ask(call)
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 4


async def test_last_error_is_raised_when_tries_are_used_up() -> None:
    chat, call, _, provider = setup(*[ServerError("down", status=500)] * 9, max_retries=2)
    with pytest.raises(ServerError, match="down"):
        await chat.ask(call)
    assert provider.calls == 3


async def test_error_that_cannot_pass_is_raised_at_once() -> None:
    chat, call, clock, provider = setup(AuthenticationError("no", status=401))
    with pytest.raises(AuthenticationError):
        await chat.ask(call)
    assert (provider.calls, clock.slept) == (1, [])


async def test_retry_after_above_the_cap_is_not_waited_for_and_is_named() -> None:
    chat, call, clock, provider = setup(busy(300.0), ["hi"])
    with pytest.raises(RateLimitError, match="300"):
        await chat.ask(call)
    assert (provider.calls, clock.slept) == (1, [])


async def test_stream_is_tried_again_before_its_first_text() -> None:
    chat, call, _, provider = setup(busy(), ["a", "b"])
    draft = PartialReply()
    async with contextlib.aclosing(chat.stream(call, draft)) as chunks:
        pieces = [chunk.text async for chunk in chunks]
    assert "".join(pieces) == draft.text == "ab"
    assert provider.calls == 2


async def test_stream_is_never_tried_again_after_its_first_text() -> None:
    chat, call, _, provider = setup(["a", IncompleteReplyError("cut")], ["other"])
    draft = PartialReply()
    with pytest.raises(IncompleteReplyError):
        await chat.reply(call, draft, show=lambda text: None)
    assert (draft.text, provider.calls) == ("a", 1)


async def test_streamed_reply_shows_the_text_as_it_grows() -> None:
    chat, call, _, _ = setup(["a", "b", "c"])
    shown: list[str] = []
    reply = await chat.reply(call, PartialReply(), show=lambda draft: shown.append(draft.text))
    assert shown == ["a", "ab", "abc"]
    assert (reply.text, reply.model) == ("abc", "scripted/m")


async def test_wait_is_told_in_words() -> None:
    chat, call, _, _ = setup(busy(2.0), ["hi"])
    told: list[str] = []
    await chat.ask(call, status=lambda text, done, total: told.append(text))
    assert "busy" in told[0]
    assert "again in" in told[0]


LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


async def asked(answer: Callable[[Received, int], Answer]) -> tuple[str, list[str], Clock]:
    """Ask a real server, and return the reply, what was told meanwhile, and the clock."""
    clock, told = Clock(), []
    with ChatServer(answer) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            chat = Chat(settings=Settings, http=http, clock=clock, sleep=clock.sleep, random=lambda: 0.5)
            provider = OpenAI(Endpoint(provider="llamacpp", base_url=server.url), http)
            call = Call(provider=provider, request=ChatRequest(model="m", messages=HELLO), policy=RetryPolicy())
            reply = await chat.ask(call, status=lambda words, done, total: told.append(f"{words} {done}/{total}"))
    return reply.text, told, clock


async def test_model_that_takes_a_minute_to_load_is_waited_for_and_it_is_said() -> None:
    text_, told, clock = await asked(lambda _, attempt: status(503, body=LOADING) if attempt < 8 else text("hi"))
    assert text_ == "hi"
    assert sum(clock.slept) == 60
    assert told[0] == "llamacpp is loading the model (503): Loading model. Trying again in 1.0 s. 1/4"
    assert told[-1].endswith("7/7")


async def test_model_that_never_loads_is_given_up_after_two_minutes() -> None:
    with pytest.raises(ModelLoadingError, match="It was still loading after 120 s"):
        await asked(lambda _, attempt: status(503, body=LOADING))


async def test_wait_that_stands_only_in_the_body_is_kept() -> None:
    body = {"error": {"message": "Rate limit reached. Please try again in 16.2s.", "code": "rate_limit_exceeded"}}
    text_, _, clock = await asked(lambda _, attempt: status(429, body=body) if attempt < 3 else text("hi"))
    assert text_ == "hi"
    assert len(clock.slept) == 2
    assert all(16.2 <= seconds <= 17 for seconds in clock.slept)


async def test_rate_limit_inside_a_200_is_waited_for() -> None:
    body = {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "retry after 9 seconds"}}}
    text_, told, clock = await asked(lambda _, attempt: payload(body) if attempt < 2 else text("hi"))
    assert text_ == "hi"
    assert 9 <= sum(clock.slept) <= 10
    assert "retry after 9 seconds" in told[0]


async def test_foreign_error_becomes_one_clear_line() -> None:
    chat, call, _, provider = setup(ValueError("what\nis this"))
    with pytest.raises(UnexpectedError, match="'scripted' failed: ValueError: what is this"):
        await chat.ask(call)
    assert provider.calls == 1


async def test_exception_group_leaves_no_group_in_the_chain() -> None:
    chat, call, _, _ = setup(ExceptionGroup("many", [ValueError("a")]))
    with pytest.raises(UnexpectedError) as caught:
        await chat.ask(call)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert not isinstance(seen, BaseExceptionGroup)
        seen = seen.__cause__ or seen.__context__


async def test_set_value_holds_for_later_calls_and_a_flag_wins() -> None:
    chat = Chat(settings=Settings)
    chat.set("model", "echo/echo")
    chat.set("temperature", "0.5")
    assert chat.call(HELLO, CallOptions()).request.options.temperature == 0.5
    assert chat.call(HELLO, CallOptions(options=Options(temperature=0))).request.options.temperature == 0
    chat.set("temperature", "none")
    assert chat.call(HELLO, CallOptions()).request.options.temperature is None


async def test_wrong_value_is_refused_and_changes_nothing() -> None:
    chat = Chat(settings=Settings)
    for name, value in (("temperature", "9"), ("temperatur", "1"), ("timeout", "soon")):
        with pytest.raises(AichatError):
            chat.set(name, value)
    assert chat.settings == Settings()


def test_keywords_are_sorted_into_what_they_mean() -> None:
    given = CallOptions.from_keywords({"temperature": 0, "stop": "x", "timeout": 3, "model": None, "system": "s"})
    assert given == CallOptions(options=Options(temperature=0, stop=("x",)), timeout_s=3, system="s")


@pytest.mark.parametrize(
    ("keywords", "error"),
    [({"temprature": 1}, UnknownNameError), ({"temperature": 9}, OptionError), ({"stop": [""]}, OptionError)],
)
def test_wrong_keyword_is_refused(keywords: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        CallOptions.from_keywords(keywords)


def test_wrong_timeout_is_refused_before_sending() -> None:
    with pytest.raises(OptionError, match="timeout"):
        Chat(settings=Settings).call(HELLO, CallOptions(model="echo/echo", timeout_s=0))


def test_wrong_address_is_refused_before_sending() -> None:
    with pytest.raises(ConfigError):
        Chat(settings=Settings).call(HELLO, CallOptions(model="openai/x", base_url="ftp://x"))


async def test_provider_that_takes_no_images_refuses_them_before_anything_is_sent() -> None:
    _, call, _, provider = setup(["never"])
    seen = (Message("user", "What is it?", (Image("image/png", b"x"),)),)
    with pytest.raises(BadInputError, match=r"'scripted' takes no images.*-m PROVIDER/MODEL"):
        call.with_messages((*seen, Message("assistant", "A cat."), *HELLO))
    with pytest.raises(BadInputError, match="takes no images"):
        await Scripted.create_async("m", seen)
    assert provider.calls == 0


def test_none_takes_a_setting_back_to_what_environment_and_file_say() -> None:
    chat = Chat(settings=lambda: Settings(model="echo/configured", options=Options(seed=3)))
    for name, value in (("model", "echo/echo"), ("seed", "5")):
        chat.set(name, value)
        chat.set(name, "none")
    assert chat.settings.model == "echo/configured"
    assert chat.settings.options.seed == 3


def test_last_value_wins_whichever_way_its_name_is_written() -> None:
    chat = Chat(settings=Settings)
    for name, value in (("max_tokens", "5"), ("max-tokens", "6"), ("max_tokens", "7")):
        chat.set(name, value)
    for name, value in (("timeout", "5"), ("timeout_s", "6"), ("timeout", "7")):
        chat.set(name, value)
    assert (chat.settings.options.max_tokens, chat.settings.timeout_s) == (7, 7)
    chat.set("max-tokens", "none")
    assert chat.settings.options.max_tokens is None


@pytest.mark.parametrize("prompts", ["Tell me a joke", b"Tell me a joke", {"role": "user", "content": "hi"}, 5])
async def test_batch_of_one_text_is_refused_and_not_cut_into_letters(prompts: Any) -> None:
    chat = Chat(settings=lambda: Settings(model="echo/echo"), store=MemoryStore())
    with pytest.raises(PromptError, match=r"a list of prompts.*ask\(\.\.\.\)"):
        await batch_async(prompts, chat=chat, progress=False)
    with pytest.raises(PromptError):
        _ = [row async for row in batch_iter_async(prompts, chat=chat)]


async def test_prompt_that_is_none_fails_alone_in_a_batch() -> None:
    chat = Chat(settings=lambda: Settings(model="echo/echo"), store=MemoryStore())
    prompts: list[Any] = ["a", 5, [{"content": "x"}], None, "e"]
    replies = await batch_async(prompts, chat=chat, progress=False)
    assert [str(reply) for reply in (replies[0], replies[4])] == ["a", "e"]
    assert [type(reply) for reply in replies[1:4]] == [PromptError, PromptError, type(None)]


def no_capacity() -> NoCapacityError:
    return NoCapacityError("no capacity", status=429)


def with_tier(call: Call, tier: str) -> Call:
    request = dataclasses.replace(call.request, options=Options(tier=tier, temperature=0))
    return dataclasses.replace(call, request=request)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_flex_without_capacity_goes_to_the_normal_tier_where_the_user_allows_it(is_streamed: bool) -> None:
    chat, call, clock, provider = setup(no_capacity(), ["hi"])
    said: list[str] = []
    call = with_tier(call, "flex,auto")

    def status(text: str, done: int, total: int) -> None:
        said.append(text)

    if is_streamed:
        draft = PartialReply()
        async for _ in chat.stream(call, draft, status=status):
            pass
        reply = draft.reply(model="m", elapsed_s=0, messages=HELLO)
    else:
        reply = await chat.ask(call, status=status)
    assert reply.text == "hi"
    assert reply.remarks == (
        f"{call.model} had no capacity at the tier flex, and was asked at the normal tier, at its price.",
    )
    assert provider.tiers == ["flex,auto", None]
    assert clock.slept == []
    assert said == ["The tier flex has no capacity now; asking at the normal tier."]


async def test_flex_alone_waits_for_capacity() -> None:
    chat, call, clock, provider = setup(no_capacity(), ["hi"])
    assert (await chat.ask(with_tier(call, "flex"))).text == "hi"
    assert provider.tiers == ["flex", "flex"]
    assert len(clock.slept) == 1


async def test_normal_tier_has_its_own_price_and_the_same_key() -> None:
    _, call, _, _ = setup()
    prices = PriceList({"openai/m": Price(input=2, output=0)})
    used = Usage(input_tokens=1_000_000, output_tokens=0)
    http = HttpClient()
    flex = dataclasses.replace(
        with_tier(call, "flex,auto"),
        provider=OpenAI(Endpoint(provider="openai", base_url="http://127.0.0.1:1"), http),
        prices=prices,
    )
    normal = flex.without_flex()
    assert normal is not None
    assert (flex.priced(used).cost_usd, normal.priced(used).cost_usd) == (1.0, 2.0)
    assert normal.without_flex() is None
    assert with_tier(call, "flex").without_flex() is None
    keys = {request_key(provider="p", host="h", request=each.request) for each in (flex, normal)}
    assert len(keys) == 1


def test_flex_gets_the_time_that_is_advised_unless_the_user_sets_one(tmp_path: Path) -> None:
    def timeout(tier: str, text: str = "", **given: Any) -> float:
        (tmp_path / "config.toml").write_text(text)
        chat = Chat(settings=lambda: load_settings({}, tmp_path / "config.toml"))
        return chat.call(HELLO, CallOptions.from_keywords({"model": "echo", "tier": tier, **given})).request.timeout_s

    assert timeout("flex") == timeout("flex,auto") == 900
    assert timeout("auto") == timeout("priority") == 600
    assert timeout("flex", timeout=30) == 30
    assert timeout("flex", "timeout_s = 20") == 20


def test_level_that_a_model_lacks_is_told() -> None:
    chat = Chat(settings=lambda: Settings(environ={"OPENAI_API_KEY": "k"}))
    call = chat.call(HELLO, CallOptions.from_keywords({"model": "openai/o3", "reasoning": "max"}))
    assert call.notes == ("openai/o3 has no level 'max' of reasoning; 'high' is used, the nearest.",)
    assert call.request.options.reasoning == "max"


async def test_level_that_a_model_lacks_is_told_by_every_way_to_ask() -> None:
    with ChatServer() as server:
        given: Any = {"model": "openai/o3", "reasoning": "max", "base_url": server.url}
        told = "openai/o3 has no level 'max'"
        with pytest.warns(UserWarning, match=told):
            await ask_async("hi", **given)
        with pytest.warns(UserWarning, match=told):
            _ = [piece async for piece in stream_async("hi", **given)]
        with pytest.warns(UserWarning, match=told):
            await Conversation().ask_async("hi", **given)
        with pytest.warns(UserWarning, match=told) as caught:
            await batch_async(["a", "b", "c"], store=False, progress=False, **given)
        assert len(caught) == 1
        assert {body["reasoning_effort"] for body in server.bodies} == {"high"}


def test_tier_that_a_provider_lacks_is_refused_before_sending() -> None:
    with pytest.raises(OptionError, match="Provider 'ollama' has no tier 'flex'"):
        Chat(settings=Settings).call(HELLO, CallOptions.from_keywords({"model": "ollama/m", "tier": "flex"}))


def test_options_of_a_call_come_before_those_of_the_settings() -> None:
    chat = Chat(settings=lambda: changed(changed(Settings(), "temperature", "0.5"), "options", "top_k=40"))
    chat.set("reasoning", "none")
    chat.set("strict_options", "yes")

    def options(**given: Any) -> Options:
        return chat.call(HELLO, CallOptions.from_keywords({"model": "echo", **given})).request.options

    assert options().shown() == {"temperature": 0.5, "reasoning": "none", "top_k": 40}
    assert options().strict_options
    assert not options(strict_options=False).strict_options
    assert options(temperature="unset", reasoning="unset", options={"min_p": 1}).shown() == {"top_k": 40, "min_p": 1}
    chat.set("reasoning", "default")
    assert options().reasoning is None


@pytest.mark.parametrize(
    ("provider", "refusal"),
    [
        ("openai", status(429, body={"error": {"message": "Resource unavailable", "code": "resource_unavailable"}})),
        ("groq", status(498, body={"error": {"message": "Over capacity", "code": "capacity_exceeded"}})),
    ],
)
async def test_server_without_capacity_gets_the_request_at_its_normal_tier(provider: str, refusal: Answer) -> None:
    with ChatServer(lambda received, attempt: refusal if "service_tier" in received.json else text("hi")) as server:
        given: Any = {"model": f"{provider}/m", "base_url": server.url, "tier": "flex,auto"}
        assert (await ask_async("hi", **given)).text == "hi"
        assert [body.get("service_tier") for body in server.bodies] == ["flex", None]


@pytest.mark.parametrize("call", [ask, lambda *args, **given: list(stream(*args, **given))], ids=["ask", "stream"])
def test_warning_of_an_option_that_was_left_out_names_the_line_of_the_user(call: Callable[..., Any]) -> None:
    with ChatServer(picky(no_temperature)) as server, pytest.warns(UserWarning, match=r"temperature=0\.5") as caught:
        call("hi", model="openai/m", base_url=server.url, temperature=0.5)
    assert [warning.filename for warning in caught] == [__file__]


async def test_warning_in_asynchronous_code_names_the_line_of_the_user() -> None:
    with ChatServer(picky(no_temperature)) as server, pytest.warns(UserWarning, match="left out") as caught:
        await ask_async("hi", model="openai/m", base_url=server.url, temperature=0.5)
    assert [warning.filename for warning in caught] == [__file__]


async def test_warning_in_a_running_loop_names_the_line_of_the_user() -> None:
    with ChatServer(picky(no_temperature)) as server, pytest.warns(UserWarning, match="left out") as caught:
        ask("hi", model="openai/m", base_url=server.url, temperature=0.5)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    "call", [ask, lambda prompt, **given: Conversation().ask(prompt, **given)], ids=["ask", "conversation"]
)
def test_note_on_an_option_names_the_line_of_the_user(call: Callable[..., Any]) -> None:
    with ChatServer() as server, pytest.warns(UserWarning, match="normal tier is used") as caught:
        call("hi", model="vllm/m", base_url=server.url, tier="flex,auto")
    assert {warning.filename for warning in caught} == {__file__}
