"""Options in the words of each provider, seen from its server."""

import contextlib
from typing import Any

import pytest
from claude import message
from servers import ChatServer, payload

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import OptionError
from aichat_magic.core.messages import ChatRequest, Message
from aichat_magic.core.options import REASONING_LEVELS, TIERS, Options, options_from
from aichat_magic.core.secrets import Secret
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.wire_options import check_options, nearest_level, option_notes

pytestmark = pytest.mark.anyio
HELLO = (Message("user", "hello"),)
PROVIDERS = (*OpenAI.presets, "azure", "bedrock", "zai", "moonshot", "local", "lab", "anthropic")


async def body(name: str, *, is_streamed: bool = False, **named: Any) -> dict[str, Any]:
    """Return what the server of a provider gets, without the messages; the name may hold a model."""
    name, _, model = name.partition("/")
    answer = payload(message("hi")) if name == "anthropic" else None
    with ChatServer((lambda received, attempt: answer) if answer else None) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            cls: type[AsyncProvider] = Anthropic if name == "anthropic" else OpenAI
            url = server.root if name == "anthropic" else server.url
            provider = cls(Endpoint(provider=name, base_url=url, key=Secret("k")), http)
            request = ChatRequest(model=model or "m", messages=HELLO, options=options_from(named))
            provider.check(request)
            if is_streamed:
                async for _ in provider.stream(request):
                    pass
            else:
                await provider.complete(request)
        sent: dict[str, Any] = server.bodies[0]
    return {field: value for field, value in sent.items() if field not in ("model", "messages", "stream")}


ON = {"enable_thinking": True, "thinking": True}
OFF = {"enable_thinking": False, "thinking": False}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("name", "level", "fields"),
    [
        ("openai", "max", {"reasoning_effort": "xhigh"}),
        ("openai", "none", {"reasoning_effort": "none"}),
        ("openai/gpt-5.2", "minimal", {"reasoning_effort": "low"}),
        ("openai/gpt-5.1", "max", {"reasoning_effort": "high"}),
        ("openai/gpt-5-mini", "none", {"reasoning_effort": "minimal"}),
        ("openai/gpt-5-pro", "low", {"reasoning_effort": "high"}),
        ("openai/o3", "minimal", {"reasoning_effort": "low"}),
        ("azure", "medium", {"reasoning_effort": "medium"}),
        ("gemini", "minimal", {"reasoning_effort": "minimal"}),
        ("gemini", "max", {"reasoning_effort": "high"}),
        ("openrouter", "high", {"reasoning": {"effort": "high"}}),
        ("groq/openai/gpt-oss-120b", "none", {"reasoning_effort": "low"}),
        ("groq/qwen/qwen3-32b", "low", {"reasoning_effort": "default", "reasoning_format": "parsed"}),
        ("groq/qwen/qwen3-32b", "none", {"reasoning_effort": "none"}),
        ("mistral/mistral-small-latest", "medium", {"reasoning_effort": "high"}),
        ("mistral/mistral-small-latest", "none", {"reasoning_effort": "none"}),
        ("mistral/magistral-medium-latest", "low", {"prompt_mode": "reasoning"}),
        ("mistral/mistral-large-4-0", "low", {"reasoning_effort": "low"}),
        ("deepseek", "none", {"thinking": {"type": "disabled"}}),
        ("deepseek", "medium", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("zai/glm-5.3", "none", {"reasoning_effort": "low"}),
        ("zai/glm-5.2", "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("zai/glm-4.6", "low", {"thinking": {"type": "enabled"}}),
        ("moonshot/kimi-k3", "medium", {"reasoning_effort": "high"}),
        ("moonshot/kimi-k2.7-code", "none", {"thinking": {"type": "enabled"}}),
        ("moonshot/kimi-k2.6", "none", {"thinking": {"type": "disabled"}}),
        ("xai/grok-3-mini", "medium", {"reasoning_effort": "high"}),
        ("xai/grok-4.3", "none", {"reasoning_effort": "none"}),
        ("xai/grok-4.5", "max", {"reasoning_effort": "high"}),
        ("xai/grok-4.7", "max", {"reasoning_effort": "xhigh"}),
        ("ollama", "none", {"reasoning_effort": "none"}),
        ("vllm", "low", {"reasoning_effort": "low", "chat_template_kwargs": ON}),
        ("vllm", "none", {"chat_template_kwargs": OFF}),
        ("llamacpp", "low", {"chat_template_kwargs": {**ON, "reasoning_effort": "low"}}),
        ("llamacpp", "none", {"chat_template_kwargs": OFF}),
        ("lmstudio", "high", {"reasoning_effort": "high"}),
        ("together", "low", {"reasoning_effort": "low"}),
        ("lab", "low", {"reasoning_effort": "low"}),
        ("anthropic/claude-sonnet-5-5", "max", {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}),
        ("anthropic/claude-opus-4-6", "minimal", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}),
        ("anthropic/claude-next", "low", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}),
        ("anthropic/claude-sonnet-5-5", "none", {"thinking": {"type": "disabled"}}),
        ("anthropic/claude-opus-4-7", "none", {}),
        ("anthropic/claude-fable-5", "none", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}),
    ],
)
async def test_reasoning_is_asked_for_in_the_words_of_the_provider(
    name: str, level: str, fields: dict[str, Any]
) -> None:
    rest = {"max_tokens": 16_000} if name.startswith("anthropic") else {}
    assert await body(name, reasoning=level) == {**rest, **fields}


@pytest.mark.parametrize("model", ["claude-haiku-4-5-20251001", "claude-opus-4-20250514", "claude-3-7-sonnet-latest"])
async def test_older_claude_thinks_within_a_budget_beside_the_answer(model: str) -> None:
    sent = await body(f"anthropic/{model}", reasoning="high")
    assert sent == {"max_tokens": 28_288, "thinking": {"type": "enabled", "budget_tokens": 12_288}}
    sent = await body(f"anthropic/{model}", reasoning="max", max_tokens=4_000)
    assert sent == {"max_tokens": 4_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}
    with pytest.raises(OptionError, match=r"max_tokens must be more than 1,024.*not 1024"):
        await body(f"anthropic/{model}", reasoning="low", max_tokens=1_024)
    assert (await body(f"anthropic/{model}", reasoning="none"))["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.2), ("top_p", 0.5)])
async def test_claude_that_thinks_takes_no_temperature_and_the_user_learns_it_before(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{name}='unset'"):
        await body("anthropic/claude-opus-4-6", reasoning="low", **{name: value})
    sent = await body("anthropic/claude-opus-4-6", reasoning="none", **{name: value})
    assert sent[name] == value
    assert (await body("anthropic/claude-opus-4-6", reasoning="low", temperature=1, top_p=1))["temperature"] == 1


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("level", REASONING_LEVELS)
def test_every_level_is_sent_or_its_replacement_told(name: str, level: str) -> None:
    for model in ("m", "claude-opus-4-1", "gpt-5.1", "magistral-small", "grok-4.3", "qwen/qwen3-32b"):
        notes = option_notes(Options(reasoning=level), name, model)
        assert len(notes) <= 1
        assert not notes or (f"{level!r}" in notes[0] and "nearest" in notes[0])


def test_nearest_level_is_the_higher_of_two_and_thinking_is_not_turned_off() -> None:
    assert nearest_level("medium", {"low": "", "high": ""}) == "high"
    assert nearest_level("minimal", {"none": "", "high": ""}) == "high"
    assert nearest_level("none", {"low": "", "high": ""}) == "low"
    assert nearest_level("low", {"none": ""}) == "none"


@pytest.mark.parametrize(
    ("name", "tier", "word"),
    [
        ("openai", "flex", "flex"),
        ("openai", "flex,auto", "flex"),
        ("openai", "priority", "priority"),
        ("openai", "auto", "auto"),
        ("azure", "flex", "flex"),
        ("groq", "flex", "flex"),
        ("groq", "priority", "performance"),
        ("gemini", "flex", "flex"),
        ("gemini", "auto", None),
        ("openrouter", "flex", "flex"),
        ("bedrock", "flex", "flex"),
        ("bedrock", "auto", None),
        ("xai", "priority", "priority"),
        ("lab", "flex", "flex"),
        ("anthropic", "auto", "auto"),
        ("anthropic", "priority", "auto"),
        ("anthropic", "flex,auto", "auto"),
        ("mistral", "auto", None),
        ("deepseek", "flex,auto", None),
        ("ollama", "flex,auto", None),
    ],
)
async def test_tier_is_asked_for_in_the_words_of_the_provider(name: str, tier: str, word: str | None) -> None:
    assert (await body(name, tier=tier)).get("service_tier") == word


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("tier", TIERS)
def test_tier_that_a_provider_lacks_is_refused_or_told(name: str, tier: str) -> None:
    options = Options(tier=tier)
    has_flex = name in ("openai", "azure", "groq", "gemini", "openrouter", "bedrock", "cerebras", "lab")
    if tier == "flex" and not has_flex:
        with pytest.raises(OptionError, match=f"Provider '{name}' has no tier 'flex'"):
            check_options(options, name, "m")
        return
    with contextlib.suppress(OptionError):
        check_options(options, name, "m")
    assert bool(option_notes(options, name, "m")) == (tier == "flex,auto" and not has_flex)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_vendors_own_options_come_last_streamed_or_not(is_streamed: bool) -> None:
    sent = await body("openai", is_streamed=is_streamed, options={"logprobs": True, "top_logprobs": 3, "top_k": 40})
    sent.pop("stream_options", None)
    assert sent == {"logprobs": True, "top_logprobs": 3, "top_k": 40}


async def test_vendors_own_options_win_and_objects_are_merged() -> None:
    sent = await body("vllm", reasoning="none", options={"chat_template_kwargs": {"thinking": True, "a": 1}})
    assert sent["chat_template_kwargs"] == {"enable_thinking": False, "thinking": True, "a": 1}
    sent = await body("openai", reasoning="low", options={"reasoning_effort": "ultra"})
    assert sent == {"reasoning_effort": "ultra"}
    sent = await body("openrouter", options={"reasoning": {"max_tokens": 2_000}})
    assert sent == {"reasoning": {"max_tokens": 2_000}}
    thinking = {"type": "enabled", "budget_tokens": 5_000}
    sent = await body("anthropic/claude-opus-4-5", options={"thinking": thinking, "top_k": 5})
    assert sent == {"max_tokens": 16_000, "thinking": thinking, "top_k": 5}


async def test_own_options_are_sent_as_ever() -> None:
    sent = await body("mistral", seed=3, max_tokens=5, stop="END", options={"temperature": 0.5})
    assert sent == {"random_seed": 3, "max_tokens": 5, "stop": ["END"], "temperature": 0.5}
