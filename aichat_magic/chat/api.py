"""The functions for scripts and cells: `ask`, `stream`, their awaitable twins, and `batch`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any, Unpack

from ..core.errors import PromptError
from ..core.messages import Message, PartialReply, Reply, messages_from
from ..core.options import CallOptions
from ..core.settings import Settings
from ..core.sync import iterate, run
from .chat import Call, Chat, shared_chat
from .keywords import CallKeywords

Prompt = str | Iterable[Message | Mapping[str, Any]]


def call_for(prompt: Prompt, given: CallOptions, chat: Chat, settings: Settings) -> Call:
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
    messages = _messages(prompt)
    if system := given.system or settings.system:
        messages = (Message("system", system), *messages)
    return chat.call(messages, given, settings)


def ask(prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]) -> Reply:
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


async def ask_async(prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]) -> Reply:
    """As `ask`, for code that can await."""
    chat = chat or shared_chat()
    return await chat.ask(call_for(prompt, CallOptions.from_keywords(options), chat, chat.settings))


def stream(prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]) -> Iterator[str]:
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


async def stream_async(
    prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]
) -> AsyncGenerator[str, None]:
    """As `stream`, for code that can await."""
    chat = chat or shared_chat()
    call = call_for(prompt, CallOptions.from_keywords(options), chat, chat.settings)
    async with contextlib.aclosing(chat.stream(call, PartialReply())) as chunks:
        async for chunk in chunks:
            if chunk.text:
                yield chunk.text


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    """The messages of a prompt."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, Mapping)):
        return messages_from(prompt)
    raise PromptError(f"A prompt must be text or a list of messages, not {type(prompt).__name__}.")
