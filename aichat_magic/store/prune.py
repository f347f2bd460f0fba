"""Removal of old replies from a file, on request, and of the space that they took."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from .database import Database
from .rows import LENGTH_SQL, OVERHEAD_BYTES

# Rows per transaction: other processes can write in between.
_ROWS_AT_ONCE: Final = 20_000
# Each round removes the part that is too much, as far as it can be estimated before the file is rewritten.
_MAX_ROUNDS: Final = 10


def remove_older(database: Database, before_s: float) -> Iterator[int]:
    """Remove the replies that were stored before a time.

    Args:
        database: The file.
        before_s: The time, in seconds since 1970.

    Yields:
        How many were removed, after each transaction.

    Raises:
        sqlite3.Error: The file cannot be written. The rows that were yielded are removed all the same.
    """
    while True:
        with database.transaction() as connection:
            removed = connection.execute(
                "DELETE FROM replies WHERE id IN (SELECT id FROM replies WHERE created_s < ? ORDER BY id LIMIT ?)",
                (before_s, _ROWS_AT_ONCE),
            ).rowcount
        yield removed
        if removed < _ROWS_AT_ONCE:
            return


def remove_larger(database: Database, max_bytes: int) -> Iterator[int]:
    """Remove the oldest replies until the file is no larger than a size.

    Args:
        database: The file.
        max_bytes: Largest size of the file, in bytes.

    Yields:
        How many were removed, after each transaction.

    Raises:
        sqlite3.Error: The file cannot be written. The rows that were yielded are removed all the same.
    """
    for _ in range(_MAX_ROUNDS):
        live = database.live_bytes()
        if live <= max_bytes or (last := _last_of_excess(database, 1 - max_bytes / live)) is None:
            return
        removed = _ROWS_AT_ONCE
        while removed == _ROWS_AT_ONCE:
            with database.transaction() as connection:
                removed = connection.execute(
                    "DELETE FROM replies WHERE id IN (SELECT id FROM replies WHERE id <= ? ORDER BY id LIMIT ?)",
                    (last, _ROWS_AT_ONCE),
                ).rowcount
            yield removed
        # Only a rewritten file has its true size: the index of the keys keeps half-empty pages.
        if not shrink(database):
            return


def shrink(database: Database) -> bool:
    """Rewrite the file without its free pages.

    Returns:
        Whether that was possible; others may be reading, or the disk may be full. The space is used again later.
    """
    with contextlib.suppress(sqlite3.Error):
        database.connection.execute("VACUUM")
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return True
    return False


def _last_of_excess(database: Database, share: float) -> int | None:
    """Return the id up to which the rows are at least this share of all, by size; None where there is no row."""
    execute = database.connection.execute
    excess = share * execute(f"SELECT total({LENGTH_SQL} + ?) FROM replies", (OVERHEAD_BYTES,)).fetchone()[0]
    last: int | None = None
    with contextlib.closing(execute(f"SELECT id, {LENGTH_SQL} FROM replies ORDER BY id")) as rows:
        for number, length in rows:
            last, excess = number, excess - (length or 0) - OVERHEAD_BYTES
            if excess <= 0:
                break
    return last
