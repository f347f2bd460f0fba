"""The base class of providers whose server takes and returns JSON, and server-sent events in a stream."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.errors import AichatError, BadRequestError, IncompleteReplyError, MalformedReplyError, ProviderError
from ..core.messages import ChatRequest, Chunk, FinishReason, PartialReply, Reply
from ..core.usage import Usage
from ..http.client import Auth, HttpRequest, ServerSentEvent, parse_json
from ..http.errors import reported_error
from ..http.rate_limits import rate_limits_from
from ..text.characters import is_blank
from ..text.words import shorten
from .base import AsyncProvider
from .fitting import Fitting
from .profile import SCHEMA_MODES, SchemaMode, ThinkingForm

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
    """

    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    has_text: bool = False
    is_refusal: bool = False
    is_done: bool = False


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

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once. Raises the same errors as `AsyncProvider.complete` and `check`."""
        return await self._complete(self._fitting(request))

    async def _complete(self, fitting: Fitting) -> Reply:
        """Return the whole reply; after a refusal from which something is learned, send the request again."""
        request = fitting.request
        while True:
            try:
                response = await self._http.send(self._post(fitting, is_streamed=False))
                chunk = self._read_response(self._object(response.json()))
                break
            except BadRequestError as error:
                fitting.learn(error)
        fitting.keep()
        chunk = _with_answer(chunk, request)
        return Reply(
            text=chunk.text,
            model=f"{self.name}/{request.model}",
            usage=chunk.usage or Usage(),
            finish_reason=chunk.finish_reason or "stop",
            rate_limits=rate_limits_from(response.headers, time.time()),
            thinking=chunk.thinking,
            model_version=chunk.model or "",
            logprobs=chunk.logprobs,
            remarks=(*chunk.remarks, *fitting.remarks()),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks. Raises the same errors as `AsyncProvider.stream` and `check`."""
        fitting = self._fitting(request, wants_stream=True)
        draft = PartialReply()
        while fitting.streams:
            has_begun = False
            try:
                async with contextlib.aclosing(self._stream(fitting)) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        if request.options.schema is not None:
                            draft.add(chunk)
                        if chunk.finish_reason is not None:
                            answer = _with_answer(Chunk(text=draft.text, thinking=draft.thinking), request)
                            if answer.remarks:
                                remarks = (*answer.remarks, *chunk.remarks)
                                chunk = dataclasses.replace(chunk, text=answer.text, remarks=remarks)
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
            finish_reason=reply.finish_reason, usage=reply.usage, logprobs=reply.logprobs, remarks=reply.remarks
        )

    async def _stream(self, fitting: Fitting) -> AsyncGenerator[Chunk, None]:
        """Yield the reply of one attempt in chunks."""
        state = StreamState()
        try:
            async with contextlib.aclosing(self._http.events(self._post(fitting, is_streamed=True))) as events:
                async for event in events:
                    if not event.data.strip():
                        continue
                    chunk = self._read_event(event, state)
                    fitting.keep()
                    if state.is_done:
                        break
                    state.finish_reason = chunk.finish_reason or state.finish_reason
                    if chunk.text:
                        state.has_text = True
                        yield Chunk(text=chunk.text, model=chunk.model)
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
        yield Chunk(finish_reason=finish_reason, usage=state.usage, remarks=fitting.remarks())

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
        """Read one event of a stream, and update `usage`, `is_refusal` and `is_done` of the state.

        Raises:
            MalformedReplyError: It is not an event of this API.
            ProviderError: It reports an error.
        """

    def _schema_modes(self, schema: str | None) -> tuple[SchemaMode, ...]:
        """Return the ways in which this API can be asked for a schema, the best first."""
        return SCHEMA_MODES

    def _fitting(self, request: ChatRequest, *, wants_stream: bool = False) -> Fitting:
        """Return a request under what is known of its model."""
        return Fitting(
            request,
            self.profiles,
            provider=self.name,
            base_url=self.endpoint.base_url,
            modes=self._schema_modes(request.options.schema),
            thinking_forms=self.thinking_forms,
            write=self._body,
            wants_stream=wants_stream,
        )

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
        auth = self._auth()
        own = tuple(Auth(header=name.lower(), secret=value) for name, value in self.endpoint.headers)
        if auth is not None and any(each.header == auth.header for each in own):
            auth = None
        return {"auth": auth, "secret_headers": own, "no_key": self.endpoint.no_key}

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


def _with_answer(chunk: Chunk, request: ChatRequest) -> Chunk:
    """Return a reply with its thinking as its text, where that is the JSON that a schema asks for.

    Some parsers of thinking (vLLM's among them) take all that a model writes under a grammar for thinking.
    """
    is_misplaced = bool(chunk.thinking) and is_blank(chunk.text)
    if request.options.schema is None or not is_misplaced or not _is_object(chunk.thinking):
        return chunk
    remark = f"{request.model} sent its JSON as thinking; it counts as the answer."
    return dataclasses.replace(chunk, text=chunk.thinking, thinking="", remarks=(remark,))


def _is_object(text: str) -> bool:
    """Tell whether a text is one JSON object."""
    if not text.strip().startswith("{"):
        return False
    try:
        return isinstance(parse_json(text.encode("utf-8", "replace")), dict)
    except ProviderError:
        return False


def encode_json(content: dict[str, Any]) -> bytes:
    """Return a JSON object as compact UTF-8. Characters that UTF-8 cannot encode are replaced by question marks."""
    return _JSON.encode(content).encode("utf-8", "replace")


def token_count(value: Any) -> int | None:
    """Return a token count as a server reports it, or None if it is not a whole number >= 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
