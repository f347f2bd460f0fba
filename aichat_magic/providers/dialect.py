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

from ..core.endpoints import Endpoint
from ..core.errors import AichatError, BadRequestError, IncompleteReplyError, MalformedReplyError
from ..core.messages import ChatRequest, Chunk, FinishReason, Reply, new_reply
from ..core.usage import Usage
from ..http.client import Auth, HttpClient, HttpRequest, ServerSentEvent, parse_json
from ..http.errors import reported_error
from ..http.rate_limits import rate_limits_from
from ..text.words import shorten
from .base import AsyncProvider
from .fitting import DialectRules, Fitting
from .profile import SCHEMA_MODES, SchemaMode, ThinkingForm
from .thinking import ThinkingBlocks, ThinkingReader, whole

# One encoder for all requests: `json.dumps` with arguments makes a new one for each value.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_MODELS_TIMEOUT_S = 30.0


@dataclass(slots=True)
class StreamState:
    """The state of one stream, as its events have reported it so far.

    Attributes:
        finish_reason: Why the reply ended; None until an event says so.
        usage: The largest counts so far; None until an event reports some.
        model: The model's name, as the latest event that has one reports it.
        has_text: Whether any text has arrived.
        is_refusal: Whether the text explains why there is no reply.
        is_done: Whether the server has announced the end of the stream.
        pieces: The text so far as the server sent it, where a dialect needs it to read the next event.
        has_delta: Whether a piece of the reply has arrived as such, and not as a whole message.
        thinking_blocks: Blocks of thinking so far, where the API has them.
    """

    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None
    has_text: bool = False
    is_refusal: bool = False
    is_done: bool = False
    pieces: list[str] = field(default_factory=list)
    has_delta: bool = False
    thinking_blocks: ThinkingBlocks = field(default_factory=ThinkingBlocks)


class Dialect(AsyncProvider):
    """A chat API with JSON over HTTP.

    A subclass says where a request goes (`_url`, `_auth`), what it contains (`_body`), and how a response
    (`_read_response`) and an event of a stream (`_read_event`) are read.

    Attributes:
        api: The name of the API, for errors: "an OpenAI-compatible API".
        chat_path: The path of a chat request, below the address of the server.
        headers: Headers that every request carries.
        thinking_forms: Forms of the field `thinking` of which a model takes one; empty: there is one form.
    """

    supports_stream = True
    supports_message_history = True
    api: ClassVar[str]
    chat_path: ClassVar[str]
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()
    thinking_forms: ClassVar[tuple[ThinkingForm, ...]] = ()

    def __init__(self, endpoint: Endpoint, http: HttpClient) -> None:
        """Create a provider for one server, with what all its requests have in common."""
        super().__init__(endpoint, http)
        self._rules = DialectRules(
            provider=endpoint.provider,
            base_url=endpoint.base_url,
            modes=self._schema_modes,
            thinking_forms=self.thinking_forms,
            write=self._body,
        )
        self._own_headers = tuple(Auth(header=name.lower(), secret=value) for name, value in endpoint.headers)
        preset = self.presets.get(endpoint.provider)
        self._start = preset.start if preset is not None else ""  # the command that starts the server

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once. Raises the same errors as `AsyncProvider.complete` and `check`."""
        return await self._complete(self._fitting(request))

    async def _complete(self, fitting: Fitting) -> Reply:
        """Return the whole reply; after a refusal from which something is learned, send the request again."""
        request = fitting.request
        while True:
            try:
                response = await self._http.send(self._post(fitting, is_streamed=False))
                chunk = whole(self._read_response(self._object(response.json())))
                break
            except BadRequestError as error:
                fitting.learn(error)
        fitting.keep()
        return new_reply(
            text=chunk.text,
            model=f"{self.name}/{request.model}",
            usage=chunk.usage or Usage(),
            finish_reason=chunk.finish_reason or "stop",
            rate_limits=rate_limits_from(response.headers, time.time()),
            thinking=chunk.thinking,
            thinking_blocks=chunk.thinking_blocks,
            model_version=chunk.model or "",
            logprobs=chunk.logprobs if _wants_logprobs(request) else None,
            remarks=(*chunk.remarks, *fitting.remarks()),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks. Raises the same errors as `AsyncProvider.stream` and `check`."""
        fitting = self._fitting(request, wants_stream=True)
        while fitting.streams:
            has_begun = False
            try:
                async with contextlib.aclosing(self._stream(fitting)) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        yield chunk
                return
            except BadRequestError as error:
                if has_begun:
                    raise
                fitting.learn(error)
        reply = await self._complete(fitting)
        if reply.text or reply.thinking:
            yield Chunk(text=reply.text, thinking=reply.thinking, model=reply.model_version or None)
        yield Chunk(
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            logprobs=reply.logprobs,
            thinking_blocks=reply.thinking_blocks,
            remarks=reply.remarks,
        )

    async def _stream(self, fitting: Fitting) -> AsyncGenerator[Chunk, None]:
        """Yield the reply of one attempt in chunks."""
        state, thinking, wants_logprobs = StreamState(), ThinkingReader(), _wants_logprobs(fitting.request)
        try:
            async with contextlib.aclosing(self._http.events(self._post(fitting, is_streamed=True))) as events:
                async for event in events:
                    if not event.data.strip():
                        continue
                    chunk = thinking.read(self._read_event(event, state))
                    fitting.keep()
                    if state.is_done:
                        break
                    state.finish_reason = chunk.finish_reason or state.finish_reason
                    state.model = chunk.model or state.model
                    if chunk.usage is not None:
                        state.usage = chunk.usage if state.usage is None else state.usage.grown(chunk.usage)
                    logprobs = chunk.logprobs if wants_logprobs else None
                    if chunk.text or chunk.thinking or logprobs:
                        state.has_text = state.has_text or bool(chunk.text)
                        if chunk.finish_reason is not None or chunk.usage is not None or chunk.logprobs is not logprobs:
                            # They belong to the last chunk, or were not asked for.
                            chunk = dataclasses.replace(chunk, finish_reason=None, usage=None, logprobs=logprobs)
                        yield chunk
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
            last,
            finish_reason=finish_reason,
            usage=state.usage,
            model=state.model,
            thinking_blocks=state.thinking_blocks.texts(),
            remarks=(*last.remarks, *fitting.remarks()),
        )

    @abstractmethod
    def _url(self, path: str) -> str:
        """Return the URL of a path of the API."""

    @abstractmethod
    def _auth(self) -> Auth | None:
        """Return the header that carries the key, or None without a key."""

    @abstractmethod
    def _body(self, fitting: Fitting, *, is_streamed: bool) -> dict[str, Any]:
        """Return the JSON body of a chat request as the user asked for it.

        A schema is asked for in the way of `fitting.schema_mode`; what the server has refused is left out afterwards.
        """

    @abstractmethod
    def _read_response(self, content: dict[str, Any]) -> Chunk:
        """Read a whole response.

        Raises:
            MalformedReplyError: It is not a response of this API.
            ProviderError: It reports an error.
        """

    @abstractmethod
    def _read_event(self, event: ServerSentEvent, state: StreamState) -> Chunk:
        """Read one event of a stream, and update `is_refusal` and `is_done` of the state.

        Raises:
            MalformedReplyError: It is not an event of this API.
            ProviderError: It reports an error.
        """

    def _schema_modes(self, schema: str | None) -> tuple[SchemaMode, ...]:
        """Return the ways in which this API can be asked for a schema, the best first."""
        return SCHEMA_MODES

    def _fitting(self, request: ChatRequest, *, wants_stream: bool = False) -> Fitting:
        """Return a request under what is known of its model."""
        return Fitting(request, self._rules, self.profiles, wants_stream=wants_stream)

    def _post(self, fitting: Fitting, *, is_streamed: bool) -> HttpRequest:
        """Return the HTTP request for a chat request."""
        accept = "text/event-stream" if is_streamed else "application/json"
        body = fitting.body(is_streamed=is_streamed)
        return self._post_to(self.chat_path, body, fitting.request.timeout_s, accept=accept)

    def _post_to(
        self, path: str, body: dict[str, Any], timeout_s: float, *, accept: str = "application/json"
    ) -> HttpRequest:
        """Return the HTTP request that posts a JSON body to a path of the API."""
        return HttpRequest(
            provider=self.name,
            url=self._url(path),
            body=encode_json(body),
            headers=(("accept", accept), *self.headers),
            **self._secrets(),
            proxy=self.endpoint.proxy,
            timeout_s=timeout_s,
            start=self._start,
        )

    async def _get(self, path: str) -> Any:
        """Fetch the JSON under a path of the API."""
        response = await self._http.send(
            HttpRequest(
                provider=self.name,
                url=self._url(path),
                headers=self.headers,
                **self._secrets(),
                proxy=self.endpoint.proxy,
                timeout_s=_MODELS_TIMEOUT_S,
                start=self._start,
            )
        )
        return response.json()

    def _secrets(self) -> dict[str, Any]:
        """Return the headers with secrets as `HttpRequest` takes them: the user's own replace the key of that name."""
        auth, own = self._auth(), self._own_headers
        if own and auth is not None and any(each.header == auth.header for each in own):
            auth = None
        return {"auth": auth, "secret_headers": own, "no_key": self.endpoint.no_key}

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

    def _reported_error(self, error: Any, *, has_text: bool = False) -> AichatError:
        """Return the error that the server reports inside a response of status 200; `has_text`: after some text."""
        return reported_error(error, provider=self.name, has_text=has_text, wall_clock=time.time)

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


def _wants_logprobs(request: ChatRequest) -> bool:
    """Tell whether log probabilities were asked for; some servers send them unasked."""
    extra = request.options.extra
    return extra is not None and "logprobs" in extra and bool(request.options.extra_options.get("logprobs"))


def token_count(value: Any) -> int | None:
    """Return a token count as a server reports it, or None if it is not a whole number from 0 to 2**63 - 1."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
