"""`EmbeddingChat`: sends requests for embeddings where `Chat` sends those for replies, for the same runs."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.embeddings import EmbeddingRequest
from ..core.errors import ConfigError, OptionError
from ..core.messages import ChatRequest, Message, Reply
from ..core.options import CallOptions, Options
from ..core.prices import PriceList
from ..core.secrets import Secret
from ..core.settings import Settings
from .chat import Call, Chat
from .retry import RetryPolicy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_MODEL = "local/wordllama"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall(Call):
    """A request for the vectors of its messages, each of which is a text."""

    def check(self) -> None:
        """Do nothing: `EmbeddingChat.call` has checked the model, and texts have nothing that could be refused."""


class EmbeddingChat(Chat):
    """A `Chat` whose attempts ask for vectors. The reply of an attempt is only its receipt."""

    def __init__(
        self,
        chat: Chat,
        *,
        dimensions: int | None = None,
        on_vectors: Callable[[tuple[str, ...], npt.NDArray[np.float32]], Awaitable[None]],
    ) -> None:
        """Share connections, providers and settings with a chat.

        Args:
            chat: The chat.
            dimensions: Length of each vector, >= 1; None: the model's own.
            on_vectors: Awaited with the texts and the vectors of each request, before it counts as answered.

        Raises:
            OptionError: `dimensions` is no length.
        """
        super().__init__(settings=lambda: chat.settings, http=chat.http, registry=chat.registry, random=chat.random)
        self.keys = chat.keys
        if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int)):
            raise OptionError(f"dimensions must be a whole number, 1 or more, not {dimensions!r}.")
        if dimensions is not None and dimensions < 1:
            raise OptionError(f"dimensions must be a whole number, 1 or more, not {dimensions!r}.")
        self.dimensions = dimensions
        self._on_vectors = on_vectors

    def call(self, messages: tuple[Message, ...], given: CallOptions, settings: Settings | None = None) -> Call:
        """Return a checked request with its provider. Nothing is sent.

        Args:
            messages: The texts, one message each.
            given: Options of this call; sampling options have no meaning here, and those of the settings do not count.
            settings: Proxies, keys and so on; default: the settings of the session.

        Raises:
            BadInputError: An argument cannot be used, or the model makes no embeddings.
            MissingKeyError: The provider needs a key and there is none.
        """
        settings = settings or self.settings
        asked = given.options
        chat_only = [name for name in asked.shown() if name not in asked.extra_options]
        if chat_only or given.system:
            name = "system" if given.system else chat_only[0]
            raise OptionError(f"{name} means nothing to a model that makes embeddings. Leave it out.")
        if given.base_url and not given.model:
            raise ConfigError(f"Which model of the server at {given.base_url} makes the embeddings? Name it: model=.")
        resolve = functools.partial(
            self.registry.resolve,
            given.model or DEFAULT_MODEL,
            settings,
            base_url=given.base_url,
            proxy=Secret(given.proxy) if given.proxy else None,
        )
        # First without a key: nobody should get one for a provider that has no embeddings.
        found = resolve(is_dry=True, allow_not_working=True)
        found.provider.check_embedding(found.model, self.dimensions)
        resolved = resolve(is_dry=given.is_dry, allow_not_working=given.allow_not_working)
        request = ChatRequest(
            model=resolved.model,
            messages=messages,
            options=Options(extra=asked.extra),
            timeout_s=settings.timeout_s if given.timeout_s is None else given.timeout_s,
        )
        return EmbeddingCall(
            provider=resolved.provider,
            request=request,
            policy=RetryPolicy(max_retries=settings.max_retries),
            prices=PriceList(settings.prices),
        )

    async def _complete(self, call: Call) -> Reply:
        """Get the vectors of a call, pass them on, and return a receipt with usage and rate limits."""
        texts = tuple(message.content for message in call.request.messages)
        found = await call.provider.embed(
            EmbeddingRequest(
                model=call.request.model,
                texts=texts,
                dimensions=self.dimensions,
                extra=call.request.options.extra,
                timeout_s=call.request.timeout_s,
            )
        )
        await self._on_vectors(texts, found.vectors)
        return Reply(
            text=f"{len(texts):,} vectors",
            model=call.model,
            usage=found.usage,
            rate_limits=found.rate_limits,
            model_version=found.model_version,
            remarks=found.remarks,
        )
