"""What replies took: tokens and cost, and their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a reply took, as the provider counted it. None where it did not say.

    Attributes:
        input_tokens: Tokens of the messages sent.
        output_tokens: Tokens of the reply.
        cached_tokens: Those of the input tokens that came from the provider's own cache.
        cost_usd: Price in US dollars, None where it is not known.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        """The sum. A count that one side does not know is left to the other; a cost must be known to both."""
        tally = UsageSum()
        tally.add(self)
        tally.add(other)
        return tally.total


class UsageSum:
    """Sums up the usage of many replies: counts that are not known are left out, a cost must be known of all."""

    __slots__ = ("_cached", "_cost_usd", "_input", "_is_empty", "_output")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._input: int | None = None
        self._output: int | None = None
        self._cached: int | None = None
        self._cost_usd: float | None = 0.0
        self._is_empty = True

    def add(self, usage: Usage) -> None:
        """Take the usage of one more reply."""
        self._is_empty = False
        if usage.input_tokens is not None:
            self._input = (self._input or 0) + usage.input_tokens
        if usage.output_tokens is not None:
            self._output = (self._output or 0) + usage.output_tokens
        if usage.cached_tokens is not None:
            self._cached = (self._cached or 0) + usage.cached_tokens
        if usage.cost_usd is None or self._cost_usd is None:
            self._cost_usd = None
        else:
            self._cost_usd += usage.cost_usd

    @property
    def tokens(self) -> int:
        """Tokens in all, input and output together, as far as they are known."""
        return (self._input or 0) + (self._output or 0)

    @property
    def cost_usd(self) -> float | None:
        """The cost in US dollars; None where one is not known, or there is nothing to pay."""
        return None if self._is_empty else self._cost_usd

    @property
    def total(self) -> Usage:
        """All as one value."""
        return Usage(
            input_tokens=self._input,
            output_tokens=self._output,
            cached_tokens=self._cached,
            cost_usd=self.cost_usd,
        )
