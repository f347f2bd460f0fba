"""The functions for scripts and cells: `ask`, `stream`, their awaitable twins, and `batch`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

from .batch import Outcome, run_calls
from .bridge import iterate, run
from .chat import Call, Chat, shared_chat
from .errors import PromptError
from .messages import Draft, Message, Reply, messages_from
from .settings import Given, Settings

Prompt = str | Iterable[Message | Mapping[str, Any]]


def call_for(prompt: Prompt, given: Given, chat: Chat, settings: Settings) -> Call:
    """The checked call for one prompt.

    Args:
        prompt: Text, or messages.
        given: What the caller asks for.
        chat: Who will ask.
        settings: What holds where the caller says nothing.

    Raises:
        BadInputError: Something given cannot be used.
        MissingKeyError: No key for the provider.
    """
    if isinstance(prompt, str):
        messages: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, Mapping)):
        messages = messages_from(prompt)
    else:
        raise PromptError(f"A prompt must be text or a list of messages, not {type(prompt).__name__}.")
    if system := given.system or settings.system:
        messages = (Message("system", system), *messages)
    return chat.call(messages, given, settings)


def ask(prompt: Prompt, *, chat: Chat | None = None, **options: Any) -> Reply:
    """Ask a model, and wait for the whole reply. Works inside and outside a running event loop.

    Args:
        prompt: Text, or a list of messages (``{"role": ..., "content": ...}``).
        chat: Who asks; default: the one of the process.
        **options: `model` (``provider/model``), `system`, `temperature` (0 to 2), `top_p` (0 to 1), `max_tokens`,
            `presence_penalty` and `frequency_penalty` (-2 to 2), `stop` (text or texts), `seed`, `timeout` (seconds),
            `base_url`, `proxy`, `allow_not_working`.

    Returns:
        The reply.

    Raises:
        BadInputError: Something given cannot be used; nothing was sent.
        MissingKeyError: The provider needs a key and there is none.
        ProviderError: The provider, or the way to it, failed.
        ChatInterrupt: The user interrupted.

    Example:
        >>> str(ask("Hello", model="echo/echo"))
        'Hello'
    """
    return run(ask_async(prompt, chat=chat, **options))


async def ask_async(prompt: Prompt, *, chat: Chat | None = None, **options: Any) -> Reply:
    """As `ask`, for code that can await."""
    chat = chat or shared_chat()
    return await chat.ask(call_for(prompt, Given.from_keywords(options), chat, chat.settings))


def stream(prompt: Prompt, *, chat: Chat | None = None, **options: Any) -> Iterator[str]:
    """Ask a model, and get the text piece by piece. Works inside and outside a running event loop.

    Args:
        prompt: As `ask`.
        chat: As `ask`.
        **options: As `ask`.

    Yields:
        Pieces of the text as they arrive.

    Raises:
        AichatError: As `ask`; what was already given stays valid as a part.

    Example:
        >>> "".join(stream("one two", model="echo/echo"))
        'one two'
    """
    yield from iterate(stream_async(prompt, chat=chat, **options))


async def stream_async(prompt: Prompt, *, chat: Chat | None = None, **options: Any) -> AsyncGenerator[str, None]:
    """As `stream`, for code that can await."""
    chat = chat or shared_chat()
    call = call_for(prompt, Given.from_keywords(options), chat, chat.settings)
    async with contextlib.aclosing(chat.stream(call, Draft())) as chunks:
        async for chunk in chunks:
            if chunk.text:
                yield chunk.text


def batch(
    prompts: Iterable[Prompt | None], *, concurrency: int = 8, chat: Chat | None = None, **options: Any
) -> list[Outcome | None]:
    """Ask many prompts, several at once; equal ones are sent once.

    Args:
        prompts: Prompts in order; None is not sent.
        concurrency: Most requests in flight at once, >= 1.
        chat: As `ask`.
        **options: As `ask`.

    Returns:
        For each prompt, in order: its `Reply`, the `AichatError` it ended with, or None.

    Raises:
        BadInputError: Something given cannot be used; nothing was sent.
        MissingKeyError: The provider needs a key and there is none.
    """
    return run(batch_async(prompts, concurrency=concurrency, chat=chat, **options))


async def batch_async(
    prompts: Iterable[Prompt | None], *, concurrency: int = 8, chat: Chat | None = None, **options: Any
) -> list[Outcome | None]:
    """As `batch`, for code that can await."""
    chat = chat or shared_chat()
    given, settings = Given.from_keywords(options), chat.settings
    calls = [None if prompt is None else call_for(prompt, given, chat, settings) for prompt in prompts]
    return await run_calls(chat, calls, concurrency=concurrency)
