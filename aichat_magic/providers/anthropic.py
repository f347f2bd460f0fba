"""The messages dialect of Anthropic's Claude models.

Sources: Anthropic API reference, "Create a Message", "Streaming messages", "Errors", "List Models"; guides "Prompt
caching", "Vision", "Stop reasons and fallback" (all read 2026-11).
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import quote

from ..core.errors import (
    BadInputError,
    IncompleteReplyError,
    MalformedReplyError,
    OptionError,
    PromptError,
    ProviderError,
    StreamError,
)
from ..core.messages import ChatRequest, Chunk, FinishReason, Message, Reply, estimate_tokens
from ..core.settings import Preset
from ..core.usage import Usage
from ..http.client import Auth, HttpRequest, parse_json
from ..http.errors import status_error
from ..http.rate_limits import rate_limits_from
from ..text.words import shorten
from .base import AsyncProvider

_VERSION = "2023-06-01"
_MAX_TOKENS = 16_000
_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
# Inside a stream the status is 200 and the type of the error stands for the status it would have had ("Errors").
_STATUSES = {
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
}
# Writing a prefix into the cache costs a quarter more than sending it, reading it within five minutes a tenth: marked,
# it pays at the first reuse. Prefixes under a model's own minimum (512 to 4,096 tokens) are not written, whatever is
# marked, and cost nothing extra ("Prompt caching", 2026-11); this is the minimum of most models.
_CACHE_FROM_TOKENS = 1024
_CACHED = {"type": "ephemeral"}
# Far more than the models there are; a server that never ends its list is left at that.
_MOST_PAGES = 20


class Anthropic(AsyncProvider):
    """Claude models, over Anthropic's own API.

    The API wants to know how long a reply may become: 16,000 tokens where `max_tokens` is not set. Models that think
    before they answer spend of the same: give them more for hard questions. The long and stable beginning of a request
    (system message, history) is marked for the server's cache. `seed` and the two penalties do not exist there and are
    refused; `temperature` and `top_p` are refused by newer models themselves (from Claude Opus 4.7 and Sonnet 5 on).
    """

    url = "https://platform.claude.com/docs/en/api/messages"
    needs_auth = True
    supports_stream = True
    supports_message_history = True
    supports_images = True
    # The API has structured outputs, but they refuse bounds, recursion, open objects and more than 16 unions, all of
    # which our schemas may hold ("Structured outputs", 2026-11). Told in words and checked, every schema works.
    supports_schema = False
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {"anthropic": Preset(base_url="https://api.anthropic.com", key_env="ANTHROPIC_API_KEY", needs_key=True)}
    )

    def check(self, request: ChatRequest) -> None:
        """Refuse a request that this dialect has no words for. Nothing is sent.

        Raises:
            BadInputError: An option that the API does not have.
            OptionError: A temperature above 1.
        """
        super().check(request)
        sent = request.options.sent()
        for name in ("presence_penalty", "frequency_penalty", "seed", "schema"):
            if name in sent:
                raise BadInputError(
                    f"Provider {self.name!r} has no option {name}. Leave out --{name.replace('_', '-')} ({name}), "
                    f"or choose another model."
                )
        if sent.get("temperature", 0) > 1:
            raise OptionError(
                f"Provider {self.name!r} takes a temperature between 0 and 1, not {sent['temperature']!r}."
            )

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole reply at once. Raises what `AsyncProvider.complete` and `check` do."""
        response = await self._http.send(self._post(request, is_streamed=False))
        content = self._object(response.json())
        if content.get("type") == "error":
            raise self._stream_error(content, has_text=False)
        if not isinstance(content.get("content"), list):
            raise self._malformed("it has no 'content'")
        chunk = self._chunk({**content, "type": "message"})
        return Reply(
            text=chunk.text or _explanation(content),
            model=f"{self.name}/{request.model}",
            usage=chunk.usage or Usage(),
            finish_reason=chunk.finish_reason or "stop",
            rate_limits=rate_limits_from(response.headers, time.time()),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The reply in pieces. Raises what `AsyncProvider.stream` and `check` do."""
        finish_reason: FinishReason | None = None
        is_done = has_text = False
        usage: Usage | None = None
        try:
            async with contextlib.aclosing(self._http.events(self._post(request, is_streamed=True))) as events:
                async for event in events:
                    if not event.data.strip():
                        continue
                    content = self._object(parse_json(event.data.encode("utf-8", "replace"), self.name))
                    if event.event == "error" or content.get("type") == "error":
                        raise self._stream_error(content, has_text=has_text)
                    if content.get("type") == "message_stop":
                        is_done = True
                        break
                    chunk = self._chunk(content)
                    finish_reason = chunk.finish_reason or finish_reason
                    usage = _most(usage, chunk.usage)
                    text = chunk.text or ("" if has_text else _explanation(content.get("delta")))
                    if text:
                        has_text = True
                        yield Chunk(text=text, model=chunk.model)
        except IncompleteReplyError:
            # With the reason why it ended, the reply is whole.
            if finish_reason is None:
                raise
        if finish_reason is None and not is_done:
            raise IncompleteReplyError(
                f"The stream of provider {self.name!r} broke off before its end. Run the cell again.",
                provider=self.name,
            )
        yield Chunk(finish_reason=finish_reason or "stop", usage=usage)

    async def models(self) -> list[str]:
        """Names of the models the server offers, sorted."""
        names: set[str] = set()
        after = ""
        for _ in range(_MOST_PAGES):
            response = await self._http.send(
                HttpRequest(
                    provider=self.name,
                    url=self._address("models?limit=1000" + (f"&after_id={quote(after, safe='')}" if after else "")),
                    headers=(("anthropic-version", _VERSION),),
                    auth=self._auth(),
                    proxy=self.endpoint.proxy,
                    timeout_s=30.0,
                )
            )
            content = self._object(response.json())
            items = content.get("data")
            if not isinstance(items, list):
                raise self._malformed("it has no list of models")
            found = [item.get("id") for item in items if isinstance(item, dict)]
            names.update(name for name in found if isinstance(name, str))
            after = content["last_id"] if isinstance(content.get("last_id"), str) else ""
            if content.get("has_more") is not True or not after:
                break
        return sorted(names)

    def _address(self, path: str) -> str:
        """Anthropic's own address has no version in it, those of the other dialect do; both are understood."""
        return f"{self.endpoint.base_url.removesuffix('/v1')}/v1/{path}"

    def _auth(self) -> Auth | None:
        key = self.endpoint.key
        return Auth(header="x-api-key", secret=key) if key is not None else None

    def _post(self, request: ChatRequest, *, is_streamed: bool) -> HttpRequest:
        """The HTTP request that a chat request becomes."""
        self.check(request)
        if not _said(request):
            raise PromptError("The prompt is empty: only the system message has text. Write the question.")
        body: dict[str, Any] = {
            "model": request.model,
            **_wire_messages(request),
            **_wire_options(request),
        }
        if is_streamed:
            body["stream"] = True
        return HttpRequest(
            provider=self.name,
            url=self._address("messages"),
            body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"),
            headers=(
                ("accept", "text/event-stream" if is_streamed else "application/json"),
                ("anthropic-version", _VERSION),
            ),
            auth=self._auth(),
            proxy=self.endpoint.proxy,
            timeout_s=request.timeout_s,
        )

    def _chunk(self, content: dict[str, Any]) -> Chunk:
        """One whole message or one event; empty for events that carry nothing for a reply, thoughts among them."""
        kind = content.get("type")
        if kind == "content_block_start":
            return Chunk(text=self._text([content.get("content_block")]))
        if kind == "content_block_delta":
            return Chunk(text=self._text([content.get("delta")]))
        if kind not in ("message", "message_start", "message_delta"):
            return Chunk()
        part = content if kind == "message" else content.get("message" if kind == "message_start" else "delta")
        if not isinstance(part, dict):
            raise self._malformed("a message is not an object")
        reason = part.get("stop_reason")
        return Chunk(
            text=self._text(part.get("content") or []),
            finish_reason=_FINISH_REASONS.get(reason, "stop") if isinstance(reason, str) and reason else None,
            usage=_usage((content if kind == "message_delta" else part).get("usage")),
            model=part["model"] if isinstance(part.get("model"), str) else None,
        )

    def _text(self, blocks: Any) -> str:
        """The text of the blocks of a message, or of a piece of one. Thoughts are no text."""
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise self._malformed("the content of a message is not a list of blocks")
        texts = [block.get("text") for block in blocks if block.get("type") in ("text", "text_delta")]
        if not all(isinstance(text, str) for text in texts):
            raise self._malformed("a text is not text")
        return "".join(texts)

    def _object(self, content: Any) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise self._malformed("it is not a JSON object")
        return content

    def _malformed(self, reason: str) -> MalformedReplyError:
        return MalformedReplyError(
            f"The answer of provider {self.name!r} cannot be read: {reason}. "
            f"Is {shorten(self.endpoint.base_url, 80)} the address of Anthropic's messages API?",
            provider=self.name,
        )

    def _stream_error(self, content: dict[str, Any], *, has_text: bool) -> ProviderError:
        """The error in an event: before any text the one its status would have made, which may be worth a retry."""
        error = content.get("error") or content
        kind, words = (error.get("type"), error.get("message")) if isinstance(error, dict) else (None, error)
        status = _STATUSES.get(kind) if isinstance(kind, str) else None
        if status is not None and not has_text:
            body = json.dumps(content).encode()
            made = status_error(status, {}, body, provider=self.name, wall_clock=time.time)
            if isinstance(made, ProviderError):
                return made
        return StreamError(
            f"Provider {self.name!r} reported an error in the middle of the reply: "
            f"{shorten(str(words or 'no details'))} Run the cell again.",
            provider=self.name,
        )


def _said(request: ChatRequest) -> list[Message]:
    """What user and assistant said. The API refuses empty messages, such as a reply that was interrupted at once."""
    return [
        message
        for message in request.messages
        if message.role != "system" and (message.content.strip() or message.images)
    ]


def _wire_messages(request: ChatRequest) -> dict[str, Any]:
    """The system messages as one, turns that alternate, and marks at the end of what the next request will repeat.

    Two marks of the four that are allowed: one after the system message, which other conversations and the rows of a
    batch share, and one after the history. The next turn finds what this one wrote and adds its own; the newest prompt
    is not marked, so that a cell that is run once does not pay for writing it.
    """
    rules = [message.content for message in request.messages if message.role == "system" and message.content.strip()]
    system = [Message("system", "\n\n".join(rules))] if rules else []
    turns = [list(group) for _, group in groupby(_said(request), key=lambda message: message.role)]
    wire: dict[str, Any] = {
        "messages": [
            {"role": turn[0].role, "content": [block for message in turn for block in _blocks(message)]}
            for turn in turns
        ]
    }
    if system:
        wire["system"] = _blocks(system[0])
        if estimate_tokens(system) >= _CACHE_FROM_TOKENS:
            wire["system"][-1]["cache_control"] = _CACHED
    history = [message for turn in turns[:-1] for message in turn]
    if len(turns) > 2 and estimate_tokens([*system, *history]) >= _CACHE_FROM_TOKENS:
        wire["messages"][-2]["content"][-1]["cache_control"] = _CACHED
    return wire


def _blocks(message: Message) -> list[dict[str, Any]]:
    """The content of a message; images first, as the vision guide advises."""
    blocks: list[dict[str, Any]] = [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": image.media_type,
                "data": base64.b64encode(image.data).decode("ascii"),
            },
        }
        for image in message.images
    ]
    return [*blocks, {"type": "text", "text": message.content}] if message.content.strip() else blocks


def _wire_options(request: ChatRequest) -> dict[str, Any]:
    """Sampling settings under the names of the wire."""
    wire = {"max_tokens": _MAX_TOKENS, **request.options.sent()}
    if "stop" in wire:
        wire["stop_sequences"] = wire.pop("stop")
    return wire


def _explanation(content: Any) -> str:
    """Why a reply was refused, in the server's words; empty when it was not or the server does not say."""
    details = content.get("stop_details") if isinstance(content, dict) else None
    words = details.get("explanation") if isinstance(details, dict) else None
    return words if isinstance(words, str) else ""


def _usage(usage: Any) -> Usage | None:
    """Token counts. The API counts apart what was read from and written to its cache; both were input all the same."""
    if not isinstance(usage, dict):
        return None
    parts = [_count(usage.get(f"{part}input_tokens")) for part in ("", "cache_creation_", "cache_read_")]
    return Usage(
        input_tokens=None if parts[0] is None else sum(part or 0 for part in parts),
        output_tokens=_count(usage.get("output_tokens")),
        cached_tokens=parts[2],
    )


def _most(known: Usage | None, new: Usage | None) -> Usage | None:
    """The larger of each count: they grow along a stream, and an event that does not know one may say 0."""
    if known is None or new is None:
        return known or new

    def larger(a: int | None, b: int | None) -> int | None:
        return b if a is None else a if b is None else max(a, b)

    return Usage(
        input_tokens=larger(known.input_tokens, new.input_tokens),
        output_tokens=larger(known.output_tokens, new.output_tokens),
        cached_tokens=larger(known.cached_tokens, new.cached_tokens),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
