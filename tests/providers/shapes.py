"""How the server of each preset answers, as data: one loopback server plays them all.

The shapes are those of recorded answers and of the providers' references (2026-11), the words and numbers are ours. A
`Shape` has what differs from OpenAI's own server; a `Story` is what the model says, the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import claude
from servers import Answer, Received, event_stream, payload, sse

from aichat_magic.core.usage import Usage

TEXT, THINKING = "The answer is 42.", "Six times seven."
PROMPT, CACHED, WRITTEN, WRITTEN_1H, SPOKEN, THOUGHT = 100, 40, 30, 10, 20, 300

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the model does.

    Attributes:
        text: Its text; empty for none.
        thinking: Its thinking; a server that does not show it leaves it out.
        refusal: Its words of refusal, where the API has a field for them.
        finish: Why it ends: "stop", "cut" or "filtered".
    """

    text: str = TEXT
    thinking: str = ""
    refusal: str = ""
    finish: Literal["stop", "cut", "filtered"] = "stop"


# --- usage


def inside(**more: Any) -> Fields:
    """Thinking counted as completion, and detailed: OpenAI and most others."""
    return {
        "prompt_tokens": PROMPT,
        "completion_tokens": SPOKEN + THOUGHT,
        "total_tokens": PROMPT + SPOKEN + THOUGHT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
        "completion_tokens_details": {"reasoning_tokens": THOUGHT},
        **more,
    }


def without(*names: str, **more: Any) -> Fields:
    """The same without some of it."""
    return {name: value for name, value in inside(**more).items() if name not in names}


PLAIN = without("prompt_tokens_details", "completion_tokens_details")


# --- thinking in a message or a delta


def nowhere(text: str, thinking: str) -> Fields:
    return {"content": text}


def in_field(name: str) -> Callable[[str, str], Fields]:
    def fields(text: str, thinking: str) -> Fields:
        return {"content": text, **({name: thinking} if thinking else {})}

    return fields


def in_details(text: str, thinking: str) -> Fields:
    """OpenRouter: the same twice."""
    if not thinking:
        return {"content": text, "reasoning": None}
    return {"content": text, "reasoning": thinking, "reasoning_details": [{"type": "reasoning.text", "text": thinking}]}


def in_parts(text: str, thinking: str) -> Fields:
    """Mistral: the content is a list while there is thinking, and a text after it."""
    if not thinking:
        return {"content": text}
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": thinking}]}
    return {"content": [thought, *([{"type": "text", "text": text}] if text else [])]}


def in_summary(text: str, thinking: str) -> Fields:
    """Databricks: parts with summaries."""
    if not thinking:
        return {"content": text}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": thinking}]}
    return {"content": [thought, *([{"type": "text", "text": text}] if text else [])]}


def in_tags(text: str, thinking: str) -> Fields:
    return {"content": (f"<think>{thinking}</think>\n\n" if thinking else "") + text}


# --- refusals for pace: (status, headers, body), each asks to wait 42 seconds

Refusal = tuple[int, Mapping[str, str], Fields]


def pace(headers: Mapping[str, str] | None = None, *, status: int = 429, **error: Any) -> Refusal:
    said = {"message": "Rate limit reached for requests.", "type": "requests", "code": "rate_limit_exceeded", **error}
    return status, headers or {}, {"error": said}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The ways of one server.

    Attributes:
        usage: Its usage object.
        tells: The optional counts that it tells.
        cost_usd: The cost that it tells, believed at home only.
        place: Where a stream has the usage: after the reason in an event without choices ("end"), with the reason
            ("reason"), in Groq's place ("groq"), in the choice ("choice"), or so far in each event ("each").
        message: Returns the content of a message or delta for text and thinking.
        shows: Whether it shows the thinking.
        version: The name that it gives the model; `provider`: who has served it.
        cut: Its reason for a reply that its limit has cut; `filtered`: for one that its filter has stopped.
        refuses: Whether messages have a field for refusals.
        schemas: Types of `response_format` that it takes.
        flex: Its word for the tier "flex"; empty if it has none.
        limited: Its refusal for pace.
        opening: Events before all others.
        closing: What the last choice of a stream has beside its reason.
    """

    usage: Fields = field(default_factory=inside)
    tells: frozenset[str] = frozenset({"cached_tokens", "reasoning_tokens"})
    cost_usd: float | None = None
    place: Literal["end", "reason", "groq", "choice", "each"] = "end"
    message: Callable[[str, str], Fields] = nowhere
    shows: bool = True
    version: str = "m-2026-01-02"
    provider: str = ""
    cut: str = "length"
    filtered: str = "content_filter"
    refuses: bool = False
    schemas: tuple[str, ...] = ("json_schema", "json_object")
    flex: str = ""
    limited: Refusal = field(default_factory=lambda: pace({"retry-after": "42"}))
    opening: tuple[Fields, ...] = ()
    closing: Fields = field(default_factory=dict)

    @property
    def expected(self) -> Usage:
        """The usage that must come of it, without the cost."""
        known = {"cached_tokens": CACHED, "cache_write_tokens": WRITTEN, "reasoning_tokens": THOUGHT}
        told = {name: count for name, count in known.items() if name in self.tells}
        hour = {"cache_write_1h_tokens": WRITTEN_1H} if "cache_write_1h_tokens" in self.tells else {}
        return Usage(input_tokens=PROMPT, output_tokens=SPOKEN + THOUGHT, **told, **hour)

    @property
    def expected_version(self) -> str:
        return f"{self.version} via {self.provider}" if self.provider else self.version

    def finish(self, story: Story) -> str:
        return {"stop": "stop", "cut": self.cut, "filtered": self.filtered}[story.finish]


CACHED_ONLY = frozenset({"cached_tokens"})
THINKING_ONLY = frozenset({"reasoning_tokens"})
NOTHING = frozenset[str]()
GROQ_TIMES = {"queue_time": 0.01, "prompt_time": 0.02, "completion_time": 0.3, "total_time": 0.32}
LOCAL_LIMIT = pace({"retry-after": "42"}, message="The queue is full.", type="overloaded", code=None)

SHAPES: dict[str, Shape] = {
    "openai": Shape(
        refuses=True, flex="flex",
        limited=pace({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "42s"}),
    ),
    # The first event has the verdict on the prompt, and no choices; every choice has one on itself.
    "azure": Shape(
        refuses=True,
        flex="flex",
        opening=({"choices": [], "model": "", "prompt_filter_results": [{"prompt_index": 0}]},),
        closing={"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}},
        limited=pace({"retry-after-ms": "42000"}),
    ),
    "ollama": Shape(usage=PLAIN, tells=NOTHING, message=in_field("reasoning"), version="m", limited=LOCAL_LIMIT),
    "lmstudio": Shape(
        usage=without("prompt_tokens_details"), tells=THINKING_ONLY, message=in_field("reasoning_content"),
        schemas=("json_schema", "text"), limited=LOCAL_LIMIT,
    ),
    "llamacpp": Shape(
        usage=without("completion_tokens_details"), tells=CACHED_ONLY, message=in_field("reasoning_content"),
        version="/models/m.gguf", limited=LOCAL_LIMIT,
    ),
    "vllm": Shape(
        usage=without("completion_tokens_details"), tells=CACHED_ONLY, place="each", message=in_field("reasoning"),
        closing={"stop_reason": None}, limited=LOCAL_LIMIT,
    ),
    "openrouter": Shape(
        usage=inside(
            prompt_tokens_details={"cached_tokens": CACHED, "cache_write_tokens": WRITTEN, "audio_tokens": 0},
            cost=0.0123, is_byok=False, cost_details={"upstream_inference_cost": 0.0123},
        ),
        tells=frozenset({"cached_tokens", "cache_write_tokens", "reasoning_tokens"}),
        cost_usd=0.0123, message=in_details, version="lab/m", provider="Somebody",
        closing={"native_finish_reason": "STOP"},
        flex="flex", limited=pace(
            message="Provider returned error", code=429, type=None,
            metadata={"raw": "Too many requests, try again in 42s", "provider_name": "Somebody"},
        ),
    ),
    "groq": Shape(
        usage=inside(**GROQ_TIMES), place="groq", message=in_field("reasoning"), flex="flex",
        limited=pace(message="Rate limit reached for model `m` on tokens per minute (TPM). Please try again in 42s."),
    ),
    "mistral": Shape(
        usage={**PLAIN, "num_cached_tokens": CACHED}, tells=CACHED_ONLY, place="reason", message=in_parts,
        cut="model_length", limited=pace({"retry-after": "42"}, message="Requests rate limit exceeded"),
    ),
    "deepseek": Shape(
        usage=without(
            "prompt_tokens_details", prompt_cache_hit_tokens=CACHED, prompt_cache_miss_tokens=PROMPT - CACHED
        ),
        place="reason", message=in_field("reasoning_content"), schemas=("json_object",),
    ),
    # Thinking is in the total only, and shown only if asked for.
    "gemini": Shape(
        usage={"prompt_tokens": PROMPT, "completion_tokens": SPOKEN, "total_tokens": PROMPT + SPOKEN + THOUGHT},
        tells=THINKING_ONLY, place="each", version="models/m", cut="max_tokens", filtered="content_filter: SAFETY",
        flex="flex",
        limited=(
            429, {}, {"error": {
                "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded for this minute.",
                "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "42s"}],
            }},
        ),
    ),
    # Thinking is outside of the completion.
    "xai": Shape(
        usage=inside(completion_tokens=SPOKEN, num_sources_used=0, cost_in_usd_ticks=123_000_000),
        cost_usd=0.0123, message=in_field("reasoning_content"),
    ),
    "together": Shape(
        usage={**PLAIN, "cached_tokens": CACHED}, tells=CACHED_ONLY, place="reason", message=in_field("reasoning"),
        limited=pace({"x-ratelimit-reset": "42"}, message="Too many requests."),
    ),
    "huggingface": Shape(usage=PLAIN, tells=NOTHING, message=in_field("reasoning")),
    "fireworks": Shape(
        usage=without("completion_tokens_details"), tells=CACHED_ONLY, place="reason",
        message=in_field("reasoning_content"),
    ),
    "cerebras": Shape(message=in_field("reasoning"), closing={"time_info": {"total_time": 0.1}}, flex="flex"),
    "nvidia": Shape(
        usage=PLAIN | {"prompt_tokens_details": None}, tells=NOTHING, message=in_field("reasoning_content")
    ),
    "perplexity": Shape(
        usage={**PLAIN, "reasoning_tokens": THOUGHT, "cost": {"request_cost": 0.005, "total_cost": 0.0123}},
        tells=THINKING_ONLY, cost_usd=0.0123, place="each", message=in_tags,
    ),
    "bedrock": Shape(usage=PLAIN, tells=NOTHING, flex="flex"),
    "databricks": Shape(usage=PLAIN, tells=NOTHING, message=in_summary),
    "moonshot": Shape(
        usage={**PLAIN, "cached_tokens": CACHED}, tells=CACHED_ONLY, place="choice",
        message=in_field("reasoning_content"), schemas=("json_object",),
    ),
    "zai": Shape(
        place="reason", message=in_field("reasoning_content"), filtered="sensitive", schemas=("json_object",)
    ),
    "anthropic": Shape(
        usage={
            "input_tokens": PROMPT - CACHED - WRITTEN,
            "cache_read_input_tokens": CACHED,
            "cache_creation_input_tokens": WRITTEN,
            "cache_creation": {
                "ephemeral_5m_input_tokens": WRITTEN - WRITTEN_1H, "ephemeral_1h_input_tokens": WRITTEN_1H,
            },
            "output_tokens": SPOKEN + THOUGHT,
            "output_tokens_details": {"thinking_tokens": THOUGHT},
        },
        tells=frozenset({"cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"}),
        refuses=True, schemas=("output_config",),
        limited=(429, {"retry-after": "42"}, {
            "type": "error", "error": {"type": "rate_limit_error", "message": "This would exceed your rate limit."},
        }),
    ),
}  # fmt: skip


def answer(shape: Shape, story: Story) -> Callable[[Received, int], Answer]:
    """Return what the server of a shape answers to any request, whole or streamed."""

    def choose(received: Received, attempt: int) -> Answer:
        if received.json.get("stream"):
            return event_stream(_events(shape, story))
        return payload(whole(shape, story))

    return choose


def broken(shape: Shape, story: Story) -> Answer:
    """Return a stream that ends before its reason."""
    events = _events(shape, story)
    return event_stream(events[: 3 + len(shape.opening)])


def limited(shape: Shape) -> Answer:
    """Return the refusal for pace."""
    code, headers, body = shape.limited
    return payload(body, code=code, headers=headers)


def picky(shape: Shape, story: Story) -> Callable[[Received, int], Answer]:
    """Return `answer`, of a server that refuses the ways to ask for JSON that it does not have."""
    tell = answer(shape, story)

    def choose(received: Received, attempt: int) -> Answer:
        form = json_form(received.json)
        if form in ("", *shape.schemas):
            return tell(received, attempt)
        message = "This response_format type is unavailable now"
        return payload({"error": {"message": message, "type": "invalid_request_error", "code": None}}, code=400)

    return choose


def json_form(body: Fields) -> str:
    """Return how a request asks for JSON: the type of `response_format`, "output_config", or nothing."""
    if "format" in body.get("output_config", {}):
        return "output_config"
    return str(body.get("response_format", {}).get("type", ""))


def whole(shape: Shape, story: Story) -> Fields:
    """Return the body of a whole response."""
    return _message(shape, story) if shape is SHAPES["anthropic"] else _completion(shape, story)


def _events(shape: Shape, story: Story) -> list[bytes]:
    return _message_events(shape, story) if shape is SHAPES["anthropic"] else _completion_events(shape, story)


# --- the OpenAI dialect


def _pieces(text: str) -> list[str]:
    """The text in two pieces."""
    return [piece for piece in (text[: len(text) // 2], text[len(text) // 2 :]) if piece]


def _completion(shape: Shape, story: Story) -> Fields:
    message: Fields = {"role": "assistant", **shape.message(story.text, story.thinking)}
    if shape.refuses:
        message |= {"content": story.text or None, "refusal": story.refusal or None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": shape.finish(story), **shape.closing}
    return {**_envelope(shape, "chat.completion"), "choices": [choice], "usage": shape.usage}


def _completion_events(shape: Shape, story: Story) -> list[bytes]:
    deltas: list[Fields] = [{"role": "assistant", "content": ""}]
    deltas += [shape.message("", piece) for piece in _pieces(story.thinking)] if shape.message is not in_tags else []
    deltas += [shape.message(piece, "") for piece in _pieces(story.text)]
    if shape.message is in_tags and story.thinking:
        deltas[1:1] = [{"content": piece} for piece in ("<thi", "nk>", *_pieces(story.thinking), "</think", ">\n\n")]
    deltas += [{"refusal": piece} for piece in _pieces(story.refusal)]
    envelope = _envelope(shape, "chat.completion.chunk")
    so_far = {"usage": {**shape.usage, "completion_tokens": 1, "total_tokens": PROMPT + 1}}
    events = [{**envelope, **opening} for opening in shape.opening]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        events.append({**envelope, "choices": [choice], **(_so_far(so_far) if shape.place == "each" else {})})
    last = {"index": 0, "delta": {}, "finish_reason": shape.finish(story), **shape.closing}
    places: dict[str, Fields] = {
        "reason": {"usage": shape.usage}, "each": {"usage": shape.usage}, "groq": {"x_groq": {"usage": shape.usage}},
    }  # fmt: skip
    if shape.place == "choice":
        last["usage"] = shape.usage
    events.append({**envelope, "choices": [last], **places.get(shape.place, {})})
    if shape.place == "end":
        events.append({**envelope, "choices": [], "usage": shape.usage})
    return [*map(sse, events), sse("[DONE]")]


def _so_far(usage: Fields) -> Fields:
    """Counts that are not yet known are left out."""
    known = {name: count for name, count in usage["usage"].items() if isinstance(count, int) and "token" in name}
    return {"usage": {name: count for name, count in known.items() if name != "reasoning_tokens"}}


def _envelope(shape: Shape, kind: str) -> Fields:
    return {
        "id": "c-1", "object": kind, "created": 1, "model": shape.version,
        **({"provider": shape.provider} if shape.provider else {}),
    }  # fmt: skip


# --- Anthropic's dialect

_STOPS = {"stop": "end_turn", "cut": "max_tokens", "filtered": "refusal"}


def _blocks(story: Story) -> list[Fields]:
    thought = {"type": "thinking", "thinking": story.thinking, "signature": "c2lnbmVk"}
    return [*([thought] if story.thinking else []), *([{"type": "text", "text": story.text}] if story.text else [])]


def _message(shape: Shape, story: Story) -> Fields:
    stop = "refusal" if story.refusal else _STOPS[story.finish]
    details = {"stop_details": {"type": "refusal", "explanation": story.refusal}} if story.refusal else {}
    return claude.message(_blocks(story), stop=stop, usage=shape.usage, **details) | {"model": shape.version}


def _message_events(shape: Shape, story: Story) -> list[bytes]:
    start = claude.message([], stop=None, usage={**shape.usage, "output_tokens": 1}) | {"model": shape.version}
    events = [claude.event("message_start", message=start), claude.event("ping")]
    for index, block in enumerate(_blocks(story)):
        name = "thinking" if block["type"] == "thinking" else "text"
        empty = {"type": name, name: ""}
        events.append(claude.event("content_block_start", index=index, content_block=empty))
        pieces: list[Fields] = [{"type": f"{name}_delta", name: piece} for piece in _pieces(block[name])]
        pieces += [{"type": "signature_delta", "signature": block["signature"]}] if name == "thinking" else []
        events += [claude.event("content_block_delta", index=index, delta=piece) for piece in pieces]
        events.append(claude.event("content_block_stop", index=index))
    message = _message(shape, story)
    end = {name: message[name] for name in ("stop_reason", "stop_details") if name in message}
    events += [claude.event("message_delta", delta=end, usage=shape.usage), claude.STOP]
    return [event.encode() for event in events]
