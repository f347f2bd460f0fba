"""A store of replies without a file."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from ..core.messages import Reply
from .base import StoreSummary, date_of, large_store_note
from .rows import StoredRow, answer_from, answer_row, size_of
from .vectors import MemoryVectors
from .warnings import OnceWarnings

SOFT_LIMIT_BYTES: Final = 256_000_000  # a quarter of the limit of a file: a process has less space


class MemoryStore:
    """The store of replies in memory, for as long as the process lives."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        soft_limit_bytes: int = SOFT_LIMIT_BYTES,
        max_age_s: float | None = None,
    ) -> None:
        """Begin empty.

        Args:
            clock: Seconds since 1970.
            soft_limit_bytes: Size above which one warning says that nothing is removed automatically.
            max_age_s: Age above which a reply is not returned any more, in seconds; None: any age.
        """
        self._clock = clock
        self._soft_limit_bytes = soft_limit_bytes
        self._warnings = OnceWarnings()
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self.vectors = MemoryVectors(clock)
        self._rows: dict[bytes, StoredRow] = {}
        self._size_bytes = 0

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the replies under these keys."""
        oldest_s = -math.inf if self._max_age_s is None else self._clock() - self._max_age_s
        rows = ((key, self._rows.get(key)) for key in keys)
        found = ((key, answer_from(row, oldest_s)) for key, row in rows if row is not None)
        return {key: reply for key, reply in found if reply is not None}

    async def put(self, key: bytes, reply: Reply) -> None:
        """Keep a complete reply."""
        await self.put_many([(key, reply)])

    async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """Keep the replies that are complete."""
        now_s = self._clock()
        with self._lock:
            for key, reply in replies:
                row = answer_row(reply, now_s)
                if row is None:
                    continue
                previous = self._rows.pop(key, None)
                self._rows[key] = row
                self._size_bytes += size_of(row) - (size_of(previous) if previous else 0)
            size_bytes = self._size_bytes
        if size_bytes > self._soft_limit_bytes:
            self._warnings.once("large", large_store_note(size_bytes))
            self._warnings.emit()

    def summary(self) -> StoreSummary:
        """Return the number, size and age of the replies."""
        with self._lock:
            times = [row[0] for row in self._rows.values()]
            return StoreSummary(
                path=None,
                rows=len(times),
                size_bytes=self._size_bytes + self.vectors.size_bytes,
                oldest=date_of(min(times, default=None)),
                newest=date_of(max(times, default=None)),
                is_persistent=False,
                soft_limit_bytes=self._soft_limit_bytes,
                vectors=len(self.vectors),
            )

    def prune(self, *, older_s: float | None = None, larger_bytes: int | None = None) -> int:
        """Remove what is older than `older_s`, then the oldest until at most `larger_bytes` are left, vectors first."""
        with self._lock:
            before_s = -math.inf if older_s is None else self._clock() - older_s
            most_bytes = math.inf if larger_bytes is None else larger_bytes - self._size_bytes
            n_vectors = self.vectors.prune(before_s, most_bytes)
            removed = {key for key, row in self._rows.items() if row[0] < before_s}
            left = self._size_bytes - sum(size_of(self._rows[key]) for key in removed)
            for key, row in self._rows.items():
                if larger_bytes is None or left <= larger_bytes:
                    break
                if key not in removed:
                    removed.add(key)
                    left -= size_of(row)
            for key in removed:
                del self._rows[key]
            self._size_bytes = left
        return len(removed) + n_vectors

    def clear(self) -> int:
        """Remove all replies and vectors, and return their number."""
        with self._lock:
            count = len(self._rows)
            self._rows.clear()
            self._size_bytes = 0
        return count + self.vectors.prune(math.inf, 0)

    def close(self) -> None:
        """Do nothing: there is no file."""
