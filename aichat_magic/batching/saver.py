"""Group commit: the replies of a run are written to the store, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.messages import Reply
from ..store.base import ReplyStore
from .queue import PendingRequest

# So many replies are written without waiting for more.
_FULL_GROUP = 64


@dataclass(slots=True)
class _UnsavedReply:
    """A reply that is not stored yet, and the worker that waits for it."""

    request: PendingRequest
    reply: Reply
    waiter: asyncio.Future[None] | None


class ReplySaver:
    """The writer of one run: it stores replies in groups, and reports each group when it is stored.

    Attributes:
        n_unsaved: Replies that are not stored yet, including those that are being written.
        tasks: The task that is writing, if there is one.
    """

    def __init__(
        self,
        store: ReplyStore,
        start_task: Callable[[Coroutine[Any, Any, None], set[asyncio.Task[None]]], None],
        on_stored: Callable[[Sequence[tuple[PendingRequest, Reply]]], None],
    ) -> None:
        """Create a saver with nothing to save.

        Args:
            store: The store.
            start_task: Starts a coroutine as a task of a set.
            on_stored: Called with replies once they are stored.
        """
        self._store = store
        self._start_task = start_task
        self._on_stored = on_stored
        self._unsaved: list[_UnsavedReply] = []
        self.n_unsaved = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Tell whether everything is stored."""
        return not self._unsaved and not self.tasks

    async def save(self, request: PendingRequest, reply: Reply, *, most: int) -> None:
        """Have a reply stored, together with those that arrive in the next iterations of the event loop.

        If the process is killed, replies that are not stored yet are lost. To keep them within the maximum concurrency,
        a worker that would exceed it waits here until its reply is stored.

        Args:
            request: The request.
            reply: Its reply.
            most: Unsaved replies up to which the caller does not wait.
        """
        loop = asyncio.get_running_loop()
        if not self._unsaved:
            loop.call_soon(self._write_when_quiet, 1)
        self.n_unsaved += 1
        waiter = loop.create_future() if self.n_unsaved > most else None
        self._unsaved.append(_UnsavedReply(request, reply, waiter))
        if waiter is not None:
            await waiter

    def _write_when_quiet(self, seen: int) -> None:
        """Start to write, or wait for one more iteration of the loop if the last one brought another reply.

        A commit wakes two threads, which costs as much as several rows. With few requests in flight most replies arrive
        in successive iterations.
        """
        count = len(self._unsaved)
        if seen < count < _FULL_GROUP:
            asyncio.get_running_loop().call_soon(self._write_when_quiet, count)
        else:
            self.flush()

    def flush(self) -> None:
        """Start to write the replies that have arrived, unless a write is running."""
        if self._unsaved and not self.tasks:
            self._start_task(self._write(), self.tasks)

    async def _write(self) -> None:
        """Write replies until none is left."""
        while self._unsaved:
            group, self._unsaved = self._unsaved, []
            await self._store.put_many([(unsaved.request.key, unsaved.reply) for unsaved in group])
            self.n_unsaved -= len(group)
            try:
                self._on_stored([(unsaved.request, unsaved.reply) for unsaved in group])
            finally:  # also when the user's callback raises
                for unsaved in group:
                    if unsaved.waiter is not None and not unsaved.waiter.done():
                        unsaved.waiter.set_result(None)
