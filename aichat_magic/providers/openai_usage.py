"""Usage as the servers of the OpenAI dialect report it: the same counts under many names, and in many places.

Sources: API references of OpenAI, OpenRouter ("Usage accounting"), xAI ("Cost tracking"), DeepSeek, Groq, Mistral
("Prompt caching"), Moonshot and Perplexity; Gemini's OpenAI compatibility; the READMEs of llama.cpp's server and of
LiteLLM (all read 2026-11).

Two facts decide what a reply costs:

1. **Thinking is output, whether or not it is counted as such.** OpenAI, DeepSeek and Groq count it inside
   `completion_tokens`; Gemini and xAI do not, and their total is larger than the sum of the other two. The output is
   the total without the prompt, but never less than what is counted as output, and never less than the thinking alone.
2. **A server's own cost is what it charges**, with all discounts and fees. `PriceList` decides whom to believe.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.usage import Usage
from .dialect import token_count

# xAI, "Cost tracking" (2026-11).
_TICKS_PER_USD = 10**10

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
# Below the usage itself, and below the details of the input: OpenAI and most others; Mistral; DeepSeek; LiteLLM.
_CACHED = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
# OpenRouter; LiteLLM and Databricks.
_WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
_REASONING = ("reasoning_tokens", "thinking_tokens")


def reported_usage(content: Mapping[str, Any]) -> Usage | None:
    """Return the usage that a response or an event of a stream reports; None where there is none.

    Args:
        content: The response or event, of any content.

    Returns:
        The counts and the cost that can be used; what is no whole number, negative or too large is left out.
    """
    found = None
    for usage in _places(content):
        read = _usage_in(usage)
        found = read if found is None else found.grown(read)
    return found if found is not None else _llamacpp_usage(content.get("timings"))


def _places(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the usage objects: at the top, in Groq's place for streams, and in Moonshot's, which is a choice."""
    groq, choices = content.get("x_groq"), content.get("choices")
    for place in (content, groq, *(choices if isinstance(choices, list) else ())):
        usage = place.get("usage") if isinstance(place, dict) else None
        if isinstance(usage, dict):
            yield usage


def _usage_in(usage: dict[str, Any]) -> Usage:
    """Read one usage object."""
    input_details, output_details = _details(usage, _INPUT), _details(usage, _OUTPUT)
    input_tokens = _largest(_INPUT, usage)
    if input_tokens is None:
        input_tokens = _sum(usage, "prompt_cache_hit_tokens", "prompt_cache_miss_tokens")  # DeepSeek
    counted, reasoning = _largest(_OUTPUT, usage), _largest(_REASONING, output_details, usage)
    total, output_tokens = token_count(usage.get("total_tokens")), counted
    if total is not None and input_tokens is not None and total - input_tokens >= (counted or 0):
        output_tokens = total - input_tokens
        if reasoning is None and counted is not None and output_tokens > counted:
            reasoning = output_tokens - counted
    if reasoning is not None and output_tokens is not None and reasoning > output_tokens:
        output_tokens = token_count((counted or 0) + reasoning)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=_largest(_CACHED, input_details, usage),
        cache_write_tokens=_largest(_WRITTEN, input_details, usage),
        reasoning_tokens=reasoning,
        cost_usd=_cost_usd(usage),
    )


def _cost_usd(usage: dict[str, Any]) -> float | None:
    """Return the cost in US dollars as the server charges it; None where it does not say."""
    cost = usage.get("cost")
    if isinstance(cost, dict):  # Perplexity
        cost = cost.get("total_cost")
    if usage.get("is_byok") is True:
        # OpenRouter with the user's own key for the provider behind it: `cost` is OpenRouter's fee alone.
        details = usage.get("cost_details")
        upstream = _amount(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
        fee = _amount(cost)
        return None if fee is None or upstream is None else fee + upstream
    ticks = _amount(usage.get("cost_in_usd_ticks"))
    return _amount(cost) if ticks is None else ticks / _TICKS_PER_USD


def _amount(value: Any) -> float | None:
    """Return an amount of money, or None if it is not a finite number >= 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= sys.float_info.max else None


def _llamacpp_usage(timings: Any) -> Usage | None:
    """Return the counts in llama.cpp's timings, which streams have even where usage was not asked for."""
    if not isinstance(timings, dict) or token_count(timings.get("predicted_n")) is None:
        return None
    return Usage(
        input_tokens=_sum(timings, "cache_n", "prompt_n"),
        output_tokens=token_count(timings.get("predicted_n")),
        cached_tokens=token_count(timings.get("cache_n")),
    )


def _details(usage: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the object that details a count; empty where there is none."""
    found = (usage.get(f"{name}_details") for name in names)
    return next((details for details in found if isinstance(details, dict)), {})


def _largest(names: tuple[str, ...], *places: dict[str, Any]) -> int | None:
    """Return the largest of the counts with these names: servers that know several fill one, and put 0 elsewhere."""
    counts = (token_count(place.get(name)) for place in places for name in names)
    return max((count for count in counts if count is not None), default=None)


def _sum(counts: dict[str, Any], first: str, second: str) -> int | None:
    """Return the sum of two counts; None if neither is known."""
    a, b = token_count(counts.get(first)), token_count(counts.get(second))
    return None if a is None and b is None else token_count((a or 0) + (b or 0))
