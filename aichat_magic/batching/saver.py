"""Replies on their way into the store, many in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.messages import Reply
from ..store.base import ReplyStore
from .queue import PendingRequest

# So many replies are stored at once, whether or not more are coming.
_ENOUGH = 64


@dataclass(slots=True)
class _Answer:
    """A reply that is not stored yet."""

    job: PendingRequest
    reply: Reply
    waiter: asyncio.Future[None] | None


class ReplySaver:
    """Stores the replies of one run; once stored, they count.

    Attributes:
        waiting: Replies that are not stored yet, those that are being written included.
        tasks: What writes now.
    """

    def __init__(
        self,
        store: ReplyStore,
        begin: Callable[[Coroutine[Any, Any, None], set[asyncio.Task[None]]], None],
        stored: Callable[[Sequence[tuple[PendingRequest, Reply]]], None],
    ) -> None:
        """Prepare.

        Args:
            store: Where to.
            begin: Has something done beside all else, as a task of a group.
            stored: Told of replies once they are stored.
        """
        self._store = store
        self._begin = begin
        self._stored = stored
        self._unsaved: list[_Answer] = []
        self.waiting = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether everything is stored."""
        return not self._unsaved and not self.tasks

    async def keep(self, job: PendingRequest, reply: Reply, *, most: int) -> None:
        """Have a reply stored, with all that come in the turns of the loop before one that brings none.

        A process that is killed loses what was sent and is not stored. That is no more than may be in flight at most: a
        worker that could make it more waits here.

        Args:
            job: What was asked.
            reply: What came.
            most: Replies that may wait here before the caller has to.
        """
        loop = asyncio.get_running_loop()
        if not self._unsaved:
            loop.call_soon(self._save_at_rest, 1)
        self.waiting += 1
        waiter = loop.create_future() if self.waiting > most else None
        self._unsaved.append(_Answer(job, reply, waiter))
        if waiter is not None:
            await waiter

    def _save_at_rest(self, seen: int) -> None:
        """Store the replies that have come, unless the last turn of the loop has brought one more: then, a turn later.

        A commit that two threads have to be woken for costs as much as several rows. With few requests in flight most
        of them come home one turn after the other.
        """
        count = len(self._unsaved)
        if seen < count < _ENOUGH:
            asyncio.get_running_loop().call_soon(self._save_at_rest, count)
        else:
            self.save()

    def save(self) -> None:
        """Begin to store the replies that have come."""
        if self._unsaved and not self.tasks:
            self._begin(self._write(), self.tasks)

    async def _write(self) -> None:
        """Store replies until none is left."""
        while self._unsaved:
            answers, self._unsaved = self._unsaved, []
            await self._store.put_many([(answer.job.key, answer.reply) for answer in answers])
            self.waiting -= len(answers)
            self._stored([(answer.job, answer.reply) for answer in answers])
            for answer in answers:
                if answer.waiter is not None and not answer.waiter.done():
                    answer.waiter.set_result(None)
