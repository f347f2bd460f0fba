"""The OpenAI chat-completions dialect, spoken by OpenAI and by almost every other server.

Sources: OpenAI API reference, "Create chat completion" and "Streaming" (2026-11); the READMEs of llama.cpp's server,
Ollama, vLLM and LM Studio for what they leave out or add.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..core.errors import IncompleteReplyError, StreamError
from ..core.messages import ChatRequest, Chunk, FinishReason, Message
from ..core.settings import Preset
from ..core.usage import Usage
from ..http.client import Auth, ServerSentEvent
from ..text.words import shorten
from .dialect import Dialect, StreamState, token_count
from .thinking import THINKING_PARTS, is_thought, thinking_in

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
# DeepSeek's finish reason for a reply that its servers broke off (API reference, 2026-11).
_BROKEN_OFF = "insufficient_system_resource"


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

    async def models(self) -> list[str]:
        """Return the names of the models that the server offers, sorted."""
        content = await self._get("models")
        # Together answers with a bare list, all others with {"data": [...]}.
        return sorted(self._model_names(content.get("data") if isinstance(content, dict) else content))

    def _url(self, path: str) -> str:
        """Return the URL of a path of the API."""
        return f"{self.endpoint.base_url}/{path}"

    def _auth(self) -> Auth | None:
        """Return the header that carries the key, or None without a key."""
        key = self.endpoint.key
        return Auth(header="authorization", prefix="Bearer ", secret=key) if key is not None else None

    def _body(self, request: ChatRequest, *, is_streamed: bool) -> dict[str, Any]:
        """Return the JSON body of a chat request."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_wire_message(message) for message in request.messages],
            **self._wire_options(request),
        }
        if is_streamed:
            body["stream"] = True
            # Mistral reports the usage anyway and rejects fields that it does not know.
            if self.name != "mistral":
                body["stream_options"] = {"include_usage": True}
        return body

    def _wire_options(self, request: ChatRequest) -> dict[str, Any]:
        """Return the sampling options under the names that the server uses."""
        wire = request.options.sent()
        if "max_tokens" in wire and self.endpoint.host == "https://api.openai.com:443":
            # Reasoning models there reject the old name; other servers may not know the new one.
            wire["max_completion_tokens"] = wire.pop("max_tokens")
        if self.name == "mistral" and "seed" in wire:
            wire["random_seed"] = wire.pop("seed")
        if "schema" in wire:
            wire["response_format"] = {"type": "json_schema", "json_schema": json.loads(wire.pop("schema"))}
        return wire

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
            raise self._reported_error(content.get("error") or content)
        chunk = self._chunk(content)
        state.usage = chunk.usage or state.usage
        # A refusal arrives in pieces, too, and ends with the same finish reason as any reply.
        if chunk.text and not state.has_text:
            state.is_refusal = self._is_refusal(content)
        return chunk

    def _chunk(self, content: dict[str, Any]) -> Chunk:
        """Read one response or one event, which differ only in `message` and `delta`."""
        choice, part = self._choice(content)
        reason = choice.get("finish_reason")
        # OpenRouter and others report a failure of the server behind them like this, with status 200.
        if choice.get("error") or str(reason).lower() == "error":
            raise self._reported_error(choice.get("error"))
        if reason == _BROKEN_OFF:
            raise IncompleteReplyError(
                f"Provider {self.name!r} broke its reply off: {_BROKEN_OFF.replace('_', ' ')}. Run the cell again.",
                provider=self.name,
            )
        text = part["refusal"] if self._is_refusal(content) else self._text(part.get("content"))
        return Chunk(
            text="" if "extra_content" in part and is_thought(part) else text,
            thinking=thinking_in(part),
            finish_reason=_finish_reason(reason),
            usage=_usage(content),
            model=content["model"] if isinstance(content.get("model"), str) else None,
        )

    def _choice(self, content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the first choice of a response or an event, and its message or the piece of one."""
        choices = content.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            raise self._malformed("a choice is not an object")
        part = choice.get("delta") or choice.get("message") or {}
        if not isinstance(part, dict):
            raise self._malformed("a message is not an object")
        return choice, part

    def _is_refusal(self, content: dict[str, Any]) -> bool:
        """Tell whether the text of a response or an event explains why there is no reply."""
        _, part = self._choice(content)
        return isinstance(part.get("refusal"), str) and bool(part["refusal"]) and not part.get("content")

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

    def _reported_error(self, error: Any) -> StreamError:
        """Return the error that the server reports inside a response of status 200, in its words."""
        words = error.get("message") if isinstance(error, dict) else error
        return StreamError(
            f"Provider {self.name!r} reported an error instead of a whole reply: "
            f"{shorten(str(words or 'no details'))} Run the cell again.",
            provider=self.name,
        )


def _finish_reason(reason: Any) -> FinishReason | None:
    """Return the finish reason in our words; None while the reply goes on."""
    if not isinstance(reason, str) or not reason:
        return None
    # Gemini adds its own reason after a colon: "content_filter: RECITATION".
    return _FINISH_REASONS.get(reason.lower().partition(":")[0].strip(), "stop")


def _wire_message(message: Message) -> dict[str, Any]:
    """Return a message as JSON; with images its content is a list of parts, each image a data URL."""
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    for image in message.images:
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


def _usage(content: dict[str, Any]) -> Usage | None:
    """Return the token counts, wherever this server puts them."""
    usage = content.get("usage")
    if not isinstance(usage, dict):
        groq = content.get("x_groq")  # Groq's place for the usage of a stream
        usage = groq.get("usage") if isinstance(groq, dict) else None
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        input_tokens=token_count(usage.get("prompt_tokens")),
        output_tokens=token_count(usage.get("completion_tokens")),
        cached_tokens=token_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )
