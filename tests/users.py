"""A simulated user who asks by every entry point, with a clock and a view for tests."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from typing import Any

from aichat_magic.batching.limiter import RunLimiter
from aichat_magic.batching.options import BatchOptions, Row
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation
from aichat_magic.core.errors import AichatError
from aichat_magic.core.messages import Reply
from aichat_magic.core.options import CallOptions
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import HttpClient
from aichat_magic.magic.session import Session
from aichat_magic.store.base import ReplyStore
from aichat_magic.store.conversations import ConversationStore, MemoryConversations
from aichat_magic.store.memory import MemoryStore

MODEL = "vllm/m"
WAYS = ("conversation", "cell", "rows")


class Clock:
    """A clock that moves only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        until = self.now + seconds
        for _ in range(20):  # those who have something to do go first
            await asyncio.sleep(0)
        self.now = max(self.now, until)


class View:
    """A view that records what a cell shows of a reply."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.last: Reply | None = None

    def note(self, line: str) -> None: ...

    def status(self, text: str, done: int = 0, total: int = 0) -> None: ...

    def update(self, text_so_far: str) -> None:
        self.texts.append(text_so_far)

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        self.last = reply


class User:
    """A user who asks by every entry point, with histories and a store that tests can look at."""

    def __init__(
        self,
        http: HttpClient,
        base_url: str,
        clock: Clock,
        *,
        store: ReplyStore | None = None,
        cells: ConversationStore | None = None,
        **settings: Any,
    ) -> None:
        found = Settings(model=MODEL, base_url=base_url, environ={}, **settings)
        self.clock = clock
        self.store = store or MemoryStore()
        self.cells = cells or MemoryConversations()
        self.chat = Chat(
            settings=lambda: found,
            http=http,
            store=self.store,
            clock=clock,
            sleep=clock.sleep,
            random=lambda: 0.5,
        )
        self.conversation = Conversation(chat=self.chat)
        self.view = View()
        self.session = Session(
            self.chat, {}, view=lambda is_streamed: self.view, shown=lambda reply: None, store=lambda: self.cells
        )

    def tell(self, way: str, prompt: str = "hello") -> Reply | AichatError:
        """Return the reply to a prompt, or the error."""
        if way == "rows":
            try:
                made = self.rows([prompt])
            except AichatError as error:
                return error
            outcome = made.outcome(0) or made.stopped_by
            assert outcome is not None
            return outcome
        try:
            reply = self.conversation.ask(prompt) if way == "conversation" else self.session.cell("", prompt)
        except AichatError as error:
            return error
        assert isinstance(reply, Reply)
        return reply

    def fails(self, way: str, kind: type[AichatError], prompt: str = "hello") -> AichatError:
        """Return the error of a prompt; assert its class, that it is one short line, and that nothing is kept."""
        before = self.kept()
        error = self.tell(way, prompt)
        assert type(error) is kind, repr(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 400
        seen: BaseException | None = error
        while seen is not None:
            assert not isinstance(seen, BaseExceptionGroup)
            seen = seen.__cause__ or seen.__context__
        assert self.kept() == before
        return error

    def rows(self, rows: Iterable[Row], **options: Any) -> BatchRunner:
        """Return a run over rows, also one that was stopped."""
        made = self.batch(rows, **options)
        run(made.run())
        return made

    def batch(self, rows: Iterable[Row], given: CallOptions | None = None, **options: Any) -> BatchRunner:
        """Return a batch of rows that has not started."""
        chosen = BatchOptions(progress=False, **options)
        plan = chosen.plan(self.chat, given or CallOptions())
        limiter = RunLimiter(
            concurrency=chosen.concurrency, budget=plan.limiter.budget, clock=self.clock, sleep=self.clock.sleep
        )
        plan = dataclasses.replace(plan, limiter=limiter)
        return BatchRunner(self.chat, plan, rows, clock=self.clock, sleep=self.clock.sleep)

    def kept(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]], int]:
        """Return prompts and replies of the conversation and of the cells, and the number of stored replies."""
        stored = self.cells.load("here", "main")
        return (
            [(turn.prompt, turn.reply.text) for turn in self.conversation.turns],
            [(turn.prompt, turn.reply.text) for turn in stored.turns] if stored is not None else [],
            self.store.summary().rows,
        )
