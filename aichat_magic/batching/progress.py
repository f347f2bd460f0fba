"""Events of a run: its progress, and the result of each row."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import AichatError
from ..core.messages import Reply
from ..core.usage import Usage
from ..text.numbers import money


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a run.

    Attributes:
        rows: Number of all rows; None while it is unknown.
        done: Rows with a reply, an error, or a missing value.
        hits: Rows answered from the store, and duplicates of another row of this run.
        errors: Rows that failed.
        missing: Rows with a missing value: they send nothing.
        cut: Rows whose reply was cut by a limit of its tokens, such as `max_tokens`.
        calls: Requests sent, including retries.
        in_flight: Requests in flight now.
        concurrency: Current limit of requests in flight.
        usage: Usage of the replies of this run; hits cost nothing.
        elapsed_s: Seconds since the run began.
        away_s: Seconds since the server became unreachable; 0 while it can be reached.
        try_every_s: Seconds between two attempts to reach it.
        pause_s: Seconds until the next call is sent, if all of them wait because of the server; else 0.
        pause_reason: ``"limit"``: its limit is reached; ``"loading"``: it is loading the model; empty: no call waits.
        is_last: Whether the run is over.
    """

    rows: int | None = None
    done: int = 0
    hits: int = 0
    errors: int = 0
    missing: int = 0
    cut: int = 0
    calls: int = 0
    in_flight: int = 0
    concurrency: int = 0
    usage: Usage = field(default_factory=Usage)
    elapsed_s: float = 0.0
    away_s: float = 0.0
    try_every_s: float = 0.0
    pause_s: float = 0.0
    pause_reason: str = ""
    is_last: bool = False

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return names and values to show, in order."""
        usage = self.usage
        cost = money(usage.cost_usd if self.calls else 0.0)
        rate = self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0
        found = [
            ("rows", f"{self.done:,}" + (f" of {self.rows:,}" if self.rows not in (None, self.done) else "")),
            ("time", f"{self.elapsed_s:.1f} s, {rate:,.{0 if rate >= 100 else 1}f} rows/s"),
            ("calls", f"{self.calls:,}"),
            (
                "tokens",
                f"{usage.input_tokens or 0:,} + {usage.output_tokens or 0:,}{usage.details and f' ({usage.details})'}",
            ),
            ("cost", cost),
        ]
        others = (("hits", self.hits), ("missing", self.missing), ("cut", self.cut), ("errors", self.errors))
        return (*found, *((name, f"{count:,}") for name, count in others if count))

    def __str__(self) -> str:
        """Return one line, without the calls if there was one for each row, and without an unknown cost."""
        facts = dict(self.facts())
        rows, time_, calls, cost = facts.pop("rows"), facts.pop("time"), facts.pop("calls"), facts.pop("cost")
        is_plain = self.calls == self.done - self.hits - self.missing
        parts = [f"{rows} rows", time_, *([] if is_plain else [f"{calls} calls"]), f"{facts.pop('tokens')} tokens"]
        parts += [] if cost == "unknown" else [cost]
        return " · ".join(parts + [f"{count} {name}" for name, count in facts.items()])


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of one row.

    Attributes:
        row: Its position, from 0.
        reply: Its reply, or None.
        error: Its error, or None.
        is_hit: Whether the reply came from the store, or the row is a duplicate of another one.
    """

    row: int
    reply: Reply | None
    error: AichatError | None
    is_hit: bool
