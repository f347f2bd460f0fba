"""Open an SQLite file as ours: private, in WAL mode, of the right layout; a corrupt one is moved aside."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import AichatError

# What belongs to a database file, in the order in which it is moved: a fresh file must not find an old journal.
_SUFFIXES = ("-shm", "-wal", "")
_CACHE_KIB = 16_384
_LARGEST_WAL = 64 * 2**20


class UnusableFileError(AichatError):
    """The file cannot be used, and trying again would not help: a newer layout, or another program's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """What is inside a file.

    Attributes:
        application_id: Marks the file as ours (SQLite's `application_id`), a positive 32-bit number.
        version: Number of the layout (SQLite's `user_version`), >= 1.
        create: Statements that make the newest layout in an empty file.
        migrations: Statements that lead from a version to the next one, by that version.
    """

    application_id: int
    version: int
    create: tuple[str, ...]
    migrations: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


class Database:
    """A connection that knows which file it belongs to. Texts come back as bytes: decoding is the reader's job."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Remember which file is open; `connect` makes these."""
        self.path = path
        self.connection = connection
        self._identity = _identity(path)

    def is_current(self) -> bool:
        """Whether the open file is still the one that the path names, and not one moved or deleted since."""
        return self._identity == _identity(self.path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Takes the write lock at once, so that a commit never finds it taken."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def number(self, pragma: str) -> int:
        """The value of a pragma that is a whole number."""
        return int(self.connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def live_bytes(self) -> int:
        """Bytes in use: the file without its free pages."""
        return (self.number("page_count") - self.number("freelist_count")) * self.number("page_size")

    def move_aside(self, error: sqlite3.Error, notice: Callable[[str], None]) -> None:
        """Rename the file and its journals, because it is corrupt, and let go of it.

        Args:
            error: What was raised.
            notice: Told the new path, unless another process has moved the file already.

        Raises:
            OSError: It cannot be renamed.
        """
        try:
            if not self.is_current():
                return
            stamp = f"{self.path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
            names = (self.path.with_name(f"{stamp}-{number}") for number in itertools.count(1))
            aside = next(name for name in names if not name.exists())
            if os.name == "nt":
                self.close()  # an open file cannot be renamed there; elsewhere SQLite would delete the journal
            for suffix in _SUFFIXES:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")
        finally:
            self.close()
        notice(f"The file {self.path} is damaged ({error}). It was kept as {aside}, and an empty one takes its place.")

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()


def in_memory(layout: TableLayout, copy_of: sqlite3.Connection | None = None) -> sqlite3.Connection:
    """Return a database in memory, for any thread, one at a time.

    Args:
        layout: What is in it.
        copy_of: Where its content comes from, at rest or inside a transaction that has read; None: it is empty.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.text_factory = bytes
    if copy_of is not None:
        copy_of.backup(connection)
    else:
        for statement in layout.create:
            connection.execute(statement)
    return connection


def connect(
    path: Path,
    layout: TableLayout,
    *,
    notice: Callable[[str], None],
    busy_timeout_s: float = 5.0,
    max_pages: int | None = None,
) -> Database:
    """Open the file, and make it where there is none.

    Directories that are missing are made with mode 0700, the file with 0600; SQLite's ``-wal`` and ``-shm`` follow the
    file. In WAL mode with ``synchronous=NORMAL`` a killed process loses no committed transaction; a power cut can lose
    the last ones, but not spoil the file. A corrupt file is renamed, never deleted.

    Args:
        path: Absolute path of the file.
        layout: What must be in it.
        notice: Told when a corrupt file was moved, with the new path.
        busy_timeout_s: Longest wait for a lock, here and in every later statement, in seconds, >= 0.
        max_pages: Largest number of pages of the file; None for SQLite's own limit.

    Returns:
        The open database. It may be used from any thread, by one at a time.

    Raises:
        UnusableFileError: A newer layout, or not ours. The file is untouched.
        sqlite3.Error: SQLite cannot open it: no permission, locked for too long, a full disk.
        OSError: The directory or the file cannot be made.
    """
    path = Path(os.path.realpath(path))  # a link to a file that is not there yet would get the wrong mode
    deadline = time.monotonic() + busy_timeout_s
    while True:
        _make_private(path)
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        database = Database(path, connection)
        try:
            _prepare(database, layout, max_pages)
            return database
        except sqlite3.Error as error:
            if is_corrupt(error):
                database.move_aside(error, notice)
                continue
            database.close()
            # Two processes that make the same file at once: SQLite does not wait when the journal mode is changed.
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        except BaseException:
            database.close()
            raise


def is_busy(error: BaseException) -> bool:
    """Whether the file is locked by another connection: waiting helps."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_corrupt(error: BaseException) -> bool:
    """Whether the file is no database, or a damaged one."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _prepare(database: Database, layout: TableLayout, max_pages: int | None) -> None:
    """Make a fresh connection ready for use."""
    connection = database.connection
    connection.text_factory = bytes
    if max_pages is not None:
        connection.execute(f"PRAGMA max_page_count={max_pages:d}")
    is_outdated = _is_outdated(database, layout)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    # Where a file system cannot do WAL, the old journal is safe only with a sync at every commit.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == b'wal' else 'FULL'}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit={_LARGEST_WAL}")
    if is_outdated:
        _lay_out(database, layout)


def _is_outdated(database: Database, layout: TableLayout) -> bool:
    """Whether the layout has still to be made or brought up to date; nothing is written.

    Raises:
        UnusableFileError: A newer layout, or not ours.
    """
    execute = database.connection.execute
    execute("BEGIN")  # all at one moment: another process may be laying the file out
    version, mark = database.number("user_version"), database.number("application_id")
    is_empty = not execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    execute("COMMIT")
    if mark != layout.application_id and not (is_empty and mark == 0 and version == 0):
        raise UnusableFileError("it holds data of another program")
    if version > layout.version:
        raise UnusableFileError(f"it was made by a newer version of aichat_magic (layout {version})")
    return version < layout.version


def _lay_out(database: Database, layout: TableLayout) -> None:
    """Make the layout, or lead an older one to it, in one transaction."""
    with database.transaction() as connection:
        version = database.number("user_version")  # again: another process may have been quicker
        if version == 0:
            steps = [layout.create]
        else:
            steps = [layout.migrations[number] for number in range(version, layout.version)]
        for statements in steps:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={layout.application_id:d}")
        connection.execute(f"PRAGMA user_version={layout.version:d}")


def _make_private(path: Path) -> None:
    """Make the directories and the file, closed to others, before SQLite makes them open.

    A file that is there is not opened here: closing it would drop the locks that SQLite holds on it in this process.
    """
    missing: list[Path] = []
    directory = path.parent
    while not directory.exists() and directory != directory.parent:
        missing.append(directory)
        directory = directory.parent
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells two files apart, whatever they are called."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
