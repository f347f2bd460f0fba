"""Remove replies from a file because somebody asks for it, the oldest first, and give the space back."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from .database import Database
from .rows import OVERHEAD_BYTES

# Rows in one transaction: other processes that write get their turn in between.
_SLICE: Final = 20_000
# Each round removes the part that is too much, as far as it can be told before the file is written anew.
_MOST_ROUNDS: Final = 10


def older(database: Database, before_s: float) -> Iterator[int]:
    """Remove the replies that were stored before a time.

    Args:
        database: The file.
        before_s: The time, in seconds since 1970.

    Yields:
        How many were removed, after each transaction.

    Raises:
        sqlite3.Error: The file cannot be written. What was told is removed all the same.
    """
    while True:
        with database.transaction() as connection:
            removed = connection.execute(
                "DELETE FROM replies WHERE id IN (SELECT id FROM replies WHERE created_s < ? ORDER BY id LIMIT ?)",
                (before_s, _SLICE),
            ).rowcount
        yield removed
        if removed < _SLICE:
            return


def larger(database: Database, most_bytes: int) -> Iterator[int]:
    """Remove the oldest replies until the file is no larger than a size.

    Args:
        database: The file.
        most_bytes: The size.

    Yields:
        How many were removed, after each transaction.

    Raises:
        sqlite3.Error: The file cannot be written. What was told is removed all the same.
    """
    for _ in range(_MOST_ROUNDS):
        live = database.live_bytes()
        if live <= most_bytes or (last := _last_of_excess(database, 1 - most_bytes / live)) is None:
            return
        removed = _SLICE
        while removed == _SLICE:
            with database.transaction() as connection:
                removed = connection.execute(
                    "DELETE FROM replies WHERE id IN (SELECT id FROM replies WHERE id <= ? ORDER BY id LIMIT ?)",
                    (last, _SLICE),
                ).rowcount
            yield removed
        # Only a file that is written anew tells its size: the index of the keys keeps half-empty pages.
        if not give_back(database):
            return


def give_back(database: Database) -> bool:
    """Write the file anew without its free pages.

    Returns:
        Whether that could be done; others may be reading, or the disk may be full. The space is used again later.
    """
    with contextlib.suppress(sqlite3.Error):
        database.connection.execute("VACUUM")
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return True
    return False


def _last_of_excess(database: Database, share: float) -> int | None:
    """The id up to which the rows are at least that share of all, by their size; None where there is no row."""
    execute = database.connection.execute
    excess = share * execute("SELECT total(length(text) + ?) FROM replies", (OVERHEAD_BYTES,)).fetchone()[0]
    last: int | None = None
    with contextlib.closing(execute("SELECT id, length(text) FROM replies ORDER BY id")) as rows:
        for number, length in rows:
            last, excess = number, excess - (length or 0) - OVERHEAD_BYTES
            if excess <= 0:
                break
    return last
