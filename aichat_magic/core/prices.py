"""Prices of replies: the user's own, else those of the package genai-prices where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .usage import Usage

# Providers that genai-prices knows by another name.
_PACKAGE_NAMES = {"gemini": "google", "xai": "x-ai"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of a model, in US dollars for a million tokens.

    Attributes:
        input: Price of input tokens.
        output: Price of output tokens.
        cached: Price of input tokens that the provider had in its cache; None: as `input`.
    """

    input: float
    output: float
    cached: float | None = None

    def of(self, usage: Usage) -> float | None:
        """Return the price of a reply in US dollars; None when its tokens are not known."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        cached_price = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - cached
        return (fresh * self.input + cached * cached_price + usage.output_tokens * self.output) / 1e6


class PriceList:
    """All prices, by ``provider/model``."""

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        """Create a list with the user's own prices, which win over all others."""
        self._own = own or {}

    def cost_usd(self, provider: str, model: str, usage: Usage, *, is_at_home: bool) -> float | None:
        """Return the cost of a reply.

        Args:
            provider: Name of the provider.
            model: Name of the model, without the provider.
            usage: Its tokens. A cost that the provider reported is returned as it is.
            is_at_home: Whether the provider's own server was asked; the prices of any other are not known.

        Returns:
            US dollars; None when the price or the tokens are not known.
        """
        if usage.cost_usd is not None:
            return usage.cost_usd
        price = self._own.get(f"{provider}/{model}")
        if price is not None:
            return price.of(usage)
        return _from_package(provider, model, usage) if is_at_home else None


def _from_package(provider: str, model: str, usage: Usage) -> float | None:
    """Return the price according to genai-prices; None without the package or for an unknown model."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    try:
        genai_prices: Any = importlib.import_module("genai_prices")
    except ImportError:
        return None
    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens or 0,
    )
    try:
        return float(
            genai_prices.calc_price(
                tokens, model_ref=model, provider_id=_PACKAGE_NAMES.get(provider, provider)
            ).total_price
        )
    except (LookupError, ValueError):
        return None
