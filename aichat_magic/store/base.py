"""What a store of replies is. The rest of the package knows no more than this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from ..core.messages import Reply

# From this size on one line tells that nothing is removed by itself, and how to remove what is old.
SOFT_LIMIT_BYTES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSummary:
    """What is in a store.

    Attributes:
        path: The file, or None for a store in memory.
        rows: Number of replies.
        size_bytes: Bytes on the disk, or about as many in memory.
        oldest: When the oldest reply was stored, None when there is none.
        newest: When the newest reply was stored, None when there is none.
        is_persistent: Whether replies outlive this process.
        soft_limit_bytes: Size from which on one line tells that nothing is removed by itself.
    """

    path: Path | None
    rows: int
    size_bytes: int
    oldest: datetime | None
    newest: datetime | None
    is_persistent: bool
    soft_limit_bytes: int = SOFT_LIMIT_BYTES


class ReplyStore(Protocol):
    """Replies by key. May be used from many event loops and threads at once.

    They are paid for: none is removed but by `prune` and `clear`.
    """

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The replies that are stored under these keys, without their messages. Never raises for trouble."""

    async def put(self, key: bytes, reply: Reply) -> None:
        """Store a complete reply, in place of an earlier one; one that is cut off or empty is not stored.

        Returns once the reply is durable. When that cannot be, it is kept in memory, with one warning.
        """

    async def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """As `put` for each of them, and quicker."""

    def summary(self) -> StoreSummary:
        """What is in the store."""

    def prune(self, *, older_s: float | None = None, larger_bytes: int | None = None) -> int:
        """Remove the replies that are older than `older_s`, then the oldest until the size is at most `larger_bytes`.

        Returns how many were removed.
        """

    def clear(self) -> int:
        """Remove all replies, and tell how many they were."""

    def close(self) -> None:
        """Write what is waiting and let go of the file. The store may be used again afterwards."""


def is_large(size_bytes: int) -> str:
    """Say that a store has become large, and what can be done about it."""
    return (
        f"The store of replies holds {size_bytes / 1e6:,.0f} MB. They are paid for, so none is removed by itself. "
        f"%aichat store prune --older 90d removes what is older, --larger 500MB the oldest."
    )


def date_of(created_s: float | None) -> datetime | None:
    """A time in seconds since 1970 as a date, None where it is none."""
    try:
        return None if created_s is None else datetime.fromtimestamp(created_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None
