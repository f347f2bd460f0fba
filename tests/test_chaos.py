"""Every fault of the network, mixed by a seed: nothing wrong is shown, kept or left behind, whatever a server does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos, Said, reply_to, said
from servers import ChatServer
from users import User

from aichat_magic.batching.runner import BatchRunner
from aichat_magic.core.errors import AichatError, ConnectionFailedError, DeadlineError, UnexpectedError
from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.options import CallOptions
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import HttpClient
from aichat_magic.store.conversations import MemoryConversations, SqliteConversations
from aichat_magic.store.memory import MemoryStore
from aichat_magic.store.sqlite import SqliteStore
from aichat_magic.text.characters import fit

SEEDS = 50
TURNS = 10
ROWS = 40
DESCRIPTORS = Path("/proc/self/fd")
PROMPTS = ("prompt {}", "Frage {} 😀", "{} \u2028 end", "{} \x00 \ud83d", "{}\r\n\r\ndata: {{}}")

Pair = tuple[str, str]
"""A prompt and its reply."""
Prompt = str | tuple[Message, ...]


class FastClock:
    """Waits and pauses take a hundredth of their time."""

    def __call__(self) -> float:
        return 100 * time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


class Trial:
    """What one user does with the server of one seed, and what must hold whenever something came of it."""

    def __init__(self, seed: int, chaos: Chaos, user: User) -> None:
        self.dice = random.Random(f"user {seed}")
        self.chaos = chaos
        self.user = user
        self.cells: list[Pair] = []

    def prompt(self, number: int) -> str:
        return self.dice.choice(PROMPTS).format(number)

    def outcome_of(self, ask: Callable[[], str | None], messages: Said) -> str | None:
        """The reply, or None when there is none; the server is to blame for any error."""
        failed: AichatError | None = None
        try:
            return ask()
        except AichatError as error:
            failed = error
        self.blame(failed, messages)
        return None

    def blame(self, error: AichatError, messages: Said) -> None:
        """The error is one of ours, short, and these messages have met a fault."""
        assert not isinstance(error, UnexpectedError), error
        assert len(str(error)) < 600
        # A connection that breaks, and a busy machine, can meet any request.
        assert self.chaos.faults(messages) or isinstance(error, ConnectionFailedError | DeadlineError), error

    # Conversations

    def turn(self, prompt: str) -> None:
        """A turn of a conversation: whole, as a stream, left in the middle, or cancelled."""
        conversation = self.user.conversation
        before = pairs(conversation.turns)
        expected = reply_to(sent(before, prompt))
        ask: Callable[[], str | None] = self.dice.choice(
            [
                lambda: str(conversation.ask(prompt)),
                lambda: self.streamed(prompt, expected, leaving=0),
                lambda: self.streamed(prompt, expected, leaving=0.3),
                lambda: run(self.cancelled(prompt)),
            ]
        )
        got = self.outcome_of(ask, sent(before, prompt))
        assert got in (None, expected)
        assert pairs(conversation.turns) == (before if got is None else [*before, (prompt, expected)])

    def streamed(self, prompt: str, expected: str, *, leaving: float) -> str | None:
        """What a stream gives; None when it was left early, as happens at each piece with this probability."""
        shown = ""
        with contextlib.closing(self.user.conversation.stream(prompt)) as pieces:  # type: ignore[type-var]  # a generator
            for piece in pieces:
                shown += piece
                assert expected.startswith(shown)
                if self.dice.random() < leaving:
                    return None
        return shown

    async def cancelled(self, prompt: str) -> str | None:
        """The reply, unless the cancel comes before it."""
        task = asyncio.create_task(self.user.conversation.ask_async(prompt))
        return str(task.result()) if await ended(task, self.dice.random() * 0.03) else None

    def cell(self, prompt: str) -> None:
        """A cell: what it shows while the reply streams, what stays, and what is stored."""
        view = self.user.view
        view.texts.clear()
        view.last = None
        expected = reply_to(sent(self.cells, prompt))
        got = self.outcome_of(lambda: str(self.user.session.cell("", prompt)), sent(self.cells, prompt))
        assert got in (None, expected)
        assert all(expected.startswith(text) for text in view.texts)
        if got is not None:
            self.cells.append((prompt, expected))
            assert view.last is not None
            assert view.last.text == expected
        elif view.last is not None:
            assert view.last.finish_reason == "truncated"
            assert expected.startswith(view.last.text)
        stored = self.user.cells.load("here", "main")
        assert pairs(stored.turns if stored is not None else ()) == self.cells

    # Rows

    def run(self) -> None:
        """A run, perhaps cancelled; then the same rows again, by a server that does right."""
        prompts: list[Prompt] = [self.prompt(number) for number in range(ROWS)]
        talk = (
            Message("system", "Be brief."),
            Message("user", "hi"),
            Message("assistant", "ho"),
            Message("user", "hm"),
        )
        rows: list[Prompt | None] = [*prompts, *self.dice.choices(prompts, k=6), None, None, talk]
        self.dice.shuffle(rows)
        batch = self.user.batch(rows, concurrency=self.dice.choice([1, 4, 16, "auto"]))
        if self.dice.random() < 0.4:
            run(cancelled_run(batch, self.dice.random() * 0.3))
        else:
            run(batch.run())
            assert batch.stopped_by is not None or (len(batch) == len(rows) and batch.pending == 0)
        self.check(rows, batch)
        self.chaos.is_calm = True
        again = self.user.batch(rows, CallOptions(timeout_s=60), concurrency=8)
        run(again.run())
        self.check(rows, again)
        assert [isinstance(outcome, Reply) for outcome in again.outcomes()] == [row is not None for row in rows]

    def check(self, rows: Sequence[Prompt | None], batch: BatchRunner) -> None:
        """Each row has its own reply or an error that the server is to blame for; so has the store."""
        done: set[str] = set()
        for row, outcome in zip(rows, batch.outcomes(), strict=False):
            if row is None:
                assert outcome is None
            elif isinstance(outcome, Reply):
                said = reply_to(wire(row))
                assert outcome.text == fit(said)
                done.add(said)
            elif outcome is not None:
                self.blame(outcome, wire(row))
        keys = {batch._plan.keys().key(messages_of(row)): reply_to(wire(row)) for row in rows if row is not None}
        stored = {key: reply.text for key, reply in run(self.user.store.get(list(keys))).items()}
        assert stored == {key: keys[key] for key in stored}
        assert done <= set(stored.values())


def pairs(turns: Sequence[Any]) -> list[Pair]:
    return [(turn.prompt, turn.reply.text) for turn in turns]


def messages_of(row: Prompt) -> tuple[Message, ...]:
    return (Message("user", row),) if isinstance(row, str) else row


def wire(row: Prompt) -> Said:
    """The messages of a row as the server gets them."""
    return said((message.role, message.content) for message in messages_of(row))


def sent(turns: Sequence[Pair], prompt: str) -> Said:
    """The messages of a prompt after these turns, as the server gets them."""
    past = [pair for question, answer in turns for pair in (("user", question), ("assistant", answer))]
    return said([*past, ("user", prompt)])


async def ended(task: asyncio.Task[Any], after_s: float) -> bool:
    """Whether a task ended by itself before it was cancelled."""
    await asyncio.wait([task], timeout=after_s)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, AichatError):
        await task
    return not task.cancelled()


async def cancelled_run(batch: BatchRunner, after_s: float) -> None:
    task = asyncio.create_task(batch.run())
    if await ended(task, after_s):
        task.result()


async def other_tasks() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def descriptors() -> list[str]:
    """The sockets and files that this process has open, where the system tells."""
    gc.collect()
    run(asyncio.sleep(0))  # the loop of this thread has some of its own
    found = []
    for name in os.listdir(DESCRIPTORS) if DESCRIPTORS.is_dir() else ():
        with contextlib.suppress(OSError):  # that of the listing itself
            found.append(os.readlink(DESCRIPTORS / name))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_wrong_is_shown_or_kept_and_nothing_is_left(seed: int, tmp_path: Path) -> None:
    before = descriptors()
    is_on_disk = seed % 2 == 0
    http = HttpClient(environ={}, is_direct=seed % 3 > 0)
    store = SqliteStore(tmp_path / "replies.sqlite") if is_on_disk else MemoryStore()
    cells = SqliteConversations(tmp_path / "cells.sqlite") if is_on_disk else MemoryConversations()
    with ChatServer() as elsewhere, ChatServer(chaos := Chaos(seed, elsewhere=elsewhere.url)) as server:
        user = User(http, server.url, FastClock(), store=store, cells=cells, timeout_s=0.4)
        trial = Trial(seed, chaos, user)
        for number in range(TURNS):
            trial.turn(trial.prompt(number))
            trial.cell(trial.prompt(number))
        trial.run()
        assert run(other_tasks()) == set()
        run(http.aclose())
        assert server.wait_until(lambda s: s.open_connections == 0 and s.in_flight == 0)
        assert elsewhere.connections == 0
    store.close()
    cells.close()
    assert descriptors() == before
