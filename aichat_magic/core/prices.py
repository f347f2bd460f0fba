"""Prices of replies: the user's own, else those of the package genai-prices where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .usage import Usage

# Tokens written to a cache cost a quarter more than other input, and twice as much where they are kept for an hour
# (Anthropic, "Prompt caching", 2026-11; the other services that report writes charge the same or nothing extra).
_WRITE_FACTOR = 1.25
_WRITE_1H_FACTOR = 2 / _WRITE_FACTOR
# Providers that genai-prices knows by another name.
_PACKAGE_NAMES = {"gemini": "google", "xai": "x-ai"}
# Price of the tier flex, as a share of the normal price: the batch price at OpenAI, Azure and Gemini, the normal price
# at Groq, where flex has higher limits instead (OpenAI, "Flex processing"; Gemini API, "Flex inference"; OpenRouter,
# "Service tiers"; Groq, "Flex Processing"; all 2026-11). OpenRouter reports what it bills; this is for estimates.
_FLEX_SHARES = {"openai": 0.5, "azure": 0.5, "gemini": 0.5, "openrouter": 0.5, "groq": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of a model, in US dollars for a million tokens.

    Attributes:
        input: Price of input tokens.
        output: Price of output tokens.
        cached: Price of input tokens that the provider had in its cache; None: as `input`.
        cache_write: Price of input tokens that were written into it; None: 1.25 times `input`. Those that are kept for
            an hour cost 1.6 times as much.
    """

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None

    def of(self, usage: Usage) -> float | None:
        """Return the price of a reply in US dollars; None when its tokens are not known."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        fresh, cached, written, written_1h = _input_parts(usage)
        cached_price = self.input if self.cached is None else self.cached
        write_price = self.input * _WRITE_FACTOR if self.cache_write is None else self.cache_write
        input_price = fresh * self.input + cached * cached_price
        input_price += (written - written_1h) * write_price + written_1h * write_price * _WRITE_1H_FACTOR
        return (input_price + usage.output_tokens * self.output) / 1e6


class PriceList:
    """All prices, by ``provider/model``."""

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        """Create a list with the user's own prices, which win over all others."""
        self._own = own or {}

    def cost_usd(self, provider: str, model: str, usage: Usage, *, is_at_home: bool, tier: str = "") -> float | None:
        """Return the cost of a reply.

        Args:
            provider: Name of the provider.
            model: Name of the model, without the provider.
            usage: Its tokens. A cost in it is what the provider charges, and returned as it is.
            is_at_home: Whether the provider's own server was asked; the prices of any other are not known.
            tier: The service tier that is billed; empty: the normal one. The user's own price for a tier has the name
                ``provider/model@tier``.

        Returns:
            US dollars; None when the price or the tokens are not known.
        """
        if usage.cost_usd is not None:
            return usage.cost_usd
        if tier and (own := self._own.get(f"{provider}/{model}@{tier}")) is not None:
            return own.of(usage)
        # The price lists have no other tier than the normal one.
        share = 1.0 if not tier else _FLEX_SHARES.get(provider) if tier == "flex" else None
        price = self._own.get(f"{provider}/{model}")
        if price is not None:
            cost = price.of(usage)
        else:
            cost = _from_package(provider, model, usage) if is_at_home else None
        return None if cost is None or share is None else cost * share


def _input_parts(usage: Usage) -> tuple[int, int, int, int]:
    """Return the input tokens by price: fresh, cached, written to the cache, and those of the written kept for an hour.

    No part is larger than the whole, whatever a server reports.
    """
    whole = usage.input_tokens or 0
    cached = min(usage.cached_tokens or 0, whole)
    written = min(usage.cache_write_tokens or 0, whole - cached)
    return whole - cached - written, cached, written, min(usage.cache_write_1h_tokens or 0, written)


def _from_package(provider: str, model: str, usage: Usage) -> float | None:
    """Return the price according to genai-prices; None without the package or for an unknown model."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    try:
        genai_prices: Any = importlib.import_module("genai_prices")
    except ImportError:
        return None
    _, cached, written, written_1h = _input_parts(usage)
    # Counts of 0 are left out, so that a release of the package that lacks one prices all other replies.
    parts = {"cache_read_tokens": cached, "cache_write_tokens": written, "cache_write_1h_tokens": written_1h}
    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        **{name: count for name, count in parts.items() if count},
    )
    try:
        return float(
            genai_prices.calc_price(
                tokens, model_ref=model, provider_id=_PACKAGE_NAMES.get(provider, provider)
            ).total_price
        )
    except (LookupError, ValueError):
        return None
