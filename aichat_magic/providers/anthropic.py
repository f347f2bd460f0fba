"""The messages dialect of Anthropic's Claude models.

Sources: Anthropic API reference, "Create a Message", "Streaming messages", "Errors", "List Models"; guides "Prompt
caching", "Vision", "Stop reasons and fallback" (all read 2026-11).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
from collections.abc import Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import quote

from ..core.endpoints import Preset
from ..core.errors import BadInputError, OptionError, PromptError
from ..core.messages import ChatRequest, Chunk, FinishReason, Message, estimate_tokens
from ..core.urls import api_url
from ..core.usage import Usage
from ..http.client import Auth, ServerSentEvent
from ..schema.modes import is_closed
from .dialect import Dialect, StreamState, token_count
from .fitting import Fitting
from .profile import SchemaMode
from .thinking import ThinkingBlocks, thinking_in_blocks
from .wire_options import ANSWER_TOKENS, messages_options

_VERSION = "2023-06-01"
_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
# Writing a prefix to the cache costs a quarter more than sending it, reading it within five minutes a tenth: marking it
# pays at the first reuse. Prefixes below a model's own minimum (512 to 4,096 tokens) are not written even if marked,
# and cost nothing extra ("Prompt caching", 2026-11). This is the minimum of most models.
_CACHE_FROM_TOKENS = 1024
_CACHED = {"type": "ephemeral"}
# Far more than there are models; it ends the list of a server that never does.
_MAX_PAGES = 20


class Anthropic(Dialect):
    """Claude models, through Anthropic's own API.

    The API requires a limit on the length of a reply: 16,000 tokens unless `max_tokens` is set. The thinking of models
    that think before they answer counts, too: give them more for hard questions. The long and stable beginning of a
    request (system message, history) is marked for the server's cache. The API has no `seed` and neither of the two
    penalties, so they are refused here; newer models (from Claude Opus 4.7 and Sonnet 5 on) reject `temperature` and
    `top_p` themselves.
    """

    url = "https://platform.claude.com/docs/en/api/messages"
    needs_auth = True
    supports_images = True
    supports_schema = True
    thinking_forms = ("adaptive", "enabled")
    api = "Anthropic's messages API"
    chat_path = "messages"
    headers = (("anthropic-version", _VERSION),)
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {"anthropic": Preset(base_url="https://api.anthropic.com", key_env="ANTHROPIC_API_KEY", needs_key=True)}
    )

    def reply_tokens(self, model: str) -> int:
        """Return the `max_tokens` that is sent where none is given: this API insists on one."""
        return ANSWER_TOKENS

    def check(self, request: ChatRequest) -> None:
        """Refuse a request that this API cannot express. Nothing is sent.

        Raises:
            BadInputError: An option is set that the API does not have.
            OptionError: The temperature is above 1.
        """
        super().check(request)
        sent = request.options.sent()
        for name in ("presence_penalty", "frequency_penalty", "seed"):
            if name in sent:
                raise BadInputError(
                    f"Provider {self.name!r} has no option {name}. Leave out --{name.replace('_', '-')} ({name}), "
                    f"or choose another model."
                )
        if sent.get("temperature", 0) > 1:
            raise OptionError(
                f"Provider {self.name!r} takes a temperature between 0 and 1, not {sent['temperature']!r}."
            )

    async def models(self) -> list[str]:
        """Return the names of the models that the server offers, sorted."""
        names: set[str] = set()
        after = ""
        for _ in range(_MAX_PAGES):
            page = f"&after_id={quote(after, safe='')}" if after else ""
            content = self._object(await self._get(f"models?limit=1000{page}"))
            names.update(self._model_names(content.get("data")))
            after = content["last_id"] if isinstance(content.get("last_id"), str) else ""
            if content.get("has_more") is not True or not after:
                break
        return sorted(names)

    def _url(self, path: str) -> str:
        """Return the URL of a path of the API, whether or not the base URL ends in ``/v1``."""
        base, mark, query = self.endpoint.base_url.partition("?")
        return api_url(f"{base.removesuffix('/v1')}/v1{mark}{query}", path)

    def _auth(self) -> Auth | None:
        """Return the header that carries the key, or None without a key."""
        key = self.endpoint.key
        return Auth(header="x-api-key", secret=key) if key is not None else None

    def _schema_modes(self, schema: str | None) -> tuple[SchemaMode, ...]:
        """Return the ways in which the API can be asked for a schema: it has no mode of mere JSON.

        Its structured outputs take no bounds, recursion, open objects and more than 16 unions ("Structured outputs",
        2026-11).
        """
        return ("plain_json_schema", "words") if schema is None or _is_closed(schema) else ("words",)

    def _body(self, fitting: Fitting, *, is_streamed: bool) -> dict[str, Any]:
        """Return the JSON body of a chat request as the user asked for it."""
        request = fitting.request
        self.check(request)
        if not _turn_messages(request.messages):
            raise PromptError("The prompt is empty: only the system message has text. Write the question.")
        body: dict[str, Any] = {
            "model": request.model,
            **_wire_messages(fitting.messages),
            **messages_options(fitting.options, self.name, request.model),
        }
        if (schema := fitting.json_schema()) is not None:
            form = {"type": "json_schema", "schema": schema["schema"]}
            body["output_config"] = {"format": form, **body.get("output_config", {})}
        if is_streamed:
            body["stream"] = True
        return body

    def _read_response(self, content: dict[str, Any]) -> Chunk:
        """Read a whole response."""
        if content.get("type") == "error":
            raise self._reported_error(content)
        if not isinstance(content.get("content"), list):
            raise self._malformed("it has no 'content'")
        chunk = self._chunk({**content, "type": "message"})
        blocks = ThinkingBlocks()
        for index, block in enumerate(content["content"]):
            blocks.add(index, block)
        return dataclasses.replace(chunk, text=chunk.text or _explanation(content), thinking_blocks=blocks.texts())

    def _read_event(self, event: ServerSentEvent, state: StreamState) -> Chunk:
        """Read one event of a stream."""
        content = self._content(event)
        if event.event == "error" or content.get("type") == "error":
            raise self._reported_error(content, has_text=state.has_text)
        if content.get("type") == "message_stop":
            state.is_done = True
            return Chunk()
        chunk = self._chunk(content)
        part = content.get("content_block") or content.get("delta")
        if state.thinking_blocks.add(content.get("index"), part):
            chunk = dataclasses.replace(chunk, thinking=f"\n\n{chunk.thinking}")
        if chunk.text or state.has_text:
            return chunk
        return dataclasses.replace(chunk, text=_explanation(content.get("delta")))

    def _chunk(self, content: dict[str, Any]) -> Chunk:
        """Read one whole message or one event; empty for events without a part of the reply, such as pings."""
        kind = content.get("type")
        if kind == "content_block_start":
            blocks = [content.get("content_block")]
            return Chunk(text=self._text(blocks), thinking=thinking_in_blocks(blocks))
        if kind == "content_block_delta":
            blocks = [content.get("delta")]
            return Chunk(text=self._text(blocks), thinking=thinking_in_blocks(blocks))
        if kind not in ("message", "message_start", "message_delta"):
            return Chunk()
        part = content if kind == "message" else content.get("message" if kind == "message_start" else "delta")
        if not isinstance(part, dict):
            raise self._malformed("a message is not an object")
        reason = part.get("stop_reason")
        blocks = part.get("content") or []
        return Chunk(
            text=self._text(blocks),
            thinking=thinking_in_blocks(blocks),
            finish_reason=_FINISH_REASONS.get(reason, "stop") if isinstance(reason, str) and reason else None,
            usage=_usage((content if kind == "message_delta" else part).get("usage")),
            model=part["model"] if isinstance(part.get("model"), str) else None,
        )

    def _text(self, blocks: Any) -> str:
        """Return the text of the blocks of a message, or of a piece of one. Thinking is not text."""
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise self._malformed("the content of a message is not a list of blocks")
        texts = [block.get("text") for block in blocks if block.get("type") in ("text", "text_delta")]
        if not all(isinstance(text, str) for text in texts):
            raise self._malformed("a text is not text")
        return "".join(texts)


@functools.lru_cache(maxsize=16)
def _is_closed(schema: str) -> bool:
    """Tell whether structured outputs can express a schema. Rows of a run share it."""
    return is_closed(json.loads(schema)["schema"])


def _turn_messages(messages: tuple[Message, ...]) -> list[Message]:
    """Return the messages of user and assistant, without empty ones (an interrupted reply): the API rejects those."""
    return [
        message
        for message in messages
        if message.role != "system" and (message.content.strip() or message.images or message.thinking_blocks)
    ]


def _wire_messages(messages: tuple[Message, ...]) -> dict[str, Any]:
    """Return one system message, alternating turns, and cache marks after the parts that later requests repeat.

    Two of the four allowed marks are used: one after the system message, which other conversations and the rows of a
    batch share, and one after the history, which the next turn reads and extends. The newest prompt is not marked, so
    that a cell that is run once does not pay for writing it.
    """
    system_texts = [message.content for message in messages if message.role == "system" and message.content.strip()]
    system = [Message("system", "\n\n".join(system_texts))] if system_texts else []
    turns = [list(group) for _, group in groupby(_turn_messages(messages), key=lambda message: message.role)]
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
    """Return the content of a message as blocks: thinking as it came, then images, as the vision guide advises."""
    blocks: list[dict[str, Any]] = [json.loads(block) for block in message.thinking_blocks]
    blocks += [
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


def _explanation(content: Any) -> str:
    """Return the server's explanation of a refusal; empty if there is none."""
    details = content.get("stop_details") if isinstance(content, dict) else None
    words = details.get("explanation") if isinstance(details, dict) else None
    return words if isinstance(words, str) else ""


def _usage(usage: Any) -> Usage | None:
    """Return the token counts. The API counts cache reads and writes apart; both are input."""
    if not isinstance(usage, dict):
        return None
    fresh, written, cached = (
        token_count(usage.get(f"{part}input_tokens")) for part in ("", "cache_creation_", "cache_read_")
    )
    lifetimes, output_details = usage.get("cache_creation"), usage.get("output_tokens_details")
    return Usage(
        input_tokens=None if fresh is None else token_count(fresh + (written or 0) + (cached or 0)),
        output_tokens=token_count(usage.get("output_tokens")),
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=token_count(lifetimes.get("ephemeral_1h_input_tokens"))
        if isinstance(lifetimes, dict)
        else None,
        reasoning_tokens=token_count(output_details.get("thinking_tokens"))
        if isinstance(output_details, dict)
        else None,
    )
