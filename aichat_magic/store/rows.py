"""Replies as rows of the file, and back. What is read is checked: anybody may have written into the file."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from ..core.answers import is_answer
from ..core.messages import FinishReason, Reply, new_reply
from ..core.usage import new_usage
from .database import TableLayout

# Values in the order of `REPLY_COLUMNS`.
StoredRow = tuple[Any, ...]

# What a turn of a conversation has, too.
HEAD_COLUMNS: Final = (
    "created_s",
    "finish_reason",
    "model",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_usd",
    "elapsed_s",
    "reasoning_tokens",
    "cache_write_tokens",
    "model_version",
)
REPLY_COLUMNS: Final = (*HEAD_COLUMNS, "logprobs", "thinking", "text")
# Raised when the columns change; old files are brought up to date. Keys of requests have a number of their own.
LAYOUT: Final = 2

# The id grows with every row written, so the lowest ids are the oldest rows whatever the clock did. Prompts are not
# stored, only their hash. Texts are BLOBs: a lone surrogate and a NUL are no valid TEXT. The text comes last: a column
# behind a long text would have to be fetched from other pages. Only in files of release 0.1, in which the columns of
# layout 2 are behind it: to write all of them again would take minutes.
# Release 0.1 stored thinking between tags as part of the text: `<think>` and `</think>`, as bytes.
_OPENING, _CLOSING = "x'3c7468696e6b3e'", "x'3c2f7468696e6b3e'"
_THINKING_OF_0_1: Final = (
    f"""
    UPDATE replies SET thinking = substr(text, 8, instr(text, {_CLOSING}) - 8),
    text = CAST(ltrim(substr(text, instr(text, {_CLOSING}) + 8), char(10, 13)) AS BLOB)
    WHERE substr(text, 1, 7) = {_OPENING} AND instr(text, {_CLOSING})
    """,
    # Without an end it is no answer, and is asked for again.
    f"UPDATE replies SET thinking = substr(text, 8), text = x'' WHERE substr(text, 1, 7) = {_OPENING}",
)

REPLY_TABLES: Final = TableLayout(
    application_id=0x61694D31,
    version=LAYOUT,
    create=(
        """
        CREATE TABLE replies (
            id INTEGER PRIMARY KEY,
            key BLOB NOT NULL UNIQUE,
            created_s REAL NOT NULL,
            finish_reason TEXT NOT NULL,
            model BLOB NOT NULL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cached_tokens INTEGER,
            cost_usd REAL,
            elapsed_s REAL NOT NULL,
            reasoning_tokens INTEGER,
            cache_write_tokens INTEGER,
            model_version BLOB,
            logprobs BLOB,
            thinking BLOB,
            text BLOB NOT NULL
        )
        """,
    ),
    migrations={
        1: (
            "ALTER TABLE replies ADD COLUMN reasoning_tokens INTEGER",
            "ALTER TABLE replies ADD COLUMN cache_write_tokens INTEGER",
            "ALTER TABLE replies ADD COLUMN model_version BLOB",
            "ALTER TABLE replies ADD COLUMN logprobs BLOB",
            "ALTER TABLE replies ADD COLUMN thinking BLOB",
            *_THINKING_OF_0_1,
        )
    },
)
# The length of a row's long values, in SQL.
LENGTH_SQL: Final = "length(text) + ifnull(length(thinking), 0) + ifnull(length(logprobs), 0)"

LONGEST_TEXT: Final = 64_000_000
OVERHEAD_BYTES: Final = 150

# Only these are complete. The keys are what SQLite gives (bytes) and what we give to it (str).
_FINISH_REASONS: Final[dict[Any, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
    "tool_calls": "tool_calls",
    b"stop": "stop",
    b"length": "length",
    b"content_filter": "content_filter",
    b"refusal": "refusal",
    b"tool_calls": "tool_calls",
}
_MAX_INT: Final = 2**63 - 1
_END_S: Final = 253_402_214_401.0  # `time.localtime` takes no later year than 9999 everywhere


def answer_row(reply: Reply, created_s: float) -> StoredRow | None:
    """Return the row of a reply, as `row_from`; None also for a reply without an answer, which is asked for again."""
    return row_from(reply, created_s) if is_answer(reply) else None


def answer_from(row: StoredRow, oldest_s: float = -math.inf) -> Reply | None:
    """Return the reply of a row, as `reply_from`; None also for one without an answer, which release 0.1 stored."""
    reply = reply_from(row, oldest_s)
    return reply if reply is not None and is_answer(reply) else None


def row_from(reply: Reply, created_s: float) -> StoredRow | None:
    """Return the row of a reply.

    Args:
        reply: The reply.
        created_s: Now, in seconds since 1970.

    Returns:
        The row, or None for a reply that must not be stored: it is incomplete, or a value is invalid.
    """
    usage, version, thinking = reply.usage, reply.model_version, reply.thinking
    row: StoredRow = (
        float(created_s),
        reply.finish_reason,
        reply.model.encode("utf-8", "surrogatepass"),
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        None if usage.cost_usd is None else float(usage.cost_usd),
        float(reply.elapsed_s),
        usage.reasoning_tokens,
        usage.cache_write_tokens,
        version.encode("utf-8", "surrogatepass") if version else None,
        None if reply.logprobs is None else _json_bytes(reply.logprobs),
        thinking.encode("utf-8", "surrogatepass") if thinking else None,
        reply.text.encode("utf-8", "surrogatepass"),
    )
    return row if size_of(row) <= LONGEST_TEXT and _is_valid(row) else None


def reply_from(row: StoredRow, oldest_s: float = -math.inf) -> Reply | None:
    """Return the reply of a row.

    Args:
        row: Values in the order of `StoredRow`, of any type and content.
        oldest_s: Time before which a reply is too old, in seconds since 1970.

    Returns:
        The reply, without its messages; None when it is too old or a value is invalid.
    """
    if not _is_valid(row, oldest_s):
        return None
    (
        _, finish, model, input_tokens, output_tokens, cached_tokens, cost_usd, elapsed_s,
        reasoning_tokens, cache_write_tokens, version, logprobs, thinking, text,
    ) = row  # fmt: skip
    try:
        return new_reply(
            text=text.decode("utf-8", "surrogatepass"),
            model=model.decode("utf-8", "surrogatepass"),
            usage=new_usage(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cached_tokens=cached_tokens,
                cache_write_tokens=cache_write_tokens,
                reasoning_tokens=reasoning_tokens,
                cost_usd=cost_usd,
            ),
            finish_reason=_FINISH_REASONS[finish],
            elapsed_s=elapsed_s,
            thinking=thinking.decode("utf-8", "surrogatepass") if thinking else "",
            model_version=version.decode("utf-8", "surrogatepass") if version else "",
            logprobs=None if logprobs is None else _json_from(logprobs),
        )
    except UnicodeDecodeError:
        return None


def _is_valid(row: StoredRow, oldest_s: float = -math.inf) -> bool:
    """Tell whether every value is valid, and the row not too old."""
    (
        created_s, finish, model, input_tokens, output_tokens, cached_tokens, cost_usd, elapsed_s,
        reasoning_tokens, cache_write_tokens, version, logprobs, thinking, text,
    ) = row  # fmt: skip
    # Written out, because a run does this for every row.
    return (
        finish in _FINISH_REASONS
        and type(text) is bytes
        and type(model) is bytes
        and (type(elapsed_s) is float and 0.0 <= elapsed_s < math.inf)
        and (is_time(created_s) and created_s >= oldest_s)
        and (cost_usd is None or (type(cost_usd) is float and 0.0 <= cost_usd < math.inf))
        and (input_tokens is None or (type(input_tokens) is int and 0 <= input_tokens <= _MAX_INT))
        and (output_tokens is None or (type(output_tokens) is int and 0 <= output_tokens <= _MAX_INT))
        and (cached_tokens is None or (type(cached_tokens) is int and 0 <= cached_tokens <= _MAX_INT))
        and (reasoning_tokens is None or (type(reasoning_tokens) is int and 0 <= reasoning_tokens <= _MAX_INT))
        and (cache_write_tokens is None or (type(cache_write_tokens) is int and 0 <= cache_write_tokens <= _MAX_INT))
        and (version is None or type(version) is bytes)
        and (logprobs is None or type(logprobs) is bytes)
        and (thinking is None or type(thinking) is bytes)
    )


def size_of(row: StoredRow) -> int:
    """Return about how many bytes the row takes in the file and in memory."""
    size = len(row[-1]) + OVERHEAD_BYTES
    for value in row[-3:-1]:  # most rows have neither log probabilities nor thinking
        if value is not None:
            size += len(value)
    return size


def _json_bytes(value: Any) -> bytes | None:
    """Encode what a server has sent as JSON; None where it cannot be."""
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def _json_from(value: bytes) -> Any:
    """Decode JSON; None where it is none."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def to_blob(text: str) -> bytes:
    """Encode a text for the file: a lone surrogate and a NUL are no valid TEXT for SQLite."""
    return text.encode("utf-8", "surrogatepass")


def from_blob(value: Any) -> str | None:
    """Decode a text from the file; None when the value is none."""
    try:
        return value.decode("utf-8", "surrogatepass") if type(value) is bytes else None
    except UnicodeDecodeError:
        return None


def is_time(value: Any) -> bool:
    """Tell whether a value of a row is a time in seconds since 1970."""
    return type(value) is float and 0.0 <= value < _END_S
