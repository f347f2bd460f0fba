"""SQLite files: private, in WAL mode, with the expected tables; a corrupt one is moved aside."""

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

# The files of a database, in the order in which they are moved: a fresh file must not find an old journal.
_SUFFIXES = ("-shm", "-wal", "")
_CACHE_KIB = 16_384
_MAX_WAL_BYTES = 64 * 2**20


class UnusableFileError(AichatError):
    """The file cannot be used, and another attempt would not help: a newer layout, or another program's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """The tables of a file.

    Attributes:
        application_id: Marks the file as ours (SQLite's `application_id`), a positive 32-bit number.
        version: Version of the layout (SQLite's `user_version`), >= 1.
        create: Statements that create the newest layout in an empty file.
        migrations: Statements that lead from a version to the next one, by the older version.
    """

    application_id: int
    version: int
    create: tuple[str, ...]
    migrations: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


class Database:
    """A connection that knows which file it belongs to. Texts come back as bytes: the reader decodes them."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Remember which file is open; use `connect` to open one."""
        self.path = path
        self.connection = connection
        self._identity = _identity(path)

    def is_current(self) -> bool:
        """Tell whether the open file is still the one at the path, and was not moved or deleted."""
        return self._identity == _identity(self.path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction, all or nothing. It takes the write lock at once, so that a commit never finds it taken."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def number(self, pragma: str) -> int:
        """Return the value of a pragma that is a whole number."""
        return int(self.connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def live_bytes(self) -> int:
        """Return the bytes in use: the size of the file without its free pages."""
        return (self.number("page_count") - self.number("freelist_count")) * self.number("page_size")

    def move_aside(self, error: sqlite3.Error, warn: Callable[[str], None]) -> None:
        """Rename the file and its journals, because it is corrupt, and close it.

        Args:
            error: The error that it raised.
            warn: Called with the new path in a sentence, unless another process has moved the file already.

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
        warn(f"The file {self.path} is damaged ({error}). It was kept as {aside}, and an empty one takes its place.")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()


def in_memory(layout: TableLayout, copy_of: sqlite3.Connection | None = None) -> sqlite3.Connection:
    """Return a database in memory, for any thread, one at a time.

    Args:
        layout: Its tables.
        copy_of: Database to copy, outside a transaction or inside one that has read; None: the tables are empty.
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
    warn: Callable[[str], None],
    busy_timeout_s: float = 5.0,
    max_pages: int | None = None,
) -> Database:
    """Open the file, and create it where there is none.

    Missing directories are created with mode 0700, the file with 0600; SQLite's ``-wal`` and ``-shm`` get the mode of
    the file. In WAL mode with ``synchronous=NORMAL`` a killed process loses no committed transaction; a power cut can
    lose the last ones, but does not damage the file. A corrupt file is renamed, never deleted.

    Args:
        path: Absolute path of the file.
        layout: Its tables.
        warn: Called with a sentence when a corrupt file was moved.
        busy_timeout_s: Longest wait for a lock, here and in every later statement, in seconds, >= 0.
        max_pages: Largest number of pages of the file; None for SQLite's own limit.

    Returns:
        The open database. It may be used from any thread, by one at a time.

    Raises:
        UnusableFileError: A newer layout, or not ours. The file is untouched.
        sqlite3.Error: SQLite cannot open it: no permission, locked for too long, a full disk.
        OSError: The directory or the file cannot be created.
    """
    path = Path(os.path.realpath(path))  # a link to a file that is not there yet would get the wrong mode
    deadline = time.monotonic() + busy_timeout_s
    while True:
        _create_private(path)
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        database = Database(path, connection)
        try:
            _prepare(database, layout, max_pages)
            return database
        except sqlite3.Error as error:
            if is_corrupt(error):
                database.move_aside(error, warn)
                continue
            database.close()
            # Two processes that create one file at once: SQLite does not wait when the journal mode is changed.
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        except BaseException:
            database.close()
            raise


def is_busy(error: BaseException) -> bool:
    """Tell whether the file is locked by another connection, so that waiting helps."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_corrupt(error: BaseException) -> bool:
    """Tell whether the file is no database, or a damaged one."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _prepare(database: Database, layout: TableLayout, max_pages: int | None) -> None:
    """Set up a fresh connection, and the tables."""
    connection = database.connection
    connection.text_factory = bytes
    if max_pages is not None:
        connection.execute(f"PRAGMA max_page_count={max_pages:d}")
    is_outdated = _is_outdated(database, layout)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    # Where a file system cannot do WAL, the old journal is safe only with a sync at every commit.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == b'wal' else 'FULL'}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit={_MAX_WAL_BYTES}")
    if is_outdated:
        _create_tables(database, layout)


def _is_outdated(database: Database, layout: TableLayout) -> bool:
    """Tell whether the tables have still to be created or brought up to date; nothing is written.

    Raises:
        UnusableFileError: A newer layout, or not ours.
    """
    execute = database.connection.execute
    execute("BEGIN")  # so that all is read at one moment: another process may be creating the tables
    version, mark = database.number("user_version"), database.number("application_id")
    is_empty = not execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    execute("COMMIT")
    if mark != layout.application_id and not (is_empty and mark == 0 and version == 0):
        raise UnusableFileError("it holds data of another program")
    if version > layout.version:
        raise UnusableFileError(f"it was made by a newer version of aichat_magic (layout {version})")
    return version < layout.version


def _create_tables(database: Database, layout: TableLayout) -> None:
    """Create the tables, or bring older ones up to date, in one transaction."""
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


def _create_private(path: Path) -> None:
    """Create the directories and the file with private modes, before SQLite creates them with the usual ones.

    An existing file is not opened here: closing it would drop the locks that SQLite holds on it in this process.
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
    """Return the device and inode of a file, which tell two files apart whatever their names; None where it is not."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _code(error: BaseException) -> int | None:
    """Return SQLite's primary result code of an error."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
