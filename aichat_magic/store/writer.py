"""The thread that writes: all that is waiting goes into one transaction, and then all who wait are told."""

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

from .base import is_large
from .database import Database, UnusableFileError, is_busy, is_corrupt
from .rows import COLUMNS, StoredRow, size_of
from .warnings import OnceWarnings

# One statement takes many rows, because every statement gives the interpreter away and must wait for it again.
_INSERT: Final = f"INSERT OR REPLACE INTO replies ({', '.join(COLUMNS)}) VALUES "
_VALUES: Final = f"({', '.join('?' * len(COLUMNS))})"
_ROWS_AT_ONCE: Final = 64
# SQLite keeps the statement of each number of rows, and with it the values that it was given last.
_BYTES_AT_ONCE: Final = 64 * 1024

_SHORTEST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_MOST_MOVES: Final = 3
_LOOKS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """How patient, and from where on large.

    Attributes:
        patience_s: Longest time a put waits for a locked file, in seconds.
        soft_limit_bytes: Size of the file from which on one line tells that nothing is removed by itself.
    """

    patience_s: float
    soft_limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiter:
    """Who waits for rows, and since when."""

    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    since_s: float


class Writer:
    """Writes rows in grouped transactions, and keeps them in memory while the file cannot be written.

    They are paid for: none is given up, in the file or in memory, to make room for another.
    """

    def __init__(self, open_database: Callable[[], Database], notices: OnceWarnings, limits: StoreLimits) -> None:
        """Prepare; the thread starts with the first row.

        Args:
            open_database: Opens the file, with a short wait for a lock.
            notices: Takes warnings.
            limits: How patient, and from where on large.
        """
        # Rows that are not in the file. What is taken out of here is not written.
        self.unsaved: dict[bytes, StoredRow] = {}
        self.is_persistent = True
        self._open_database = open_database
        self._notices = notices
        self._limits = limits
        self._arrived: queue.SimpleQueue[_Waiter | None] = queue.SimpleQueue()  # None: wake up and stop
        self._lock = threading.Lock()  # for all above, and for the thread's beginning and end
        self._thread: threading.Thread | None = None
        self._stop_at_s: float | None = None
        # The thread's own.
        self._database: Database | None = None
        self._is_unusable = False
        self._moves = 0
        self._try_at_s = 0.0
        self._pause_s = _SHORTEST_PAUSE_S
        self._unchecked_bytes = limits.soft_limit_bytes

    def submit(self, rows: Sequence[tuple[bytes, StoredRow]], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Take rows.

        Args:
            rows: Keys and rows, at least one.
            loop: The running loop.

        Returns:
            A future of that loop: the rows are durable, or they are kept in memory and a notice says why.
        """
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self.unsaved.update(rows)
            self._arrived.put(_Waiter(loop=loop, done=done, since_s=time.monotonic()))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="aichat_magic store", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError as error:  # the interpreter is ending, or there are no threads left
                    self._keep("trouble", str(error))
                    done.set_result(None)
        return done

    def clear(self) -> list[bytes]:
        """Forget the rows that are not in the file yet; they are not written any more."""
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
        """Serve until stopped. Nothing is raised here: somebody waits for every row."""
        waiting: list[_Waiter] = []
        self._is_unusable, self._moves, self._try_at_s = False, 0, 0.0
        while True:
            waiting += self._arrivals()
            if not self.is_persistent or not self.unsaved:  # their rows went with a group before
                _release(waiting)
            if self._is_due():
                error = self._write()
                if error is None:
                    self.is_persistent, self._pause_s = True, _SHORTEST_PAUSE_S
                    _release(waiting)
                    self._note_size()
                else:
                    self._bear(error, waiting)
            if self._is_over():
                _release(waiting)
                return

    def _arrivals(self) -> list[_Waiter]:
        """Those who came; waits while there is nothing to do."""
        is_idle = not self.unsaved or self._is_unusable
        pause_s = None if is_idle else max(0.0, self._try_at_s - time.monotonic())
        found: list[_Waiter] = []
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
            What went wrong, or None.
        """
        with self._lock:
            rows = list(self.unsaved.items())
        try:
            if self._database is not None and not self._database.is_current():
                self._close()
            if self._database is None:
                self._database = self._open_database()
            _insert(self._database, rows)
        except Exception as error:  # whatever it is, the thread goes on and the rows are kept
            return error
        with self._lock:
            for key, row in rows:
                if self.unsaved.get(key) is row:
                    del self.unsaved[key]
                self._unchecked_bytes += size_of(row)
        return None

    def _bear(self, error: Exception, waiting: list[_Waiter]) -> None:
        """Decide what an error means for the rows and for those who wait."""
        if is_busy(error):  # SQLite has waited a while already
            if not waiting or time.monotonic() - waiting[0].since_s < self._limits.patience_s:
                return
            self._keep("locked", "it is locked by another program; they are written when it is free")
        elif isinstance(error, UnusableFileError):
            self._is_unusable = True
            self._keep("unusable", str(error))
        else:
            if is_corrupt(error) and self._has_moved(error):
                return
            self._close()
            self._keep("trouble", str(error) or type(error).__name__)
            self._try_at_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if self._stop_at_s is not None and not is_busy(error):
            self._stop_at_s = 0.0
        _release(waiting)

    def _keep(self, kind: str, reason: str) -> None:
        """From here on, until a write succeeds, rows are kept in memory and nobody waits."""
        self.is_persistent = False
        self._notices.trouble(kind, reason)

    def _has_moved(self, error: Exception) -> bool:
        """Whether the corrupt file is out of the way, so that the next attempt makes a fresh one."""
        database, self._database, self._moves = self._database, None, self._moves + 1
        if database is None or not isinstance(error, sqlite3.Error) or self._moves > _MOST_MOVES:
            return False
        try:
            database.move_aside(error, self._notices.add)
        except OSError:
            return False
        return True

    def _note_size(self) -> None:
        """Tell once that the file has become large, looked at now and then."""
        if self._unchecked_bytes * _LOOKS < self._limits.soft_limit_bytes or self._database is None:
            return
        self._unchecked_bytes = 0
        with contextlib.suppress(sqlite3.Error):  # the next write meets the same trouble, and deals with it
            if (size_bytes := self._database.live_bytes()) > self._limits.soft_limit_bytes:
                self._notices.once("large", is_large(size_bytes))

    def _is_over(self) -> bool:
        """Whether the thread ends now; if so, it has let go of the file."""
        with self._lock:
            if self._stop_at_s is None:
                return False
            is_done = self._arrived.empty() and (not self.unsaved or self._is_unusable)
            if not is_done and time.monotonic() < self._stop_at_s:
                return False
            if self.unsaved and not self._is_unusable:
                self._notices.add(f"{len(self.unsaved)} replies could not be written to the store.")
            self._close()
            self._thread = self._stop_at_s = None
            return True

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _insert(database: Database, rows: Sequence[tuple[bytes, StoredRow]]) -> None:
    """Write rows, all or none. What one statement takes needs no transaction around it."""
    groups = list(_groups(rows))
    if len(groups) == 1 and not database.connection.in_transaction:
        _insert_some(database.connection, groups[0])
        return
    with database.transaction() as connection:
        for group in groups:
            _insert_some(connection, group)


def _groups(rows: Sequence[tuple[bytes, StoredRow]]) -> Iterator[list[tuple[bytes, StoredRow]]]:
    """The rows in groups that a statement takes, by number and by size."""
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


def _insert_some(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, StoredRow]]) -> None:
    """Write rows in one statement."""
    values: list[Any] = []
    for key, row in rows:
        values.append(key)
        values += row
    connection.execute(_insert_of(len(rows)), values)


@lru_cache(maxsize=_ROWS_AT_ONCE)
def _insert_of(count: int) -> str:
    """The statement that writes so many rows."""
    return _INSERT + ",".join([_VALUES] * count)


def _release(waiting: list[_Waiter]) -> None:
    """Tell everyone, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiting:
        by_loop.setdefault(waiter.loop, []).append(waiter.done)
    waiting.clear()
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
