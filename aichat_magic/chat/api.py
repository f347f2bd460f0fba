"""Functions for scripts and cells: `ask`, `stream`, and their asynchronous twins."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any, Unpack

from ..core.errors import PromptError
from ..core.messages import Message, PartialReply, Reply, messages_from
from ..core.options import CallOptions
from ..core.settings import Settings
from ..core.sync import iterate, run_sync
from .chat import Call, Chat, shared_chat
from .keywords import CallKeywords, document_keywords
from .remarks import warn_of

Prompt = str | Iterable[Message | Mapping[str, Any]]


def call_for(prompt: Prompt, given: CallOptions, chat: Chat, settings: Settings) -> Call:
    """Return the checked call for one prompt. Nothing is sent.

    Args:
        prompt: Text, or messages.
        given: Options of this call.
        chat: The chat that will send it.
        settings: Defaults for everything that is not given.

    Raises:
        BadInputError: An argument cannot be used.
        MissingKeyError: The provider needs a key and there is none.
    """
    messages = prompt_messages(prompt)
    if system := given.system or settings.system:
        messages = (Message("system", system), *messages)
    call = chat.call(messages, given, settings)
    warn_of(call.notes)
    return call


@document_keywords(CallKeywords)
def ask(prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]) -> Reply:
    """Ask a model and wait for the whole reply. Works inside and outside a running event loop.

    Args:
        prompt: Text, or a list of messages (``{"role": ..., "content": ...}``).
        chat: The chat to ask; default: the one that the process shares.
        **options: `CallKeywords`:
            {keywords}

    Returns:
        The reply.

    Raises:
        BadInputError: An argument cannot be used; nothing was sent.
        MissingKeyError: The provider needs a key and there is none.
        ProviderError: The provider or the connection to it failed.
        ChatInterrupt: The user interrupted.

    Example:
        >>> str(ask("Hello", model="echo/echo"))
        'Hello'
    """
    return run_sync(ask_async(prompt, chat=chat, **options))


async def ask_async(prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]) -> Reply:
    """Do the same as `ask` in asynchronous code."""
    chat = chat or shared_chat()
    reply = await chat.ask(call_for(prompt, CallOptions.from_keywords(options), chat, chat.settings))
    warn_of(reply.remarks)
    return reply


@document_keywords(CallKeywords)
def stream(prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]) -> Iterator[str]:
    """Ask a model and yield the text piece by piece. Works inside and outside a running event loop.

    Args:
        prompt: Text, or a list of messages (``{"role": ..., "content": ...}``).
        chat: The chat to ask; default: the one that the process shares.
        **options: `CallKeywords`:
            {keywords}

    Yields:
        Pieces of the text as they arrive.

    Raises:
        AichatError: The same errors as `ask`; the pieces yielded before stay valid.

    Example:
        >>> "".join(stream("one two", model="echo/echo"))
        'one two'
    """
    yield from iterate(stream_async(prompt, chat=chat, **options))


async def stream_async(
    prompt: Prompt, *, chat: Chat | None = None, **options: Unpack[CallKeywords]
) -> AsyncGenerator[str, None]:
    """Do the same as `stream` in asynchronous code."""
    chat = chat or shared_chat()
    call = call_for(prompt, CallOptions.from_keywords(options), chat, chat.settings)
    async with contextlib.aclosing(chat.stream(call, PartialReply())) as chunks:
        async for chunk in chunks:
            warn_of(chunk.remarks)
            if chunk.text:
                yield chunk.text


def prompt_messages(prompt: Prompt) -> tuple[Message, ...]:
    """Return a prompt as messages.

    Raises:
        PromptError: It is neither text nor a list of messages.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, Mapping)):
        return messages_from(prompt)
    raise PromptError(f"A prompt must be text or a list of messages, not {type(prompt).__name__}.")
