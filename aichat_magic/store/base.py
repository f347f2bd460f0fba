"""The protocol of a store of replies. The rest of the package uses no more than this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from ..core.messages import Reply
from .vectors import VectorStore

# Above this size one warning says that nothing is removed automatically, and how to remove old replies.
SOFT_LIMIT_BYTES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSummary:
    """The size and age of a store's replies.

    Attributes:
        path: The file, or None for a store in memory.
        rows: Number of replies.
        size_bytes: Bytes on the disk, or an estimate of those in memory.
        oldest: When the oldest reply was stored, None when there is none.
        newest: When the newest reply was stored, None when there is none.
        is_persistent: Whether replies outlive this process.
        soft_limit_bytes: Size above which one warning says that nothing is removed automatically.
        vectors: Number of vectors of texts.
    """

    path: Path | None
    rows: int
    size_bytes: int
    oldest: datetime | None
    newest: datetime | None
    is_persistent: bool
    soft_limit_bytes: int = SOFT_LIMIT_BYTES
    vectors: int = 0


class ReplyStore(Protocol):
    """Replies by key. May be used from many event loops and threads at once.

    They are paid for: none is removed except by `prune` and `clear`.

    Attributes:
        vectors: The vectors of texts, in the same place.
    """

    @property
    def vectors(self) -> VectorStore: ...  # noqa: D102  # described above

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the replies stored under these keys, without their messages. Trouble with the file never raises."""

    async def put(self, key: bytes, reply: Reply) -> None:
        """Store a complete reply, in place of an earlier one; a truncated or empty one is not stored.

        Returns once the reply is durable. When it cannot be written, it is kept in memory, with one warning.
        """

    async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """Store many replies, as `put` does; faster than one by one."""

    def summary(self) -> StoreSummary:
        """Return the number, size and age of the replies."""

    def prune(self, *, older_s: float | None = None, larger_bytes: int | None = None) -> int:
        """Remove the replies that are older than `older_s`, then the oldest until the size is at most `larger_bytes`.

        Vectors go in the same way, and before replies, because they cost less to make again.

        Returns:
            How many were removed.
        """

    def clear(self) -> int:
        """Remove all replies and vectors, and return their number."""

    def close(self) -> None:
        """Write what is waiting, and close the file. The store may be used again afterwards."""


def large_store_note(size_bytes: int) -> str:
    """Return the sentences that say that a store is large, and what can be done about it."""
    return (
        f"The store of replies holds {size_bytes / 1e6:,.0f} MB. They are paid for, so none is removed by itself. "
        f"%aichat store prune --older 90d removes those that are older, --larger 500MB the oldest ones."
    )


def date_of(created_s: float | None) -> datetime | None:
    """Return a time in seconds since 1970 as a date in UTC, None where it is none."""
    try:
        return None if created_s is None else datetime.fromtimestamp(created_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None
