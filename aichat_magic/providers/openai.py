"""The OpenAI chat-completions dialect, spoken by OpenAI and by almost every other server.

Sources: OpenAI API reference, "Create chat completion" and "Streaming" (2026-11); the READMEs of llama.cpp's server,
Ollama, vLLM and LM Studio for what they leave out or add.
"""

from __future__ import annotations

import base64
import dataclasses
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ..core.embeddings import EmbeddingBounds, EmbeddingRequest, Embeddings
from ..core.endpoints import Preset
from ..core.errors import BadRequestError, IncompleteReplyError, StatusError
from ..core.messages import Chunk, FinishReason, Message, StatusCallback, new_chunk
from ..core.options import Options
from ..core.secrets import Secret
from ..core.urls import api_url
from ..core.usage import Usage
from ..http.client import Auth, ServerSentEvent
from ..http.rate_limits import rate_limits_from
from ..text.words import shorten
from .dialect import Dialect, StreamState, token_count
from .embeddings import (
    BYTES_PER_VECTOR,
    EMBEDDINGS_PATH,
    WITHOUT_EMBEDDINGS,
    bounds_of,
    embedding_body,
    no_embeddings,
    read_vectors,
    refuses_encoding,
    too_long,
)
from .fitting import Fitting
from .openai_choices import first_choice, single_delta, token_logprobs
from .openai_usage import reported_usage
from .presets import PRESETS
from .profile import Refusal
from .thinking import THINKING_PARTS, is_thought, thinking_in
from .wire_options import chat_options

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral
    "model_context_window_exceeded": "length",  # Z.AI
    "content_filter": "content_filter",
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii"), "content_filter"),  # Gemini
    "sensitive": "content_filter",  # Z.AI
    "refusal": "refusal",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
# Longer than any model's name, in characters.
_LONGEST_NAME = 200
# Finish reasons of DeepSeek and Z.AI for a reply that their servers broke off (API references, 2026-11).
_BROKEN_OFF = ("insufficient_system_resource", "network_error")


class OpenAI(Dialect):
    """Any server with an API for chat completions.

    One class serves many names: `presets` has the address and the key of each, and `--base-url` reaches other servers.
    """

    url = "https://platform.openai.com/docs/api-reference/chat"
    supports_schema = True
    supports_images = True
    supports_gpt_35_turbo = True
    supports_gpt_4 = True
    api = "an OpenAI-compatible API"
    chat_path = "chat/completions"
    presets: ClassVar[Mapping[str, Preset]] = PRESETS
    # A token that stands in for the key, as `prepare` has got it.
    _token: Secret | None = None

    async def prepare(self, status: StatusCallback | None = None) -> None:
        """Get a token that is still valid, if one stands in for the key."""
        if self.endpoint.tokens is not None:
            self._token = await self.endpoint.tokens.token()

    async def models(self) -> list[str]:
        """Return the names of the models that the server offers, sorted."""
        await self.prepare()
        return sorted(self._model_names(self._listed(await self._get("models"))))

    def check_embedding(self, model: str, dimensions: int | None) -> None:
        """Refuse a provider that has no embeddings."""
        if self.name in WITHOUT_EMBEDDINGS and self.is_at_home:
            raise no_embeddings(f"{self.name}/{model}")

    def embedding_bounds(self, model: str) -> EmbeddingBounds:
        """Return how much one request for embeddings takes."""
        return bounds_of(self.name, is_at_home=self.is_at_home)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the vectors of texts; as numbers where the server does not take base64."""
        place = (self.name, self.endpoint.base_url, request.model)
        body, _ = self.profiles.of(*place).fitted(embedding_body(request))
        learned: Refusal | None = None
        most = (len(request.texts) + 10) * BYTES_PER_VECTOR
        while True:
            try:
                post = self._post_to(EMBEDDINGS_PATH, body, request.timeout_s)
                response = await self._http.send(dataclasses.replace(post, max_bytes=most))
                break
            except StatusError as error:
                if isinstance(error, BadRequestError) and "encoding_format" in body and refuses_encoding(error):
                    learned = Refusal(name="encoding_format")
                    body = {name: value for name, value in body.items() if name != learned.name}
                elif (longer := too_long(error)) is not None:
                    raise longer from error
                else:
                    raise
        content = self._object(response.json())
        if content.get("error"):
            raise self._reported_error(content["error"])
        try:
            vectors = read_vectors(content, len(request.texts))
        except ValueError as error:
            raise self._malformed(str(error)) from None
        if learned is not None:
            profile = self.profiles.of(*place)
            self.profiles.learn(*place, dataclasses.replace(profile, refused=profile.refused | {learned}))
        usage = content.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        tokens = token_count(counts.get("prompt_tokens", counts.get("total_tokens")))
        wanted, length = request.dimensions, vectors.shape[1]
        remark = f"{self.name}/{request.model} does not take dimensions={wanted} (its vectors have {length} numbers)."
        model = content.get("model")
        return Embeddings(
            vectors=vectors,
            usage=Usage(input_tokens=tokens, output_tokens=0),
            rate_limits=rate_limits_from(response.headers, time.time()),
            model_version=model if isinstance(model, str) else "",
            remarks=(remark,) if wanted not in (None, length) else (),
        )

    def _listed(self, content: Any) -> Any:
        """Return the models in an answer: a list of objects with `id`.

        Together answers with a bare list, some gateways with {"models": [...]}, all others with {"data": [...]}. It is
        null where there is none, and an object may have `name` instead of `id`.
        """
        if isinstance(content, dict):
            names = [name for name in ("data", "models") if name in content]
            content = next((content[name] for name in names if content[name]), [] if names else None)
        if not isinstance(content, list):
            return content
        return [{"id": item.get("id", item.get("name"))} if isinstance(item, dict) else item for item in content]

    def _url(self, path: str) -> str:
        """Return the URL of a path of the API."""
        return api_url(self.endpoint.base_url, path)

    def _auth(self) -> Auth | None:
        """Return the header that carries the key, or None without a key."""
        if self._token is not None:
            return Auth(header="authorization", prefix="Bearer ", secret=self._token)
        key, header = self.endpoint.key, self.endpoint.key_header
        if key is None:
            return None
        return Auth(header=header, secret=key) if header else Auth(header="authorization", prefix="Bearer ", secret=key)

    def _body(self, fitting: Fitting, *, is_streamed: bool) -> dict[str, Any]:
        """Return the JSON body of a chat request as the user asked for it."""
        request = fitting.request
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_wire_message(message) for message in fitting.messages],
            **self._wire_options(fitting.options, request.model),
        }
        if is_streamed:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        if fitting.schema_mode == "json_object":
            body.setdefault("response_format", {"type": "json_object"})
        elif (schema := fitting.json_schema()) is not None:
            body.setdefault("response_format", {"type": "json_schema", "json_schema": schema})
        return body

    def _wire_options(self, options: Options, model: str) -> Mapping[str, Any]:
        """Return the options under the names that the server uses."""
        # Reasoning models there reject the old name; other servers may not know the new one.
        is_openai = self.endpoint.host == "https://api.openai.com:443"
        limit = "max_completion_tokens" if is_openai else "max_tokens"
        return chat_options(options, self.name, model, token_limit_name=limit)

    def _read_response(self, content: dict[str, Any]) -> Chunk:
        """Read a whole response."""
        if content.get("error"):
            raise self._reported_error(content["error"])
        chunk = self._chunk(content)
        if not isinstance(content.get("choices"), list) or not content["choices"]:
            raise self._malformed("it has no 'choices'")
        return dataclasses.replace(chunk, finish_reason="refusal") if self._is_refusal(content) else chunk

    def _read_event(self, event: ServerSentEvent, state: StreamState) -> Chunk:
        """Read one event of a stream."""
        if event.data.strip() == "[DONE]":
            state.is_done = True
            return Chunk()
        content = self._content(event)
        if event.event == "error" or content.get("error"):
            raise self._reported_error(content.get("error") or content, has_text=state.has_text)
        content = single_delta(content, state)
        chunk = self._chunk(content, has_text=state.has_text)
        # A refusal arrives in pieces, too, and ends with the same finish reason as any reply.
        if chunk.text and not state.has_text:
            state.is_refusal = self._is_refusal(content)
        return chunk

    def _chunk(self, content: dict[str, Any], *, has_text: bool = False) -> Chunk:
        """Read one response or one event, which differ only in `message` and `delta`."""
        choice, part = self._choice(content)
        reason = choice.get("finish_reason")
        # OpenRouter and others report a failure of the server behind them like this, with status 200.
        if choice.get("error") or (reason is not None and str(reason).lower() == "error"):
            raise self._reported_error(choice.get("error"), has_text=has_text)
        if reason in _BROKEN_OFF:
            raise IncompleteReplyError(
                f"Provider {self.name!r} broke its reply off: {reason.replace('_', ' ')}. Run the cell again.",
                provider=self.name,
            )
        logprobs = choice.get("logprobs")
        text = part.get("content")
        if "refusal" in part and _is_refusal(part):
            text = part["refusal"]
        elif type(text) is not str:
            text = self._text(text)
        return new_chunk(
            text="" if "extra_content" in part and is_thought(part) else text,
            thinking=thinking_in(part),
            finish_reason=None if reason is None else _finish_reason(reason),
            usage=self._usage(content),
            model=_model_version(content),
            logprobs=None if logprobs is None else token_logprobs(logprobs),
        )

    def _usage(self, content: dict[str, Any]) -> Usage | None:
        """Return the usage, with the server's own cost where it is the provider's own server.

        Behind another address, a cost may be in another currency or unit, or be 0 for each model without a price; a
        budget that believed it would never end.
        """
        usage = reported_usage(content)
        if usage is None or usage.cost_usd is None or self.is_at_home:
            return usage
        return usage.costing(None)

    def _choice(self, content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the choice of a response or an event that is read, and its message or the piece of one."""
        choices = content.get("choices")
        if not isinstance(choices, list) or not choices:
            return {}, {}
        choice = choices[0] if len(choices) == 1 else first_choice(choices)
        if not isinstance(choice, dict):
            raise self._malformed("a choice is not an object")
        part = choice.get("delta") or choice.get("message") or {}
        if not isinstance(part, dict):
            raise self._malformed("a message is not an object")
        return choice, part

    def _is_refusal(self, content: dict[str, Any]) -> bool:
        """Tell whether the text of a response or an event explains why there is no reply."""
        return _is_refusal(self._choice(content)[1])

    def _text(self, content: Any) -> str:
        """Return the text of a message: a string, None, or the text parts of a list of parts."""
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            parts = [part for part in content if isinstance(part, dict) and part.get("type") not in THINKING_PARTS]
            return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
        raise self._malformed("the content of a message is not text")


def _is_refusal(part: dict[str, Any]) -> bool:
    """Tell whether the text of a message, or of a piece of one, explains why there is no reply."""
    refusal = part.get("refusal")
    return isinstance(refusal, str) and bool(refusal) and not part.get("content")


def _finish_reason(reason: Any) -> FinishReason | None:
    """Return the finish reason in our words; None while the reply goes on."""
    if not isinstance(reason, str) or not reason:
        return None
    # As servers mostly write it; or in capitals, and with Gemini's own reason after a colon:
    # "content_filter: RECITATION".
    return _FINISH_REASONS.get(reason) or _FINISH_REASONS.get(reason.lower().partition(":")[0].strip(), "stop")


def _model_version(content: dict[str, Any]) -> str | None:
    """Return the model's name as the server resolved it, with the server behind OpenRouter that has answered."""
    model, provider = content.get("model"), content.get("provider")
    if not isinstance(model, str) or not model:
        return None
    name = f"{model} via {provider}" if isinstance(provider, str) and provider else model
    return name if len(name) <= _LONGEST_NAME else shorten(name, _LONGEST_NAME)


def _wire_message(message: Message) -> dict[str, Any]:
    """Return a message as JSON; with images its content is a list of parts, each image a data URL."""
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    for image in message.images:
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}
