"""Usage of models over time: a row for each reply and each run, which outlives the conversation."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..core.usage import Usage
from .conversation_tables import FIND_CONVERSATION, Key
from .rows import from_blob, is_time, to_blob

_COLUMNS: Final = (
    "created_s, model, input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost_usd"
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
    """Return the time, the model and the numbers of a usage, as columns; invalid numbers are left out."""
    cost_usd = usage.cost_usd
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )
    return (
        max(0.0, float(now_s)),
        to_blob(model),
        *(count if _is_count(count) else None for count in counts),
        float(cost_usd) if cost_usd is not None and 0 <= cost_usd < math.inf else None,
    )


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
        f"VALUES ({', '.join('?' * len(values))}, ?, ({FIND_CONVERSATION}))",
        (*values, replies, *(map(to_blob, key) if key else (None, None))),
    )


def usage_records(connection: sqlite3.Connection, since_s: float) -> Iterator[UsageRecord]:
    """Yield the rows from a time on, in seconds since 1970. A row with invalid values is left out."""
    sql = f"""
        SELECT {_COLUMNS}, replies, name
        FROM spent LEFT JOIN conversations ON conversations.id = spent.conversation WHERE created_s >= ?
    """
    for created_s, model, *counts, cost_usd, replies, name in connection.execute(sql, (since_s,)).fetchall():
        model_name = from_blob(model)
        is_valid = (
            is_time(created_s)
            and model_name is not None
            and all(count is None or _is_count(count) for count in counts)
            and (cost_usd is None or (type(cost_usd) is float and 0.0 <= cost_usd < math.inf))
            and _is_count(replies)
        )
        if is_valid:
            input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens = counts
            usage = Usage(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cached_tokens=cached_tokens,
                cache_write_tokens=cache_write_tokens,
                reasoning_tokens=reasoning_tokens,
                cost_usd=cost_usd,
            )
            yield UsageRecord(created_s, model_name or "", from_blob(name) or "", replies, usage)


def _is_count(value: Any) -> bool:
    """Tell whether a value of a row is a count: a whole number that SQLite can store, >= 0."""
    return type(value) is int and 0 <= value < 2**63


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
