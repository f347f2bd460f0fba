"""Conversations that last: turns in a file of their own, shared by all kernels of a user; and which file that is."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from ..core.usage import Usage
from . import tree as operations
from .database import in_memory
from .origins import KnownNotebook, Origin
from .records import (
    ConversationSummary,
    SearchHit,
    StoredConversation,
    StoredTurn,
    TurnRecord,
    UsageRow,
    said_from,
    spent_from,
    turn_from,
)
from .sql_tree import CONVERSATIONS, Key, SqlTurnTree
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


class ConversationStore(Protocol):
    """Conversations by scope and name. The scope is the notebook's, or empty for those that all notebooks share.

    For synchronous code in any thread. Trouble with a file never reaches the caller: it means memory and a warning.
    """

    def load(self, scope: str, name: str) -> StoredConversation | None:
        """A conversation, None when there is none."""

    def append(self, scope: str, name: str, turn: TurnRecord, *, system: str = "", is_new: bool = False) -> StoredTurn:
        """Add a turn after the newest one that is stored now, whoever added it; the conversation is made if need be.

        Args:
            scope: Whose conversation.
            name: Its name.
            turn: The turn.
            system: Its system message from now on; empty: as before.
            is_new: Whether the turn is the first of a new branch. Nothing is destroyed.

        Returns:
            The turn with its id.

        Raises:
            BadInputError: The reply is not whole.
        """

    def replace(self, scope: str, name: str, turn_id: int, turn: TurnRecord, *, system: str = "") -> StoredTurn:
        """Put another turn in the place of one. Later turns stay, with new ids; without that one, it is added.

        Args:
            scope: Whose conversation.
            name: Its name.
            turn_id: The turn that goes.
            turn: The turn that comes.
            system: As `append`.

        Raises:
            BadInputError: The reply is not whole.
        """

    def drop(self, scope: str, name: str, turn_ids: Collection[int]) -> None:
        """Leave turns out; those after them stay. Turns that are not there any more are no error."""

    def rewind(self, scope: str, name: str, to: int | None) -> None:
        """Go back to a turn, or to before the first. Nothing is destroyed: the turns after it can be gone back to.

        Raises:
            UnknownNameError: There is no such turn in this conversation.
        """

    def fork(self, scope: str, name: str, to_scope: str, to_name: str) -> None:
        """Begin another conversation with the same past.

        Raises:
            UnknownNameError: There is no such conversation.
            BadInputError: There is one of the other name already.
        """

    def delete(self, scope: str, name: str) -> bool:
        """Destroy a conversation, with all its branches, but for the turns that another one has.

        Returns:
            Whether there was one.
        """

    def names(self, scope: str) -> list[ConversationSummary]:
        """The conversations of this scope and the shared ones, by name."""

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""

    def notebooks(self, *, cells: Collection[str] = (), path: str = "", kernel: str = "") -> list[KnownNotebook]:
        """Return the notebooks that have made turns and may be meant, the one with the newest turn first.

        Args:
            cells: Ids of cells, of which it has one;
            path: or where it was when it made the last turn; empty: not asked for;
            kernel: or the id of the kernel that it had then; empty: not asked for.
        """

    def search(self, text: str, *, limit: int = 20) -> list[SearchHit]:
        """Turns of all scopes and branches that hold a text, whatever its case; the newest first."""

    def record_run(self, model: str, usage: Usage, replies: int) -> None:
        """Note what a run over a table has used."""

    def usage(self, since: float | None = None) -> list[UsageRow]:
        """What was used, by day, model and conversation.

        Args:
            since: From when on, in seconds since 1970; None: ever.
        """

    def close(self) -> None:
        """Write what is waiting, and let go of the file. The store may be used again afterwards."""


class _Conversations:
    """What all stores of conversations have in common; they differ in how they change and look at a forest."""

    _clock: Callable[[], float]

    def _change(self, task: Callable[[SqlTurnTree], T], *, is_first: bool = False) -> T:
        """Change the forest; only what may be the first thing in it (`is_first`) makes a file."""
        raise NotImplementedError

    def _look(self, task: Callable[[SqlTurnTree], T]) -> T:
        raise NotImplementedError

    def load(self, scope: str, name: str) -> StoredConversation | None:
        """A conversation, None when there is none."""
        return self._look(lambda forest: forest.load((scope, name)))

    def append(self, scope: str, name: str, turn: TurnRecord, *, system: str = "", is_new: bool = False) -> StoredTurn:
        """Add a turn after the newest one that is stored now."""
        key, now_s = (scope, name), self._clock()
        return self._kept(key, turn, lambda forest, said: operations.append(forest, key, said, system, is_new, now_s))

    def replace(self, scope: str, name: str, turn_id: int, turn: TurnRecord, *, system: str = "") -> StoredTurn:
        """Put another turn in the place of one; later turns stay."""
        key, now_s = (scope, name), self._clock()
        return self._kept(key, turn, lambda forest, said: operations.replace(forest, key, turn_id, said, system, now_s))

    def drop(self, scope: str, name: str, turn_ids: Collection[int]) -> None:
        """Leave turns out; those after them stay."""
        now_s = self._clock()
        self._change(lambda forest: operations.drop(forest, (scope, name), turn_ids, now_s))

    def rewind(self, scope: str, name: str, to: int | None) -> None:
        """Go back to a turn, or to before the first."""
        now_s = self._clock()
        self._change(lambda forest: operations.rewind(forest, (scope, name), to, now_s))

    def fork(self, scope: str, name: str, to_scope: str, to_name: str) -> None:
        """Begin another conversation with the same past."""
        now_s = self._clock()
        self._change(lambda forest: operations.fork(forest, (scope, name), (to_scope, to_name), now_s))

    def delete(self, scope: str, name: str) -> bool:
        """Destroy a conversation, but for the turns that another one has."""
        return self._change(lambda forest: forest.delete((scope, name)))

    def names(self, scope: str) -> list[ConversationSummary]:
        """The conversations of this scope and the shared ones, by name."""
        found = self._look(lambda forest: forest.names(scope))
        return sorted(found, key=lambda summary: (summary.name, summary.scope))

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""
        return self._look(lambda forest: forest.scopes(name))

    def notebooks(self, *, cells: Collection[str] = (), path: str = "", kernel: str = "") -> list[KnownNotebook]:
        """Return the notebooks that may be meant, the newest first."""
        found = self._look(lambda forest: forest.notebooks(frozenset(cells), path, kernel))
        return sorted(found, key=lambda known: (-known.updated, known.scope))

    def search(self, text: str, *, limit: int = 20) -> list[SearchHit]:
        """Turns that hold a text, the newest first."""
        return self._look(lambda forest: forest.search(text, limit))

    def record_run(self, model: str, usage: Usage, replies: int) -> None:
        """Note what a run over a table has used."""
        values = spent_from(model, usage, self._clock())
        self._change(lambda forest: forest.spend(None, max(0, replies), values), is_first=True)

    def usage(self, since: float | None = None) -> list[UsageRow]:
        """What was used, by day, model and conversation."""
        rows: dict[tuple[str, str, str], tuple[int, Usage]] = {}
        for spent in self._look(lambda forest: list(forest.spent(-math.inf if since is None else since))):
            try:
                day = time.strftime("%Y-%m-%d", time.localtime(spent.created))
            except (OverflowError, ValueError, OSError):  # no year of any calendar
                continue
            key = (day, spent.model, spent.conversation)
            replies, usage = rows.get(key, (0, None))
            rows[key] = (replies + spent.replies, spent.usage if usage is None else usage + spent.usage)
        return [
            UsageRow(day=day, model=model, conversation=name, replies=replies, usage=usage)
            for (day, model, name), (replies, usage) in sorted(rows.items(), key=lambda item: item[0])
        ]

    def _kept(self, key: Key, turn: TurnRecord, task: Callable[[SqlTurnTree, Any], int]) -> StoredTurn:
        """Store a turn and what it has used."""
        now_s = self._clock()
        said = said_from(turn, now_s)
        spent = None if turn.created is not None else spent_from(turn.reply.model, turn.reply.usage, now_s)

        def change(forest: SqlTurnTree) -> int:
            number = task(forest, said)
            if turn.origin is not None:
                forest.note(turn.origin, now_s)
            if spent is not None:
                forest.spend(key, 1, spent)
            return number

        stored = turn_from(self._change(change, is_first=True), said)
        assert stored is not None  # `said_from` makes only what can be read again
        return stored


class MemoryConversations(_Conversations):
    """Conversations for as long as the process lives."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Begin empty.

        Args:
            clock: Seconds since 1970.
        """
        self._clock = clock
        connection = in_memory(CONVERSATIONS)
        self._finalizer = weakref.finalize(self, connection.close)
        self._forest = SqlTurnTree(connection)
        self._locks: dict[int, threading.Lock] = {}  # by process: another thread may have held one during a fork

    def close(self) -> None:
        """Nothing to do."""

    def _change(self, task: Callable[[SqlTurnTree], T], *, is_first: bool = False) -> T:
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            return task(self._forest)

    _look = _change


class SqliteConversations(_Conversations):
    """Conversations in an SQLite file. A turn that is stored survives the death of the process.

    Nothing is made before the first change. While the file is locked, full or not to be written, changes are kept in
    memory, with one warning, and written in order at the next chance. A corrupt file is moved aside; one that cannot
    be used at all is left alone.
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
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._max_pages = max_pages
        # By process. The parent's stays referenced in a child: closing a connection there is not allowed.
        self._journals: dict[int, WriteBehindLog] = {}
        self._finalizer = weakref.finalize(self, _close, self._journals)

    def __repr__(self) -> str:
        """The class and the file."""
        return f"<{type(self).__name__} {self._path}>"

    def close(self) -> None:
        """Write what is waiting, and let go of the file. The store may be used again afterwards."""
        _close(self._journals)

    def _change(self, task: Callable[[SqlTurnTree], T], *, is_first: bool = False) -> T:
        journal = self._journal()
        try:
            with journal.lock:
                return journal.change(task, is_first=is_first)
        finally:
            journal.notices.give()

    def _look(self, task: Callable[[SqlTurnTree], T]) -> T:
        journal = self._journal()
        with journal.lock:
            found = journal.look(task)
        journal.notices.give()
        return found

    def _journal(self) -> WriteBehindLog:
        pid = os.getpid()
        journal = self._journals.get(pid)
        if journal is None:  # no lock: one that another thread held during a fork would never be free again
            journal = self._journals.setdefault(pid, WriteBehindLog(self._path, self._busy_timeout_s, self._max_pages))
        return journal


def open_conversations(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.time,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> ConversationStore:
    """The conversations of this user. Nothing is made on the disk yet.

    Args:
        path: The file; None: ``AICHAT_CONVERSATIONS``, or else ``conversations.sqlite3`` in the user's data directory.
        environ: The environment. ``AICHAT_CONVERSATIONS=none`` or ``memory`` keeps conversations in memory only.
        clock: Seconds since 1970.
        busy_timeout_s: Longest wait for a file that another process has locked, in seconds.

    Returns:
        The store; in memory, with a warning, when there is no place for a file.
    """
    named = environ.get("AICHAT_CONVERSATIONS", "")
    if path is None and named.lower() in ("none", "memory"):
        return MemoryConversations(clock=clock)
    if path is None and named:
        path = Path(os.path.expanduser(named))
    elif path is None:
        import platformdirs  # not needed where the place is named

        path = platformdirs.user_data_path("aichat_magic", appauthor=False) / "conversations.sqlite3"
        if not path.is_absolute():
            warnings.warn(
                "Conversations are kept in memory only, because this user has no home directory. "
                "Set AICHAT_CONVERSATIONS to the path of a file to keep them.",
                UserWarning,
                stacklevel=2,
            )
            return MemoryConversations(clock=clock)
    return SqliteConversations(path, clock=clock, busy_timeout_s=busy_timeout_s)


def _close(journals: Mapping[int, WriteBehindLog]) -> None:
    """End what this process has of a store; also at the end of the interpreter."""
    journal = journals.get(os.getpid())
    if journal is not None:
        with journal.lock:
            journal.close()
        journal.notices.give()
