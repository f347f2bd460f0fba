"""The body of a failed response, as far as any API tells what went wrong: its words, its codes, its objects.

Every API puts them elsewhere, and gateways put the answer of the server behind them into a string of their own
(OpenRouter: ``error.metadata.raw``; Mistral and Hugging Face: JSON or a list inside ``message``). So the body is walked
once, with bounds, and readers (`refusals`, `waits`) look at all objects in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# Longest text that is searched for words, in characters: none of the known messages is half as long.
_MAX_WORDS = 4000
_MAX_SENTENCES = 20
_MAX_OBJECTS = 200
_MAX_DEPTH = 8
# Members that hold what the server says. Others may repeat the request (pydantic's `input`), whose words are not its.
_WORDS = ("error", "message", "detail", "msg", "errors", "raw", "description", "reason", "title", "errorMessage")
_CODES = ("code", "type", "status", "error_type", "reason", "error", "quotaId", "finish_reason")


@dataclass(frozen=True)
class ErrorBody:
    """What a server wrote about a failure.

    Attributes:
        value: The body as JSON; None where it is not JSON.
        text: The body as text, where it is not JSON.
    """

    value: Any = None
    text: str = ""

    @classmethod
    def read(cls, body: bytes) -> ErrorBody:
        """Return the body of a response. Any bytes will do."""
        value = _json_or_none(body)
        if value is not None or body.lstrip()[:1] in (b"{", b"["):
            return cls(value)
        return cls(None, body[:_MAX_WORDS].decode("utf-8", "replace"))

    @cached_property
    def objects(self) -> tuple[Mapping[str, Any], ...]:
        """All JSON objects of the body, the outer before the inner, at most 200 of them, 8 deep."""
        found: list[Mapping[str, Any]] = []
        waiting: list[tuple[Any, int]] = [(self.value, 0)]
        while waiting and len(found) < _MAX_OBJECTS:
            value, depth = waiting.pop(0)
            if isinstance(value, str):
                value = _inner(value)
            if isinstance(value, dict):
                found.append(value)
                value = list(value.values())
            if isinstance(value, list) and depth < _MAX_DEPTH:
                waiting.extend(
                    (item, depth + 1) for item in value[:_MAX_OBJECTS] if isinstance(item, (dict, list, str))
                )
        return tuple(found)

    @cached_property
    def message(self) -> str:
        """The server's message, wherever its API puts it; empty where there is none.

        OpenAI, Anthropic and llama.cpp: ``error.message``; Ollama: ``error``; vLLM: ``message``; FastAPI: ``detail``, a
        string or a list of ``msg``; Gemini: a list of one error.
        """
        return _message_in(self.value) or self.text

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All sentences that the server may have written: at most 20, each up to 4,000 characters."""
        texts = [self.text, *(self.value,) * isinstance(self.value, str)]
        for item in self.objects:
            texts += [
                part
                for name in _WORDS
                for part in (item[name] if isinstance(item.get(name), list) else (item.get(name),))
                if isinstance(part, str)
            ]
        return tuple(dict.fromkeys(text[:_MAX_WORDS] for text in texts if text))[:_MAX_SENTENCES]

    @cached_property
    def codes(self) -> str:
        """All codes and types, one a line, for a search."""
        texts = (item[name] for item in self.objects for name in _CODES if isinstance(item.get(name), str))
        return "\n".join(text for text in texts if len(text) <= 100)

    def values(self, *names: str) -> Iterator[Any]:
        """Yield the values of these members, of all objects."""
        return (item[name] for item in self.objects for name in names if item.get(name) is not None)


def _json_or_none(body: bytes) -> Any:
    """Return the body as JSON, or None."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _inner(text: str) -> Any:
    """Return the JSON inside a string, or None."""
    text = text.strip()
    return _json_or_none(text.encode("utf-8", "replace")) if text[:1] in ("{", "[") else None


def _message_in(value: Any, depth: int = 0) -> str:
    """Return the first message in a value."""
    if isinstance(value, str):
        return value
    if depth > 4:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_message_in(item, depth + 1) for item in value[:3])))
    if isinstance(value, dict):
        for name in ("error", "message", "detail", "msg", "errors"):
            if message := _message_in(value.get(name), depth + 1):
                return message
    return ""
