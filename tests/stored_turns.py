"""Turns to be stored, and what a store has of them."""

from typing import Any

from aichat_magic.core.messages import Reply
from aichat_magic.core.usage import Usage
from aichat_magic.store.conversations import ConversationStore, TurnRecord

SCOPE = "/home/ada/notes.ipynb"
USAGE = Usage(input_tokens=3, output_tokens=5, cached_tokens=0, cost_usd=0.25)


def a_turn(text: str, **changes: Any) -> TurnRecord:
    """A turn: the prompt and, in capitals, the reply."""
    reply = Reply(text=text.upper(), model="echo/m", usage=USAGE, elapsed_s=1.5)
    return TurnRecord(**{"prompt": text, "reply": reply, **changes})


def prompts(store: ConversationStore, name: str = "main", scope: str = SCOPE) -> str | None:
    """All prompts of a conversation, from the first to the newest."""
    found = store.load(scope, name)
    return None if found is None else " ".join(turn.prompt for turn in found.turns)


def append_words(store: ConversationStore, words: str, name: str = "main", scope: str = SCOPE) -> list[int]:
    """Append each word; the ids."""
    return [store.append(scope, name, a_turn(word)).id for word in words.split()]
