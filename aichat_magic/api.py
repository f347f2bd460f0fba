"""The functions for scripts and cells: `ask`, `stream`, their awaitable twins, and `batch`."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Unpack

from .batches import Batch
from .bridge import iterate, run
from .characters import replaced_line
from .chat import Call, Chat, shared_chat
from .display import progress_bar
from .errors import AichatError, BatchStoppedError, ChatInterrupt, PromptError
from .keywords import BatchKeywords, CallKeywords
from .messages import Draft, Message, Reply, messages_from
from .plans import BatchOptions, Row
from .progress import RowResult
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
    return await chat.ask(call_for(prompt, Given.from_keywords(options), chat, chat.settings))


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
    call = call_for(prompt, Given.from_keywords(options), chat, chat.settings)
    async with contextlib.aclosing(chat.stream(call, Draft())) as chunks:
        async for chunk in chunks:
            if chunk.text:
                yield chunk.text


def batch(
    prompts: Iterable[Prompt | None], *, chat: Chat | None = None, **options: Unpack[BatchKeywords]
) -> list[Reply | AichatError | None]:
    """Ask many prompts, several at once; equal ones are sent once, and what is stored is not sent again.

    Args:
        prompts: Prompts in order; None is not sent.
        chat: As `ask`.
        **options: As `ask`; and `concurrency` (a number or ``"auto"``), `requests_per_minute`, `tokens_per_minute`,
            `max_cost_usd`, `max_total_tokens`, `fresh` (ask again), `store` (False: keep nothing), `progress` (True,
            False, or a callable that gets `Progress` values), `max_retries`, `outage_patience_s`.

    Returns:
        For each prompt, in order: its `Reply`, the `AichatError` it ended with, or None.

    Raises:
        BadInputError: Something given cannot be used; nothing was sent.
        BatchStoppedError: An error that would meet every other row, too; the finished rows are kept.
        ChatInterrupt: The user interrupted; the finished rows are kept.
    """
    return run(batch_async(prompts, chat=chat, **options))


async def batch_async(
    prompts: Iterable[Prompt | None], *, chat: Chat | None = None, **options: Unpack[BatchKeywords]
) -> list[Reply | AichatError | None]:
    """As `batch`, for code that can await."""
    made = _batch(prompts, chat or shared_chat(), options)
    await made.run()
    if made.stopped_by is not None:
        raise BatchStoppedError(
            f"The run stopped after {made.progress().done:,} rows: {made.stopped_by} The finished ones are kept.",
            run=made,
        )
    for line in replaced_line(made.replaced):
        warnings.warn(line, UserWarning, stacklevel=2)
    return list(made.outcomes())


async def batch_iter_async(
    prompts: Iterable[Prompt | None], *, chat: Chat | None = None, **options: Unpack[BatchKeywords]
) -> AsyncGenerator[RowResult, None]:
    """As `batch_async`, but each row as soon as it is done, in the order in which they are.

    Yields:
        `RowResult`: the row's position, its reply or its error.

    Raises:
        AichatError: What stopped the run; the rows that were done before have been given.
    """
    source = chat or shared_chat()
    rows = iterate_rows(lambda tell: _batch(prompts, source, {"progress": False, **options}, tell))
    async with contextlib.aclosing(rows) as results:
        async for result in results:
            yield result


async def iterate_rows(make: Callable[[Callable[[RowResult], None]], Batch]) -> AsyncGenerator[RowResult, None]:
    """The rows of a run as they finish.

    Args:
        make: Makes the run; given what the run must tell of each row.

    Yields:
        Each row once, in the order in which they finish.

    Raises:
        AichatError: What stopped the run; the rows that finished before were given.
    """
    finished: asyncio.Queue[RowResult | None] = asyncio.Queue()
    batch = make(finished.put_nowait)
    task = asyncio.create_task(batch.run())
    task.add_done_callback(lambda _: finished.put_nowait(None))
    try:
        while (result := await finished.get()) is not None:
            yield result
        task.result()
        if batch.stopped_by is not None:
            raise batch.stopped_by
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AichatError, ChatInterrupt):
            await task


def _batch(
    prompts: Iterable[Prompt | None],
    chat: Chat,
    keywords: Mapping[str, Any],
    on_row: Callable[[RowResult], None] | None = None,
) -> Batch:
    """The run over prompts, before it begins."""
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, Iterable):
        raise PromptError(f"batch takes a list of prompts, not {type(prompts).__name__}; for one prompt: ask(...)")
    options, rest = BatchOptions.from_keywords(keywords)
    n_rows = len(prompts) if isinstance(prompts, Sized) else None
    return Batch(
        chat,
        options.plan(chat, Given.from_keywords(rest)),
        map(_row, prompts),
        n_rows=n_rows,
        on_progress=progress_bar(options.progress, n_rows),
        on_row=on_row,
    )


def _row(prompt: Prompt | None) -> Row:
    """A prompt as a row of a run; or the error that the row fails with, alone."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    try:
        return _messages(prompt)
    except PromptError as error:
        return error


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    """The messages of a prompt."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, Mapping)):
        return messages_from(prompt)
    raise PromptError(f"A prompt must be text or a list of messages, not {type(prompt).__name__}.")
