"""What rate limits and ramps cost in virtual time, over many kinds of servers; real sockets are in `faults.py`.

    python benchmarks/limits.py

A server admits 60 requests a second and answers 429 with ``Retry-After: 1`` beyond; 1,000 rows, ``auto``. Goals: no row
lost, at most 1.06 calls per row, at least 90 % of the admitted rate. A bucket may pass 100 %: what was saved up at the
start counts too. Quick refusals: after 3 ms, whatever an answer takes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import Report, Table, arguments

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from simulation import Gate, Result, bucket, fixed_window, random_faults, simulate

RATE = 60
ROWS = 1000
SEEDS = 8

GATES: dict[str, Callable[[int], Gate]] = {
    "60 in each second": lambda n: fixed_window(RATE, phase_s=n / SEEDS),
    "same, exact Retry-After": lambda n: fixed_window(RATE, phase_s=n / SEEDS, retry_after_s=None),
    "bucket of 60": lambda n: bucket(RATE, RATE),
    "bucket of 30": lambda n: bucket(RATE, RATE / 2),
    "bucket of 1": lambda n: bucket(RATE, 1),
}
LATENCIES: dict[str, Callable[[random.Random], float]] = {
    "20 ms": lambda dice: 0.02,
    "100 ms": lambda dice: 0.1,
    "300 ms": lambda dice: 0.3,
    "20-300 ms": lambda dice: dice.uniform(0.02, 0.3),
}
RAMPS: dict[str, dict[str, Any]] = {
    "50 ms": {"latency": lambda dice: 0.05, "busy_s": 0.0004},
    "0 ms": {"latency": lambda dice: 0.0, "busy_s": 0.0006},
    "200 ms, 16 slots": {"latency": lambda dice: dice.uniform(0.15, 0.25), "slots": 16},
    "50 ms, 5 % 429 and 4 % 500 at random": {"latency": lambda dice: 0.05, "busy_s": 0.0004, "fault": random_faults(1)},
    "1 s, 5 % 429 and 4 % 500 at random": {"latency": lambda dice: dice.uniform(0.5, 1.5), "fault": random_faults(1)},
}


def cells(runs: list[Result]) -> list[str]:
    """Calls per row and share of the rate, worst and mean; rows lost."""
    calls = [run.calls / ROWS for run in runs]
    rates = [ROWS / run.seconds / RATE for run in runs]
    means = sum(calls) / len(runs), sum(rates) / len(runs)
    lost = sum(run.lost for run in runs)
    return [f"{max(calls):.3f}", f"{means[0]:.3f}", f"{min(rates):.0%}", f"{means[1]:.0%}", str(lost)]


def rates() -> Table:
    """Servers with a rate limit."""
    table = Table(
        "server", "latency", "refusals", "calls per row, worst", "mean", "of the rate, worst", "mean of it", "lost"
    )
    for gate_name, gate in GATES.items():
        for latency_name, latency in LATENCIES.items():
            for refusal_s in (None, 0.003):
                runs = [
                    simulate(ROWS, gate=gate(n), latency=latency, refusal_s=refusal_s, seed=n) for n in range(SEEDS)
                ]
                table.add(gate_name, latency_name, "quick" if refusal_s else "alike", *cells(runs))
    return table


def ramps() -> Table:
    """Servers without one: how soon a run is at its speed."""
    table = Table("server", "seconds", "calls", "most at once", "lost")
    for title, options in RAMPS.items():
        run = simulate(2000, **options)
        table.add(title, f"{run.seconds:.2f}", f"{run.calls:,}", run.most_at_once, run.lost)
    return table


def main() -> None:
    """Simulate, and print the tables."""
    options = arguments(__doc__)
    report = Report("limits", "Rate limits in virtual time: `python benchmarks/limits.py`")
    report.text(
        f"{ROWS:,} rows, `auto`, servers that admit {RATE} requests a second; {SEEDS} runs each. Goal: none lost, at "
        "most 1.06 calls a row, at least 90 % of the rate."
    )
    report.table(rates())
    report.text("2,000 rows, no limit on the rate:")
    report.table(ramps())
    report.finish(options)


if __name__ == "__main__":
    main()
