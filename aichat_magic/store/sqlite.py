"""The store of replies in an SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ..core.messages import Reply
from . import prune
from .base import SOFT_LIMIT_BYTES, ReplyStore, StoreSummary, date_of
from .database import Database, UnusableFileError, connect, is_busy, is_corrupt
from .files import REPLIES_FILE
from .memory import MemoryStore
from .rows import REPLY_COLUMNS, REPLY_TABLES, answer_from, answer_row
from .vectors import TABLE as VECTORS
from .vectors import SqliteVectors, has_vectors
from .warnings import OnceWarnings
from .writer import StoreLimits, Writer

_KEYS_PER_CALL: Final = 10_000  # of a thread
_KEYS_PER_QUERY: Final = 512  # a block of a run; SQLite before 3.32 takes 999 parameters
_SELECT: Final = (
    f"SELECT key, {', '.join(REPLY_COLUMNS)} FROM replies WHERE key IN ({', '.join('?' * _KEYS_PER_QUERY)})"
)
_BUSY_TIMEOUT_S: Final = 0.25
_PATIENCE_S: Final = 5.0


class _ProcessState:
    """The connections of a store in one process: a child after a fork must not touch those of its parent."""

    def __init__(self, path: Path, limits: StoreLimits, max_pages: int | None) -> None:
        self._path = path
        self._patience_s = limits.patience_s
        self._max_pages = max_pages
        self._lock = threading.Lock()  # for the reading connection
        self._database: Database | None = None
        self.warnings = OnceWarnings("Replies", path)
        self.writer = Writer(self.open_database, self.warnings, limits)

    def open_database(self) -> Database:
        """Open another connection."""
        return connect(
            self._path, REPLY_TABLES, warn=self.warnings.add, busy_timeout_s=_BUSY_TIMEOUT_S, max_pages=self._max_pages
        )

    def read(self, task: Callable[[Database], None]) -> bool:
        """Run a task on the reading connection, unless there is no file.

        Returns:
            Whether there was no trouble; otherwise a warning says what it was.
        """
        give_up_at_s = time.monotonic() + self._patience_s
        with self._lock:
            while True:
                try:
                    if self._database is not None and not self._database.is_current():
                        self._close()
                    if self._database is None:
                        if not self._path.exists():
                            return True
                        self._database = self.open_database()
                    task(self._database)
                    return True
                except sqlite3.Error as error:
                    if not self._is_worth_another_try(error, time.monotonic() >= give_up_at_s):
                        return False
                except UnusableFileError as error:
                    self.warnings.memory_only("unusable", str(error))
                    return False
                except OSError as error:
                    self.warnings.memory_only("trouble", str(error))
                    return False

    def close(self, wait_s: float) -> None:
        """Write what is waiting, and close the file, with a wait of so many seconds at most for each."""
        self.writer.stop(wait_s)
        if self._lock.acquire(timeout=wait_s):
            self._close()
            self._lock.release()

    def _is_worth_another_try(self, error: sqlite3.Error, is_late: bool) -> bool:
        """Tell whether to read again after an error; if not, warn."""
        if is_busy(error):
            if is_late:
                self.warnings.memory_only("locked", "it is locked by another program")
            return not is_late
        database, self._database = self._database, None
        if database is not None:
            try:
                if is_corrupt(error) and not is_late:
                    database.move_aside(error, self.warnings.add)
                    return True
            except OSError as another:
                error = sqlite3.OperationalError(str(another))
            database.close()
        self.warnings.memory_only("trouble", str(error))
        return False

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


class SqliteStore:
    """Replies in an SQLite file. A reply that `put` has acknowledged survives the death of the process.

    The file is created at the first `put`. A corrupt file is moved aside, one that cannot be used is left alone: then
    replies are kept in memory, with one warning. No reply is removed except by `prune` and `clear`.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        soft_limit_bytes: int = SOFT_LIMIT_BYTES,
        max_age_s: float | None = None,
        patience_s: float = _PATIENCE_S,
        max_pages: int | None = None,
    ) -> None:
        """Remember where the file is.

        Args:
            path: The file.
            clock: Seconds since 1970.
            soft_limit_bytes: Size above which one warning says that nothing is removed automatically.
            max_age_s: Age above which a reply is not returned any more, in seconds; None: any age, because what was
                paid for once is also how a run is resumed.
            patience_s: Longest wait for a file that another process has locked, in seconds.
            max_pages: Largest number of SQLite pages; None for SQLite's own limit.
        """
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        self._max_age_s = max_age_s
        self._max_pages = max_pages
        self.vectors = SqliteVectors(self._path, clock=clock)
        self._limits = StoreLimits(patience_s=patience_s, soft_limit_bytes=soft_limit_bytes)
        # By process. The parent's stays referenced in a child: closing a connection there is not allowed.
        self._states: dict[int, _ProcessState] = {}
        self._finalizer = weakref.finalize(self, _close, self._states, patience_s)

    def __repr__(self) -> str:
        """Return the class and the file."""
        return f"<{type(self).__name__} {self._path}>"

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the replies under these keys, read in another thread.

        Args:
            keys: Keys of `request_key`.

        Returns:
            Replies by key, without their messages. Those that are not there, or invalid, are left out.
        """
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), _KEYS_PER_CALL):  # between two parts a cancellation takes effect
            found.update(await asyncio.to_thread(self._read, keys[start : start + _KEYS_PER_CALL]))
        self._state().warnings.emit()
        return found

    async def put(self, key: bytes, reply: Reply) -> None:
        """Store a complete reply; return once it is in the file, or kept in memory with one warning.

        A cancelled put is written all the same.

        Args:
            key: The key of its request.
            reply: The reply. Its messages are not stored; a truncated or empty reply is not stored at all.
        """
        await self.put_many([(key, reply)])

    async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """Store many replies at once, as `put` does.

        Args:
            replies: Keys and replies.
        """
        now_s = self._clock()
        rows = [(key, row) for key, reply in replies if (row := answer_row(reply, now_s)) is not None]
        if rows:
            state = self._state()
            await state.writer.submit(rows, asyncio.get_running_loop())
            state.warnings.emit()

    def summary(self) -> StoreSummary:
        """Return the number, size and age of the replies in the file and of those that wait to be written."""
        state = self._state()
        rows = list(state.writer.unsaved.values())
        count, times = len(rows), [row[0] for row in rows]
        vectors = 0

        def look(database: Database) -> None:
            nonlocal count, vectors
            execute = database.connection.execute
            if has_vectors(database):
                vectors = execute(f"SELECT count(*) FROM {VECTORS}").fetchone()[0]
            count += execute("SELECT count(*) FROM replies").fetchone()[0]
            for end in ("min", "max"):
                sql = f"SELECT created_s FROM replies WHERE id = (SELECT {end}(id) FROM replies)"
                times.extend(value for (value,) in execute(sql) if isinstance(value, float))

        is_fine = state.read(look)
        size_bytes = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                size_bytes += os.stat(f"{self._path}{suffix}").st_size
        state.warnings.emit()
        return StoreSummary(
            path=self._path,
            rows=count,
            size_bytes=size_bytes,
            oldest=date_of(min(times, default=None)),
            newest=date_of(max(times, default=None)),
            is_persistent=is_fine and state.writer.is_persistent,
            soft_limit_bytes=self._limits.soft_limit_bytes,
            vectors=vectors,
        )

    def prune(self, *, older_s: float | None = None, larger_bytes: int | None = None) -> int:
        """Remove old replies and vectors from the file, and give the space back.

        Those that wait to be written are the newest, and stay.

        Args:
            older_s: Age above which a reply is removed, in seconds; None: any age stays.
            larger_bytes: The oldest are removed until the file is no larger, in bytes; None: any size stays.

        Returns:
            How many were removed. 0, with a warning, when the file cannot be written.
        """
        state = self._state()
        before_s = None if older_s is None else self._clock() - older_s
        count = 0

        def remove(database: Database) -> None:
            nonlocal count
            if before_s is not None:
                for removed in prune.remove_older(database, before_s):
                    count += removed
                if count:  # before the size is looked at
                    prune.shrink(database)
            if larger_bytes is not None:
                for removed in prune.remove_larger(database, larger_bytes):
                    count += removed

        state.read(remove)
        state.warnings.emit()
        return count

    def clear(self) -> int:
        """Remove all replies and vectors, and give the space back.

        Returns:
            How many were removed. 0, with a warning, when the file cannot be written.
        """
        state = self._state()
        count = len(state.writer.clear())

        def empty(database: Database) -> None:
            nonlocal count
            with database.transaction() as connection:
                deleted = connection.execute("DELETE FROM replies").rowcount
                if has_vectors(database):
                    deleted += connection.execute(f"DELETE FROM {VECTORS}").rowcount
            count += deleted
            prune.shrink(database)

        state.read(empty)
        state.warnings.emit()
        return count

    def close(self) -> None:
        """Write what is waiting, and close the file. The store may be used again afterwards."""
        self.vectors.close()
        _close(self._states, self._limits.patience_s)

    def _state(self) -> _ProcessState:
        pid = os.getpid()
        state = self._states.get(pid)
        if state is None:  # no lock: one that another thread held during a fork would never be free again
            state = self._states.setdefault(pid, _ProcessState(self._path, self._limits, self._max_pages))
        return state

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the replies under these keys."""
        state, oldest_s = self._state(), self._oldest_s()
        found: dict[bytes, Reply] = {}
        missing: list[bytes] = []
        # First the rows that are not written yet: one that is written meanwhile is in the file afterwards. The order is
        # kept: rows that were written one after the other are side by side in the file.
        for key in dict.fromkeys(keys):
            if (row := state.writer.unsaved.get(key)) is None:
                missing.append(key)
            elif (reply := answer_from(row, oldest_s)) is not None:
                found[key] = reply

        def select(database: Database) -> None:
            for start in range(0, len(missing), _KEYS_PER_QUERY):
                some = missing[start : start + _KEYS_PER_QUERY]
                some += [some[-1]] * (_KEYS_PER_QUERY - len(some))
                for values in database.connection.execute(_SELECT, some).fetchall():
                    if (reply := answer_from(values[1:], oldest_s)) is not None:
                        found[values[0]] = reply

        if missing:
            state.read(select)
        return found

    def _oldest_s(self) -> float:
        """Return the time before which a reply is too old, in seconds since 1970."""
        return -math.inf if self._max_age_s is None else self._clock() - self._max_age_s


def open_store(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.time,
    soft_limit_bytes: int = SOFT_LIMIT_BYTES,
    max_age_s: float | None = None,
) -> ReplyStore:
    """Return the store of this user. Nothing is created on the disk yet.

    Args:
        path: The file; None: ``AICHAT_STORE``, or else ``replies.sqlite3`` in the user's data directory.
        environ: The environment. ``AICHAT_STORE=none`` or ``memory`` keeps replies in memory only.
        clock: Seconds since 1970.
        soft_limit_bytes: Size above which one warning says that nothing is removed automatically.
        max_age_s: Age above which a reply is not returned any more, in seconds; None: any age.

    Returns:
        The store; in memory, with a warning, when there is no place for a file.
    """
    path = REPLIES_FILE.path(environ) if path is None else path
    if path is None:
        return MemoryStore(clock=clock, max_age_s=max_age_s)
    return SqliteStore(path, clock=clock, soft_limit_bytes=soft_limit_bytes, max_age_s=max_age_s)


def _close(states: Mapping[int, _ProcessState], wait_s: float) -> None:
    """Close what this process has open; also at the end of the interpreter."""
    state = states.get(os.getpid())
    if state is not None:
        state.close(wait_s)
        state.warnings.emit()
