"""The body of a failed response, as far as any API tells what went wrong: its words, its codes, its objects.

Every API puts them elsewhere, and gateways put the answer of the server behind them into a string of their own
(OpenRouter: ``error.metadata.raw``; Mistral and Hugging Face: JSON or a list inside ``message``). So the body is walked
once, with bounds, and readers (`refusals`, `waits`) look at all objects in it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# Longest text that is searched for words, in characters: none of the known messages is half as long.
_MAX_WORDS = 4000
_MAX_SENTENCES = 20
_MAX_OBJECTS = 200
_MAX_DEPTH = 8
_MAX_INNER = 64 * 1024
# Members that hold what the server says. Others may repeat the request (pydantic's `input`), whose words are not its.
LIMIT_NAMES = ("quotaId", "quotaMetric", "limit_source")  # Google's, OpenRouter's
_WORDS = ("error", "message", "detail", "msg", "errors", "raw", "description", "reason", "title", "errorMessage")
_CODES = ("code", "type", "status", "error_type", "reason", "error", "finish_reason", *LIMIT_NAMES)

# What stands for a status. Google: canonical error codes; Anthropic: "Errors"; OpenAI: "Error codes" (read 2026-11).
_STATUSES = {
    "invalid_argument": 400,
    "failed_precondition": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "resource_exhausted": 429,
    "internal": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "unavailable_error": 503,
    "engine_overloaded": 503,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
}


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
        """Return the body of a response. Any bytes will do; a page of HTML or XML is none of the server's own."""
        value = _json_or_none(body)
        if value is not None or body.lstrip()[:1] in (b"{", b"[", b"<"):
            return cls(value)
        return cls(None, body[:_MAX_WORDS].decode("utf-8", "replace"))

    @cached_property
    def objects(self) -> tuple[Mapping[str, Any], ...]:
        """All JSON objects of the body, the outer before the inner, at most 200 of them, 8 deep."""
        found: list[Mapping[str, Any]] = []
        waiting: deque[tuple[Any, int]] = deque([(self.value, 0)])
        while waiting and len(found) < _MAX_OBJECTS:
            value, depth = waiting.popleft()
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
        string or a list of ``msg``; Gemini: a list of one error. OpenRouter puts the words of the server behind it into
        ``error.metadata.raw``, as text or as JSON, and the server's name beside it.
        """
        message = _message_in(self.value) or self.text
        raw = next((_message_in(value) or str(value) for value in self.values("raw") if value), "")
        if raw and raw not in message:
            message = f"{message.rstrip('. ')}: {raw}" if message else raw
        name = next((value for value in self.values("provider_name") if isinstance(value, str)), "")
        return f"{message.rstrip('. ')} ({name[:40]})." if name and raw else message

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
    def status(self) -> int | None:
        """The HTTP status that an error inside a response of status 200 stands for; None where it does not tell.

        As a number in ``code`` or ``status``, or as a name of Google, Anthropic or OpenAI.
        """
        for item in self.objects:
            for value in (item.get("code"), item.get("status"), item.get("status_code"), item.get("type")):
                if isinstance(value, str):
                    known = _STATUSES.get(value.lower())
                    if known is not None:
                        return known
                    value = int(value) if value.isdecimal() and len(value) == 3 else None
                if isinstance(value, int) and 400 <= value < 600:
                    return value
        return None

    @cached_property
    def codes(self) -> str:
        """All codes and types, one a line, for a search: the words without a blank where a code may stand."""
        texts = (item[name] for item in self.objects for name in _CODES if isinstance(item.get(name), str))
        return "\n".join(text for text in texts if len(text) <= 100 and " " not in text)

    @cached_property
    def has_google_details(self) -> bool:
        """Whether Google wrote it."""
        return any("googleapis.com" in str(value)[:100] for value in self.values("@type", "quotaMetric"))

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
    if len(text) > _MAX_INNER or text.lstrip()[:1] not in ("{", "["):
        return None
    return _json_or_none(text.encode("utf-8", "replace"))


def _message_in(value: Any, depth: int = 0) -> str:
    """Return the first message in a value. A text that is JSON is looked into."""
    if isinstance(value, str):
        return _message_in(inner, depth + 1) if depth < 4 and (inner := _inner(value)) is not None else value
    if depth > 4:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_message_in(item, depth + 1) for item in value[:3])))
    if isinstance(value, dict):
        for name in ("error", "message", "detail", "msg", "errors"):
            if message := _message_in(value.get(name), depth + 1):
                return message
    return ""
