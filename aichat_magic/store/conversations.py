"""Stores of conversations: in a file that all kernels of a user share, or in memory.

Each is a branching tree of turns (`tree`); the stores differ in how they get at it.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeVar

from ..core.usage import Usage
from .conversation_tables import CONVERSATION_TABLES, Key
from .database import in_memory
from .files import CONVERSATIONS_FILE
from .notebooks import KnownNotebook, Origin, find_notebooks, record_origin
from .records import (
    ConversationSummary,
    SearchHit,
    StoredConversation,
    StoredTurn,
    TurnRecord,
    TurnRow,
    turn_from,
    turn_row,
)
from .tree import TurnTree
from .usage import UsageRow, record_usage, usage_by_day, usage_records, usage_values
from .write_behind import WriteBehindLog

__all__ = [
    "ConversationStore",
    "ConversationSummary",
    "KnownNotebook",
    "MemoryConversations",
    "Origin",
    "SearchHit",
    "SqliteConversations",
    "StoredConversation",
    "StoredTurn",
    "TurnRecord",
    "UsageRow",
    "open_conversations",
]

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 1.0
# Conversations that a store remembers as it has read them last.
_MOST_KNOWN: Final = 4


class ConversationStore(Protocol):
    """Conversations by scope and name. The scope is a notebook's, or empty for those that all notebooks share.

    For synchronous code in any thread. Trouble with a file never reaches the caller: it means memory and a warning.
    """

    def load(self, scope: str, name: str) -> StoredConversation | None:
        """Return a conversation, None when there is none."""

    def append(self, scope: str, name: str, turn: TurnRecord, *, system: str = "", is_new: bool = False) -> StoredTurn:
        """Add a turn after the newest one that is stored now, whoever added it; create the conversation if need be.

        Args:
            scope: Scope of the conversation.
            name: Its name.
            turn: The turn.
            system: Its system message from now on; empty: as before.
            is_new: Whether the turn is the first of a new branch. Nothing is destroyed.

        Returns:
            The turn with its id.

        Raises:
            BadInputError: The reply is incomplete.
        """

    def append_all(
        self, scope: str, name: str, turns: Iterable[TurnRecord], *, system: str = "", is_new: bool = False
    ) -> None:
        """Do the same with several turns: all of them are added, or none."""

    def replace(self, scope: str, name: str, turn_id: int, turn: TurnRecord, *, system: str = "") -> StoredTurn:
        """Put another turn in the place of one; later turns stay, with new ids. Append it if that one is not there.

        Args:
            scope: Scope of the conversation.
            name: Its name.
            turn_id: The turn to be replaced.
            turn: The turn in its place.
            system: As in `append`.

        Returns:
            The turn with its id.

        Raises:
            BadInputError: The reply is incomplete.
        """

    def drop(self, scope: str, name: str, turn_ids: Collection[int]) -> None:
        """Leave turns out; those after them stay. Turns that are not there any more are no error."""

    def rewind(self, scope: str, name: str, to: int | None) -> None:
        """Go back to a turn; None: to before the first. The turns after it are kept, and can be gone back to.

        Raises:
            UnknownNameError: There is no such turn in this conversation.
        """

    def fork(self, scope: str, name: str, to_scope: str, to_name: str) -> None:
        """Begin another conversation with the same past.

        Raises:
            UnknownNameError: There is no such conversation.
            BadInputError: There is already one of the other name.
        """

    def delete(self, scope: str, name: str) -> bool:
        """Destroy a conversation with all its branches, except turns that another conversation has.

        Returns:
            Whether there was one.
        """

    def names(self, scope: str) -> list[ConversationSummary]:
        """Return the conversations of this scope and the shared ones, by name."""

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""

    def notebooks(self, *, cells: Collection[str] = (), path: str = "", kernel: str = "") -> list[KnownNotebook]:
        """Return the notebooks that may be meant and in which turns were made, the one with the newest turn first.

        Args:
            cells: Ids of cells, of which it has one;
            path: or where it was when the last turn was made; empty: not looked for;
            kernel: or the id of the kernel that it had then; empty: not looked for.
        """

    def search(self, text: str, *, limit: int = 20) -> list[SearchHit]:
        """Return the turns of all scopes and branches that contain a text, whatever its case; the newest first."""

    def record_run(self, model: str, usage: Usage, replies: int) -> None:
        """Record the usage of a run over a table."""

    def usage(self, since: float | None = None) -> list[UsageRow]:
        """Return the usage by day, model and conversation.

        Args:
            since: From when on, in seconds since 1970; None: ever.
        """

    def close(self) -> None:
        """Write what is waiting, and close the file. The store may be used again afterwards."""


class _TreeConversations:
    """Conversations in a tree of turns. Subclasses say how the tree is changed and read."""

    _clock: Callable[[], float]

    def __init__(self) -> None:
        self._known: dict[Key, StoredConversation] = {}

    def _change(self, task: Callable[[TurnTree], T], *, may_create: bool = False) -> T:
        """Change the tree. Where there is no file yet, one is created only with `may_create`."""
        raise NotImplementedError

    def _read(self, task: Callable[[TurnTree], T]) -> T:
        """Read the tree."""
        raise NotImplementedError

    def load(self, scope: str, name: str) -> StoredConversation | None:
        """Return a conversation, None when there is none. Only turns that are new since the last time are read."""
        key = (scope, name)
        known = self._known.pop(key, None)
        if (found := self._read(lambda tree: tree.load(key, known))) is not None:
            self._known[key] = found
            for other in list(self._known)[:-_MOST_KNOWN]:
                self._known.pop(other, None)
        return found

    def append(self, scope: str, name: str, turn: TurnRecord, *, system: str = "", is_new: bool = False) -> StoredTurn:
        """Add a turn after the newest one that is stored now."""
        (stored,) = self._append((scope, name), [turn], system, is_new)
        return stored

    def append_all(
        self, scope: str, name: str, turns: Iterable[TurnRecord], *, system: str = "", is_new: bool = False
    ) -> None:
        """Add several turns, or none of them."""
        self._append((scope, name), turns, system, is_new)

    def replace(self, scope: str, name: str, turn_id: int, turn: TurnRecord, *, system: str = "") -> StoredTurn:
        """Put another turn in the place of one; later turns stay."""
        key, now_s = (scope, name), self._clock()

        def replace(tree: TurnTree, rows: list[TurnRow]) -> list[int]:
            return [tree.replace(key, turn_id, row, system=system, now_s=now_s) for row in rows]

        (stored,) = self._store_turns(key, [turn], now_s, replace)
        return stored

    def drop(self, scope: str, name: str, turn_ids: Collection[int]) -> None:
        """Leave turns out; those after them stay."""
        now_s = self._clock()
        self._change(lambda tree: tree.drop((scope, name), turn_ids, now_s))

    def rewind(self, scope: str, name: str, to: int | None) -> None:
        """Go back to a turn, or to before the first."""
        now_s = self._clock()
        self._change(lambda tree: tree.rewind((scope, name), to, now_s))

    def fork(self, scope: str, name: str, to_scope: str, to_name: str) -> None:
        """Begin another conversation with the same past."""
        now_s = self._clock()
        self._change(lambda tree: tree.fork((scope, name), (to_scope, to_name), now_s))

    def delete(self, scope: str, name: str) -> bool:
        """Destroy a conversation, except turns that another conversation has."""
        return self._change(lambda tree: tree.delete((scope, name)))

    def names(self, scope: str) -> list[ConversationSummary]:
        """Return the conversations of this scope and the shared ones, by name."""
        found = self._read(lambda tree: tree.summaries(scope))
        return sorted(found, key=lambda summary: (summary.name, summary.scope))

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""
        return self._read(lambda tree: tree.scopes(name))

    def notebooks(self, *, cells: Collection[str] = (), path: str = "", kernel: str = "") -> list[KnownNotebook]:
        """Return the notebooks that may be meant, the one with the newest turn first."""
        found = self._read(lambda tree: find_notebooks(tree.connection, frozenset(cells), path, kernel))
        return sorted(found, key=lambda known: (-known.updated, known.scope))

    def search(self, text: str, *, limit: int = 20) -> list[SearchHit]:
        """Return the turns that contain a text, the newest first."""
        return self._read(lambda tree: tree.search(text, limit))

    def record_run(self, model: str, usage: Usage, replies: int) -> None:
        """Record the usage of a run over a table."""
        values = usage_values(model, usage, self._clock())
        self._change(lambda tree: record_usage(tree.connection, None, max(0, replies), values), may_create=True)

    def usage(self, since: float | None = None) -> list[UsageRow]:
        """Return the usage by day, model and conversation."""
        since_s = -math.inf if since is None else since
        return usage_by_day(self._read(lambda tree: list(usage_records(tree.connection, since_s))))

    def _append(self, key: Key, turns: Iterable[TurnRecord], system: str, is_new: bool) -> list[StoredTurn]:
        """Store turns after the newest one; with `is_new`, as a new branch."""
        now_s = self._clock()

        def append(tree: TurnTree, rows: list[TurnRow]) -> list[int]:
            return [
                tree.append(key, row, system=system, is_new=is_new and number == 0, now_s=now_s)
                for number, row in enumerate(rows)
            ]

        return self._store_turns(key, turns, now_s, append)

    def _store_turns(
        self, key: Key, turns: Iterable[TurnRecord], now_s: float, task: Callable[[TurnTree, list[TurnRow]], list[int]]
    ) -> list[StoredTurn]:
        """Store turns, their notebooks and their usage, in one change."""
        turns = list(turns)
        rows = [turn_row(turn, now_s) for turn in turns]

        def change(tree: TurnTree) -> list[int]:
            ids = task(tree, rows)
            for turn in turns:
                if turn.origin is not None:
                    record_origin(tree.connection, turn.origin, now_s)
                if turn.created is None:
                    record_usage(tree.connection, key, 1, usage_values(turn.reply.model, turn.reply.usage, now_s))
            return ids

        ids = self._change(change, may_create=True)
        stored = [turn_from(turn_id, row) for turn_id, row in zip(ids, rows, strict=True)]
        return [turn for turn in stored if turn is not None]  # all: `turn_row` makes only rows that can be read again


class MemoryConversations(_TreeConversations):
    """Conversations in memory, for as long as the process lives."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Begin empty.

        Args:
            clock: Seconds since 1970.
        """
        super().__init__()
        self._clock = clock
        connection = in_memory(CONVERSATION_TABLES)
        self._finalizer = weakref.finalize(self, connection.close)
        self._tree = TurnTree(connection)
        self._locks: dict[int, threading.Lock] = {}  # by process: another thread may have held one during a fork

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _change(self, task: Callable[[TurnTree], T], *, may_create: bool = False) -> T:
        execute = self._tree.connection.execute
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            execute("SAVEPOINT change")  # all or nothing, as in the file
            try:
                return task(self._tree)
            except BaseException:
                execute("ROLLBACK TO change")
                raise
            finally:
                execute("RELEASE change")

    _read = _change


class SqliteConversations(_TreeConversations):
    """Conversations in an SQLite file. A turn that is stored survives the death of the process.

    The file is created at the first change. While it is locked, full or read-only, changes are kept in memory, with one
    warning, and written in order at the next chance. A corrupt file is moved aside; one that cannot be used at all is
    left alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        max_pages: int | None = None,
    ) -> None:
        """Remember where the file is.

        Args:
            path: The file.
            clock: Seconds since 1970.
            busy_timeout_s: Longest wait for a file that another process has locked, in seconds.
            max_pages: Largest number of SQLite pages; None for SQLite's own limit.
        """
        super().__init__()
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._max_pages = max_pages
        # By process. The parent's stays referenced in a child: closing a connection there is not allowed.
        self._logs: dict[int, WriteBehindLog] = {}
        self._finalizer = weakref.finalize(self, _close, self._logs)

    def __repr__(self) -> str:
        """Return the class and the file."""
        return f"<{type(self).__name__} {self._path}>"

    def close(self) -> None:
        """Write what is waiting, and close the file. The store may be used again afterwards."""
        _close(self._logs)

    def _change(self, task: Callable[[TurnTree], T], *, may_create: bool = False) -> T:
        log = self._log()
        try:
            with log.lock:
                return log.change(task, may_create=may_create)
        finally:
            log.warnings.emit()

    def _read(self, task: Callable[[TurnTree], T]) -> T:
        log = self._log()
        with log.lock:
            found = log.read(task)
        log.warnings.emit()
        return found

    def _log(self) -> WriteBehindLog:
        pid = os.getpid()
        log = self._logs.get(pid)
        if log is None:  # no lock: one that another thread held during a fork would never be free again
            log = self._logs.setdefault(pid, WriteBehindLog(self._path, self._busy_timeout_s, self._max_pages))
        return log


def open_conversations(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.time,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> ConversationStore:
    """Return the conversations of this user. Nothing is created on the disk yet.

    Args:
        path: The file; None: ``AICHAT_CONVERSATIONS``, or else ``conversations.sqlite3`` in the user's data directory.
        environ: The environment. ``AICHAT_CONVERSATIONS=none`` or ``memory`` keeps conversations in memory only.
        clock: Seconds since 1970.
        busy_timeout_s: Longest wait for a file that another process has locked, in seconds.

    Returns:
        The store; in memory, with a warning, when there is no place for a file.
    """
    path = CONVERSATIONS_FILE.path(environ) if path is None else path
    if path is None:
        return MemoryConversations(clock=clock)
    return SqliteConversations(path, clock=clock, busy_timeout_s=busy_timeout_s)


def _close(logs: Mapping[int, WriteBehindLog]) -> None:
    """Close what this process has open; also at the end of the interpreter."""
    log = logs.get(os.getpid())
    if log is not None:
        with log.lock:
            log.close()
        log.warnings.emit()
