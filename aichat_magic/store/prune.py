"""Removal of old replies and vectors from a file, on request, and of the space that they took."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from .database import Database
from .rows import LENGTH_SQL, OVERHEAD_BYTES
from .vectors import TABLE as VECTORS
from .vectors import has_vectors

# Rows per transaction: other processes can write in between.
_ROWS_AT_ONCE: Final = 20_000
# Each round removes the part that is too much, as far as it can be estimated before the file is rewritten.
_MAX_ROUNDS: Final = 10


def remove_older(database: Database, before_s: float) -> Iterator[int]:
    """Remove the replies and vectors that were stored before a time.

    Args:
        database: The file.
        before_s: The time, in seconds since 1970.

    Yields:
        How many were removed, after each transaction.

    Raises:
        sqlite3.Error: The file cannot be written. The rows that were yielded are removed all the same.
    """
    for table, _ in _tables(database):
        yield from _remove(database, table, "created_s <", before_s)


def remove_larger(database: Database, max_bytes: int) -> Iterator[int]:
    """Remove the oldest vectors, then the oldest replies, until the file is no larger than a size.

    Args:
        database: The file.
        max_bytes: Largest size of the file, in bytes.

    Yields:
        How many were removed, after each transaction.

    Raises:
        sqlite3.Error: The file cannot be written. The rows that were yielded are removed all the same.
    """
    for table, length_sql in _tables(database):
        for _ in range(_MAX_ROUNDS):
            live = database.live_bytes()
            if live <= max_bytes:
                return
            last = _last_of_excess(database, table, length_sql, excess_bytes=live - max_bytes)
            if last is None:
                break
            yield from _remove(database, table, "id <=", last)
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


def _tables(database: Database) -> tuple[tuple[str, str], ...]:
    """Return the tables of a file, each with the length of a row in SQL; vectors first: they cost less."""
    return (*([(VECTORS, "length(vector)")] if has_vectors(database) else []), ("replies", LENGTH_SQL))


def _remove(database: Database, table: str, condition: str, bound: float) -> Iterator[int]:
    """Remove the rows of a table on one side of a bound, and yield their number after each transaction."""
    removed = _ROWS_AT_ONCE
    while removed == _ROWS_AT_ONCE:
        with database.transaction() as connection:
            removed = connection.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {condition} ? ORDER BY id LIMIT ?)",
                (bound, _ROWS_AT_ONCE),
            ).rowcount
        yield removed


def _last_of_excess(database: Database, table: str, length_sql: str, *, excess_bytes: int) -> int | None:
    """Return the id up to which the rows take as much as is too much, by size; None where there is no row.

    Sizes are scaled so that all rows together take what the file does: pages and indexes take space, too.
    """
    execute = database.connection.execute
    total = 0.0
    for each, its_length in _tables(database):
        total += execute(f"SELECT total({its_length} + ?) FROM {each}", (OVERHEAD_BYTES,)).fetchone()[0]
    excess = excess_bytes * total / max(database.live_bytes(), 1)
    last: int | None = None
    with contextlib.closing(execute(f"SELECT id, {length_sql} FROM {table} ORDER BY id")) as rows:
        for number, length in rows:
            last, excess = number, excess - (length or 0) - OVERHEAD_BYTES
            if excess <= 0:
                break
    return last
