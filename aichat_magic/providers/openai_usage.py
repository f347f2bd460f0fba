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
from collections.abc import Mapping
from typing import Any

from ..core.usage import Usage, new_usage
from .dialect import token_count

# xAI, "Cost tracking" (2026-11).
_TICKS_PER_USD = 10**10

# What a count is, by its name in the usage or in its details. Servers that know several names of one count fill one of
# them, and put 0 elsewhere: the largest is taken.
_COUNTS: Mapping[str, str] = {
    **dict.fromkeys(("prompt_tokens", "input_tokens"), "input"),
    **dict.fromkeys(("completion_tokens", "output_tokens"), "output"),
    "total_tokens": "total",
    # OpenAI and most others; Mistral; DeepSeek; LiteLLM.
    **dict.fromkeys(
        ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"), "cached"
    ),
    # OpenRouter; LiteLLM and Databricks.
    **dict.fromkeys(("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens"), "written"),
    **dict.fromkeys(("reasoning_tokens", "thinking_tokens"), "reasoning"),
}
_DETAILS = ("prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details")


def reported_usage(content: Mapping[str, Any]) -> Usage | None:
    """Return the usage that a response or an event of a stream reports; None where there is none.

    Args:
        content: The response or event, of any content.

    Returns:
        The counts and the cost that can be used; what is no whole number, negative or too large is left out.
    """
    usage = content.get("usage")
    if not isinstance(usage, dict):
        usage = _usage_elsewhere(content)
    if usage is not None:
        return _usage_in(usage)
    return _llamacpp_usage(content["timings"]) if "timings" in content else None


def _usage_elsewhere(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the usage object in Groq's place for streams, or in Moonshot's, which is a choice."""
    # Most events of a stream have none.
    if "x_groq" in content and isinstance(groq := content["x_groq"], dict):
        if isinstance(usage := groq.get("usage"), dict):
            return usage
    for choice in choices if isinstance(choices := content.get("choices"), list) else ():
        if isinstance(choice, dict) and "usage" in choice and isinstance(usage := choice["usage"], dict):
            return usage
    return None


def _usage_in(usage: dict[str, Any]) -> Usage:
    """Read one usage object."""
    counts: dict[str, int] = {}
    for details in _collect(usage, counts):
        _collect(details, counts)
    get = counts.get
    input_tokens, output_tokens, reasoning, total = get("input"), get("output"), get("reasoning"), get("total")
    if input_tokens is None:
        input_tokens = _sum(usage, "prompt_cache_hit_tokens", "prompt_cache_miss_tokens")  # DeepSeek
    counted = output_tokens or 0
    if total is not None and input_tokens is not None and total - input_tokens >= counted:
        if reasoning is None and output_tokens is not None and total - input_tokens > counted:
            reasoning = total - input_tokens - counted
        output_tokens = total - input_tokens
    if reasoning is not None and output_tokens is not None and reasoning > output_tokens:
        output_tokens = token_count(counted + reasoning)
    return new_usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=get("cached"),
        cache_write_tokens=get("written"),
        reasoning_tokens=reasoning,
        cost_usd=_cost_usd(usage) if "cost" in usage or "cost_in_usd_ticks" in usage else None,
    )


def _collect(place: dict[str, Any], counts: dict[str, int]) -> list[dict[str, Any]]:
    """Add the counts of an object, the larger one of those that mean the same. Return the details in it."""
    # One look at each entry, because a run does this for every row.
    details = []
    for name, value in place.items():
        if type(value) is int:
            kind = _COUNTS.get(name)
            # As `token_count`, without a call.
            if kind is not None and counts.get(kind, 0) <= value < 2**63:
                counts[kind] = value
        elif type(value) is dict and name in _DETAILS:
            details.append(value)
    return details


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


def _sum(counts: dict[str, Any], first: str, second: str) -> int | None:
    """Return the sum of two counts; None if neither is known."""
    a, b = token_count(counts.get(first)), token_count(counts.get(second))
    return None if a is None and b is None else token_count((a or 0) + (b or 0))
