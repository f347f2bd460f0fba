"""Usage: the tokens and the cost of replies, and their sums."""

from __future__ import annotations

from dataclasses import dataclass

from .quick import quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and cost of a reply, as the provider counted them. None where it did not say.

    Attributes:
        input_tokens: Tokens of the messages sent.
        output_tokens: Tokens of the reply, those of its thinking included.
        cached_tokens: Those input tokens that came from the provider's own cache.
        cache_write_tokens: Those input tokens that were written into it, which may cost more.
        cache_write_1h_tokens: Those of the written ones that are kept for an hour, which cost more again.
        reasoning_tokens: Those output tokens that the model has thought with.
        cost_usd: Cost in US dollars; None where it is not known.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        """Return the sum. A token count may be known of one side only; the cost must be known of both."""
        total = UsageSum()
        total.add(self)
        total.add(other)
        return total.total

    def costing(self, cost_usd: float | None) -> Usage:
        """Return the same tokens with another cost. Spelled out, because a batch does this for each row."""
        return new_usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            reasoning_tokens=self.reasoning_tokens,
            cost_usd=cost_usd,
        )

    def grown(self, later: Usage) -> Usage:
        """Return the larger of each number: they grow in a stream, and an event that does not know one may say 0."""
        cost_usd, later_usd = self.cost_usd, later.cost_usd
        return new_usage(
            input_tokens=_larger(self.input_tokens, later.input_tokens),
            output_tokens=_larger(self.output_tokens, later.output_tokens),
            cached_tokens=_larger(self.cached_tokens, later.cached_tokens),
            cache_write_tokens=_larger(self.cache_write_tokens, later.cache_write_tokens),
            cache_write_1h_tokens=_larger(self.cache_write_1h_tokens, later.cache_write_1h_tokens),
            reasoning_tokens=_larger(self.reasoning_tokens, later.reasoning_tokens),
            cost_usd=later_usd if cost_usd is None else cost_usd if later_usd is None else max(cost_usd, later_usd),
        )

    @property
    def details(self) -> str:
        """Return the tokens that are a part of the others, such as ``1,200 cached, 40 thinking``; empty for none."""
        parts = (
            (self.cached_tokens, "cached"),
            (self.cache_write_tokens, "written to the cache"),
            (self.reasoning_tokens, "thinking"),
        )
        return ", ".join(f"{count:,} {name}" for count, name in parts if count)


new_usage = quick(Usage)


class UsageSum:
    """Sum of the usage of many replies: unknown token counts are left out, the cost must be known of every reply."""

    __slots__ = ("_cached", "_cost_usd", "_input", "_is_empty", "_output", "_reasoning", "_written", "_written_1h")

    def __init__(self) -> None:
        """Create an empty sum."""
        self._input: int | None = None
        self._output: int | None = None
        self._cached: int | None = None
        self._written: int | None = None
        self._written_1h: int | None = None
        self._reasoning: int | None = None
        self._cost_usd: float | None = 0.0
        self._is_empty = True

    def add(self, usage: Usage) -> None:
        """Add the usage of one more reply."""
        self._is_empty = False
        if usage.input_tokens is not None:
            self._input = (self._input or 0) + usage.input_tokens
        if usage.output_tokens is not None:
            self._output = (self._output or 0) + usage.output_tokens
        if usage.cached_tokens is not None:
            self._cached = (self._cached or 0) + usage.cached_tokens
        if usage.cache_write_tokens is not None:
            self._written = (self._written or 0) + usage.cache_write_tokens
        if usage.cache_write_1h_tokens is not None:
            self._written_1h = (self._written_1h or 0) + usage.cache_write_1h_tokens
        if usage.reasoning_tokens is not None:
            self._reasoning = (self._reasoning or 0) + usage.reasoning_tokens
        if usage.cost_usd is None or self._cost_usd is None:
            self._cost_usd = None
        else:
            self._cost_usd += usage.cost_usd

    @property
    def tokens(self) -> int:
        """Return all known tokens, input and output together."""
        return (self._input or 0) + (self._output or 0)

    @property
    def cost_usd(self) -> float | None:
        """Return the cost in US dollars; None if that of a reply is not known, or nothing was added."""
        return None if self._is_empty else self._cost_usd

    @property
    def total(self) -> Usage:
        """Return the sum as one value."""
        return Usage(
            input_tokens=self._input,
            output_tokens=self._output,
            cached_tokens=self._cached,
            cache_write_tokens=self._written,
            cache_write_1h_tokens=self._written_1h,
            reasoning_tokens=self._reasoning,
            cost_usd=self.cost_usd,
        )


def _larger(a: int | None, b: int | None) -> int | None:
    """Return the larger of two counts; the other one where one is not known."""
    return b if a is None else a if b is None else max(a, b)
