"""The functions for many prompts: `batch`, and its awaitable twins."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sized
from typing import Any, Unpack

from ..chat.api import Prompt, prompt_messages
from ..chat.chat import Chat, shared_chat
from ..core.errors import AichatError, BatchStoppedError, ChatInterrupt, PromptError
from ..core.messages import Reply
from ..core.options import CallOptions
from ..core.sync import run
from ..text.characters import replaced_line
from .keywords import BatchKeywords
from .options import BatchOptions, Row
from .progress import RowResult
from .progress_bar import progress_bar
from .runner import BatchRunner


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


async def iterate_rows(make: Callable[[Callable[[RowResult], None]], BatchRunner]) -> AsyncGenerator[RowResult, None]:
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
) -> BatchRunner:
    """The run over prompts, before it begins."""
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, Iterable):
        raise PromptError(f"batch takes a list of prompts, not {type(prompts).__name__}; for one prompt: ask(...)")
    options, rest = BatchOptions.from_keywords(keywords)
    n_rows = len(prompts) if isinstance(prompts, Sized) else None
    return BatchRunner(
        chat,
        options.plan(chat, CallOptions.from_keywords(rest)),
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
        return prompt_messages(prompt)
    except PromptError as error:
        return error
