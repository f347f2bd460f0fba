"""`Chat`: sends requests to providers and returns the replies, whole or streamed, for every caller."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import random as randomlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.answers import no_answer
from ..core.errors import AichatError, NoCapacityError, UnexpectedError
from ..core.keys import KeyRing
from ..core.messages import ChatRequest, Chunk, Message, PartialReply, Reply, StatusCallback, new_request
from ..core.options import CallOptions
from ..core.prices import PriceList
from ..core.quick import quick
from ..core.secrets import Secret
from ..core.settings import Settings, changed, is_reset, load_settings, setting_name
from ..core.usage import Usage
from ..http.client import HttpClient
from ..providers.base import AsyncProvider
from ..providers.registry import Registry
from ..providers.wire_options import billed_tier
from ..store.base import ReplyStore
from ..store.sqlite import open_store
from ..text.words import shorten
from .notices import ContextSizes, Introductions, noticed, say_line
from .retry import RetryPolicy, give_up, next_wait_s

# Advised for flex, whose answers take longer (OpenAI, "Flex processing", 2026-11).
_FLEX_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request and its provider.

    Attributes:
        provider: The provider that gets the request.
        request: The request.
        policy: When to try again.
        prices: Prices of tokens.
        is_at_home: Whether the address is the provider's own server, whose prices may be known; None: compare it with
            the preset.
        remarks: What is sent otherwise than asked, one line each; each reply has them.
    """

    provider: AsyncProvider
    request: ChatRequest
    policy: RetryPolicy
    prices: PriceList = field(default_factory=PriceList)
    is_at_home: bool | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a request that the provider cannot send.

        Raises:
            BadInputError: For example, it has images and the provider takes none.
        """
        self.check()
        if self.is_at_home is None:
            # As the __init__ of a frozen class does.
            object.__setattr__(self, "is_at_home", self.provider.is_at_home)

    def check(self) -> None:
        """Refuse a request that the provider cannot send."""
        self.provider.check(self.request)

    @property
    def model(self) -> str:
        """Return ``provider/model``."""
        return f"{self.provider.name}/{self.request.model}"

    @property
    def billed_tier(self) -> str:
        """Return the tier that decides the price; empty: the normal one."""
        return billed_tier(self.request.options, self.provider.name)

    @property
    def priced_name(self) -> str:
        """Return the name of its price: ``provider/model``, with ``@tier`` for another tier than the normal one."""
        tier = self.billed_tier
        return f"{self.model}@{tier}" if tier else self.model

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a line for each option that the provider gets otherwise than it was written."""
        return self.provider.notes(self.request)

    def priced(self, usage: Usage) -> Usage:
        """Return `usage` with its cost, if the price is known. Prices apply to the provider's own server only."""
        if self.provider.is_free:
            cost: float | None = 0.0
        else:
            name, model = self.provider.endpoint.provider, self.request.model
            at_home = bool(self.is_at_home)
            cost = self.prices.cost_usd(name, model, usage, is_at_home=at_home, tier=self.billed_tier)
        return usage if cost == usage.cost_usd else usage.costing(cost)

    def with_messages(self, messages: tuple[Message, ...]) -> Call:
        """Return the same call with other messages."""
        request = self.request
        # Written out, because a run does it for each row, and `replace` takes four times as long.
        call: Call = _new_call(type(self))(
            provider=self.provider,
            request=new_request(
                model=request.model, messages=messages, options=request.options, timeout_s=request.timeout_s
            ),
            policy=self.policy,
            prices=self.prices,
            is_at_home=self.is_at_home,
            remarks=self.remarks,
        )
        return call

    def without_flex(self) -> Call | None:
        """Return the same call at the normal tier if its options allow that (``tier="flex,auto"``), else None."""
        options = self.request.options
        if options.tier != "flex,auto" or self.billed_tier != "flex":
            return None
        request = dataclasses.replace(self.request, options=dataclasses.replace(options, tier=None))
        remark = f"{self.model} had no capacity at the tier flex, and was asked at the normal tier, at its price."
        return dataclasses.replace(self, request=request, remarks=(remark,))


# By class: `EmbeddingCall` is one, too. mypy takes no class for hashable.
_new_call: Any = functools.cache(quick)


class Chat:
    """The sender of requests, with retries and measurements; it keeps the connections and the session's settings."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings] = load_settings,
        http: HttpClient | None = None,
        registry: Registry | None = None,
        store: ReplyStore | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = randomlib.random,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Create a chat with its dependencies.

        Args:
            settings: Reads environment and file; called for every call, so that a key set later is found.
            http: The HTTP client.
            registry: The providers.
            store: Where batch runs keep replies; default: the user's own, opened at first use.
            clock: Returns monotonic seconds.
            sleep: Waits a number of seconds.
            random: Returns uniform numbers in [0, 1), for the jitter of waits.
            say: Called with a line for a user who has no view of the reply, as in a script; default: `say_line`.
        """
        self.http = http or HttpClient()
        self.registry = registry or Registry(self.http)
        self._clock = clock
        self._sleep = sleep
        self.random = random
        self.say = say or say_line
        self.introductions = Introductions()
        self.contexts = ContextSizes()
        self._store = store
        self._load = settings
        self._set: dict[str, str] = {}
        self.keys = KeyRing()

    @property
    def store(self) -> ReplyStore:
        """Return the store in which batch runs look replies up and keep them."""
        if self._store is None:
            self._store = open_store(environ=self.settings.environ)
        return self._store

    @property
    def settings(self) -> Settings:
        """Return the current settings: those of `set` over environment, file and defaults.

        Raises:
            ConfigError: The environment or the file has a value that cannot be used.
        """
        settings = self._load()
        for name, value in self._set.items():
            settings = changed(settings, name, value)
        return dataclasses.replace(settings, keys=self.keys)

    def was_set(self, name: str) -> bool:
        """Return whether `set` has given a setting its value."""
        return setting_name(name) in self._set

    def set(self, name: str, value: str) -> None:
        """Set one value for the rest of the session, as `%aichat set` does.

        Args:
            name: A setting or a sampling option.
            value: Its value as text; ``default`` goes back to environment, file and default, and ``unset`` keeps an
                option from being sent.

        Raises:
            ConfigError: There is no such name, or the value has the wrong type. Nothing was changed.
            OptionError: The value is outside its range. Nothing was changed.
        """
        settings = self.settings
        changed(settings, name, value)
        name = setting_name(name)
        self._set.pop(name, None)
        if not is_reset(name, value, settings):
            self._set[name] = value

    def call(self, messages: tuple[Message, ...], given: CallOptions, settings: Settings | None = None) -> Call:
        """Return a checked request with its provider. Nothing is sent.

        Args:
            messages: The messages in order.
            given: Options of this call.
            settings: Defaults for everything that is not given; default: the settings of the session.

        Returns:
            The call.

        Raises:
            BadInputError: An argument cannot be used.
            MissingKeyError: The provider needs a key and there is none.
            NotWorkingError: The provider is known not to work.
        """
        settings = settings or self.settings
        resolved = self.registry.resolve(
            given.model or settings.model_for(given.base_url),
            settings,
            base_url=given.base_url,
            proxy=Secret(given.proxy) if given.proxy else None,
            allow_not_working=given.allow_not_working,
            is_dry=given.is_dry,
        )
        options = given.options.over(settings.options)
        strict = settings.strict_options if given.strict_options is None else given.strict_options
        timeout_s = settings.timeout_s if given.timeout_s is None else given.timeout_s
        is_flex = billed_tier(options, resolved.provider.name) == "flex"
        if is_flex and given.timeout_s is None and "timeout_s" not in settings.origins:
            timeout_s = max(timeout_s, _FLEX_TIMEOUT_S)
        request = ChatRequest(
            model=resolved.model,
            messages=messages,
            options=dataclasses.replace(options, strict_options=strict),
            timeout_s=timeout_s,
        )
        return Call(
            provider=resolved.provider,
            request=request,
            policy=RetryPolicy(max_retries=settings.max_retries),
            prices=PriceList(settings.prices),
        )

    async def ask(self, call: Call, *, status: StatusCallback | None = None, is_viewed: bool = False) -> Reply:
        """Send a request, try again where that can help, and return the whole reply.

        Args:
            call: The request and its provider.
            status: Called with the progress: ``(text, done, total)``.
            is_viewed: Whether a view shows the reply with its notice, so that nothing need be said.

        Returns:
            The reply.

        Raises:
            EmptyReplyError: The reply holds no answer; the error has it.
            AichatError: The last error, if trying again cannot help or did not.
        """
        begin = self._clock()
        attempt = 0
        spent: Usage | None = None
        while True:
            attempt += 1
            failed: AichatError | None = None
            try:
                reply = await self.attempt(call, status=status)
            except AichatError as error:
                failed = error
            else:
                # A reply without an answer is paid for, too.
                spent = reply.usage if spent is None else spent + reply.usage
                reply = dataclasses.replace(
                    reply, usage=spent, elapsed_s=self._clock() - begin, messages=call.request.messages
                )
                failed = no_answer(reply, call.request.options, call.provider.name)
            if failed is None:
                if not is_viewed:
                    self._introduce(call)
                return self._with_notice(reply, call, is_viewed=is_viewed)
            if isinstance(failed, NoCapacityError) and (normal := call.without_flex()) is not None:
                call = _at_normal_tier(normal, attempt, status)
                continue
            await self._wait_or_raise(failed, call, attempt, status)

    async def attempt(self, call: Call, *, status: StatusCallback | None = None) -> Reply:
        """Send a request once, without retries, and return the whole reply.

        Args:
            call: The request and its provider.
            status: Called with the progress: ``(text, done, total)``.

        Returns:
            The reply, with its time, and with its cost if the price is known.

        Raises:
            AichatError: The attempt failed.
        """
        begin = self._clock()
        failed: Exception | None = None
        try:
            await call.provider.prepare(status)
            reply = await self._complete(call)
            if call.remarks:
                reply = dataclasses.replace(reply, remarks=(*reply.remarks, *call.remarks))
            return reply.measured(call.priced(reply.usage), self._clock() - begin)
        except Exception as error:
            failed = _as_aichat_error(error, call)
        raise failed

    async def _complete(self, call: Call) -> Reply:
        """Return the provider's reply."""
        return await call.provider.complete(call.request)

    async def stream(
        self, call: Call, draft: PartialReply, *, status: StatusCallback | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks and add each to `draft`. There is no retry after the first text.

        After mere thinking there is one, and `draft` begins anew.

        Args:
            call: The request and its provider.
            draft: Collects the chunks; it belongs to the caller, so that an interrupt loses nothing.
            status: Called with the progress: ``(text, done, total)``.

        Yields:
            The chunks as they arrive.

        Raises:
            EmptyReplyError: The reply has arrived and holds no answer; the error has it.
            AichatError: The last error; `draft` has everything that arrived before it.
        """
        begin = self._clock()
        is_introduced = False
        async with contextlib.aclosing(self._chunks(call, draft, status)) as chunks:
            async for chunk in chunks:
                if chunk.text and not is_introduced:
                    self._introduce(call)
                    is_introduced = True
                yield chunk
        reply = draft.reply(model=call.model, elapsed_s=self._clock() - begin, messages=call.request.messages)
        self._with_notice(reply, call)

    async def _chunks(
        self, call: Call, draft: PartialReply, status: StatusCallback | None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of `stream`, and say nothing."""
        begin = self._clock()
        attempt = 0
        while True:
            attempt += 1
            failed: Exception | None = None
            try:
                await call.provider.prepare(status)
                async with contextlib.aclosing(call.provider.stream(call.request)) as chunks:
                    async for chunk in chunks:
                        if call.remarks and chunk.finish_reason is not None:
                            chunk = dataclasses.replace(chunk, remarks=(*chunk.remarks, *call.remarks))
                        if chunk.usage is not None:
                            chunk = dataclasses.replace(chunk, usage=call.priced(chunk.usage))
                        draft.add(chunk)
                        yield chunk
            except Exception as error:
                failed = error
            if failed is None:
                reply = draft.reply(model=call.model, elapsed_s=self._clock() - begin, messages=call.request.messages)
                failed = no_answer(reply, call.request.options, call.provider.name)
                if failed is None:
                    return
            elif draft.text:
                raise _as_aichat_error(failed, call)
            if isinstance(failed, NoCapacityError) and (normal := call.without_flex()) is not None:
                call = _at_normal_tier(normal, attempt, status)
                draft.restart()
                continue
            await self._wait_or_raise(failed, call, attempt, status)
            draft.restart()

    async def reply(
        self,
        call: Call,
        draft: PartialReply,
        *,
        status: StatusCallback | None = None,
        show: Callable[[PartialReply], None],
    ) -> Reply:
        """Stream the reply, show it as it grows, and return the whole.

        Args:
            call: The request and its provider.
            draft: Collects the chunks.
            status: Called with the progress: ``(text, done, total)``.
            show: Called with `draft` after each chunk of text or thinking.

        Returns:
            The reply.

        Raises:
            AichatError: The same errors as `stream`.
        """
        begin = self._clock()
        async with contextlib.aclosing(self._chunks(call, draft, status)) as chunks:
            async for chunk in chunks:
                if chunk.text or chunk.thinking:
                    show(draft)
        reply = draft.reply(model=call.model, elapsed_s=self._clock() - begin, messages=call.request.messages)
        return self._with_notice(reply, call, is_viewed=True)

    def _introduce(self, call: Call) -> None:
        """Say what to know of a model, once."""
        if line := self.introductions.line(call):
            self.say(line)

    def _with_notice(self, reply: Reply, call: Call, *, is_viewed: bool = False) -> Reply:
        """Return a reply with its notice; say the first one of each model, unless a view shows it."""
        self.contexts.learn(reply, call)
        reply = noticed(reply, call)
        if reply.notice and not is_viewed and self.introductions.is_first(call, "notice"):
            self.say(f"{call.model}: {reply.notice}")
        return reply

    async def _wait_or_raise(self, failed: Exception, call: Call, attempt: int, status: StatusCallback | None) -> None:
        """Wait as long as the policy says, or raise the error if there is no further attempt."""
        error = _as_aichat_error(failed, call)
        wait_s = next_wait_s(error, attempt, call.policy, self.random)
        if wait_s is None:
            raise give_up(error, attempt, call.policy)
        if status is not None:
            cause = str(error).split(". ")[0].rstrip(".")
            most = max(attempt, call.policy.max_retries)
            status(f"{shorten(cause, 100)}. Trying again in {wait_s:.1f} s.", attempt, most)
        await self._sleep(wait_s)


def _at_normal_tier(call: Call, attempt: int, status: StatusCallback | None) -> Call:
    """Tell that a call goes to the normal tier, and return it."""
    if status is not None:
        status("The tier flex has no capacity now; asking at the normal tier.", attempt, call.policy.max_retries)
    return call


def _as_aichat_error(error: Exception, call: Call) -> AichatError:
    """Return `error`, wrapped in an `UnexpectedError` with one line if it is not one of our errors."""
    if isinstance(error, AichatError):
        return error
    wrapped = UnexpectedError(f"Provider {call.provider.name!r} failed: {type(error).__name__}: {shorten(str(error))}")
    # IPython shows no error at all if a group is anywhere in the chain.
    wrapped.__cause__ = None if isinstance(error, ExceptionGroup) else error
    return wrapped


@functools.cache
def shared_chat() -> Chat:
    """Return the `Chat` of the process, for callers without one of their own.

    It is shared so that callers reuse its connections; it holds nothing else.
    """
    return Chat()
