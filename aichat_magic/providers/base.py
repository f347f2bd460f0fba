"""What a provider is: a `ChatRequest` in, one wire dialect between, a `Reply` or `Chunk`s out.

A provider keeps no state per call. It knows no screen, no DataFrame, no history, no retry: those are rooms above it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..core.errors import BadInputError, UnknownNameError
from ..core.messages import ChatRequest, Chunk, Message, Reply, StatusCallback, messages_from
from ..core.options import Options
from ..core.secrets import Secret
from ..core.settings import Endpoint, Preset, load_settings
from ..http.client import HttpClient
from ..text.words import nearest

Messages = Iterable[Message | Mapping[str, Any]]

_OPTION_NAMES = tuple(f.name for f in dataclasses.fields(Options))


class AsyncProvider(ABC):
    """One dialect, spoken to one server.

    To add a provider: a module with a subclass, and one line under the entry points ``aichat_magic.providers`` in
    ``pyproject.toml``. `.github/CONTRIBUTING.md` goes through it step by step.

    Attributes:
        url: A page a person can open to learn about the provider.
        working: False when it is known not to work now; the magic and the batch layer then refuse it.
        not_working_reason: One sentence that says why, when `working` is False.
        needs_auth: Whether it needs a key.
        supports_stream: Whether the reply arrives in pieces.
        supports_message_history: Whether messages keep their roles on the wire.
        is_free: Whether nobody is billed, because it runs in this process.
        supports_schema: Whether the server holds the reply to `Options.schema`.
        supports_images: Whether `Message.images` are sent; others refuse a request that has any.
        supports_gpt_35_turbo: Whether it serves ``gpt-3.5-turbo``.
        supports_gpt_4: Whether it serves ``gpt-4``.
        presets: What is known of each name it is registered under; empty for a provider without a server.
    """

    url: ClassVar[str] = ""
    working: ClassVar[bool] = True
    not_working_reason: ClassVar[str] = ""
    needs_auth: ClassVar[bool] = False
    supports_stream: ClassVar[bool] = False
    supports_message_history: ClassVar[bool] = False
    supports_schema: ClassVar[bool] = False
    is_free: ClassVar[bool] = False
    supports_images: ClassVar[bool] = False
    supports_gpt_35_turbo: ClassVar[bool] = False
    supports_gpt_4: ClassVar[bool] = False
    default_model: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({})

    def __init__(self, endpoint: Endpoint, http: HttpClient) -> None:
        """Keep where the server is and the way to it.

        Args:
            endpoint: Name, address, key and proxy.
            http: Sends the requests; shared by all providers.
        """
        self.endpoint = endpoint
        self._http = http

    def __repr__(self) -> str:
        """Class, name and address; never a key."""
        return f"<{type(self).__name__} {self.endpoint.provider} {self.endpoint.base_url}>"

    @property
    def name(self) -> str:
        """The name it was chosen by: ``"groq"``."""
        return self.endpoint.provider

    def context_tokens(self, model: str) -> int | None:
        """How many tokens messages and reply may have together, or None when that is not known."""
        return None

    def check(self, request: ChatRequest) -> None:
        """Refuse a request that this dialect has no words for. Nothing is sent.

        Raises:
            BadInputError: The request has images, and this provider takes none.
        """
        if not self.supports_images and any(message.images for message in request.messages):
            raise BadInputError(
                f"Provider {self.name!r} takes no images. Leave the image out, or choose a model that sees, "
                f"such as one of openai or anthropic: -m PROVIDER/MODEL"
            )

    async def prepare(self, status: StatusCallback | None = None) -> None:  # noqa: B027  # nothing to do is the usual case
        """Do what must be done once before the first request: fetch or load a model. Again is harmless.

        Args:
            status: Told meanwhile what goes on: ``(words, done, total)``; total 0 when it is not known.

        Raises:
            AichatError: It cannot be made ready.
        """

    @abstractmethod
    async def complete(self, request: ChatRequest) -> Reply:
        """The whole reply at once.

        Args:
            request: What to send.

        Returns:
            The reply; `elapsed_s` and `messages` are filled in above.

        Raises:
            ProviderError: The provider or the way to it failed.
        """

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The reply in pieces; the last piece has a `finish_reason`. As a whole, unless a provider can do better.

        Raises:
            ProviderError: The provider or the way to it failed; `IncompleteReplyError` when the stream broke off.
        """
        reply = await self.complete(request)
        yield Chunk(text=reply.text, finish_reason=reply.finish_reason, usage=reply.usage, model=reply.model)

    async def models(self) -> list[str]:
        """Names of the models the server offers, sorted; empty when it cannot say."""
        return []

    @classmethod
    async def create_async(cls, model: str, messages: Messages, proxy: str | None = None, **kwargs: Any) -> str:
        """One call without anything around it: no retry, no history, no store.

        Args:
            model: Name of the model, without the provider.
            messages: `Message` values or ``{"role": ..., "content": ...}`` mappings.
            proxy: URL of a proxy.
            **kwargs: Sampling options by name, `timeout` in seconds, `base_url`, and `provider` (the registered name,
                for a class that serves several).

        Returns:
            The text of the reply.

        Raises:
            UnknownNameError: An unknown keyword; names the nearest one.
            AichatError: What `complete` raises.
        """
        # First of all, because tracebacks can show the variables of every frame.
        through = Secret(proxy or "")
        del proxy
        known = (*_OPTION_NAMES, "timeout", "base_url", "provider")
        for name in kwargs:
            if name not in known:
                raise UnknownNameError(
                    f"{cls.__name__}.create_async() knows no keyword {name!r}.{nearest(name, known)}"
                )
        provider = kwargs.get("provider") or next(iter(cls.presets), cls.__name__.lower())
        endpoint = load_settings(os.environ).endpoint(
            provider, cls.presets.get(provider), base_url=kwargs.get("base_url") or "", proxy=through
        )
        options = {name: kwargs[name] for name in _OPTION_NAMES if kwargs.get(name) is not None}
        if isinstance(options.get("stop"), (str, list)):
            options["stop"] = (options["stop"],) if isinstance(options["stop"], str) else tuple(options["stop"])
        timeout = {"timeout_s": kwargs["timeout"]} if kwargs.get("timeout") is not None else {}
        request = ChatRequest(model=model, messages=messages_from(messages), options=Options(**options), **timeout)
        async with contextlib.aclosing(HttpClient()) as http:
            asked = cls(endpoint, http)
            asked.check(request)
            return (await asked.complete(request)).text
