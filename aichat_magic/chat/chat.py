"""The one path from a request to a reply, streaming and not, for every caller."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import random as randomlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from ..core.errors import AichatError, UnexpectedError
from ..core.messages import ChatRequest, Chunk, Message, PartialReply, Reply, StatusCallback
from ..core.options import CallOptions
from ..core.prices import PriceList
from ..core.secrets import Secret
from ..core.settings import Settings, changed, load_settings, setting_name
from ..core.urls import host_of
from ..core.usage import Usage
from ..http.client import HttpClient
from ..providers.base import AsyncProvider
from ..providers.registry import Registry
from ..store.base import ReplyStore
from ..store.sqlite import open_store
from ..text.words import shorten
from .retry import RetryPolicy, give_up, next_wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request and where it goes.

    Attributes:
        provider: Who is asked.
        request: What is asked.
        policy: When it is tried again.
        prices: What tokens cost.
        is_at_home: Whether the provider's own server is asked, whose prices may be known; None: as its address says.
    """

    provider: AsyncProvider
    request: ChatRequest
    policy: RetryPolicy
    prices: PriceList = field(default_factory=PriceList)
    is_at_home: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what the provider cannot be asked.

        Raises:
            BadInputError: Such as images, for a provider that takes none.
        """
        self.provider.check(self.request)
        if self.is_at_home is None:
            endpoint = self.provider.endpoint
            preset = self.provider.presets.get(endpoint.provider)
            is_at_home = preset is not None and host_of(preset.base_url) == endpoint.host
            object.__setattr__(self, "is_at_home", is_at_home)  # as __init__ of a frozen class does

    @property
    def model(self) -> str:
        """``provider/model``."""
        return f"{self.provider.name}/{self.request.model}"

    def priced(self, usage: Usage) -> Usage:
        """`usage` with its cost, where the price is known. A price holds for the provider's own server only."""
        if self.provider.is_free:
            cost: float | None = 0.0
        else:
            name, model = self.provider.endpoint.provider, self.request.model
            cost = self.prices.cost_usd(name, model, usage, is_at_home=bool(self.is_at_home))
        return usage if cost == usage.cost_usd else dataclasses.replace(usage, cost_usd=cost)

    def with_messages(self, messages: tuple[Message, ...]) -> Call:
        """The same call with other messages."""
        request = self.request
        # Spelled out, because a run over rows does it for each, and `replace` takes four times as long.
        return Call(
            provider=self.provider,
            request=ChatRequest(
                model=request.model, messages=messages, options=request.options, timeout_s=request.timeout_s
            ),
            policy=self.policy,
            prices=self.prices,
            is_at_home=self.is_at_home,
        )


class Chat:
    """Asks providers: retries, waits, measures. It keeps the connections and the settings of the session."""

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
    ) -> None:
        """Take what the outside world is made of.

        Args:
            settings: Reads environment and file; called for every call, so that a key set later is seen.
            http: The way to the network.
            registry: The providers.
            store: Where runs over rows keep replies; default: the user's own, opened at first use.
            clock: Seconds that only go forward.
            sleep: Waits so many seconds.
            random: Uniform numbers in [0, 1), for the jitter of waits.
        """
        self.http = http or HttpClient()
        self.registry = registry or Registry(self.http)
        self._clock = clock
        self._sleep = sleep
        self.random = random
        self._store = store
        self._load = settings
        self._set: dict[str, str] = {}

    @property
    def store(self) -> ReplyStore:
        """Where runs over rows look replies up and keep them."""
        if self._store is None:
            self._store = open_store(environ=self.settings.environ)
        return self._store

    @property
    def settings(self) -> Settings:
        """What holds now: what `set` was told, over environment, file and defaults.

        Raises:
            ConfigError: The environment or the file holds what cannot be used.
        """
        settings = self._load()
        for name, value in self._set.items():
            settings = changed(settings, name, value)
        return settings

    def set(self, name: str, value: str) -> None:
        """Set one value for the rest of the session, as `%aichat set` does.

        Args:
            name: A setting or a sampling option.
            value: Its value as text; ``none`` takes it back to what environment and file say.

        Raises:
            ConfigError: An unknown name, or a value of the wrong kind. Nothing was changed.
            OptionError: A value outside its range. Nothing was changed.
        """
        changed(self.settings, name, value)
        name = setting_name(name)
        self._set.pop(name, None)
        if value.lower() != "none":
            self._set[name] = value

    def call(self, messages: tuple[Message, ...], given: CallOptions, settings: Settings | None = None) -> Call:
        """A request, checked, with its provider. Nothing is sent.

        Args:
            messages: The messages in order.
            given: What the caller asks for.
            settings: What holds where the caller says nothing; default: those of the session.

        Returns:
            The call.

        Raises:
            BadInputError: Something given cannot be used.
            MissingKeyError: No key for the provider.
            NotWorkingError: The provider is known not to work.
        """
        settings = settings or self.settings
        resolved = self.registry.resolve(
            given.model or settings.model,
            settings,
            base_url=given.base_url,
            proxy=Secret(given.proxy) if given.proxy else None,
            allow_not_working=given.allow_not_working,
            is_dry=given.is_dry,
        )
        request = ChatRequest(
            model=resolved.model,
            messages=messages,
            options=given.options.over(settings.options),
            timeout_s=settings.timeout_s if given.timeout_s is None else given.timeout_s,
        )
        return Call(
            provider=resolved.provider,
            request=request,
            policy=RetryPolicy(max_retries=settings.max_retries),
            prices=PriceList(settings.prices),
        )

    async def ask(self, call: Call, *, status: StatusCallback | None = None) -> Reply:
        """The whole reply.

        Args:
            call: What to ask whom.
            status: Told in words what goes on meanwhile: ``(text, done, total)``.

        Returns:
            The reply.

        Raises:
            AichatError: The last error, when trying again cannot help or has not helped.
        """
        begin = self._clock()
        attempt = 0
        while True:
            attempt += 1
            try:
                reply = await self.attempt(call, status=status)
            except AichatError as error:
                failed = error
            else:
                return dataclasses.replace(reply, elapsed_s=self._clock() - begin, messages=call.request.messages)
            await self._wait_or_raise(failed, call, attempt, status)

    async def attempt(self, call: Call, *, status: StatusCallback | None = None) -> Reply:
        """One attempt, whatever comes of it: no retry.

        Args:
            call: What to ask whom.
            status: Told in words what goes on meanwhile.

        Returns:
            The reply, with its time, and with its cost where the price is known.

        Raises:
            AichatError: What went wrong.
        """
        begin = self._clock()
        failed: Exception | None = None
        try:
            await call.provider.prepare(status)
            reply = await call.provider.complete(call.request)
            return reply.measured(call.priced(reply.usage), self._clock() - begin)
        except Exception as error:
            failed = _ours(error, call)
        raise failed

    async def stream(
        self, call: Call, draft: PartialReply, *, status: StatusCallback | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """The reply in pieces, each also added to `draft`. After the first text nothing is tried again.

        Args:
            call: What to ask whom.
            draft: Collects the pieces; it is the caller's, so that an interrupt loses nothing.
            status: Told in words what goes on meanwhile.

        Yields:
            The pieces as they arrive.

        Raises:
            AichatError: The last error; `draft` holds what arrived before it.
        """
        attempt = 0
        while True:
            attempt += 1
            failed: Exception | None = None
            try:
                await call.provider.prepare(status)
                async with contextlib.aclosing(call.provider.stream(call.request)) as chunks:
                    async for chunk in chunks:
                        if chunk.usage is not None:
                            chunk = dataclasses.replace(chunk, usage=call.priced(chunk.usage))
                        draft.add(chunk)
                        yield chunk
            except Exception as error:
                failed = error
            if failed is None:
                return
            if draft.text:
                raise _ours(failed, call)
            await self._wait_or_raise(failed, call, attempt, status)

    async def reply(
        self, call: Call, draft: PartialReply, *, status: StatusCallback | None = None, show: Callable[[str], None]
    ) -> Reply:
        """The whole reply, its text shown while it grows.

        Args:
            call: What to ask whom.
            draft: Collects the pieces.
            status: Told in words what goes on meanwhile.
            show: Gets the text so far after each piece.

        Returns:
            The reply.

        Raises:
            AichatError: As `stream`.
        """
        begin = self._clock()
        async with contextlib.aclosing(self.stream(call, draft, status=status)) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    show(draft.text)
        return draft.reply(model=call.model, elapsed_s=self._clock() - begin, messages=call.request.messages)

    async def _wait_or_raise(self, failed: Exception, call: Call, attempt: int, status: StatusCallback | None) -> None:
        """Wait as the policy says, or raise the error when it says that trying again is over."""
        error = _ours(failed, call)
        wait_s = next_wait_s(error, attempt, call.policy, self.random)
        if wait_s is None:
            raise give_up(error, attempt, call.policy)
        if status is not None:
            cause = str(error).split(". ")[0].rstrip(".")
            status(f"{shorten(cause, 100)}. Trying again in {wait_s:.1f} s.", attempt, call.policy.max_retries)
        await self._sleep(wait_s)


def _ours(error: Exception, call: Call) -> AichatError:
    """`error`, or for one from outside our tree, one of ours that tells it in a line."""
    if isinstance(error, AichatError):
        return error
    wrapped = UnexpectedError(f"Provider {call.provider.name!r} failed: {type(error).__name__}: {shorten(str(error))}")
    # IPython shows no error at all when a group is anywhere in the chain.
    wrapped.__cause__ = None if isinstance(error, ExceptionGroup) else error
    return wrapped


@functools.cache
def shared_chat() -> Chat:
    """The one `Chat` of the process, for callers that bring none.

    It is shared because the connections it keeps are worth reusing between callers; it holds nothing else.
    """
    return Chat()
