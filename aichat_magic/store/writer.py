"""The thread that writes replies: all rows that wait go into one transaction, then all who wait are told."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from .base import large_store_note
from .database import Database, UnusableFileError, is_busy, is_corrupt
from .rows import REPLY_COLUMNS, StoredRow, size_of
from .warnings import OnceWarnings

# One statement takes many rows: every statement releases the interpreter lock and must wait for it again.
_INSERT: Final = f"INSERT OR REPLACE INTO replies (key, {', '.join(REPLY_COLUMNS)}) VALUES "
_VALUES: Final = f"(?, {', '.join('?' * len(REPLY_COLUMNS))})"
_ROWS_AT_ONCE: Final = 64
# SQLite caches the statement for each number of rows, with the values that it was given last.
_BYTES_AT_ONCE: Final = 64 * 1024

_MIN_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 30.0
_MAX_MOVES: Final = 3
_SIZE_CHECKS: Final = 64  # of the file, until it has reached its soft limit


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """Limits of the wait for a lock, and of the size.

    Attributes:
        patience_s: Longest time a put waits for a locked file, in seconds.
        soft_limit_bytes: Size of the file above which one warning says that nothing is removed automatically.
    """

    patience_s: float
    soft_limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingPut:
    """A caller that waits for its rows, since when."""

    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    since_s: float


class Writer:
    """Writes rows in grouped transactions, and keeps them in memory while the file cannot be written.

    They are paid for: none is removed, from the file or from memory, to make room for another.

    Attributes:
        unsaved: Rows by key that are not in the file. A row that is taken out is not written.
        is_persistent: Whether rows are written, and not only kept in memory.
    """

    def __init__(self, open_database: Callable[[], Database], warnings: OnceWarnings, limits: StoreLimits) -> None:
        """Prepare; the thread starts with the first row.

        Args:
            open_database: Opens the file, with a short wait for a lock.
            warnings: Keeps warnings for the caller.
            limits: Limits of the wait and of the size.
        """
        self.unsaved: dict[bytes, StoredRow] = {}
        self.is_persistent = True
        self._open_database = open_database
        self._warnings = warnings
        self._limits = limits
        self._arrived: queue.SimpleQueue[_PendingPut | None] = queue.SimpleQueue()  # None: wake up and stop
        self._lock = threading.Lock()  # for all above, and for the thread's beginning and end
        self._thread: threading.Thread | None = None
        self._stop_at_s: float | None = None
        # The thread's own.
        self._database: Database | None = None
        self._is_unusable = False
        self._moves = 0
        self._try_at_s = 0.0
        self._pause_s = _MIN_PAUSE_S
        self._unchecked_bytes = limits.soft_limit_bytes

    def submit(self, rows: Sequence[tuple[bytes, StoredRow]], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Take rows.

        Args:
            rows: Keys and rows, at least one.
            loop: The running loop.

        Returns:
            A future of that loop, done when the rows are durable, or kept in memory and a warning says why.
        """
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self.unsaved.update(rows)
            self._arrived.put(_PendingPut(loop=loop, done=done, since_s=time.monotonic()))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="aichat_magic store", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError as error:  # the interpreter is ending, or there are no threads left
                    self._keep_in_memory("trouble", str(error))
                    done.set_result(None)
        return done

    def clear(self) -> list[bytes]:
        """Remove the rows that are not in the file yet, and return their keys; they are not written any more."""
        with self._lock:
            keys = list(self.unsaved)
            self.unsaved.clear()
        return keys

    def stop(self, wait_s: float) -> None:
        """Write what is waiting, and end the thread. A later `submit` starts another one.

        Args:
            wait_s: Longest wait for a locked file, in seconds.
        """
        with self._lock:
            thread = self._thread
            if thread is None:
                return
            self._stop_at_s = time.monotonic() + wait_s
            self._arrived.put(None)
        if thread is not threading.current_thread():  # the garbage collector may run this in any thread
            thread.join(wait_s + 1.0)

    def _run(self) -> None:
        """Write until stopped. Nothing is raised here: a caller waits for every row."""
        waiting: list[_PendingPut] = []
        self._is_unusable, self._moves, self._try_at_s = False, 0, 0.0
        while True:
            waiting += self._arrivals()
            if not self.is_persistent or not self.unsaved:  # their rows were written with an earlier group
                _release(waiting)
            if self._is_due():
                error = self._write()
                if error is None:
                    self.is_persistent, self._pause_s = True, _MIN_PAUSE_S
                    _release(waiting)
                    self._check_size()
                else:
                    self._handle(error, waiting)
            if self._is_over():
                _release(waiting)
                return

    def _arrivals(self) -> list[_PendingPut]:
        """Return the callers that came; wait while there is nothing to do."""
        is_idle = not self.unsaved or self._is_unusable
        pause_s = None if is_idle else max(0.0, self._try_at_s - time.monotonic())
        found: list[_PendingPut] = []
        with contextlib.suppress(queue.Empty):
            # The queue empties faster than it fills: everyone in it is suspended until released.
            arrival = self._arrived.get(timeout=pause_s)
            while True:
                if arrival is None:
                    self._try_at_s = 0.0
                else:
                    found.append(arrival)
                arrival = self._arrived.get_nowait()
        return found

    def _is_due(self) -> bool:
        return bool(self.unsaved) and not self._is_unusable and time.monotonic() >= self._try_at_s

    def _write(self) -> Exception | None:
        """Write all that is unsaved in one transaction.

        Returns:
            The error, or None.
        """
        with self._lock:
            rows = list(self.unsaved.items())
        try:
            if self._database is not None and not self._database.is_current():
                self._close()
            if self._database is None:
                self._database = self._open_database()
            _insert(self._database, rows)
        except Exception as error:  # whatever it is, the thread continues and the rows are kept
            return error
        with self._lock:
            for key, row in rows:
                if self.unsaved.get(key) is row:
                    del self.unsaved[key]
                self._unchecked_bytes += size_of(row)
        return None

    def _handle(self, error: Exception, waiting: list[_PendingPut]) -> None:
        """Decide what an error means for the rows and for the callers that wait."""
        if is_busy(error):  # SQLite has waited a while already
            if not waiting or time.monotonic() - waiting[0].since_s < self._limits.patience_s:
                return
            self._keep_in_memory("locked", "it is locked by another program; they are written when it is free")
        elif isinstance(error, UnusableFileError):
            self._is_unusable = True
            self._keep_in_memory("unusable", str(error))
        else:
            if is_corrupt(error) and self._move_aside(error):
                return
            self._close()
            self._keep_in_memory("trouble", str(error) or type(error).__name__)
            self._try_at_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
        if self._stop_at_s is not None and not is_busy(error):
            self._stop_at_s = 0.0
        _release(waiting)

    def _keep_in_memory(self, kind: str, reason: str) -> None:
        """Keep rows in memory, with a warning, and let nobody wait until a write succeeds."""
        self.is_persistent = False
        self._warnings.memory_only(kind, reason)

    def _move_aside(self, error: Exception) -> bool:
        """Move the corrupt file aside, so that the next attempt creates a fresh one; tell whether that was possible."""
        database, self._database, self._moves = self._database, None, self._moves + 1
        if database is None or not isinstance(error, sqlite3.Error) or self._moves > _MAX_MOVES:
            return False
        try:
            database.move_aside(error, self._warnings.add)
        except OSError:
            return False
        return True

    def _check_size(self) -> None:
        """Warn once that the file has become large; its size is checked now and then."""
        if self._unchecked_bytes * _SIZE_CHECKS < self._limits.soft_limit_bytes or self._database is None:
            return
        self._unchecked_bytes = 0
        with contextlib.suppress(sqlite3.Error):  # the next write meets the same error, and handles it
            if (size_bytes := self._database.live_bytes()) > self._limits.soft_limit_bytes:
                self._warnings.once("large", large_store_note(size_bytes))

    def _is_over(self) -> bool:
        """Tell whether the thread ends now; if so, it has closed the file."""
        with self._lock:
            if self._stop_at_s is None:
                return False
            is_done = self._arrived.empty() and (not self.unsaved or self._is_unusable)
            if not is_done and time.monotonic() < self._stop_at_s:
                return False
            if self.unsaved and not self._is_unusable:
                self._warnings.add(f"{len(self.unsaved)} replies could not be written to the store.")
            self._close()
            self._thread = self._stop_at_s = None
            return True

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _insert(database: Database, rows: Sequence[tuple[bytes, StoredRow]]) -> None:
    """Write rows, all or none. A single statement needs no transaction around it."""
    groups = list(_groups(rows))
    if len(groups) == 1 and not database.connection.in_transaction:
        _insert_group(database.connection, groups[0])
        return
    with database.transaction() as connection:
        for group in groups:
            _insert_group(connection, group)


def _groups(rows: Sequence[tuple[bytes, StoredRow]]) -> Iterator[list[tuple[bytes, StoredRow]]]:
    """Yield the rows in groups that fit into a statement, by number and by size."""
    group: list[tuple[bytes, StoredRow]] = []
    size = 0
    for row in rows:
        if group and (len(group) == _ROWS_AT_ONCE or size + size_of(row[1]) > _BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(row)
        size += size_of(row[1])
    if group:  # `clear` may have come between
        yield group


def _insert_group(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, StoredRow]]) -> None:
    """Write rows in one statement."""
    values: list[Any] = []
    for key, row in rows:
        values.append(key)
        values += row
    connection.execute(_insert_statement(len(rows)), values)


@lru_cache(maxsize=_ROWS_AT_ONCE)
def _insert_statement(count: int) -> str:
    """Return the statement that writes so many rows."""
    return _INSERT + ",".join([_VALUES] * count)


def _release(waiting: list[_PendingPut]) -> None:
    """Release all who wait, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for put in waiting:
        by_loop.setdefault(put.loop, []).append(put.done)
    waiting.clear()
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
