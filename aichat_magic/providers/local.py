"""The embedded model: llama.cpp inside this process, reached through the OpenAI dialect."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import PurePath

from ..core.embeddings import EmbeddingBounds, EmbeddingRequest, Embeddings
from ..core.endpoints import Endpoint
from ..core.errors import AichatError, BadInputError, BadRequestError, ContextLengthError
from ..core.messages import ChatRequest, Chunk, Reply, StatusCallback
from ..core.usage import Usage
from ..http.client import HttpClient
from .base import AsyncProvider
from .embeddings import no_embeddings
from .llama.engine import Engine, engine_for, find, loaded
from .llama.weights import SMOLLM2, model_names
from .openai import OpenAI
from .wordllama import BOUNDS, WORDLLAMA, check_wordllama, wordllama_engine

# The context that SmolLM2 was trained for; other models report theirs once they are loaded.
_SMOLLM2_TOKENS = 8192
# Longest replies to requests without `max_tokens`: SmolLM2 says what it knows within 100 tokens and then repeats
# itself, and other small models tend not to stop. They are no part of a request's key, as no default is: a reply that
# was stored under another default is still a reply to the same question.
_SMOLLM2_REPLY_TOKENS = 256
_REPLY_TOKENS = 1024


class _Loopback(OpenAI):
    """The OpenAI dialect with a new connection for each request.

    llama.cpp closes kept-alive connections without notice, mostly after a stream: up to one request in three would
    be lost and sent again. A new connection on loopback costs nothing measurable.
    """

    headers = (("connection", "close"),)


class Local(AsyncProvider):
    """Any GGUF file, run on this machine: no data leaves it and nothing is billed.

    The first request fetches and loads the model: the small one for demonstrations, a file, or one of the Hugging Face
    Hub (``hf/OWNER/REPO:QUANT``). A request without `max_tokens` gets `reply_tokens`.
    """

    url = "https://github.com/ggml-org/llama.cpp"
    supports_stream = True
    supports_message_history = True
    is_free = True
    supports_schema = True
    default_model = SMOLLM2.name

    def __init__(self, endpoint: Endpoint, http: HttpClient) -> None:
        """Create the provider. Nothing is loaded yet."""
        super().__init__(endpoint, http)
        self._found: set[str] = set()
        self._status: StatusCallback | None = None

    async def prepare(self, status: StatusCallback | None = None) -> None:
        """Keep the callback for the next request, which names the model to fetch and load."""
        self._status = status

    def context_tokens(self, model: str) -> int | None:
        """Return the context of the model in tokens; before it is loaded, only that of the default model is known."""
        with contextlib.suppress(AichatError):
            if (engine := loaded(model, environ=os.environ)) is not None:
                return engine.context_tokens
        return _SMOLLM2_TOKENS if model == SMOLLM2.name else None

    def reply_tokens(self, model: str) -> int:
        """Return the longest reply, in tokens, to a request without `max_tokens`."""
        return _SMOLLM2_REPLY_TOKENS if _is_smollm2(model) else _REPLY_TOKENS

    def introduction(self, model: str) -> str:
        """Return that the model is one for demonstrations, if it is."""
        if not _is_smollm2(model):
            return ""
        return f"{self.name}/{SMOLLM2.name} is a demonstration model with 135 million parameters, and is often wrong."

    def notes(self, request: ChatRequest) -> tuple[str, ...]:
        """Return what the user should know about the options: that the model for demonstrations does not think."""
        level = request.options.reasoning
        if level is None or not _is_smollm2(request.model):
            return super().notes(request)
        others = super().notes(
            dataclasses.replace(request, options=dataclasses.replace(request.options, reasoning=None))
        )
        told = () if level == "none" else (f"{request.model} does not think; reasoning={level} changes nothing.",)
        return (*others, *told)

    def check(self, request: ChatRequest) -> None:
        """Refuse a model that is not on this machine and cannot be fetched, before anything is shown or kept.

        Raises:
            BadInputError: The request has images.
            UnknownNameError: There is no such model; the error lists those there are.
            ModelFileError: There is no file at the path.
            MissingExtraError: The model is on the Hugging Face Hub, and ``huggingface_hub`` is not installed.
        """
        super().check(request)
        if request.model == WORDLLAMA:
            raise BadInputError(
                f"local/{WORDLLAMA} makes embeddings and cannot chat. Use it with embed(...), or name another model."
            )
        if request.model not in self._found:  # a run over rows checks the same model for each of them
            find(request.model, environ=os.environ)
            self._found.add(request.model)

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once. Raises the same errors as `AsyncProvider.complete` and `engine_for`."""
        request, engine = await self._ready(request)
        async with engine.slots.held(_tokens(request)):
            with _clear_errors(request, engine):
                reply = await self._dialect(engine).complete(request)
        return dataclasses.replace(reply, usage=_unbilled(reply.usage))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks. Raises the same errors as `AsyncProvider.stream` and `engine_for`."""
        request, engine = await self._ready(request)
        async with engine.slots.held(_tokens(request)):
            with _clear_errors(request, engine):
                async with contextlib.aclosing(self._dialect(engine).stream(request)) as chunks:
                    async for chunk in chunks:
                        usage = None if chunk.usage is None else _unbilled(chunk.usage)
                        # The server reports the name of the file as the model.
                        model = None if chunk.model is None else request.model
                        yield dataclasses.replace(chunk, usage=usage, model=model)

    def check_embedding(self, model: str, dimensions: int | None) -> None:
        """Refuse all models but WordLlama, and lengths that it does not have."""
        if model != WORDLLAMA:
            raise no_embeddings(f"{self.name}/{model}")
        check_wordllama(dimensions)

    def embedding_bounds(self, model: str) -> EmbeddingBounds:
        """Return how many texts are embedded at a time, so that a run can be seen to move."""
        return BOUNDS

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the vectors of texts, computed in another thread."""
        engine = await asyncio.to_thread(wordllama_engine)
        vectors = await asyncio.to_thread(engine.embed, request.texts, request.dimensions)
        return Embeddings(vectors=vectors, usage=Usage(output_tokens=0, cost_usd=0.0))

    async def models(self) -> list[str]:
        """Return the default model and the files in ``AICHAT_MODEL_DIR``, sorted."""
        return model_names(os.environ)

    async def _ready(self, request: ChatRequest) -> tuple[ChatRequest, Engine]:
        """Return the request with a limit on its reply, and the engine of its model."""
        if request.options.max_tokens is None:
            options = dataclasses.replace(request.options, max_tokens=self.reply_tokens(request.model))
            request = dataclasses.replace(request, options=options)
        return request, await engine_for(request.model, environ=os.environ, status=self._status)

    def _dialect(self, engine: Engine) -> OpenAI:
        """Return the provider that talks to the engine."""
        endpoint = Endpoint(provider=self.name, base_url=engine.base_url, key=engine.key)
        dialect = _Loopback(endpoint, self._http)
        dialect.profiles = self.profiles
        return dialect


def _is_smollm2(model: str) -> bool:
    """Tell whether a name stands for the model for demonstrations."""
    return model == SMOLLM2.name or PurePath(model).name.removesuffix(".gguf") == SMOLLM2.file.removesuffix(".gguf")


def _tokens(request: ChatRequest) -> int:
    """Estimate how many tokens of context a request needs at least: a token is rarely less than two bytes."""
    words = sum(8 + len(message.content.encode("utf-8", "replace")) // 2 for message in request.messages)
    return words + (request.options.max_tokens or 0)


def _unbilled(usage: Usage) -> Usage:
    """Return the usage with a cost of zero."""
    return dataclasses.replace(usage, cost_usd=0.0)


@contextlib.contextmanager
def _clear_errors(request: ChatRequest, engine: Engine) -> Iterator[None]:
    """Explain in our words that the messages are too long: the server's advice is for whoever started the server."""
    try:
        yield
    except BadRequestError as error:
        if "available context size" not in str(error):
            raise
        raise ContextLengthError(
            f"The messages are longer than the {engine.context_tokens:,} tokens that local/{request.model} can take. "
            f"Shorten them, or choose another model.",
            status=error.status,
            provider=error.provider,
        ) from None
