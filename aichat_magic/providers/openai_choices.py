"""Choices of the OpenAI dialect: the one choice that is read, its piece of a stream, and its log probabilities.

Servers differ in what an event of a stream holds: a `delta`; the whole `message`, in the last event or in each; both;
or several choices, in any order, where more than one answer was asked for. Here every event becomes one with a single
choice and a single delta, so that the reader of events knows one form only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .dialect import StreamState


def first_choice(choices: Sequence[Any]) -> Any:
    """Return the choice with index 0, wherever it stands; without any, the one that stands first.

    Args:
        choices: At least one choice, of any content.
    """
    return next((choice for choice in choices if _is_first(choice)), choices[0])


def _is_first(choice: Any) -> bool:
    """Tell whether a choice has index 0, or no index."""
    return isinstance(choice, dict) and not choice.get("index")


def single_delta(content: dict[str, Any], state: StreamState) -> dict[str, Any]:
    """Return an event with one choice and one delta at most.

    Args:
        content: The event.
        state: The state of its stream; the text of the event is added to its `pieces`.

    Returns:
        The same event where it has this form, or is no event of the dialect at all.
    """
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices:
        return content
    choice = choices[0] if len(choices) == 1 else first_choice(choices)
    if not isinstance(choice, dict):
        return content
    if choice.get("index"):
        return {**content, "choices": []}
    delta, message = choice.get("delta"), choice.get("message")
    piece = delta if isinstance(delta, dict) else {}
    if isinstance(message, dict):
        # Log probabilities of a whole message have come with the deltas, if there were any.
        logprobs = None if state.has_delta else choice.get("logprobs")
        piece = _added(piece, message, state)
        content = {**content, "choices": [{**choice, "delta": piece, "message": None, "logprobs": logprobs}]}
    elif len(choices) > 1:
        content = {**content, "choices": [choice]}
    if not state.has_delta and isinstance(delta, dict):
        state.has_delta = any(value for name, value in delta.items() if name != "role")
    text = piece.get("content")
    if type(text) is not str:
        text = _text_of(piece)
    if text:
        state.pieces.append(text)
    return content


def token_logprobs(logprobs: Any) -> list[dict[str, Any]] | None:
    """Return the log probabilities of a choice, a dictionary for each token; None where there are none.

    Together has lists of tokens and numbers instead of a list of objects (API reference, 2026-11).
    """
    if not isinstance(logprobs, dict):
        return None
    names = ("content", "refusal", "tokens", "token_logprobs")
    content, refusal, tokens, numbers = (
        value if isinstance(value := logprobs.get(name), list) else [] for name in names
    )
    found = [token for token in (*content, *refusal) if isinstance(token, dict)]
    found = found or [{"token": token, "logprob": number} for token, number in zip(tokens, numbers, strict=False)]
    return found or None


def _added(delta: dict[str, Any], message: dict[str, Any], state: StreamState) -> dict[str, Any]:
    """Return the delta that adds what a whole message has beyond the text so far."""
    own = _text_of(delta)
    if not own and not state.pieces and not state.has_delta:
        return {**delta, **message}
    state.pieces = ["".join(state.pieces)]
    so_far, whole = state.pieces[0] + own, _text_of(message)
    if whole.startswith(so_far):
        rest = whole[len(so_far) :]
    else:
        # Another text than that of the deltas (trimmed, without the thinking) is a repetition. Where there were no
        # deltas, the server sends its pieces under this name.
        rest = "" if state.has_delta or own else whole
    return {**delta, "content": own + rest}


def _text_of(part: dict[str, Any]) -> str:
    """Return the text of a message or a delta: a string, or the text parts of a list of parts."""
    content = part.get("content")
    if isinstance(content, list):
        texts = (item.get("text") for item in content if isinstance(item, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
