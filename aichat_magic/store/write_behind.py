"""Changes of conversations on their way into a file: at once, or in order when it can be written again."""

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
from .database import Database, UnusableFileError, connect, in_memory, is_busy, is_corrupt
from .sql_tree import CONVERSATIONS, SqlTurnTree
from .warnings import OnceWarnings

T = TypeVar("T")

_MOST_MOVES: Final = 3


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be done to the file.

    Attributes:
        number: Its place in the order, >= 1; names its turns until they are written.
        task: Does it. It checks before it writes, so that an `AichatError` leaves nothing half done.
    """

    number: int
    task: Callable[[SqlTurnTree], Any]

    def carry_out(self, forest: SqlTurnTree) -> Any:
        """Do it; the error, where it is refused: what comes after it is done all the same."""
        forest.begin(self.number)
        try:
            return self.task(forest)
        except AichatError as error:
            return error


class WriteBehindLog:
    """One process's way to the file. All is done under its lock, by one thread at a time."""

    def __init__(self, path: Path, busy_timeout_s: float, max_pages: int | None) -> None:
        """Remember where the file is.

        Args:
            path: The file.
            busy_timeout_s: Longest wait for a lock, in seconds.
            max_pages: Largest number of SQLite pages; None for SQLite's own limit.
        """
        self.lock = threading.Lock()
        self.notices = OnceWarnings(path)
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._max_pages = max_pages
        self._numbers = itertools.count(1)
        self._waiting: list[_Change] = []
        self._written: dict[int, int] = {}
        self._database: Database | None = None
        self._is_unusable = False
        self._said: set[str] = set()

    def change(self, task: Callable[[SqlTurnTree], T], *, is_first: bool) -> T:
        """Do something now, in the file; or later, and for now in memory.

        Args:
            task: Does it, maybe several times, always from what is there then.
            is_first: Whether it may be the first thing in the file. Otherwise, no file is made for it.

        Returns:
            What the task returned.

        Raises:
            AichatError: The task's own.
        """
        if not (is_first or self._waiting or self._is_there()):
            with contextlib.closing(in_memory(CONVERSATIONS)) as nothing:
                return task(SqlTurnTree(nothing))
        self._waiting.append(_Change(next(self._numbers), task))
        results = self._flush()
        if results is None:
            results = self._view(lambda _, results: results)
            if isinstance(results[-1], AichatError):
                self._waiting.pop()
        else:
            self._regret(results[:-1])
        if isinstance(results[-1], AichatError):
            raise results[-1]
        result: T = results[-1]
        return result

    def look(self, task: Callable[[SqlTurnTree], T]) -> T:
        """See what is in the file, and what waits to be written."""
        if self._waiting:
            self._regret(self._flush() or [])
        return self._view(lambda forest, _: task(forest))

    def close(self) -> None:
        """Try to write what waits, and let go of the file."""
        if self._waiting and not self._is_unusable:
            results = self._flush(is_last=True)
            self._regret(results or [])
            if results is None:
                count = len(self._waiting)
                self._say(f"lost {count}", f"{count} changes of conversations could not be written to {self._path}.")
        self._close()

    def _flush(self, *, is_last: bool = False) -> list[Any] | None:
        """Write what waits, in one transaction.

        Returns:
            The results, in order; None when nothing could be written.
        """

        def write(database: Database) -> list[Any]:
            with database.transaction() as connection:
                forest = SqlTurnTree(connection, self._written)
                results = [change.carry_out(forest) for change in self._waiting]
            self._written.update(forest.fresh)
            self._waiting.clear()
            if any(result is True for result in results):  # deleted: what is gone should be gone from the disk, too
                with contextlib.suppress(sqlite3.Error):
                    database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return results

        # In a longer time of trouble nobody waits for it at every turn.
        is_patient = is_last or len(self._waiting) == 1
        return self._attempt(write, busy_timeout_s=self._busy_timeout_s if is_patient else 0.0)

    def _view(self, task: Callable[[SqlTurnTree, list[Any]], T]) -> T:
        """Look at the file as it will be once all that waits is written, and at the results."""

        def over(file: sqlite3.Connection | None) -> T:
            if file is not None and not self._waiting:
                return task(SqlTurnTree(file, self._written), [])
            with contextlib.closing(in_memory(CONVERSATIONS, copy_of=file)) as draft:
                forest = SqlTurnTree(draft, self._written, is_draft=True)
                results = [change.carry_out(forest) for change in self._waiting]
                return task(forest, results)

        def read(database: Database) -> list[T]:
            connection = database.connection
            connection.execute("BEGIN")  # all at one moment
            try:
                database.number("user_version")  # takes the lock, which copying would wait for without end
                return [over(connection)]
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

        busy_timeout_s = 0.0 if self._waiting else self._busy_timeout_s
        found = self._attempt(read, busy_timeout_s=busy_timeout_s) if self._is_there() else None
        return found[0] if found else over(None)

    def _attempt(self, task: Callable[[Database], T], *, busy_timeout_s: float) -> T | None:
        """Do something with the file, and make it if there is none.

        Returns:
            The result; None when it could not be done, and a notice says why.
        """
        if self._is_unusable:
            return None
        for _ in range(_MOST_MOVES + 1):
            try:
                return task(self._opened(busy_timeout_s))
            except sqlite3.Error as error:
                if is_busy(error):
                    self._trouble("locked", "it is locked by another program; they are written when it is free")
                    return None
                reason: Exception = error
                if is_corrupt(error) and self._database is not None:
                    database, self._database = self._database, None
                    try:
                        database.move_aside(error, self.notices.add)
                        continue
                    except OSError as another:
                        reason = another
            except UnusableFileError as error:
                self._is_unusable = True
                reason = error
            except OSError as error:
                reason = error
            self._close()
            self._trouble("trouble", str(reason) or type(reason).__name__)
            return None
        return None

    def _is_there(self) -> bool:
        """Whether there is a file."""
        try:
            return self._path.exists()
        except OSError:
            return False

    def _opened(self, busy_timeout_s: float) -> Database:
        """The file, open."""
        if self._database is not None and not self._database.is_current():
            self._close()
        if self._database is None:
            self._database = connect(
                self._path,
                CONVERSATIONS,
                notice=self.notices.add,
                busy_timeout_s=busy_timeout_s,
                max_pages=self._max_pages,
            )
            self._database.connection.execute("PRAGMA secure_delete=ON")
        self._database.connection.execute(f"PRAGMA busy_timeout={int(busy_timeout_s * 1000):d}")
        return self._database

    def _regret(self, results: list[Any]) -> None:
        """Say what could not be done after all, because other kernels have changed the same meanwhile."""
        for result in results:
            if isinstance(result, AichatError):
                self.notices.add(f"A change of conversations had to wait, and then could not be made: {result}")

    def _trouble(self, kind: str, reason: str) -> None:
        """Say why turns are not written; once, because it concerns every one."""
        self._say(
            kind, f"Conversations are kept in memory only, because the file {self._path} cannot be used: {reason}."
        )

    def _say(self, kind: str, text: str) -> None:
        """Keep a warning, unless one of its kind was kept before."""
        if kind not in self._said:
            self._said.add(kind)
            self.notices.add(text)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
