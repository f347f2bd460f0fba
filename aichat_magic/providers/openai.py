"""The OpenAI chat-completions dialect, spoken by OpenAI and by almost every other server.

Sources: OpenAI API reference, "Create chat completion" and "Streaming" (2026-11); the READMEs of llama.cpp's server,
Ollama, vLLM and LM Studio for what they leave out or add.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..core.errors import IncompleteReplyError, MalformedReplyError, StreamError
from ..core.messages import ChatRequest, Chunk, FinishReason, Message, Reply
from ..core.settings import Preset
from ..core.usage import Usage
from ..http.client import Auth, HttpRequest, parse_json
from ..http.rate_limits import rate_limits_from
from ..text.words import shorten
from .base import AsyncProvider

# Made once: `json.dumps` makes a new one for each value that it writes with arguments.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral
    "content_filter": "content_filter",
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii"), "content_filter"),  # Gemini
    "refusal": "refusal",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
# DeepSeek's word for a reply that its servers have broken off (API reference, 2026-11).
_BROKEN_OFF = "insufficient_system_resource"


class OpenAI(AsyncProvider):
    """Any server that speaks chat completions.

    One class, many names: `presets` says what each is known to need, and `--base-url` reaches every other server.
    """

    url = "https://platform.openai.com/docs/api-reference/chat"
    supports_stream = True
    supports_message_history = True
    supports_schema = True
    supports_images = True
    supports_gpt_35_turbo = True
    supports_gpt_4 = True
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "openai": Preset(base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", needs_key=True),
            "ollama": Preset(base_url="http://localhost:11434/v1", key_env="OLLAMA_API_KEY", start="ollama serve"),
            "lmstudio": Preset(
                base_url="http://localhost:1234/v1", key_env="LMSTUDIO_API_KEY", start="lms server start"
            ),
            "llamacpp": Preset(
                base_url="http://localhost:8080/v1", key_env="LLAMACPP_API_KEY", start="llama-server -m MODEL.gguf"
            ),
            "vllm": Preset(base_url="http://localhost:8000/v1", key_env="VLLM_API_KEY", start="vllm serve MODEL"),
            "openrouter": Preset(base_url="https://openrouter.ai/api/v1", key_env="OPENROUTER_API_KEY", needs_key=True),
            "groq": Preset(base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY", needs_key=True),
            "mistral": Preset(base_url="https://api.mistral.ai/v1", key_env="MISTRAL_API_KEY", needs_key=True),
            "deepseek": Preset(base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY", needs_key=True),
            "gemini": Preset(
                base_url="https://generativelanguage.googleapis.com/v1beta/openai",
                key_env="GEMINI_API_KEY",
                needs_key=True,
            ),
            "xai": Preset(base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", needs_key=True),
            "together": Preset(base_url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY", needs_key=True),
        }
    )

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole reply at once. Raises what `AsyncProvider.complete` does."""
        response = await self._http.send(self._post(request, is_streamed=False))
        content = self._object(response.json())
        if content.get("error"):
            raise self._reported(content["error"])
        chunk = self._chunk(content)
        if not isinstance(content.get("choices"), list) or not content["choices"]:
            raise self._malformed("it has no 'choices'")
        return Reply(
            text=chunk.text,
            model=f"{self.name}/{request.model}",
            usage=chunk.usage or Usage(),
            finish_reason="refusal" if self._is_refusal(content) else chunk.finish_reason or "stop",
            rate_limits=rate_limits_from(response.headers, time.time()),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The reply in pieces. Raises what `AsyncProvider.stream` does."""
        finish_reason: FinishReason | None = None
        is_done = False
        usage: Usage | None = None
        is_refused = has_text = False
        try:
            async with contextlib.aclosing(self._http.events(self._post(request, is_streamed=True))) as events:
                async for event in events:
                    if event.data.strip() == "[DONE]":
                        is_done = True
                        break
                    if not event.data.strip():
                        continue
                    content = self._object(parse_json(event.data.encode("utf-8", "replace"), self.name))
                    if event.event == "error" or content.get("error"):
                        raise self._reported(content.get("error") or content)
                    chunk = self._chunk(content)
                    finish_reason = chunk.finish_reason or finish_reason
                    usage = chunk.usage or usage
                    # The words of a refusal come piece by piece, and the last one ends as any reply does.
                    is_refused = is_refused or (not has_text and bool(chunk.text) and self._is_refusal(content))
                    if chunk.text:
                        has_text = True
                        yield Chunk(text=chunk.text, model=chunk.model)
        except IncompleteReplyError:
            # With the reason why it ended, the reply is whole; only the totals after it are lost.
            if finish_reason is None:
                raise
        if finish_reason is None and not is_done:
            raise IncompleteReplyError(
                f"The stream of provider {self.name!r} broke off before its end. Run the cell again.",
                provider=self.name,
            )
        yield Chunk(finish_reason="refusal" if is_refused else finish_reason or "stop", usage=usage)

    async def models(self) -> list[str]:
        """Names of the models the server offers, sorted."""
        response = await self._http.send(
            HttpRequest(
                provider=self.name,
                url=f"{self.endpoint.base_url}/models",
                auth=self._auth(),
                proxy=self.endpoint.proxy,
                timeout_s=30.0,
                start=self._start,
            )
        )
        content = response.json()
        # Together answers with a bare list, all others with {"data": [...]}.
        items = content.get("data") if isinstance(content, dict) else content
        if not isinstance(items, list):
            raise self._malformed("it has no list of models")
        names = [item.get("id") for item in items if isinstance(item, dict)]
        return sorted(name for name in names if isinstance(name, str))

    @property
    def _start(self) -> str:
        """How the server is started."""
        preset = self.presets.get(self.name)
        return preset.start if preset is not None else ""

    def _auth(self) -> Auth | None:
        key = self.endpoint.key
        return Auth(header="authorization", prefix="Bearer ", secret=key) if key is not None else None

    def _post(self, request: ChatRequest, *, is_streamed: bool) -> HttpRequest:
        """The HTTP request that a chat request becomes."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_wire_message(message) for message in request.messages],
            **self._wire_options(request),
        }
        if is_streamed:
            body["stream"] = True
            # Mistral sends the totals by itself and refuses fields that it does not know.
            if self.name != "mistral":
                body["stream_options"] = {"include_usage": True}
        return HttpRequest(
            provider=self.name,
            url=f"{self.endpoint.base_url}/chat/completions",
            body=_JSON.encode(body).encode("utf-8", "replace"),
            headers=(("accept", "text/event-stream" if is_streamed else "application/json"),),
            auth=self._auth(),
            proxy=self.endpoint.proxy,
            timeout_s=request.timeout_s,
            start=self._start,
        )

    def _wire_options(self, request: ChatRequest) -> dict[str, Any]:
        """Sampling settings under the names of the wire."""
        wire = request.options.sent()
        if "max_tokens" in wire and self.endpoint.host == "https://api.openai.com:443":
            # Reasoning models there refuse the old name; no other server must know the new one.
            wire["max_completion_tokens"] = wire.pop("max_tokens")
        if self.name == "mistral" and "seed" in wire:
            wire["random_seed"] = wire.pop("seed")
        if "schema" in wire:
            wire["response_format"] = {"type": "json_schema", "json_schema": json.loads(wire.pop("schema"))}
        return wire

    def _chunk(self, content: dict[str, Any]) -> Chunk:
        """One response or one event, which differ only in `message` and `delta`."""
        choice, part = self._choice(content)
        reason = choice.get("finish_reason")
        # OpenRouter and others report a failure of the server behind them like this, with status 200.
        if choice.get("error") or str(reason).lower() == "error":
            raise self._reported(choice.get("error"))
        if reason == _BROKEN_OFF:
            raise IncompleteReplyError(
                f"Provider {self.name!r} broke its reply off: {_BROKEN_OFF.replace('_', ' ')}. Run the cell again.",
                provider=self.name,
            )
        return Chunk(
            text=part["refusal"] if self._is_refusal(content) else self._text(part.get("content")),
            finish_reason=_finish_reason(reason),
            usage=_usage(content),
            model=content["model"] if isinstance(content.get("model"), str) else None,
        )

    def _choice(self, content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first choice of a response or an event, and its message or the piece of one."""
        choices = content.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            raise self._malformed("a choice is not an object")
        part = choice.get("delta") or choice.get("message") or {}
        if not isinstance(part, dict):
            raise self._malformed("a message is not an object")
        return choice, part

    def _is_refusal(self, content: dict[str, Any]) -> bool:
        """Tell whether the text of a response or an event says why there is no reply."""
        _, part = self._choice(content)
        return isinstance(part.get("refusal"), str) and bool(part["refusal"]) and not part.get("content")

    def _text(self, content: Any) -> str:
        """The text of a message: a string, nothing, or a list of parts of which the text parts count."""
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            return "".join(
                part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        raise self._malformed("the content of a message is not text")

    def _object(self, content: Any) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise self._malformed("it is not a JSON object")
        return content

    def _malformed(self, reason: str) -> MalformedReplyError:
        return MalformedReplyError(
            f"The answer of provider {self.name!r} cannot be read: {reason}. "
            f"Is {shorten(self.endpoint.base_url, 80)} the address of an OpenAI-compatible API?",
            provider=self.name,
        )

    def _reported(self, error: Any) -> StreamError:
        """An error that the server reports inside a response of status 200, in its words."""
        words = error.get("message") if isinstance(error, dict) else error
        return StreamError(
            f"Provider {self.name!r} reported an error instead of a whole reply: "
            f"{shorten(str(words or 'no details'))} Run the cell again.",
            provider=self.name,
        )


def _finish_reason(reason: Any) -> FinishReason | None:
    """Why a reply ended, in our words; None while it goes on."""
    if not isinstance(reason, str) or not reason:
        return None
    # Gemini adds its own word after a colon: "content_filter: RECITATION".
    return _FINISH_REASONS.get(reason.lower().partition(":")[0].strip(), "stop")


def _wire_message(message: Message) -> dict[str, Any]:
    """A message; with images its content is a list of parts, and each image a data URL."""
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    for image in message.images:
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


def _usage(content: dict[str, Any]) -> Usage | None:
    """Token counts, wherever this server puts them."""
    usage = content.get("usage")
    if not isinstance(usage, dict):
        groq = content.get("x_groq")  # Groq's place for the totals of a stream
        usage = groq.get("usage") if isinstance(groq, dict) else None
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
