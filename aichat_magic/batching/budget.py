"""The budget of a run in money and tokens: reserved before a call is sent, corrected when it has ended.

The rules:

1. **Each call needs a reservation** of the most that it is expected to use: its input, and an output of `max_tokens`.
   If that is not set, the output is assumed to be 25 % longer than the longest one so far.
2. **A run starts slowly**: with two calls, until one of them has returned (two, because one may hang). After that,
   calls whose output length is a guess may together reserve a share of what is left; a single call may always reserve
   all of it. The share grows with the number of replies, from 1/32 to 1/2. So if replies become longer during a run,
   few calls are in flight when little is left or little is known.
3. **The size of the input is learned**: before the first reply, one token for each byte, which no vocabulary exceeds;
   then the highest ratio of actual to estimated tokens so far, plus 10 %. A server that bills more than its known price
   is handled in the same way.
4. **A reservation is returned** when its call ends, and the actual usage is charged. A call that does not fit waits for
   others to end. If none is in flight and it still does not fit, the budget is spent.

So a limit is exceeded at most by what the calls in flight used beyond their reservations.

Pure arithmetic: `limiter.RunLimiter` waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..core.messages import Message, Reply, estimate_tokens
from ..core.usage import Usage, UsageSum

# Calls in flight before the first reply, while the usage of a call is unknown.
_MAX_FIRST_CALLS = 2
_BYTES_PER_TOKEN = 4  # as `estimate_tokens` assumes
_INPUT_MARGIN = 1.1
_OUTPUT_MARGIN = 1.25
# Calls of unknown length may together reserve this share of what is left, and half of it after so many replies.
_MAX_SHARE = 0.5
_REPLIES_FOR_HALF = 16


@dataclass(frozen=True, slots=True)
class Reservation:
    """The part of a budget that is reserved for one call.

    Attributes:
        estimate: Estimated input tokens.
        tokens: Upper bound of the tokens it is expected to use, input and output together.
        cost_usd: Upper bound of its expected cost, in US dollars.
    """

    estimate: int
    tokens: float
    cost_usd: float


class Budget:
    """The budget of one run: `reserve` before each call, `settle` after it. Not thread safe.

    A limit in dollars needs known prices: the caller refuses to start when `max_cost_usd` is set and the price of the
    model is unknown, and a reply without a price exhausts the budget.

    Attributes:
        in_flight: Calls with a reservation.
    """

    def __init__(
        self,
        *,
        max_cost_usd: float | None = None,
        max_total_tokens: int | None = None,
        max_tokens: int | None = None,
        priced: Callable[[Usage], Usage] = lambda usage: usage,
    ) -> None:
        """Create a budget of which nothing is spent.

        Args:
            max_cost_usd: Limit of the cost, in US dollars, > 0; None: no limit.
            max_total_tokens: Limit of the tokens, input and output together, > 0; None: no limit.
            max_tokens: Limit of the output of one call that is sent to the server, in tokens; None: no limit is sent.
            priced: Returns a usage with its cost added.
        """
        # Users' values are checked by `BatchOptions`.
        assert max_cost_usd is None or max_cost_usd > 0
        assert max_total_tokens is None or max_total_tokens > 0
        self._max_cost_usd = max_cost_usd
        self._max_total_tokens = max_total_tokens
        self._max_tokens = max_tokens
        self._priced = priced
        self._tally = UsageSum()
        self._tally.add(Usage(input_tokens=0, output_tokens=0, cached_tokens=0, cost_usd=0.0))
        self._held_tokens = self._held_usd = 0.0
        self.in_flight = 0
        # Learned from replies; None: there was no reply yet.
        self._n_replies = 0
        self._longest_output: int | None = None
        self._input_ratio: float | None = None
        self._input_excess = 0.0
        self._cost_ratio = 1.0
        self._highest_cost_usd = 0.0

    @property
    def is_bounded(self) -> bool:
        """Tell whether there is a limit."""
        return self._max_cost_usd is not None or self._max_total_tokens is not None

    @property
    def spent(self) -> Usage:
        """Return the usage charged so far."""
        return self._tally.total

    def allows(self) -> bool:
        """Tell whether anything is left, not counting open reservations."""
        return self._left_usd > 0 and self._left_tokens > 0

    @property
    def _left_usd(self) -> float:
        if self._max_cost_usd is None:
            return math.inf
        cost_usd = self._tally.cost_usd
        return -math.inf if cost_usd is None else self._max_cost_usd - cost_usd

    @property
    def _left_tokens(self) -> float:
        return math.inf if self._max_total_tokens is None else self._max_total_tokens - self._tally.tokens

    def reserve(self, estimate: int) -> Reservation | None:
        """Reserve the upper bound of a call; None if it does not fit, even if all reservations are used up.

        Args:
            estimate: Its input tokens, as counted by `estimate_tokens`.
        """
        if not self.allows() or (self._longest_output is None and self.in_flight >= _MAX_FIRST_CALLS):
            return None
        tokens, cost_usd = self._upper_bound(estimate)
        is_guess = self._max_tokens is None and self.in_flight > 0
        share = _MAX_SHARE * (self._n_replies + 1) / (self._n_replies + _REPLIES_FOR_HALF) if is_guess else 1.0
        is_covered = (
            self._held_tokens + tokens <= share * self._left_tokens
            and self._held_usd + cost_usd <= share * self._left_usd
        )
        if not is_covered and (self.in_flight or not self._is_likely_covered(estimate)):
            return None
        self.in_flight += 1
        self._held_tokens += tokens
        self._held_usd += cost_usd
        return Reservation(estimate, tokens, cost_usd)

    def settle(self, reservation: Reservation, usage: Usage | None) -> None:
        """Return a reservation, and charge the usage.

        Args:
            reservation: The reservation of the call.
            usage: The usage of its reply, with the cost; None: there was no reply, or the call was not sent.
        """
        self.in_flight -= 1
        self._held_tokens -= reservation.tokens
        self._held_usd -= reservation.cost_usd
        if not self.in_flight:
            self._held_tokens = self._held_usd = 0.0  # removes rounding errors
        if usage is not None:
            self._tally.add(usage)
            self._learn(reservation.estimate, usage)

    def shortfall(self, estimate: int) -> str:
        """Return a message for the user: why a call of this size does not fit, and how to go on."""
        spent = self.spent
        taken = f"{self._tally.tokens:,} tokens"
        if self._max_total_tokens is not None:
            taken += f" of max_total_tokens={self._max_total_tokens}"
        if self._max_cost_usd is not None and spent.cost_usd is None:
            return f"The budget of the run cannot be kept: a reply came without a price. Used so far: {taken}."
        if self._max_cost_usd is not None:
            taken += f" and ${spent.cost_usd:.4f} of max_cost_usd={self._max_cost_usd:g}"
        elif spent.cost_usd:
            taken += f" and ${spent.cost_usd:.4f}"
        tokens, cost_usd = self._upper_bound(estimate)
        if not self.allows():
            return f"The budget of the run is spent: {taken}. Allow more to go on."
        needs = f"${cost_usd:.4f}" if cost_usd > self._left_usd else f"{math.ceil(tokens):,} tokens"
        why = "" if self._max_tokens is None else f" with max_tokens={self._max_tokens}"
        return f"The budget of the run is spent: {taken}; the next call may take {needs}{why}. Allow more to go on."

    # The arithmetic -----------------------------------------------------------------------------------------------

    def _is_likely_covered(self, estimate: int) -> bool:
        """Tell whether the first call would fit if its input is as long as estimated."""
        if self._longest_output is not None:
            return False
        tokens, cost_usd = self._bound_for_input(estimate)
        return tokens <= self._left_tokens and cost_usd <= self._left_usd

    def _upper_bound(self, estimate: int) -> tuple[float, float]:
        """Return the most tokens and US dollars that a call is expected to use."""
        return self._bound_for_input(math.ceil(self._max_input(estimate)))

    def _bound_for_input(self, input_tokens: int) -> tuple[float, float]:
        """Return the most tokens and US dollars that a call with this input is expected to use."""
        margin = 1 if self._max_tokens else _OUTPUT_MARGIN
        output_tokens = max(self._max_tokens or 0, math.ceil((self._longest_output or 0) * margin))
        if self._max_cost_usd is None:
            return input_tokens + output_tokens, 0.0
        price = self._price(input_tokens, output_tokens)
        cost_usd = _OUTPUT_MARGIN * self._highest_cost_usd if price is None else price * self._cost_ratio
        return input_tokens + output_tokens, cost_usd

    def _max_input(self, estimate: int) -> float:
        """Return the most tokens that an input of this estimate is expected to have."""
        most = _BYTES_PER_TOKEN * estimate
        if self._input_ratio is None:
            return most
        # A server's own system message adds the same number of tokens to every call, however short its prompt is.
        return min(estimate * self._input_ratio * _INPUT_MARGIN, most + self._input_excess)

    def _price(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the price of so many tokens, in US dollars; None when it is unknown."""
        return self._priced(Usage(input_tokens=input_tokens, output_tokens=output_tokens)).cost_usd

    def _learn(self, estimate: int, usage: Usage) -> None:
        """Update the ratios of actual to estimated usage."""
        input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
        self._n_replies += 1
        self._longest_output = max(self._longest_output or 0, output_tokens)
        self._input_ratio = max(self._input_ratio or 0.0, input_tokens / max(estimate, 1))
        self._input_excess = max(self._input_excess, input_tokens - estimate)
        if usage.cost_usd is not None and self._max_cost_usd is not None:
            self._highest_cost_usd = max(self._highest_cost_usd, usage.cost_usd)
            if price := self._price(input_tokens, output_tokens):
                self._cost_ratio = max(self._cost_ratio, usage.cost_usd / price)


def counted_usage(reply: Reply, messages: tuple[Message, ...], priced: Callable[[Usage], Usage]) -> Usage:
    """Return the usage of a reply, with estimates where the server reports no counts: a budget needs them.

    Args:
        reply: The reply.
        messages: The messages that were sent.
        priced: Returns a usage with its cost added.
    """
    usage = reply.usage
    input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
    if input_tokens is not None and output_tokens is not None:
        return usage
    if input_tokens is None:
        input_tokens = estimate_tokens(messages)
    if output_tokens is None:
        output_tokens = estimate_tokens((Message("assistant", reply.text),))
    return priced(
        Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=usage.cached_tokens,
            cost_usd=usage.cost_usd,
        )
    )
