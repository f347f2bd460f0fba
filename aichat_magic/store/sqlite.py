"""Replies by the hash of their whole request, in a file; and which store a user has."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ..core.messages import Reply
from . import prune
from .base import SOFT_LIMIT_BYTES, ReplyStore, StoreSummary, date_of
from .database import Database, UnusableFileError, connect, is_busy, is_corrupt
from .memory import MemoryStore
from .rows import COLUMNS, LAYOUT, answer_from, answer_row
from .warnings import OnceWarnings
from .writer import StoreLimits, Writer

_KEYS_IN_THREAD: Final = 10_000
_KEYS_AT_ONCE: Final = 512  # a block of a run; SQLite before 3.32 takes 999 parameters
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM replies WHERE key IN ({', '.join('?' * _KEYS_AT_ONCE)})"
_BUSY_TIMEOUT_S: Final = 0.25
_PATIENCE_S: Final = 5.0


class _Life:
    """What a store has in one process: a child after fork must not touch its parent's connections."""

    def __init__(self, path: Path, limits: StoreLimits, max_pages: int | None) -> None:
        self._path = path
        self._patience_s = limits.patience_s
        self._max_pages = max_pages
        self._lock = threading.Lock()  # for the reading connection
        self._database: Database | None = None
        self.notices = OnceWarnings(path)
        self.writer = Writer(self.open_database, self.notices, limits)

    def open_database(self) -> Database:
        return connect(
            self._path, LAYOUT, notice=self.notices.add, busy_timeout_s=_BUSY_TIMEOUT_S, max_pages=self._max_pages
        )

    def read(self, task: Callable[[Database], None]) -> bool:
        """Do something with the reading connection, unless there is no file.

        Returns:
            Whether there was no trouble; a notice says what it was.
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
                    self.notices.trouble("unusable", str(error))
                    return False
                except OSError as error:
                    self.notices.trouble("trouble", str(error))
                    return False

    def close(self, wait_s: float) -> None:
        self.writer.stop(wait_s)
        if self._lock.acquire(timeout=wait_s):
            self._close()
            self._lock.release()

    def _is_worth_another_try(self, error: sqlite3.Error, is_late: bool) -> bool:
        """Whether to read again after an error."""
        if is_busy(error):
            if is_late:
                self.notices.trouble("locked", "it is locked by another program")
            return not is_late
        database, self._database = self._database, None
        if database is not None:
            try:
                if is_corrupt(error) and not is_late:
                    database.move_aside(error, self.notices.add)
                    return True
            except OSError as another:
                error = sqlite3.OperationalError(str(another))
            database.close()
        self.notices.trouble("trouble", str(error))
        return False

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


class SqliteStore:
    """Replies in an SQLite file. A reply that `put` has acknowledged survives the death of the process.

    Nothing is made before the first `put`. A file that is corrupt is moved aside, one that cannot be used is left
    alone: then replies are kept in memory, with one warning. No reply is removed but by `prune` and `clear`.
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
            soft_limit_bytes: Size from which on one line tells that nothing is removed by itself.
            max_age_s: Age from which on a reply is not given any more, in seconds; None: any age, because what was
                paid for once is the journal of a run, too.
            patience_s: Longest wait for a file that another process has locked, in seconds.
            max_pages: Largest number of SQLite pages; None for SQLite's own limit.
        """
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        self._max_age_s = max_age_s
        self._max_pages = max_pages
        self._limits = StoreLimits(patience_s=patience_s, soft_limit_bytes=soft_limit_bytes)
        # By process. The parent's stays referenced in a child: closing a connection there is not allowed.
        self._lives: dict[int, _Life] = {}
        self._finalizer = weakref.finalize(self, _close_life, self._lives, patience_s)

    def __repr__(self) -> str:
        """The class and the file."""
        return f"<{type(self).__name__} {self._path}>"

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The replies under these keys, read in another thread.

        Args:
            keys: Keys of `request_key`.

        Returns:
            Replies by key, without their messages. What is not there, or not right, is left out.
        """
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), _KEYS_IN_THREAD):  # each part is a point where a cancel can come through
            found.update(await asyncio.to_thread(self._read, keys[start : start + _KEYS_IN_THREAD]))
        self._life().notices.give()
        return found

    async def put(self, key: bytes, reply: Reply) -> None:
        """Store a complete reply; returns once it is in the file, or kept in memory with one warning.

        A cancelled put is written all the same.

        Args:
            key: The key of its request.
            reply: The reply. Its messages are not stored; a reply that is cut off or empty is not stored at all.
        """
        await self.put_many([(key, reply)])

    async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """As `put`, for many replies at once.

        Args:
            replies: Keys and replies.
        """
        now_s = self._clock()
        rows = [(key, row) for key, reply in replies if (row := answer_row(reply, now_s)) is not None]
        if rows:
            life = self._life()
            await life.writer.submit(rows, asyncio.get_running_loop())
            life.notices.give()

    def summary(self) -> StoreSummary:
        """What is in the file, and what waits to be written to it."""
        life = self._life()
        rows = list(life.writer.unsaved.values())
        count, times = len(rows), [row[0] for row in rows]

        def look(database: Database) -> None:
            nonlocal count
            execute = database.connection.execute
            count += execute("SELECT count(*) FROM replies").fetchone()[0]
            for end in ("min", "max"):
                sql = f"SELECT created_s FROM replies WHERE id = (SELECT {end}(id) FROM replies)"
                times.extend(value for (value,) in execute(sql) if isinstance(value, float))

        is_fine = life.read(look)
        size_bytes = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                size_bytes += os.stat(f"{self._path}{suffix}").st_size
        life.notices.give()
        return StoreSummary(
            path=self._path,
            rows=count,
            size_bytes=size_bytes,
            oldest=date_of(min(times, default=None)),
            newest=date_of(max(times, default=None)),
            is_persistent=is_fine and life.writer.is_persistent,
            soft_limit_bytes=self._limits.soft_limit_bytes,
        )

    def prune(self, *, older_s: float | None = None, larger_bytes: int | None = None) -> int:
        """Remove old replies from the file, and give the space back.

        Those that wait to be written are the newest, and stay.

        Args:
            older_s: Age from which on a reply is removed, in seconds; None: whatever its age.
            larger_bytes: The oldest are removed until the file is no larger; None: whatever its size.

        Returns:
            How many were removed. 0, with a warning, when the file cannot be written.
        """
        life = self._life()
        before_s = None if older_s is None else self._clock() - older_s
        count = 0

        def remove(database: Database) -> None:
            nonlocal count
            if before_s is not None:
                for removed in prune.older(database, before_s):
                    count += removed
                if count:  # before the size is looked at
                    prune.give_back(database)
            if larger_bytes is not None:
                for removed in prune.larger(database, larger_bytes):
                    count += removed

        life.read(remove)
        life.notices.give()
        return count

    def clear(self) -> int:
        """Remove all replies, and give the space back.

        Returns:
            How many they were. 0, with a warning, when the file cannot be written.
        """
        life = self._life()
        count = len(life.writer.clear())

        def empty(database: Database) -> None:
            nonlocal count
            with database.transaction() as connection:
                deleted = connection.execute("DELETE FROM replies").rowcount
            count += deleted
            prune.give_back(database)

        life.read(empty)
        life.notices.give()
        return count

    def close(self) -> None:
        """Write what is waiting, and let go of the file. The store may be used again afterwards."""
        _close_life(self._lives, self._limits.patience_s)

    def _life(self) -> _Life:
        pid = os.getpid()
        life = self._lives.get(pid)
        if life is None:  # no lock: one that another thread held during a fork would never be free again
            life = self._lives.setdefault(pid, _Life(self._path, self._limits, self._max_pages))
        return life

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The replies under these keys."""
        life, oldest_s = self._life(), self._oldest_s()
        found: dict[bytes, Reply] = {}
        missing: list[bytes] = []
        # First what is not written yet: a row that is written meanwhile is in the file afterwards. The order is kept:
        # rows that were written one after the other lie side by side in the file.
        for key in dict.fromkeys(keys):
            if (row := life.writer.unsaved.get(key)) is None:
                missing.append(key)
            elif (reply := answer_from(row, oldest_s)) is not None:
                found[key] = reply

        def select(database: Database) -> None:
            for start in range(0, len(missing), _KEYS_AT_ONCE):
                some = missing[start : start + _KEYS_AT_ONCE]
                some += [some[-1]] * (_KEYS_AT_ONCE - len(some))
                for values in database.connection.execute(_SELECT, some).fetchall():
                    if (reply := answer_from(values[1:], oldest_s)) is not None:
                        found[values[0]] = reply

        if missing:
            life.read(select)
        return found

    def _oldest_s(self) -> float:
        """When the oldest reply that is given was stored."""
        return -math.inf if self._max_age_s is None else self._clock() - self._max_age_s


def open_store(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.time,
    soft_limit_bytes: int = SOFT_LIMIT_BYTES,
    max_age_s: float | None = None,
) -> ReplyStore:
    """The store of this user. Nothing is made on the disk yet.

    Args:
        path: The file; None: ``AICHAT_STORE``, or else ``replies.sqlite3`` in the user's data directory.
        environ: The environment. ``AICHAT_STORE=none`` or ``memory`` keeps replies in memory only.
        clock: Seconds since 1970.
        soft_limit_bytes: Size from which on one line tells that nothing is removed by itself.
        max_age_s: Age from which on a reply is not given any more, in seconds; None: any age.

    Returns:
        The store; in memory, with a warning, when there is no place for a file.
    """
    named = environ.get("AICHAT_STORE", "")
    if path is None and named.lower() in ("none", "memory"):
        return MemoryStore(clock=clock, max_age_s=max_age_s)
    if path is None and named:
        path = Path(os.path.expanduser(named))
    elif path is None:
        import platformdirs  # not needed where the place is named

        path = platformdirs.user_data_path("aichat_magic", appauthor=False) / "replies.sqlite3"
        if not path.is_absolute():
            warnings.warn(
                "Replies are kept in memory only, because this user has no home directory. "
                "Set AICHAT_STORE to the path of a file to keep them.",
                UserWarning,
                stacklevel=2,
            )
            return MemoryStore(clock=clock, max_age_s=max_age_s)
    return SqliteStore(path, clock=clock, soft_limit_bytes=soft_limit_bytes, max_age_s=max_age_s)


def _close_life(lives: Mapping[int, _Life], wait_s: float) -> None:
    """End what this process has of a store; also at the end of the interpreter."""
    life = lives.get(os.getpid())
    if life is not None:
        life.close(wait_s)
        life.notices.give()
