"""Lines about the earlier turns of a conversation: which of their images and data go along with a prompt."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from ...chat.chat import Call
from ...chat.conversation import Conversation, History, Turn, history_budget
from ...core.messages import Message, estimate_tokens
from ...core.settings import Settings
from .include import names_included

_MOST_NAMES = 3
# The place of an image in a prompt: of a placeholder, or of what was included.
_IMAGE = re.compile(r"\[image: (?:[^\W\d]\w*|(?:png|jpeg|gif|webp), [\d,]+ bytes)\]")
# The tokens of more turns than these are not counted, because each cell would count them again.
_MOST_TURNS = 100


def image_lines(
    conversation: Conversation, history: History, call: Call, settings: Settings, *, place: int | None = None
) -> Iterator[str]:
    """Yield a line about the images of earlier turns, if there are any.

    Args:
        conversation: The conversation.
        history: The turns of it that are sent.
        call: The call with them.
        settings: The settings.
        place: Position of the turn that is asked again; None: a new turn.
    """
    parts: list[str] = []
    if history.images_again:
        parts.append(f"sent again: {_images(history.images_again)} of earlier turns")
    if history.images_left_out:
        why = f"max_history_images is {settings.max_history_images}"
        if not call.provider.supports_images:
            why = f"{call.provider.name} takes none"
        elif settings.max_history_images and not conversation.has_shown_images_to(call.model, place):
            why = f"{call.model} has not been shown any"
        parts.append(
            f"not sent again: {_images(history.images_left_out)} of earlier turns ({why}). "
            f"To show one, include it in this cell"
        )
    turns = conversation.turns[:place]
    lost = [turn for turn in turns[max(0, len(turns) - settings.max_history_images) :] if _has_lost_images(turn)]
    if lost and history.left_out < len(turns):
        parts.append(
            "not sent again: images that were sent before the kernel was restarted. "
            "To show one, include it in this cell"
        )
    if parts:
        yield " · ".join(parts)


def has_lost_data(conversation: Conversation, history: History) -> bool:
    """Tell whether data that was included in an earlier turn is no longer sent, because the turn does not fit."""
    return any(names_included(turn.prompt) for turn in conversation.turns[: history.left_out])


def left_out_line(
    conversation: Conversation, history: History, call: Call, settings: Settings, *, context_tokens: int | None = None
) -> str:
    """Return a line about the turns that do not fit, of which there must be one, and what to do.

    Args:
        conversation: The conversation.
        history: The turns of it that are sent.
        call: The call with them.
        settings: The settings.
        context_tokens: Tokens that messages and reply may have together, or None if that is not known.
    """
    left_out = conversation.turns[: history.left_out]
    names: dict[str, None] = {}
    first = len(left_out) - 1
    for place in reversed(range(len(left_out))):
        if found := names_included(left_out[place].prompt):
            first = first if names else place
            names |= dict.fromkeys(found)
    if len(left_out) == 1:
        line = f"The oldest turn of {conversation.name!r} no longer fits and is not sent"
    else:
        line = f"The {len(left_out)} oldest turns of {conversation.name!r} no longer fit and are not sent"
    ways: list[str] = []
    if names:
        named = ", ".join([*names][:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
        line += f", nor is what they included: {named}" if len(left_out) > 1 else f", nor is what it included: {named}"
        ways.append(f"include {'it' if len(names) == 1 else 'them'} in this cell again, whole or in part")
    if limit := _limit_for(left_out[first:], history, call, settings, context_tokens):
        ways.append(f"%aichat set max_history_tokens {limit}")
    if not ways:
        return f"{line}: {call.model} reads no more. To start over: --new"
    return f"{line}. To send {'that' if names else 'more'}: {', or '.join(ways)}; to start over: --new"


def _limit_for(
    turns: tuple[Turn, ...], history: History, call: Call, settings: Settings, context_tokens: int | None
) -> str:
    """Return the `max_history_tokens` with which turns would fit, ``N`` for many; empty if the model reads less."""
    if len(turns) > _MOST_TURNS:
        return "N"
    pairs = ((Message("user", turn.prompt), Message("assistant", turn.reply.text)) for turn in turns)
    needed = estimate_tokens(history.messages) + sum(map(estimate_tokens, pairs))
    limit = -(-needed // 1_000) * 1_000
    wider = dataclasses.replace(settings, max_history_tokens=limit)
    fits = history_budget(call, wider, context_tokens) >= needed
    return str(limit) if fits else ""


def _has_lost_images(turn: Turn) -> bool:
    """Tell whether a turn was sent with images that are no longer known."""
    return not turn.images and _IMAGE.search(turn.prompt) is not None


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"
