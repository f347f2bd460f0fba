"""Usage of models over time: a row for each reply and each run, which outlives the conversation."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..core.messages import Reply
from ..core.usage import Usage
from .conversation_tables import FIND_CONVERSATION, Key
from .rows import from_blob, reply_from, row_from, to_blob

_COLUMNS = (
    "created_s, model, input_tokens, output_tokens, cached_tokens, cost_usd, reasoning_tokens, cache_write_tokens"
)


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """The usage of one reply or run.

    Attributes:
        created: When, in seconds since 1970.
        model: ``provider/model``.
        conversation: Name of the conversation, empty for none.
        replies: Number of replies.
        usage: Their sum.
    """

    created: float
    model: str
    conversation: str
    replies: int
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """The usage of one day, model and conversation.

    Attributes:
        day: The local day, as ``YYYY-MM-DD``.
        model: ``provider/model``.
        conversation: Name of the conversation; empty for runs over tables and for conversations that were deleted.
        replies: Number of replies.
        usage: Their sum.
    """

    day: str
    model: str
    conversation: str
    replies: int
    usage: Usage


def usage_values(model: str, usage: Usage, now_s: float) -> tuple[Any, ...]:
    """Return the values of `_COLUMNS`; invalid numbers are left out."""
    row = row_from(Reply(text="", model=model, usage=usage), max(0.0, now_s))
    row = row or row_from(Reply(text="", model=model), max(0.0, now_s)) or ()
    return (row[0], *row[2:7], *row[8:10])


def record_usage(connection: sqlite3.Connection, key: Key | None, replies: int, values: tuple[Any, ...]) -> None:
    """Add a row.

    Args:
        connection: The database.
        key: The conversation; None for a run over a table.
        replies: Number of replies, >= 0.
        values: Values from `usage_values`.
    """
    connection.execute(
        f"INSERT INTO spent ({_COLUMNS}, replies, conversation) "
        f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ({FIND_CONVERSATION}))",
        (*values, replies, *(map(to_blob, key) if key else (None, None))),
    )


def usage_records(connection: sqlite3.Connection, since_s: float) -> Iterator[UsageRecord]:
    """Yield the rows from a time on, in seconds since 1970. A row with invalid values is left out."""
    sql = f"""
        SELECT {_COLUMNS}, replies, name
        FROM spent LEFT JOIN conversations ON conversations.id = spent.conversation WHERE created_s >= ?
    """
    for created_s, model, *numbers, reasoning, written, replies, name in connection.execute(sql, (since_s,)).fetchall():
        reply = reply_from((created_s, b"stop", model, *numbers, 0.0, reasoning, written, None, None, None, b""))
        if reply is not None and type(replies) is int and 0 <= replies < 2**63:
            yield UsageRecord(created_s, reply.model, from_blob(name) or "", replies, reply.usage)


def usage_by_day(records: Iterable[UsageRecord]) -> list[UsageRow]:
    """Sum up usage by local day, model and conversation, in this order."""
    sums: dict[tuple[str, str, str], tuple[int, Usage]] = {}
    for record in records:
        try:
            day = time.strftime("%Y-%m-%d", time.localtime(record.created))
        except (OverflowError, ValueError, OSError):  # no year of any calendar
            continue
        key = (day, record.model, record.conversation)
        replies, usage = sums.get(key, (0, None))
        sums[key] = (replies + record.replies, record.usage if usage is None else usage + record.usage)
    return [
        UsageRow(day=day, model=model, conversation=name, replies=replies, usage=usage)
        for (day, model, name), (replies, usage) in sorted(sums.items(), key=lambda item: item[0])
    ]
