"""The base class of providers whose server takes and returns JSON, and server-sent events in a stream."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..core.errors import IncompleteReplyError, MalformedReplyError
from ..core.messages import ChatRequest, Chunk, FinishReason, Reply
from ..core.usage import Usage
from ..http.client import Auth, HttpRequest, ServerSentEvent, parse_json
from ..http.rate_limits import rate_limits_from
from ..text.words import shorten
from .base import AsyncProvider
from .thinking import ThinkingBlocks, ThinkingReader, whole

# One encoder for all requests: `json.dumps` with arguments makes a new one for each value.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_MODELS_TIMEOUT_S = 30.0


@dataclass(slots=True)
class StreamState:
    """The state of one stream, as its events have reported it so far.

    Attributes:
        finish_reason: Why the reply ended; None until an event says so.
        usage: The token counts so far; None until an event reports some.
        has_text: Whether any text has arrived.
        is_refusal: Whether the text explains why there is no reply.
        is_done: Whether the server has announced the end of the stream.
        thinking_blocks: Blocks of thinking so far, where the API has them.
    """

    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    has_text: bool = False
    is_refusal: bool = False
    is_done: bool = False
    thinking_blocks: ThinkingBlocks = field(default_factory=ThinkingBlocks)


class Dialect(AsyncProvider):
    """A chat API with JSON over HTTP.

    A subclass says where a request goes (`_url`, `_auth`), what it contains (`_body`), and how a response
    (`_read_response`) and an event of a stream (`_read_event`) are read.

    Attributes:
        api: The name of the API, for errors: "an OpenAI-compatible API".
        chat_path: The path of a chat request, below the address of the server.
        headers: Headers that every request carries.
    """

    supports_stream = True
    supports_message_history = True
    api: ClassVar[str]
    chat_path: ClassVar[str]
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once. Raises the same errors as `AsyncProvider.complete` and `check`."""
        response = await self._http.send(self._post(request, is_streamed=False))
        chunk = whole(self._read_response(self._object(response.json())))
        return Reply(
            text=chunk.text,
            model=f"{self.name}/{request.model}",
            usage=chunk.usage or Usage(),
            finish_reason=chunk.finish_reason or "stop",
            rate_limits=rate_limits_from(response.headers, time.time()),
            thinking=chunk.thinking,
            thinking_blocks=chunk.thinking_blocks,
            model_version=chunk.model or "",
            logprobs=chunk.logprobs,
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks. Raises the same errors as `AsyncProvider.stream` and `check`."""
        state, thinking = StreamState(), ThinkingReader()
        try:
            async with contextlib.aclosing(self._http.events(self._post(request, is_streamed=True))) as events:
                async for event in events:
                    if not event.data.strip():
                        continue
                    chunk = thinking.read(self._read_event(event, state))
                    if state.is_done:
                        break
                    state.finish_reason = chunk.finish_reason or state.finish_reason
                    if chunk.text or chunk.thinking:
                        state.has_text = state.has_text or bool(chunk.text)
                        yield Chunk(
                            text=chunk.text, thinking=chunk.thinking, replaces=chunk.replaces, model=chunk.model
                        )
        except IncompleteReplyError:
            # Once its finish reason is known, the reply is whole; at most the usage after it is lost.
            if state.finish_reason is None:
                raise
        if state.finish_reason is None and not state.is_done:
            raise IncompleteReplyError(
                f"The stream of provider {self.name!r} broke off before its end. Run the cell again.",
                provider=self.name,
            )
        finish_reason = "refusal" if state.is_refusal else state.finish_reason or "stop"
        last = thinking.end(finish_reason)
        yield dataclasses.replace(
            last, finish_reason=finish_reason, usage=state.usage, thinking_blocks=state.thinking_blocks.texts()
        )

    @abstractmethod
    def _url(self, path: str) -> str:
        """Return the URL of a path of the API."""

    @abstractmethod
    def _auth(self) -> Auth | None:
        """Return the header that carries the key, or None without a key."""

    @abstractmethod
    def _body(self, request: ChatRequest, *, is_streamed: bool) -> dict[str, Any]:
        """Return the JSON body of a chat request."""

    @abstractmethod
    def _read_response(self, content: dict[str, Any]) -> Chunk:
        """Read a whole response.

        Raises:
            MalformedReplyError: It is not a response of this API.
            ProviderError: It reports an error.
        """

    @abstractmethod
    def _read_event(self, event: ServerSentEvent, state: StreamState) -> Chunk:
        """Read one event of a stream, and update `usage`, `is_refusal` and `is_done` of the state.

        Raises:
            MalformedReplyError: It is not an event of this API.
            ProviderError: It reports an error.
        """

    def _post(self, request: ChatRequest, *, is_streamed: bool) -> HttpRequest:
        """Return the HTTP request for a chat request."""
        accept = "text/event-stream" if is_streamed else "application/json"
        return HttpRequest(
            provider=self.name,
            url=self._url(self.chat_path),
            body=encode_json(self._body(request, is_streamed=is_streamed)),
            headers=(("accept", accept), *self.headers),
            auth=self._auth(),
            proxy=self.endpoint.proxy,
            timeout_s=request.timeout_s,
            start=self._start,
        )

    async def _get(self, path: str) -> Any:
        """Fetch the JSON under a path of the API."""
        response = await self._http.send(
            HttpRequest(
                provider=self.name,
                url=self._url(path),
                headers=self.headers,
                auth=self._auth(),
                proxy=self.endpoint.proxy,
                timeout_s=_MODELS_TIMEOUT_S,
                start=self._start,
            )
        )
        return response.json()

    @property
    def _start(self) -> str:
        """Return the command that starts the server, or an empty text."""
        preset = self.presets.get(self.name)
        return preset.start if preset is not None else ""

    def _content(self, event: ServerSentEvent) -> dict[str, Any]:
        """Return the JSON object in an event."""
        return self._object(parse_json(event.data.encode("utf-8", "replace"), self.name))

    def _object(self, content: Any) -> dict[str, Any]:
        """Return `content` if it is a JSON object; raise `MalformedReplyError` otherwise."""
        if not isinstance(content, dict):
            raise self._malformed("it is not a JSON object")
        return content

    def _model_names(self, items: Any) -> list[str]:
        """Return the names in a list of models; raise `MalformedReplyError` if it is not a list."""
        if not isinstance(items, list):
            raise self._malformed("it has no list of models")
        names = [item.get("id") for item in items if isinstance(item, dict)]
        return [name for name in names if isinstance(name, str)]

    def _malformed(self, reason: str) -> MalformedReplyError:
        """Return the error for a response that this API does not have."""
        return MalformedReplyError(
            f"The answer of provider {self.name!r} cannot be read: {reason}. "
            f"Is {shorten(self.endpoint.base_url, 80)} the address of {self.api}?",
            provider=self.name,
        )


def encode_json(content: dict[str, Any]) -> bytes:
    """Return a JSON object as compact UTF-8. Characters that UTF-8 cannot encode are replaced by question marks."""
    return _JSON.encode(content).encode("utf-8", "replace")


def token_count(value: Any) -> int | None:
    """Return a token count as a server reports it, or None if it is not a whole number >= 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
