"""What a run over rows tells of itself while it goes on: where it stands, and the rows that are done."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import AichatError
from ..core.messages import Reply
from ..core.usage import Usage
from ..text.numbers import money


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        rows: Rows in all, None while it is not known.
        done: Rows that have their reply, their error, or nothing to ask.
        hits: Rows answered from the store or by an equal row of this run.
        errors: Rows that failed.
        missing: Rows with nothing to ask.
        calls: Requests sent, retries included.
        in_flight: Requests out now.
        concurrency: Most requests out at once, as it stands now.
        usage: What the replies of this run took; hits cost nothing.
        elapsed_s: Seconds since the run began.
        away_s: For how many seconds the server could not be reached now; 0: it can.
        try_every_s: How often that is tried, in seconds.
        is_last: Whether the run is over.
    """

    rows: int | None = None
    done: int = 0
    hits: int = 0
    errors: int = 0
    missing: int = 0
    calls: int = 0
    in_flight: int = 0
    concurrency: int = 0
    usage: Usage = field(default_factory=Usage)
    elapsed_s: float = 0.0
    away_s: float = 0.0
    try_every_s: float = 0.0
    is_last: bool = False

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Names and values, in the order in which they are read."""
        usage = self.usage
        cost = money(usage.cost_usd if self.calls else 0.0)
        rate = self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0
        found = [
            ("rows", f"{self.done:,}" + (f" of {self.rows:,}" if self.rows not in (None, self.done) else "")),
            ("time", f"{self.elapsed_s:.1f} s, {rate:,.{0 if rate >= 100 else 1}f} rows/s"),
            ("calls", f"{self.calls:,}"),
            ("tokens", f"{usage.input_tokens or 0:,} + {usage.output_tokens or 0:,}"),
            ("cost", cost),
        ]
        others = (("hits", self.hits), ("missing", self.missing), ("errors", self.errors))
        return (*found, *((name, f"{count:,}") for name, count in others if count))

    def __str__(self) -> str:
        """One line, without what goes without saying: one call for each row, a price that nobody knows."""
        facts = dict(self.facts())
        rows, time_, calls, cost = facts.pop("rows"), facts.pop("time"), facts.pop("calls"), facts.pop("cost")
        is_plain = self.calls == self.done - self.hits - self.missing
        parts = [f"{rows} rows", time_, *([] if is_plain else [f"{calls} calls"]), f"{facts.pop('tokens')} tokens"]
        parts += [] if cost == "unknown" else [cost]
        return " · ".join(parts + [f"{count} {name}" for name, count in facts.items()])


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row that is done.

    Attributes:
        row: Its position, from 0.
        reply: Its reply, or None.
        error: The error it ended with, or None.
        is_hit: Whether the reply came from the store or from an equal row.
    """

    row: int
    reply: Reply | None
    error: AichatError | None
    is_hit: bool
