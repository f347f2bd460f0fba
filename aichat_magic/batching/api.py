"""The functions for many prompts: `batch` and its asynchronous variants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sized
from typing import Any, Unpack

from ..chat.api import Prompt, prompt_messages
from ..chat.chat import Chat, shared_chat
from ..chat.keywords import CallKeywords, document_keywords
from ..chat.remarks import warn_of
from ..core.errors import AichatError, BatchStoppedError, ChatInterrupt, PromptError
from ..core.messages import Reply
from ..core.options import CallOptions
from ..core.sync import run_sync
from ..core.user_warnings import warn_user
from ..text.characters import replaced_line
from ..text.numbers import counted
from .keywords import BatchKeywords, RunKeywords
from .options import BatchOptions, Row
from .progress import RowResult
from .progress_bar import progress_bar
from .run import BatchRun, run_rows
from .runner import BatchRunner


@document_keywords(CallKeywords, RunKeywords)
def batch(
    prompts: Iterable[Prompt | None], *, chat: Chat | None = None, **options: Unpack[BatchKeywords]
) -> list[Reply | AichatError | None]:
    """Send many prompts concurrently. Equal ones are sent once, and those with a stored reply not at all.

    Args:
        prompts: The prompts in order, each a text or a list of messages; None is not sent.
        chat: The chat to ask; default: the one that the process shares.
        **options: `CallKeywords` and `RunKeywords`:
            {keywords}

    Returns:
        For each prompt, in order: its `Reply`, the `AichatError` it failed with, or None.

    Raises:
        BadInputError: An argument cannot be used; nothing was sent.
        BatchStoppedError: An error stopped the run that would meet the other rows, too; the finished rows are kept.
        ChatInterrupt: The user interrupted; the finished rows are kept.
    """
    return run_sync(batch_async(prompts, chat=chat, **options))


async def batch_async(
    prompts: Iterable[Prompt | None], *, chat: Chat | None = None, **options: Unpack[BatchKeywords]
) -> list[Reply | AichatError | None]:
    """Do the same as `batch` in asynchronous code."""
    chat = chat or shared_chat()
    runner = _runner(prompts, chat, options)
    await runner.run()
    if len(runner) and (line := chat.introductions.line(runner.call, is_relied_on=True)):
        chat.say(line)
    if runner.stopped_by is not None:
        raise BatchStoppedError(
            f"The run stopped after {counted(runner.progress().done, 'row')}: {runner.stopped_by} "
            f"The finished ones are kept.",
            run=BatchRun(runner, lambda: _again(runner, prompts, chat, options)),
        )
    warn_of(runner.remarks)
    for line in replaced_line(runner.replaced):
        warn_user(line)
    return list(runner.outcomes())


async def batch_iter_async(
    prompts: Iterable[Prompt | None], *, chat: Chat | None = None, **options: Unpack[BatchKeywords]
) -> AsyncGenerator[RowResult, None]:
    """Do the same as `batch_async`, but yield each row as soon as it is done.

    Yields:
        `RowResult`: the row's position and its reply or its error, in the order in which rows finish.

    Raises:
        AichatError: An error stopped the run; the rows that finished before have been yielded.
    """
    source = chat or shared_chat()
    runners: list[BatchRunner] = []

    def make(on_row: Callable[[RowResult], None]) -> BatchRunner:
        runners.append(_runner(prompts, source, {"progress": False, **options}, on_row))
        return runners[0]

    n_told = 0
    async with contextlib.aclosing(iterate_rows(make)) as results:
        async for result in results:
            if len(remarks := list(runners[0].remarks)) > n_told:
                warn_of(remarks[n_told:])
                n_told = len(remarks)
            yield result


async def iterate_rows(make: Callable[[Callable[[RowResult], None]], BatchRunner]) -> AsyncGenerator[RowResult, None]:
    """Start a run and yield its rows as they finish.

    Args:
        make: Makes the runner, given the callable for its `on_row`.

    Yields:
        Each row once, in the order in which rows finish.

    Raises:
        AichatError: An error stopped the run; the rows that finished before have been yielded.
    """
    finished: asyncio.Queue[RowResult | None] = asyncio.Queue()
    runner = make(finished.put_nowait)
    task = asyncio.create_task(runner.run())
    task.add_done_callback(lambda _: finished.put_nowait(None))
    try:
        while (result := await finished.get()) is not None:
            yield result
        task.result()
        if runner.stopped_by is not None:
            raise runner.stopped_by
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AichatError, ChatInterrupt):
            await task


def _runner(
    prompts: Iterable[Prompt | None],
    chat: Chat,
    keywords: Mapping[str, Any],
    on_row: Callable[[RowResult], None] | None = None,
) -> BatchRunner:
    """Make the runner for prompts; nothing is sent."""
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, Iterable):
        raise PromptError(f"batch takes a list of prompts, not {type(prompts).__name__}. For one prompt use ask(...).")
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


def _again(runner: BatchRunner, prompts: Iterable[Prompt | None], chat: Chat, keywords: Mapping[str, Any]) -> BatchRun:
    """Run the same prompts again, without those that are done."""
    if iter(prompts) is prompts:
        raise PromptError("The prompts came from an iterator, which can be read once only. Call batch with a list.")
    options, rest = BatchOptions.from_keywords(keywords)
    return run_rows(
        chat,
        lambda: map(_row, prompts),
        n_rows=runner.n_rows,
        given=CallOptions.from_keywords(rest),
        options=options,
        known=runner.reply,
    )


def _row(prompt: Prompt | None) -> Row:
    """Return a prompt as a row of a run, or, if it is none, the error that this row alone fails with."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    try:
        return prompt_messages(prompt)
    except PromptError as error:
        return error
