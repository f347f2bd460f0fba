"""Estimate of a run: how many requests it would send, with how many tokens and at what cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..core.errors import AichatError
from ..core.messages import estimate_tokens
from ..core.usage import Usage
from ..text.numbers import counted
from .options import BatchPlan, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The estimate of a run.

    Attributes:
        rows: Number of all rows.
        missing: Rows with a missing value: they send nothing.
        unique: Unique requests.
        stored: Unique requests whose reply is in the store.
        input_tokens: Approximate input tokens of the other requests, as counted by `estimate_tokens`.
        cost_usd: Cost of these tokens in US dollars, without the replies; None if the price is unknown.
        tier: The service tier whose price that is; empty: the normal one.
    """

    rows: int
    missing: int
    unique: int
    stored: int
    input_tokens: int
    cost_usd: float | None
    tier: str = ""

    def __str__(self) -> str:
        """Return one line."""
        cost = "unknown" if self.cost_usd is None else f"${self.cost_usd:.4f} plus the replies"
        if self.tier:
            cost += f" (tier {self.tier})"
        return (
            f"{counted(self.rows, 'row')}, {self.missing:,} missing, {self.unique:,} unique, "
            f"{self.stored:,} already stored: "
            f"{counted(self.unique - self.stored, 'request')} with about {self.input_tokens:,} tokens, cost {cost}. "
            f"Nothing was sent."
        )

    __repr__ = __str__


async def estimate_run(plan: BatchPlan, rows: Iterable[Row]) -> Estimate:
    """Count what a run would send. Sends nothing.

    Args:
        plan: The plan of the run.
        rows: Its rows.
    """
    keys = plan.keys()
    n_rows = n_missing = 0
    tokens: dict[bytes, int] = {}
    for row in rows:
        n_rows += 1
        if row is None:
            n_missing += 1
        if row is None or isinstance(row, AichatError):
            continue
        messages = plan.messages(row)
        tokens.setdefault(keys.key(messages), estimate_tokens(messages))
    n_unique = len(tokens)
    if plan.store is not None and not plan.is_fresh:
        for key in await plan.store.get(list(tokens)):
            del tokens[key]
    n_tokens = sum(tokens.values())
    return Estimate(
        rows=n_rows,
        missing=n_missing,
        unique=n_unique,
        stored=n_unique - len(tokens),
        input_tokens=n_tokens,
        cost_usd=plan.call.priced(Usage(input_tokens=n_tokens, output_tokens=0)).cost_usd,
        tier=plan.call.billed_tier,
    )
