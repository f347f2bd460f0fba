"""Turns and conversations as values, and turns as rows of the file.

What is read is checked: anybody may have written into the file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.errors import BadInputError
from ..core.messages import Reply
from .notebooks import Origin
from .rows import HEAD_COLUMNS, LONGEST_TEXT, from_blob, reply_from, row_from, to_blob

# The content of a turn, in the order of `TURN_COLUMNS`.
TurnRow = tuple[Any, ...]

# A conversation keeps no thinking: it is not sent again, and not exported.
TURN_COLUMNS: Final = (*HEAD_COLUMNS, "cell_id", "notebook", "options", "prompt", "text")
_N_HEAD: Final = len(HEAD_COLUMNS)
FIRST_PROMPT_CHARS: Final = 200
_EXCERPT_CHARS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """A turn to be stored.

    Attributes:
        prompt: The prompt.
        reply: The reply, a complete one. Its messages are not stored.
        options: Options of the request, by name: plain values.
        cell_id: The notebook's name for the cell, empty where there is none.
        notebook: Path of the notebook, empty where it is not known.
        created: When it was made, in seconds since 1970, for a turn from elsewhere, whose usage is not recorded.
            None: now.
        origin: The notebook and the cell in which it was made, where they can be recognized later.
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
        id: Its id in its store. Above 2**52 for a turn that waits to be written; it stays valid afterwards.
        prompt: The prompt.
        reply: The reply, without its messages.
        cell_id: The notebook's name for the cell, empty where there is none.
        created: When it was made, in seconds since 1970.
        options: Options of the request, by name.
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
    """An entry of a list of conversations.

    Attributes:
        scope: The notebook that it belongs to, empty for one that is shared by all.
        name: Its name.
        turns: Number of its turns.
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
        scope: The notebook that its conversation belongs to.
        name: Name of its conversation.
        turn: The turn.
        excerpt: The text and what is around it.
    """

    scope: str
    name: str
    turn: StoredTurn
    excerpt: str


def turn_row(turn: TurnRecord, now_s: float) -> TurnRow:
    """Return the row of a turn.

    What could not be read again (counts below zero, options that are no plain values) is left out.

    Args:
        turn: The turn.
        now_s: Now, in seconds since 1970.

    Returns:
        Values in the order of `TURN_COLUMNS`.

    Raises:
        BadInputError: The reply is incomplete, or a text is longer than a row can be.
    """
    created_s = max(0.0, now_s if turn.created is None else turn.created)
    reply = dataclasses.replace(turn.reply, thinking="", logprobs=None)
    row = row_from(reply, created_s) or row_from(
        Reply(text=reply.text, model=reply.model, finish_reason=reply.finish_reason), created_s
    )
    prompt = to_blob(turn.prompt)
    if row is None or len(prompt) > LONGEST_TEXT:
        raise BadInputError("Only whole turns are kept, and none longer than 64 MB.")
    head, text = row[:_N_HEAD], row[-1]
    return (*head, to_blob(turn.cell_id), to_blob(turn.notebook), _options_json(turn.options), prompt, text)


def turn_from(turn_id: int, row: TurnRow) -> StoredTurn | None:
    """Return the turn of a row.

    Args:
        turn_id: The turn's id.
        row: Values in the order of `TURN_COLUMNS`, of any type and content.

    Returns:
        The turn; None when a value is invalid.
    """
    *head, cell_id, notebook, options, prompt, text = row
    reply = reply_from((*head, None, None, text))
    texts = [from_blob(value) for value in (cell_id, notebook, prompt)]
    if reply is None or None in texts or type(options) is not bytes:
        return None
    return StoredTurn(
        id=turn_id,
        prompt=texts[2] or "",
        reply=reply,
        cell_id=texts[0] or "",
        created=head[0],
        options=_options_from(options),
        notebook=texts[1] or "",
    )


def excerpt_of(turn: StoredTurn, text: str) -> str | None:
    """Return the first place of a text in a turn, whatever its case, with what is around it.

    Args:
        turn: The turn: its prompt is searched, then its reply.
        text: The text to search for.

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


def _options_json(options: Mapping[str, Any]) -> bytes:
    """Write options as JSON, without those that are no plain values."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            continue
        plain[str(name)] = value
    return json.dumps(plain).encode()


def _options_from(value: bytes) -> dict[str, Any]:
    """Read the options of a row; none where there is something else."""
    if value == b"{}":  # most of them
        return {}
    try:
        options = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}
