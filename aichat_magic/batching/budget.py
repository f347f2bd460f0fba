"""What a run may spend, in money and in tokens: reserved before a call is sent, set right when it has come home.

The law, in plain words:

1. **A lease before each call** holds the most that it will take: its input, and an output of `max_tokens`. Where that
   is not set, the output is taken to be a quarter longer than the longest seen so far.
2. **A run begins slowly**: two calls, until one has come home (two, because one may hang). From then on calls of which
   the longest output is a guess may hold a share of what is left between them, and one call always all of it. The share
   grows with the replies seen, from a thirtieth to a half: replies that grow while a run goes on find the fewer calls
   out, the less there is and the less is known.
3. **What the input takes is learned**: before anything has come home a token for each byte, which no vocabulary
   exceeds; then the highest ratio to the estimate that was seen, and a tenth more. What a server bills above the price
   that is known of it is learned in the same way.
4. **A lease is given back** when the call is home, with what it took in its place. A call that does not fit waits until
   others are home. When none is out and it still does not fit, the budget is spent.

So a bound is passed by no more than what the calls in flight took beyond their leases.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from ..core.errors import OptionError
from ..core.messages import Message, Reply, estimate_tokens
from ..core.usage import Usage, UsageSum

# Calls that may be out while nothing is known of what one takes.
_BLIND = 2
_BYTES_A_TOKEN = 4  # as `estimate_tokens` has it
_MORE_INPUT = 1.1
_MORE_OUTPUT = 1.25
# The share of what is left that calls of unknown length may hold between them, and the replies after which it is half
# of that.
_SHARE = 0.5
_FEW = 16


@dataclass(frozen=True, slots=True)
class Lease:
    """What is set aside for one call.

    Attributes:
        estimate: Tokens of its input, as estimated.
        tokens: Most tokens that it is thought to take, input and output together.
        cost_usd: Most that it is thought to cost, in US dollars.
    """

    estimate: int
    tokens: float
    cost_usd: float


class Budget:
    """The budget of one run: `acquire` before each call, `report` after it. For one event loop; not thread safe.

    A price that is not known cannot be held to a bound: a caller refuses to start when `max_cost_usd` is set and the
    model has no known price, and a reply without a price ends the run here.
    """

    def __init__(
        self,
        *,
        max_cost_usd: float | None = None,
        max_total_tokens: int | None = None,
        max_tokens: int | None = None,
        priced: Callable[[Usage], Usage] = lambda usage: usage,
    ) -> None:
        """Begin a run.

        Args:
            max_cost_usd: Most that it may cost, in US dollars, > 0; None: no bound.
            max_total_tokens: Most tokens, input and output together, > 0; None: no bound.
            max_tokens: Longest output of a call, in tokens, that the server was told of; None: it is not bounded.
            priced: Gives a usage its cost.

        Raises:
            OptionError: A bound that is not a positive number.
        """
        for name, bound in (("max_cost_usd", max_cost_usd), ("max_total_tokens", max_total_tokens)):
            is_number = isinstance(bound, (int, float)) and not isinstance(bound, bool)
            if bound is not None and not (is_number and 0 < bound < math.inf):
                raise OptionError(f"{name} must be a number above 0, not {bound!r}.")
        self._max_cost_usd = max_cost_usd
        self._max_total_tokens = max_total_tokens
        self._max_tokens = max_tokens
        self._priced = priced
        self._tally = UsageSum()
        self._tally.add(Usage(input_tokens=0, output_tokens=0, cached_tokens=0, cost_usd=0.0))
        self._held_tokens = self._held_usd = 0.0
        self._out = 0
        # What was learned; None: nothing has come home.
        self._seen = 0
        self._longest: int | None = None
        self._input_ratio: float | None = None
        self._input_excess = 0.0
        self._cost_ratio = 1.0
        self._dearest_usd = 0.0
        self._turn = asyncio.Lock()  # first come, first served
        self._queue = 0
        self._home: asyncio.Future[None] | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound; without one nothing need be acquired."""
        return self._max_cost_usd is not None or self._max_total_tokens is not None

    @property
    def spent(self) -> Usage:
        """What was charged so far."""
        return self._tally.total

    def allows(self) -> bool:
        """Whether anything is left, leases that are out aside."""
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

    async def acquire(self, estimate: int) -> Lease | None:
        """Wait until the budget covers one more call, whatever becomes of those that are out.

        Args:
            estimate: Tokens of its input, as `estimate_tokens` counts.

        Returns:
            What is set aside for it; None when no call is out and it does not fit.
        """
        if not self._queue and (lease := self._lease(estimate)) is not None:
            return lease
        self._queue += 1
        try:
            async with self._turn:
                while (lease := self._lease(estimate)) is None and self._out:
                    self._home = asyncio.get_running_loop().create_future()
                    await self._home
                return lease
        finally:
            self._queue -= 1

    def report(self, lease: Lease, usage: Usage | None) -> None:
        """Give a lease back; whoever waits looks again.

        Args:
            lease: What was set aside.
            usage: What the call took, with its cost; None: it brought no reply, or was not sent.
        """
        self._out -= 1
        self._held_tokens -= lease.tokens
        self._held_usd -= lease.cost_usd
        if not self._out:
            self._held_tokens = self._held_usd = 0.0  # what rounding has left
        if usage is not None:
            self._tally.add(usage)
            self._learn(lease.estimate, usage)
        if self._home is not None and not self._home.done():
            self._home.set_result(None)

    def shortfall(self, estimate: int) -> str:
        """Why such a call does not fit, and how to go on, in words."""
        spent = self.spent
        taken = f"{self._tally.tokens:,} tokens"
        if self._max_total_tokens is not None:
            taken += f" of max_total_tokens={self._max_total_tokens}"
        if self._max_cost_usd is not None and spent.cost_usd is None:
            return f"The budget of the run cannot be kept: a reply came without a price. It took {taken}."
        if self._max_cost_usd is not None:
            taken += f" and ${spent.cost_usd:.4f} of max_cost_usd={self._max_cost_usd:g}"
        elif spent.cost_usd:
            taken += f" and ${spent.cost_usd:.4f}"
        tokens, cost_usd = self._most(estimate)
        if not self.allows():
            return f"The budget of the run is spent: {taken}. Allow more to go on."
        needs = f"${cost_usd:.4f}" if cost_usd > self._left_usd else f"{math.ceil(tokens):,} tokens"
        why = "" if self._max_tokens is None else f" with max_tokens={self._max_tokens}"
        return f"The budget of the run is spent: {taken}; the next call may take {needs}{why}. Allow more to go on."

    # The arithmetic -----------------------------------------------------------------------------------------------

    def _lease(self, estimate: int) -> Lease | None:
        """Set aside what a call may take; None when that is not there."""
        if not self.allows() or (self._longest is None and self._out >= _BLIND):
            return None
        tokens, cost_usd = self._most(estimate)
        is_guess = self._max_tokens is None and self._out > 0
        share = _SHARE * (self._seen + 1) / (self._seen + _FEW) if is_guess else 1.0
        is_covered = (
            self._held_tokens + tokens <= share * self._left_tokens
            and self._held_usd + cost_usd <= share * self._left_usd
        )
        if not is_covered and (self._out or not self._is_likely_covered(estimate)):
            return None
        self._out += 1
        self._held_tokens += tokens
        self._held_usd += cost_usd
        return Lease(estimate, tokens, cost_usd)

    def _is_likely_covered(self, estimate: int) -> bool:
        """Whether the very first call is covered if its input is what it is estimated to be."""
        if self._longest is not None:
            return False
        tokens, cost_usd = self._cost(estimate)
        return tokens <= self._left_tokens and cost_usd <= self._left_usd

    def _most(self, estimate: int) -> tuple[float, float]:
        """Tokens and US dollars that a call is thought to take at most."""
        return self._cost(math.ceil(self._input(estimate)))

    def _cost(self, sent: int) -> tuple[float, float]:
        """The same for a call whose input is known."""
        came = max(self._max_tokens or 0, math.ceil((self._longest or 0) * (1 if self._max_tokens else _MORE_OUTPUT)))
        if self._max_cost_usd is None:
            return sent + came, 0.0
        price = self._price(sent, came)
        cost_usd = _MORE_OUTPUT * self._dearest_usd if price is None else price * self._cost_ratio
        return sent + came, cost_usd

    def _input(self, estimate: int) -> float:
        """Tokens that an input of this estimate takes at most."""
        most = _BYTES_A_TOKEN * estimate
        if self._input_ratio is None:
            return most
        # A server's own system message adds as much to each call, however short its prompt is.
        return min(estimate * self._input_ratio * _MORE_INPUT, most + self._input_excess)

    def _price(self, sent: int, came: int) -> float | None:
        """The price of so many tokens; None when it is not known."""
        return self._priced(Usage(input_tokens=sent, output_tokens=came)).cost_usd

    def _learn(self, estimate: int, usage: Usage) -> None:
        """See how a call compares with what was thought of it."""
        sent, came = usage.input_tokens or 0, usage.output_tokens or 0
        self._seen += 1
        self._longest = max(self._longest or 0, came)
        self._input_ratio = max(self._input_ratio or 0.0, sent / max(estimate, 1))
        self._input_excess = max(self._input_excess, sent - estimate)
        if usage.cost_usd is not None and self._max_cost_usd is not None:
            self._dearest_usd = max(self._dearest_usd, usage.cost_usd)
            if price := self._price(sent, came):
                self._cost_ratio = max(self._cost_ratio, usage.cost_usd / price)


def counted(reply: Reply, messages: tuple[Message, ...], priced: Callable[[Usage], Usage]) -> Usage:
    """The usage of a reply for a budget: what the server does not count is estimated, or no bound could be kept.

    Args:
        reply: The reply.
        messages: What was sent.
        priced: Gives a usage its cost.
    """
    usage = reply.usage
    sent, came = usage.input_tokens, usage.output_tokens
    if sent is not None and came is not None:
        return usage
    estimated = Usage(
        input_tokens=estimate_tokens(messages) if sent is None else sent,
        output_tokens=estimate_tokens((Message("assistant", reply.text),)) if came is None else came,
        cached_tokens=usage.cached_tokens,
        cost_usd=usage.cost_usd,
    )
    return priced(estimated)
