"""Turns of conversations as values, and as rows of the file. What comes back is checked: anybody may have written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.errors import BadInputError
from ..core.messages import Reply
from ..core.usage import Usage
from .origins import Origin
from .rows import LONGEST_TEXT, reply_from, row_from

# What was said, in the order of `SAID`: the nine values of a reply as in `rows`, but for the text, then these.
Said = tuple[Any, ...]

SAID: Final = (
    "created_s",
    "finish_reason",
    "model",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_usd",
    "elapsed_s",
    "cell_id",
    "notebook",
    "options",
    "prompt",
    "text",
)
FIRST_PROMPT_CHARS: Final = 200
_EXCERPT_CHARS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """A turn to be stored.

    Attributes:
        prompt: What was said.
        reply: The reply, a whole one. Its messages are not stored.
        options: What was asked for beside it, by name: plain values.
        cell_id: The notebook's name for the cell, empty where there is none.
        notebook: Path of the notebook, empty where it is not known.
        created: When it was said, in seconds since 1970, for a turn from elsewhere: nothing was spent for it now.
            None: now.
        origin: The notebook and the cell that made it, for those that can be known again.
    """

    prompt: str
    reply: Reply
    options: Mapping[str, Any] = field(default_factory=dict)
    cell_id: str = ""
    notebook: str = ""
    created: float | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurn:
    """A turn as it is stored.

    Attributes:
        id: Its name in its store. Negative for a turn that waits to be written; it holds its meaning afterwards.
        prompt: What was said.
        reply: The reply, without its messages.
        cell_id: The notebook's name for the cell, empty where there is none.
        created: When, in seconds since 1970.
        options: What was asked for beside it.
        notebook: Path of the notebook, empty where it is not known.
    """

    id: int
    prompt: str
    reply: Reply
    cell_id: str
    created: float
    options: Mapping[str, Any] = field(default_factory=dict)
    notebook: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConversation:
    """A conversation as it is stored.

    Attributes:
        system: Its system message, empty for none.
        turns: Its turns, from the first to the newest.
    """

    system: str
    turns: tuple[StoredTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """One line of a list of conversations.

    Attributes:
        scope: To whom it belongs, empty for one that is shared by all.
        name: What it is called.
        turns: How many it has.
        first_prompt: The beginning of its first prompt, empty where there is none.
        updated: When it was last changed, in seconds since 1970.
    """

    scope: str
    name: str
    turns: int
    first_prompt: str
    updated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """A turn in which a text was found.

    Attributes:
        scope: To whom its conversation belongs.
        name: The name of its conversation.
        turn: The turn.
        excerpt: The text with what stands around it.
    """

    scope: str
    name: str
    turn: StoredTurn
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What was used on one day, of one model, in one conversation.

    Attributes:
        day: The local day, as ``YYYY-MM-DD``.
        model: ``provider/model``.
        conversation: Name of the conversation; empty for runs over tables and for conversations that were deleted.
        replies: How many replies.
        usage: Their sum.
    """

    day: str
    model: str
    conversation: str
    replies: int
    usage: Usage


def said_from(turn: TurnRecord, now_s: float) -> Said:
    """The row of a turn.

    What could not be read again (counts below zero, options that are no plain values) is left out.

    Args:
        turn: The turn.
        now_s: Now, in seconds since 1970.

    Returns:
        Values in the order of `SAID`.

    Raises:
        BadInputError: The reply is not whole, or a text is longer than a row can be.
    """
    created_s = max(0.0, now_s if turn.created is None else turn.created)
    reply = turn.reply
    row = row_from(reply, created_s) or row_from(
        Reply(text=reply.text, model=reply.model, finish_reason=reply.finish_reason), created_s
    )
    prompt = encoded(turn.prompt)
    if row is None or len(prompt) > LONGEST_TEXT:
        raise BadInputError("Only whole turns are kept, and none that is longer than 64 MB.")
    return (*row[:-1], encoded(turn.cell_id), encoded(turn.notebook), _packed(turn.options), prompt, row[-1])


def turn_from(number: int, said: Said) -> StoredTurn | None:
    """The turn of a row.

    Args:
        number: The turn's id.
        said: Values in the order of `SAID`, of any type and content.

    Returns:
        The turn; None when a value is not what it must be.
    """
    *head, cell_id, notebook, options, prompt, text = said
    reply = reply_from((*head, text))
    words = [decoded(value) for value in (cell_id, notebook, prompt)]
    if reply is None or None in words or type(options) is not bytes:
        return None
    return StoredTurn(
        id=number,
        prompt=words[2] or "",
        reply=reply,
        cell_id=words[0] or "",
        created=head[0],
        options=_unpacked(options),
        notebook=words[1] or "",
    )


def spent_from(model: str, usage: Usage, now_s: float) -> tuple[Any, ...]:
    """When, the model, and the four numbers of a usage, fit for a row; a usage that is none is left out."""
    said = row_from(Reply(text="", model=model, usage=usage), max(0.0, now_s))
    row = said or row_from(Reply(text="", model=model), max(0.0, now_s)) or ()
    return (row[0], *row[2:7])


def usage_from(values: tuple[Any, ...]) -> tuple[float, str, Usage] | None:
    """When, the model and the usage of what `spent_from` made; None when a value is not what it must be."""
    created_s, model, *numbers = values
    reply = reply_from((created_s, b"stop", model, *numbers, 0.0, b""))
    return None if reply is None else (created_s, reply.model, reply.usage)


def excerpt_of(turn: StoredTurn, text: str) -> str | None:
    """The first place of a text in a turn, whatever its case, with what stands around it.

    Args:
        turn: Where to look: in the prompt, then in the reply.
        text: What to look for.

    Returns:
        One line, or None when the text is not there.
    """
    wanted = text.lower()
    for whole in (turn.prompt, turn.reply.text):
        at = whole.lower().find(wanted)  # one letter in Unicode gets longer by it: the excerpt may begin a bit off
        if at < 0:
            continue
        begin, end = max(0, at - _EXCERPT_CHARS), at + len(text) + _EXCERPT_CHARS
        line = " ".join(whole[begin:end].split())
        return f"{'…' if begin else ''}{line}{'…' if end < len(whole) else ''}"
    return None


def encoded(text: str) -> bytes:
    """A text as it is stored: a lone surrogate and a NUL are no valid TEXT for SQLite."""
    return text.encode("utf-8", "surrogatepass")


def decoded(value: Any) -> str | None:
    """What `encoded` made, as text again; None when it is something else."""
    try:
        return value.decode("utf-8", "surrogatepass") if type(value) is bytes else None
    except UnicodeDecodeError:
        return None


def is_time(value: Any) -> bool:
    """Whether a value of a row is a time in seconds since 1970."""
    return type(value) is float and 0.0 <= value < math.inf


def _packed(options: Mapping[str, Any]) -> bytes:
    """Options as JSON, without those that are no plain values."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            continue
        plain[str(name)] = value
    return json.dumps(plain).encode()


def _unpacked(value: bytes) -> dict[str, Any]:
    """The options in a row; none where there is something else."""
    if value == b"{}":  # most of them
        return {}
    try:
        options = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}
