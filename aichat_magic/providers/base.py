"""The base class of all providers: it takes a `ChatRequest` and returns a `Reply` or yields `Chunk`s.

A provider keeps no state per call and knows nothing of the notebook, of frames, history or retries.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..core.embeddings import EmbeddingBounds, EmbeddingRequest, Embeddings
from ..core.endpoints import Endpoint, Preset
from ..core.errors import BadInputError, UnknownNameError
from ..core.messages import ChatRequest, Chunk, Message, Reply, StatusCallback, messages_from
from ..core.options import OPTION_NAMES, CallOptions
from ..core.secrets import Secret
from ..core.settings import load_settings
from ..core.urls import host_of
from ..http.client import HttpClient
from ..text.words import did_you_mean
from .embeddings import bounds_of, no_embeddings
from .profile import ModelProfiles
from .wire_options import check_options, option_notes

Messages = Iterable[Message | Mapping[str, Any]]

# The keywords of `AsyncProvider.create_async`.
_KEYWORDS = (*OPTION_NAMES, "options", "schema", "strict_options", "timeout", "base_url", "provider")


class AsyncProvider(ABC):
    """A provider: sends requests to one server and reads its replies.

    To add one: a module with a subclass, and one line under the entry points ``aichat_magic.providers`` in
    ``pyproject.toml``. `.github/CONTRIBUTING.md` shows it step by step.

    Attributes:
        url: A page with information about the provider.
        working: False if it is known not to work now; it is then used only where a call insists.
        not_working_reason: One sentence with the reason, if `working` is False.
        needs_auth: Whether it needs a key.
        supports_stream: Whether the reply arrives in chunks.
        supports_message_history: Whether messages are sent with their roles.
        supports_schema: Whether the server makes the reply fit `Options.schema`.
        is_free: Whether it costs nothing, because it runs in this process.
        supports_images: Whether `Message.images` are sent; other providers refuse a request with images.
        supports_gpt_35_turbo: Whether it serves ``gpt-3.5-turbo``.
        supports_gpt_4: Whether it serves ``gpt-4``.
        default_model: The model that is asked when only the provider is named; empty if there is none.
        presets: The known servers by registered name; empty for a provider without a server.
        profiles: What was learned of models from refusals; the registry shares it among providers.
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
        """Create a provider for one server.

        Args:
            endpoint: Name, address, key and proxy.
            http: The client that sends the requests; shared by all providers.
        """
        self.endpoint = endpoint
        self.profiles = ModelProfiles()
        self._http = http

    def __repr__(self) -> str:
        """Show class, name and address; never a key."""
        return f"<{type(self).__name__} {self.endpoint.provider} {self.endpoint.base_url}>"

    @property
    def name(self) -> str:
        """Return the name it was chosen by, such as ``"groq"``."""
        return self.endpoint.provider

    @property
    def is_at_home(self) -> bool:
        """Tell whether the address is the provider's own server, whose prices may be known."""
        preset = self.presets.get(self.endpoint.provider)
        return preset is not None and host_of(preset.base_url) == self.endpoint.host

    def context_tokens(self, model: str) -> int | None:
        """Return how many tokens messages and reply may have together, or None if that is not known."""
        return None

    def reply_tokens(self, model: str) -> int | None:
        """Return the longest reply, in tokens, to a request without `max_tokens`, or None if the server decides."""
        return None

    def introduction(self, model: str) -> str:
        """Return what a user should know before the first reply of a model, as a sentence; usually nothing."""
        return ""

    def check(self, request: ChatRequest) -> None:
        """Refuse a request that this provider cannot send. Nothing is sent.

        Raises:
            BadInputError: The request has images, and this provider takes none.
            OptionError: It has an option that this provider lacks, such as a tier.
        """
        check_options(request.options, self.name, request.model)
        if not self.supports_images and any(message.images for message in request.messages):
            raise BadInputError(
                f"Provider {self.name!r} takes no images. Leave the image out, or choose a model that takes images, "
                f"such as one of openai or anthropic: -m PROVIDER/MODEL"
            )

    def notes(self, request: ChatRequest) -> tuple[str, ...]:
        """Return what the user should know about the options of a request, such as a level that the model lacks."""
        return option_notes(request.options, self.name, request.model)

    async def prepare(self, status: StatusCallback | None = None) -> None:  # noqa: B027  # nothing to do is the usual case
        """Get ready for the first request, for example fetch or load a model. It may be called again.

        Args:
            status: Called with the progress, ``(text, done, total)``; total 0 if it is not known.

        Raises:
            AichatError: It cannot get ready.
        """

    @abstractmethod
    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once.

        Args:
            request: The request to send.

        Returns:
            The reply; `elapsed_s` and `messages` are filled in by the caller.

        Raises:
            ProviderError: The provider or the connection to it failed.
        """

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks, the last one with a `finish_reason`; by default the whole reply as one chunk.

        Raises:
            ProviderError: The provider or the connection to it failed; `IncompleteReplyError` if the stream broke off.
        """
        reply = await self.complete(request)
        yield Chunk(
            text=reply.text,
            thinking=reply.thinking,
            thinking_blocks=reply.thinking_blocks,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            model=reply.model,
        )

    def check_embedding(self, model: str, dimensions: int | None) -> None:
        """Refuse a model that makes no embeddings. Nothing is sent.

        Args:
            model: Name of the model, without the provider.
            dimensions: Length of each vector; None: the model's own.

        Raises:
            BadInputError: This provider has no embeddings, or not of this length; the error names models that do.
        """
        raise no_embeddings(f"{self.name}/{model}")

    def embedding_bounds(self, model: str) -> EmbeddingBounds:
        """Return how much one request for embeddings takes."""
        return bounds_of(self.name, is_at_home=False)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the vectors of texts.

        Raises:
            ProviderError: The provider or the connection to it failed.
        """
        raise no_embeddings(f"{self.name}/{request.model}")

    async def models(self) -> list[str]:
        """Return the names of the models that the server offers, sorted; empty if it has no list."""
        return []

    @classmethod
    async def create_async(cls, model: str, messages: Messages, proxy: str | None = None, **kwargs: Any) -> str:
        """Return the text of one reply, without retry, history or store.

        Args:
            model: Name of the model, without the provider.
            messages: `Message` values or ``{"role": ..., "content": ...}`` mappings.
            proxy: URL of a proxy.
            **kwargs: Sampling options by name, `timeout` in seconds, `base_url`, and `provider` (the registered name,
                for a class with several names).

        Returns:
            The text of the reply.

        Raises:
            UnknownNameError: There is no such keyword; the error names the nearest one.
            AichatError: The same errors as `check` and `complete`.
        """
        # First, because tracebacks can show the variables of every frame.
        secret_proxy = Secret(proxy or "")
        del proxy
        cls._check_keywords(kwargs, _KEYWORDS)
        name = kwargs.pop("provider", None) or next(iter(cls.presets), cls.__name__.lower())
        schema = kwargs.pop("schema", None)
        given = CallOptions.from_keywords(kwargs)
        endpoint = load_settings(os.environ).endpoint(
            name, cls.presets.get(name), base_url=given.base_url, model=model, proxy=secret_proxy
        )
        request = ChatRequest(
            model=model,
            messages=messages_from(messages),
            options=dataclasses.replace(given.options, schema=schema, strict_options=bool(given.strict_options)),
            **({} if given.timeout_s is None else {"timeout_s": given.timeout_s}),
        )
        async with contextlib.aclosing(HttpClient()) as http:
            provider = cls(endpoint, http)
            provider.check(request)
            return (await provider.complete(request)).text

    @classmethod
    def _check_keywords(cls, names: Iterable[str], known: Collection[str]) -> None:
        """Refuse a keyword that `create_async` does not have.

        Raises:
            UnknownNameError: There is no such keyword; the error names the nearest one.
        """
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"{cls.__name__}.create_async() knows no keyword {name!r}.{did_you_mean(name, known)}"
                )
