import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from aichat_magic.batching.api import batch_async, batch_iter_async
from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.errors import (
    AichatError,
    AuthenticationError,
    BadInputError,
    ConfigError,
    IncompleteReplyError,
    OptionError,
    PromptError,
    RateLimitError,
    ServerError,
    UnexpectedError,
    UnknownNameError,
)
from aichat_magic.core.messages import ChatRequest, Chunk, Image, Message, PartialReply, Reply
from aichat_magic.core.options import CallOptions, Options
from aichat_magic.core.settings import Endpoint, Settings
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
HELLO = (Message("user", "hello"),)


class Scripted(AsyncProvider):
    """Does what its script says, one entry for each attempt: an error, or the pieces of a reply, or both."""

    def __init__(self, *script: list[str | Exception] | Exception) -> None:
        super().__init__(Endpoint(provider="scripted"), HttpClient())
        self.script = list(script)
        self.calls = 0

    async def complete(self, request: ChatRequest) -> Reply:
        text = ""
        async for chunk in self.stream(request):
            text += chunk.text
        return Reply(text=text, model="scripted/m")

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        self.calls += 1
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
