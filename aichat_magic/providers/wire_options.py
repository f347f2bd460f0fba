"""Options in the words of each provider: pure functions of the options, the provider's name and the model.

Sources (all read 2026-11): OpenAI API reference, "Create chat completion", and guide "Flex processing"; Azure,
"ReasoningEffort"; Gemini API, "OpenAI compatibility" and "Flex inference"; Groq, "Reasoning" and "Service Tiers";
OpenRouter, "Reasoning Tokens" and "Service Tiers"; Mistral, "Reasoning"; DeepSeek, "Thinking Mode"; xAI, "Reasoning"
and "Priority Processing"; Amazon Bedrock, "Service tiers"; Z.ai and Moonshot as the guides of others report them;
Ollama, "OpenAI compatibility" and its tests of thinking; vLLM, "Reasoning Outputs"; the README of llama.cpp's server;
Claude API, "Adaptive thinking", "Effort", "Extended thinking" and "Service tiers".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..core.errors import OptionError
from ..core.options import REASONING_LEVELS, Options

_Writer = Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reasoning:
    """The way in which some models take their effort to think.

    Attributes:
        models: Pattern at the beginning of the model's name, after any ``owner/``; the first that matches counts.
        words: The model's words for the levels that it has.
        write: Returns the fields of the body for a word.
    """

    models: str = ""
    words: Mapping[str, str]
    write: _Writer


def _same(*levels: str, **words: str) -> dict[str, str]:
    """Return levels with their own names, and others with the given words."""
    return {**{level: level for level in levels}, **words}


def _effort(word: str) -> dict[str, Any]:
    return {"reasoning_effort": word}


def _template(word: str) -> dict[str, Any]:
    """Return the fields for a server that renders the model's own chat template: templates differ in the name."""
    is_on = word != "none"
    return {"chat_template_kwargs": {"enable_thinking": is_on, "thinking": is_on}}


def _template_effort(word: str) -> dict[str, Any]:
    return _template(word) | (_effort(word) if word != "none" else {})


def _llama_cpp(word: str) -> dict[str, Any]:
    fields = _template(word)
    return {"chat_template_kwargs": fields["chat_template_kwargs"] | (_effort(word) if word != "none" else {})}


def _switch(word: str) -> dict[str, Any]:
    return {"thinking": {"type": "disabled" if word == "none" else "enabled"}}


def _switch_effort(word: str) -> dict[str, Any]:
    return _switch(word) | (_effort(word) if word != "none" else {})


_UP_TO_HIGH = _same("low", "medium", "high")
_FROM_NONE = _same("none", "low", "medium", "high")
_OPENAI = (
    _Reasoning(models=r"o\d", words=_UP_TO_HIGH, write=_effort),
    _Reasoning(models=r"gpt-5-pro", words=_same("high"), write=_effort),
    _Reasoning(models=r"gpt-5(?![.\d])", words=_same("minimal", "low", "medium", "high"), write=_effort),
    _Reasoning(models=r"gpt-5\.1(?!\d|-codex-max)", words=_FROM_NONE, write=_effort),
    _Reasoning(models=r"gpt-5\.", words={**_FROM_NONE, "max": "xhigh"}, write=_effort),
    _Reasoning(words={**_FROM_NONE, "minimal": "minimal", "max": "xhigh"}, write=_effort),
)
_IN_TEMPLATE = (_Reasoning(words=_FROM_NONE, write=_llama_cpp),)
_REASONING: Mapping[str, tuple[_Reasoning, ...]] = {
    "gemini": (_Reasoning(words={**_FROM_NONE, "minimal": "minimal"}, write=_effort),),
    "groq": (
        # On or off. Its thinking stands in the text unless asked for apart.
        _Reasoning(
            models="qwen",
            words={"none": "none", "medium": "default"},
            write=lambda word: {**_effort(word), **({"reasoning_format": "parsed"} if word != "none" else {})},
        ),
        _Reasoning(words=_UP_TO_HIGH, write=_effort),
    ),
    "openrouter": (_Reasoning(words=_same(*REASONING_LEVELS), write=lambda word: {"reasoning": {"effort": word}}),),
    "mistral": (
        _Reasoning(models="magistral", words=_same("high"), write=lambda word: {"prompt_mode": "reasoning"}),
        _Reasoning(models="mistral-(small|medium)", words=_same("none", "high"), write=_effort),
        _Reasoning(words=_FROM_NONE, write=_effort),
    ),
    "deepseek": (_Reasoning(words=_same("none", "low", "high", "max"), write=_switch_effort),),
    "zai": (
        _Reasoning(models=r"glm-(5\.[3-9]|[6-9])", words=_same("low", "high", "max"), write=_effort),
        _Reasoning(models=r"glm-5\.2", words=_same("none", "low", "high", "max"), write=_switch_effort),
        _Reasoning(words=_same("none", "medium"), write=_switch),
    ),
    # It ignores levels that it does not know.
    "moonshot": (
        _Reasoning(models=r"kimi-k[3-9]", words=_same("low", "high", "max"), write=_effort),
        _Reasoning(models=r"kimi-k2\.7-code", words=_same("high"), write=_switch),
        _Reasoning(words=_same("none", "medium"), write=_switch),
    ),
    "xai": (
        _Reasoning(models="grok-3-mini", words=_same("low", "high"), write=_effort),
        _Reasoning(models=r"grok-4[.-]3(?!\d)", words=_FROM_NONE, write=_effort),
        _Reasoning(models=r"grok-(4[.-][6-9](?!\d)|[5-9])", words={**_UP_TO_HIGH, "max": "xhigh"}, write=_effort),
        _Reasoning(words=_UP_TO_HIGH, write=_effort),
    ),
    "ollama": (_Reasoning(words=_same(*REASONING_LEVELS), write=_effort),),
    "vllm": (_Reasoning(words=_FROM_NONE, write=_template_effort),),
    "llamacpp": _IN_TEMPLATE,
    "local": _IN_TEMPLATE,
}

_NO_TIERS: Mapping[str, str] = MappingProxyType({})
_OPENAI_TIERS = {"auto": "auto", "flex": "flex", "priority": "priority"}
# Others than these are asked as OpenAI: a gateway may have tiers.
_TIERS: Mapping[str, Mapping[str, str]] = {
    "groq": {"auto": "auto", "flex": "flex", "priority": "performance"},
    # Their normal tier is the one of a request without the field.
    "gemini": {"auto": "", "flex": "flex", "priority": "priority"},
    "bedrock": {"auto": "", "flex": "flex", "priority": "priority"},
    "xai": {"auto": "", "priority": "priority"},
    # Where an organization has a commitment of priority, auto uses it.
    "anthropic": {"auto": "auto", "priority": "auto"},
    **dict.fromkeys(("ollama", "lmstudio", "llamacpp", "vllm", "local", "aichat"), _NO_TIERS),
    "cerebras": _OPENAI_TIERS,
    "fireworks": {"auto": "", "priority": "priority"},
    **dict.fromkeys(("mistral", "deepseek", "together", "zai", "moonshot"), _NO_TIERS),
    **dict.fromkeys(("huggingface", "nvidia", "perplexity", "databricks"), _NO_TIERS),
}

# Budgets of models that take no effort, in tokens; at least 1,024 by the API. With the room for the answer they stay
# below 32,000, the least limit of the output of these models (Claude Opus 4.1).
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 6_144, "high": 12_288, "max": 16_000}
_MIN_BUDGET = 1_024
ANSWER_TOKENS = 16_000
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)*(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")


def chat_options(
    options: Options, provider: str, model: str, *, token_limit_name: str = "max_tokens"
) -> dict[str, Any]:
    """Return the fields of the body for a chat-completions server.

    Args:
        options: The options as the user asked for them.
        provider: Name of the provider.
        model: Name of the model, without the provider.
        token_limit_name: The server's name for the limit on the reply's tokens.

    Returns:
        The fields by name; the vendor's own options come last.
    """
    wire = _plain(options)
    if "max_tokens" in wire:
        wire[token_limit_name] = wire.pop("max_tokens")
    if provider == "mistral" and "seed" in wire:
        wire["random_seed"] = wire.pop("seed")
    if options.schema is not None:
        wire["response_format"] = {"type": "json_schema", "json_schema": json.loads(options.schema)}
    if options.reasoning is not None:
        way = _way(provider, model)
        wire |= way.write(way.words[nearest_level(options.reasoning, way.words)])
    return _finished(wire, options, provider)


def messages_options(options: Options, provider: str, model: str) -> dict[str, Any]:
    """Return the fields of the body for Anthropic's messages API, which requires a limit on the reply's tokens.

    Args:
        options: The options as the user asked for them.
        provider: Name of the provider.
        model: Name of the model, without the provider.

    Returns:
        The fields by name; the vendor's own options come last.

    Raises:
        OptionError: `max_tokens` leaves no room to think.
    """
    wire = {"max_tokens": ANSWER_TOKENS, **_plain(options)}
    if "stop" in wire:
        wire["stop_sequences"] = wire.pop("stop")
    if options.reasoning is not None:
        wire |= _claude_thinking(options, model)
    return _finished(wire, options, provider)


def check_options(options: Options, provider: str, model: str) -> None:
    """Refuse options that the provider does not have, or not together. Nothing is sent.

    Raises:
        OptionError: The provider has no such tier, or Claude is asked to think at a temperature.
    """
    tier = options.tier
    if tier in ("flex", "priority") and tier not in _tiers(provider):
        raise OptionError(
            f"Provider {provider!r} has no tier {tier!r}. Leave --tier (tier) out, set it to unset, or choose another "
            f"model."
        )
    if provider != "anthropic" or options.reasoning is None:
        return
    thinking = _claude_thinking(options, model).get("thinking", {"type": "disabled"})
    if thinking["type"] == "disabled":
        return
    for name, is_taken, taken in (
        ("temperature", options.temperature in (None, 1), "1"),
        ("top_p", options.top_p is None or options.top_p >= 0.95, "0.95 to 1"),
    ):
        if not is_taken:
            raise OptionError(
                f"Provider 'anthropic' takes a {name} of {taken} only while the model thinks, not "
                f"{getattr(options, name)!r}. Leave out {name} (where it comes from the settings: {name}='unset'), or "
                f"set reasoning to 'none'."
            )


def option_notes(options: Options, provider: str, model: str) -> tuple[str, ...]:
    """Return a line for each option that the provider gets otherwise than the user has written it."""
    notes = []
    if (level := options.reasoning) is not None:
        words = _claude_words(model) if provider == "anthropic" else _way(provider, model).words
        if (used := nearest_level(level, words)) != level:
            notes.append(f"{provider}/{model} has no level {level!r} of reasoning; {used!r} is used, the nearest.")
    if options.tier == "flex,auto" and "flex" not in _tiers(provider):
        notes.append(f"Provider {provider!r} has no tier 'flex'; its normal tier is used.")
    return tuple(notes)


def nearest_level(level: str, known: Mapping[str, Any]) -> str:
    """Return the nearest of the known levels; of two that are equally near, the higher. Thinking is not turned off."""
    place = {name: number for number, name in enumerate(REASONING_LEVELS)}
    candidates = [name for name in known if level == "none" or name != "none"] or list(known)
    return min(candidates, key=lambda name: (abs(place[name] - place[level]), -place[name]))


def _plain(options: Options) -> dict[str, Any]:
    """Return the options whose form is the same everywhere."""
    apart = ("schema", "reasoning", "extra")
    return {name: value for name, value in options.sent().items() if name not in apart}


def _finished(wire: dict[str, Any], options: Options, provider: str) -> dict[str, Any]:
    """Add the tier, and merge the vendor's own options in."""
    tier = (options.tier or "").partition(",")[0]
    if word := _tiers(provider).get(tier, "auto" if options.tier == "flex,auto" and provider == "anthropic" else ""):
        wire["service_tier"] = word
    return _merged(wire, options.extra_options)


def _merged(wire: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return both, the second over the first; objects of the same name are merged, too."""
    merged = dict(wire)
    for name, value in extra.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _tiers(provider: str) -> Mapping[str, str]:
    """Return the provider's words for our tiers."""
    return _TIERS.get(provider, _OPENAI_TIERS)


def _way(provider: str, model: str) -> _Reasoning:
    """Return the way in which a model takes its effort to think."""
    name = model.rpartition("/")[2].lower()
    return next(way for way in _REASONING.get(provider, _OPENAI) if re.match(way.models, name))


def _claude_version(model: str) -> tuple[int, int]:
    """Return the version in the name of a Claude model; a name without one counts as the newest."""
    match = _CLAUDE.search(model.lower())
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)


def _claude_words(model: str) -> Mapping[str, str]:
    """Return a Claude model's words for the levels that it has."""
    if _claude_version(model) < (4, 6):
        return _same("none", *_BUDGETS)
    words = _same("low", "medium", "high", "max")
    # These always think ("Adaptive thinking").
    return words if re.search("fable|mythos", model.lower()) else {"none": "none", **words}


def _claude_thinking(options: Options, model: str) -> dict[str, Any]:
    """Return the fields that make a Claude model think as much as asked for."""
    words = _claude_words(model)
    word = words[nearest_level(options.reasoning or "none", words)]
    if word == "none":
        # Claude Opus 4.7 and 4.8 think only if asked, and refuse the word that says no.
        is_off = re.search(r"opus-4[-.][78](?!\d)", model.lower())
        return {} if is_off else {"thinking": {"type": "disabled"}}
    if word in _BUDGETS and _claude_version(model) < (4, 6):
        return _claude_budget(_BUDGETS[word], options.max_tokens)
    # Without `display` newer models do not show what they think.
    return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": word}}


def _claude_budget(budget: int, max_tokens: int | None) -> dict[str, Any]:
    """Return the fields for a budget, which must stay below the limit of the whole reply."""
    if max_tokens is None:
        return {"max_tokens": ANSWER_TOKENS + budget, "thinking": {"type": "enabled", "budget_tokens": budget}}
    if max_tokens <= _MIN_BUDGET:
        raise OptionError(
            f"max_tokens must be more than {_MIN_BUDGET:,} for this model to think, because its thinking counts and "
            f"takes at least that, not {max_tokens!r}. Give it more, or set reasoning to 'none'."
        )
    budget = max(_MIN_BUDGET, min(budget, max_tokens // 2))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}
