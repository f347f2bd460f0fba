"""All messages as one text: the only prompt that the service of `Aichat` takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from ...core.errors import PromptError
from ...core.messages import Message, Role
from ..base import Messages

_ROLE_LABEL = re.compile(r"\s*(system|user|assistant)\s*:", re.IGNORECASE)


def format_prompt(messages: Messages, add_special_tokens: bool = False) -> str:
    """Join all messages into the one text that the service takes.

    A single message is sent as its text; several become lines ``Role: text``, with ``Assistant:`` at the end. Messages
    without text are left out. So that no text can pose as another role, all lines of a message but its first are
    indented (of a single message: only those that look like the beginning of a role's turn).

    Args:
        messages: `Message` values or mappings; a content may be None or a list of parts, whose texts are joined.
        add_special_tokens: Write the roles for a single message, too.

    Returns:
        The text.

    Raises:
        PromptError: There is no message, or none of them has text (it is a `ValueError`).
    """
    plain = messages_of(messages)
    spoken = [message for message in plain if message.content.strip()]
    if not spoken:
        raise PromptError("There is no message with text in it. Nothing can be sent.")
    if len(plain) == 1 and not add_special_tokens:
        first, *rest = plain[0].content.splitlines(keepends=True)
        return first + "".join(f"  {line}" if _ROLE_LABEL.match(line) else line for line in rest)
    lines = [f"{message.role.capitalize()}: {_indented(message.content)}" for message in spoken]
    return "\n".join([*lines, "Assistant:"])


def messages_of(messages: Messages) -> tuple[Message, ...]:
    """Return the messages as `Message` values: the role in lower case, the content as text, empty for None.

    Raises:
        PromptError: A message is neither a `Message` nor a mapping with role and content.
    """
    plain = []
    for item in messages:
        if isinstance(item, Message):
            plain.append(item)
        elif isinstance(item, Mapping) and "role" in item and "content" in item:
            # `Message` refuses roles and contents that are still wrong.
            role = item["role"].lower() if isinstance(item["role"], str) else item["role"]
            plain.append(Message(cast("Role", role), _joined(item["content"])))
        else:
            raise PromptError("A message must be a mapping with 'role' and 'content', or a Message.")
    return tuple(plain)


def _joined(content: Any) -> Any:
    """Return the text of a content: the joined text parts of a list, an empty text for None."""
    if content is None:
        return ""
    if not isinstance(content, list | tuple):
        return content
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(text for text in texts if isinstance(text, str))


def _indented(content: str) -> str:
    """Return the text with all lines but the first indented, whatever separates them."""
    first, *rest = content.splitlines()
    return "\n".join([first, *(f"  {line}" if line else "" for line in rest)])
