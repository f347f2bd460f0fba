"""The write-behind log of conversations: changes are written at once, or in order when the file can be written."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ..core.errors import AichatError
from .conversation_tables import CONVERSATION_TABLES
from .database import Database, UnusableFileError, connect, in_memory, is_busy, is_corrupt
from .tree import TurnTree
from .warnings import OnceWarnings

T = TypeVar("T")

_MAX_MOVES: Final = 3


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of the file.

    Attributes:
        number: Its place in the order, >= 1. The temporary ids of its turns depend on it.
        task: Makes it. It checks before it writes, so that an `AichatError` leaves nothing half done.
    """

    number: int
    task: Callable[[TurnTree], Any]

    def apply(self, tree: TurnTree) -> Any:
        """Make the change.

        Returns:
            The result, or the error when it is refused: the changes after it are made all the same.
        """
        tree.begin_change(self.number)
        try:
            return self.task(tree)
        except AichatError as error:
            return error


class WriteBehindLog:
    """The changes of one process to the file. Its methods are called under its lock, by one thread at a time.

    Attributes:
        lock: The lock.
        warnings: Warnings for the caller.
    """

    def __init__(self, path: Path, busy_timeout_s: float, max_pages: int | None) -> None:
        """Remember where the file is.

        Args:
            path: The file.
            busy_timeout_s: Longest wait for a lock, in seconds.
            max_pages: Largest number of SQLite pages; None for SQLite's own limit.
        """
        self.lock = threading.Lock()
        self.warnings = OnceWarnings("Conversations", path)
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._max_pages = max_pages
        self._numbers = itertools.count(1)
        self._waiting: list[_Change] = []
        self._written_ids: dict[int, int] = {}
        self._database: Database | None = None
        self._is_unusable = False

    def change(self, task: Callable[[TurnTree], T], *, may_create: bool) -> T:
        """Make a change in the file now; or later, and for now in memory.

        Args:
            task: Makes the change, maybe several times, always from what is there then.
            may_create: Whether to create the file for it, where there is none.

        Returns:
            What the task returned.

        Raises:
            AichatError: The task's own.
        """
        if not (may_create or self._waiting or self._is_there()):
            with contextlib.closing(in_memory(CONVERSATION_TABLES)) as empty:
                return task(TurnTree(empty))
        change = _Change(next(self._numbers), task)
        self._waiting.append(change)
        try:
            results = self._flush()
            if results is None:
                results = self._read_ahead(lambda _, results: results)
            else:
                self._warn_of_refusals(results[:-1])
            if isinstance(results[-1], AichatError):
                raise results[-1]
        except BaseException:  # refused or interrupted: the caller takes it that nothing was changed
            self._waiting = [one for one in self._waiting if one is not change]
            raise
        result: T = results[-1]
        return result

    def read(self, task: Callable[[TurnTree], T]) -> T:
        """Read the file, and what waits to be written to it."""
        if self._waiting:
            self._warn_of_refusals(self._flush() or [])
        return self._read_ahead(lambda tree, _: task(tree))

    def close(self) -> None:
        """Try to write what waits, and close the file."""
        if self._waiting and not self._is_unusable:
            results = self._flush(is_last=True)
            self._warn_of_refusals(results or [])
            if results is None:
                count = len(self._waiting)
                text = f"{count} changes of conversations could not be written to {self._path}."
                self.warnings.once(f"lost {count}", text)
        self._close()

    def _flush(self, *, is_last: bool = False) -> list[Any] | None:
        """Write what waits, in one transaction.

        Returns:
            The results, in order; None when nothing could be written.
        """

        def write(database: Database) -> list[Any]:
            with database.transaction() as connection:
                tree = TurnTree(connection, self._written_ids)
                results = [change.apply(tree) for change in self._waiting]
            self._written_ids.update(tree.new_ids)
            self._waiting.clear()
            if any(result is True for result in results):  # deleted: its text should not stay on the disk either
                with contextlib.suppress(sqlite3.Error):
                    database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return results

        # While trouble lasts, a change waits for the lock only if it is the first.
        is_patient = is_last or len(self._waiting) == 1
        return self._attempt(write, busy_timeout_s=self._busy_timeout_s if is_patient else 0.0)

    def _read_ahead(self, task: Callable[[TurnTree, list[Any]], T]) -> T:
        """Read the file as it will be once all that waits is written, and the results of these changes."""

        def read_draft(file: sqlite3.Connection | None) -> T:
            if file is not None and not self._waiting:
                return task(TurnTree(file, self._written_ids), [])
            with contextlib.closing(in_memory(CONVERSATION_TABLES, copy_of=file)) as draft:
                tree = TurnTree(draft, self._written_ids, is_draft=True)
                results = [change.apply(tree) for change in self._waiting]
                return task(tree, results)

        def read(database: Database) -> list[T]:
            connection = database.connection
            connection.execute("BEGIN")  # so that all is read at one moment
            try:
                database.number("user_version")  # takes the lock, for which a copy would wait without end
                return [read_draft(connection)]
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

        busy_timeout_s = 0.0 if self._waiting else self._busy_timeout_s
        found = self._attempt(read, busy_timeout_s=busy_timeout_s) if self._is_there() else None
        return found[0] if found else read_draft(None)

    def _attempt(self, task: Callable[[Database], T], *, busy_timeout_s: float) -> T | None:
        """Use the file, and create it where there is none.

        Returns:
            The result; None when the file could not be used, and a warning says why.
        """
        if self._is_unusable:
            return None
        for _ in range(_MAX_MOVES + 1):
            try:
                return task(self._opened(busy_timeout_s))
            except sqlite3.Error as error:
                if is_busy(error):
                    self.warnings.memory_only(
                        "locked", "it is locked by another program; they are written when it is free"
                    )
                    return None
                reason: Exception = error
                if is_corrupt(error) and self._database is not None:
                    database, self._database = self._database, None
                    try:
                        database.move_aside(error, self.warnings.add)
                        continue
                    except OSError as another:
                        reason = another
            except UnusableFileError as error:
                self._is_unusable = True
                reason = error
            except OSError as error:
                reason = error
            self._close()
            self.warnings.memory_only("trouble", str(reason) or type(reason).__name__)
            return None
        return None

    def _is_there(self) -> bool:
        """Tell whether there is a file."""
        try:
            return self._path.exists()
        except OSError:
            return False

    def _opened(self, busy_timeout_s: float) -> Database:
        """Return the open file."""
        if self._database is not None and not self._database.is_current():
            self._close()
        if self._database is None:
            self._database = connect(
                self._path,
                CONVERSATION_TABLES,
                warn=self.warnings.add,
                busy_timeout_s=busy_timeout_s,
                max_pages=self._max_pages,
            )
            self._database.connection.execute("PRAGMA secure_delete=ON")
        self._database.connection.execute(f"PRAGMA busy_timeout={int(busy_timeout_s * 1000):d}")
        return self._database

    def _warn_of_refusals(self, results: list[Any]) -> None:
        """Warn of changes that were refused after all, because other kernels have changed the same meanwhile."""
        for result in results:
            if isinstance(result, AichatError):
                self.warnings.add(f"A change of a conversation had to wait, and could not be made in the end: {result}")

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
