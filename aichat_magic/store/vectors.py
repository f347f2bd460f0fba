"""Vectors of texts by the hash of text and model, in a table of the file of replies.

Other than replies, vectors can be made again for little money, so trouble with the file loses no run: one warning says
that they are not kept. They are written and read in blocks, in other threads, one at a time.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from .database import Database, UnusableFileError, connect
from .keys import canonical
from .rows import OVERHEAD_BYTES, REPLY_TABLES
from .warnings import OnceWarnings

# Raised when the layout of the table or the form of its keys changes. It is part of the table's name, so that releases
# with another layout leave the table alone, and those without vectors still open the file.
LAYOUT: Final = 1
TABLE: Final = f"vectors_{LAYOUT}"
_CREATE: Final = f"""
    CREATE TABLE IF NOT EXISTS {TABLE} (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        created_s REAL NOT NULL,
        vector BLOB NOT NULL
    )
"""
_KEYS_PER_QUERY: Final = 512
_SELECT: Final = f"SELECT key, vector FROM {TABLE} WHERE key IN ({', '.join('?' * _KEYS_PER_QUERY)})"
_BUSY_TIMEOUT_S: Final = 5.0
_FLOAT_BYTES: Final = 4


class VectorStore(Protocol):
    """Vectors by key, as float32 in little endian. May be used from many event loops and threads at once."""

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the vectors stored under these keys. Trouble with the file never raises."""

    async def put_many(self, vectors: Sequence[tuple[bytes, bytes]]) -> None:
        """Store vectors, in place of earlier ones. Trouble with the file never raises."""


class VectorKeys:
    """Keys of texts: the SHA-256 of everything that decides the vector. All but the text is hashed once."""

    def __init__(self, *, provider: str, host: str, model: str, dimensions: int | None, extra: str | None) -> None:
        """Hash what the texts have in common.

        Args:
            provider: Name of the provider.
            host: Its server, by anything that tells two servers apart.
            model: Name of the model, without the provider.
            dimensions: Length of the vectors; None: the model's own.
            extra: The vendor's own options as canonical JSON; None: there are none.
        """
        head = canonical(["vector", LAYOUT, provider, host, model, dimensions, extra])
        self._head = sha256(head.encode("utf-8", "surrogatepass"))

    def key(self, text: str) -> bytes:
        """Return the key of a text, 32 bytes."""
        digest = self._head.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.digest()


class MemoryVectors:
    """Vectors in memory, for as long as the process lives."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin empty.

        Args:
            clock: Seconds since 1970.
        """
        self._clock = clock
        self._vectors: dict[bytes, tuple[float, bytes]] = {}  # the oldest first
        self._lock = threading.Lock()
        self.size_bytes = 0

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._vectors)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the vectors under these keys."""
        return {key: found[1] for key in keys if (found := self._vectors.get(key)) is not None}

    async def put_many(self, vectors: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep vectors."""
        now_s = self._clock()
        with self._lock:
            for key, vector in vectors:
                self._drop(key)
                self._vectors[key] = now_s, vector
                self.size_bytes += len(vector) + OVERHEAD_BYTES

    def prune(self, before_s: float, most_bytes: float) -> int:
        """Remove vectors that are older than a time, then the oldest until the size is at most `most_bytes`."""
        with self._lock:
            count = len(self._vectors)
            for key, (created_s, _) in list(self._vectors.items()):
                if created_s < before_s or self.size_bytes > most_bytes:
                    self._drop(key)
            return count - len(self._vectors)

    def _drop(self, key: bytes) -> None:
        """Remove a vector, if it is there."""
        if (found := self._vectors.pop(key, None)) is not None:
            self.size_bytes -= len(found[1]) + OVERHEAD_BYTES


class _OpenFile:
    """The connection of one process: a child after a fork must not touch that of its parent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.database: Database | None = None

    def close(self) -> None:
        """Close the file; the lock is held."""
        database, self.database = self.database, None
        if database is not None:
            database.close()


class SqliteVectors:
    """Vectors in the file of replies. The file is created at the first `put_many`."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Remember where the file is.

        Args:
            path: The file of replies.
            clock: Seconds since 1970.
        """
        self._path = path
        self._clock = clock
        self._warnings = OnceWarnings("Vectors", path)
        self._files: dict[int, _OpenFile] = {}  # by process
        self._finalizer = weakref.finalize(self, _close, self._files)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the vectors under these keys, read in another thread; invalid ones are left out."""
        found: dict[bytes, bytes] = {}

        def select(database: Database) -> None:
            if not has_vectors(database):
                return
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = list(keys[start : start + _KEYS_PER_QUERY])
                some += [some[-1]] * (_KEYS_PER_QUERY - len(some))
                rows = database.connection.execute(_SELECT, some).fetchall()
                found.update((key, vector) for key, vector in rows if _is_vector(vector))

        if keys and self._path.exists():
            await asyncio.to_thread(self._use, select)
        self._warnings.emit()
        return found

    async def put_many(self, vectors: Sequence[tuple[bytes, bytes]]) -> None:
        """Store vectors in one transaction, written in another thread."""
        now_s = self._clock()

        def insert(database: Database) -> None:
            with database.transaction() as connection:
                connection.execute(_CREATE)
                connection.executemany(
                    f"INSERT OR REPLACE INTO {TABLE} (key, created_s, vector) VALUES (?, ?, ?)",
                    [(key, now_s, vector) for key, vector in vectors],
                )

        if vectors:
            await asyncio.to_thread(self._use, insert)
        self._warnings.emit()

    def _use(self, task: Callable[[Database], None]) -> None:
        """Run a task on the connection, which stays open: the last one that closes copies the whole log into the file.

        Trouble becomes one warning.
        """
        file = self._files.setdefault(os.getpid(), _OpenFile())
        with file.lock:
            try:
                if file.database is not None and not file.database.is_current():
                    file.close()
                if file.database is None:
                    file.database = connect(
                        self._path, REPLY_TABLES, warn=self._warnings.add, busy_timeout_s=_BUSY_TIMEOUT_S
                    )
                task(file.database)
            except (sqlite3.Error, UnusableFileError, OSError) as error:
                file.close()
                self._warnings.once(
                    "trouble",
                    f"The vectors of this run are not kept, because the file {self._path} cannot be used: {error}.",
                )

    def close(self) -> None:
        """Close the file. The vectors may be used again afterwards."""
        _close(self._files)


def _close(files: Mapping[int, _OpenFile]) -> None:
    """Close the file of this process."""
    file = files.get(os.getpid())
    if file is not None and file.lock.acquire(timeout=_BUSY_TIMEOUT_S):
        file.close()
        file.lock.release()


def has_vectors(database: Database) -> bool:
    """Tell whether a file has the table of vectors."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return database.connection.execute(query, (TABLE,)).fetchone() is not None


def _is_vector(value: object) -> bool:
    """Tell whether a value of the file is a vector: anybody may have written into it."""
    return type(value) is bytes and len(value) > 0 and len(value) % _FLOAT_BYTES == 0
