"""What faults and rate limits cost: rows right, rows lost, calls sent, seconds; ours and the peers.

    python benchmarks/faults.py                                # all of it; half an hour
    python benchmarks/faults.py --only ours openai        # a few
    python benchmarks/faults.py --tables faults                # of faults, rates, cut

Faults: 5 % of the attempts meet a 429 with Retry-After 1, 3 % a 500, 1 % a reset connection and 0.5 % silence; every
library has a timeout of 5 s and its own retries. Who meets what is a function of the prompt and the attempt, so that
everybody meets the same. Rates: a server that admits 60 requests a second and answers 429 with Retry-After 1 beyond.
Each run is a new process in the peer's own environment; 64 in flight, and ours also as it decides by itself.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from environments import PEERS, Environment, PeerError, add_arguments, answer_rows
from peers.rows import prompt_of
from report import Report, Table, arguments
from server import Plan, calls_needed, serving

OURS = ("ours", "fast")
# They retry nothing: every fault is a row lost.
WITHOUT = ("httpx", "httpx2", "httpx-aiohttp", "aiohttp")
TIMEOUT_S = 5
RATES = (
    ("window", 0.0, "60 in each second"),
    ("bucket", 0.0, "a bucket of 60"),
)
OWN_RATES = (("window", 0.02), ("window", 0.3), ("bucket", 0.02), ("bucket", 0.3))


def contestants(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Names and how many in flight; 0: as it decides."""
    asked = [(name, 64) for name in options.only]
    return [*((name, 0) for name in options.only if name in OURS), *asked]


def label(name: str, in_flight: int) -> str:
    """In the tables."""
    return PEERS[name].title + ("" if in_flight else ", auto")


def calls_of(counts: dict[str, Any], rows: int) -> int:
    """How often the rows were sent, without the warm-up."""
    return sum(counts["calls"].get(prompt_of(number), 0) for number in range(rows))


def compete(table: Table, options: argparse.Namespace, rows: int, needed: int, plan: dict[str, Any]) -> None:
    """One line for everybody, in the order of rows lost and of seconds."""
    lines = []
    with serving(**plan) as server:
        for name, in_flight in contestants(options):
            done, calls = [], []
            try:
                for _ in range(options.rounds if name in OURS else 1):
                    server.reset()
                    done.append(
                        answer_rows(
                            PEERS[name],
                            options.venvs,
                            server.url,
                            rows=rows,
                            in_flight=in_flight,
                            timeout_s=TIMEOUT_S,
                            process_timeout_s=options.patience,
                        )
                    )
                    counts = server.counts()
                    calls.append(calls_of(counts, rows))
            except PeerError as error:
                lines.append(((rows + 1, 0.0), (label(name, in_flight), str(error), "", "", "", "")))
                print(f"  {label(name, in_flight)}: {error}", file=sys.stderr)
                continue
            right, seconds = min(one.right for one in done), statistics.median(one.seconds for one in done)
            called = statistics.median(calls)
            cells = (
                label(name, in_flight),
                f"{right:,}",
                f"{rows - right:,}",
                f"{called:,.0f}",
                f"{called / needed - 1:+.1%}",
                f"{seconds:.1f}",
            )
            lines.append(((rows - right, seconds), cells))
            print("  " + ", ".join(cells) + (f" ({done[0].error})" if done[0].error else ""), file=sys.stderr)
    for _, cells in sorted(lines, key=lambda line: line[0]):
        table.add(*cells)


def faults(report: Report, options: argparse.Namespace, mix: str, title: str) -> None:
    """The mix of faults."""
    needed = calls_needed(Plan(faults=mix), [prompt_of(number) for number in range(options.rows)])
    table = Table("", "right", "lost", "calls", "over the least", "seconds")
    compete(table, options, options.rows, needed, {"faults": mix})
    report.text(
        f"### {title}, {options.rows:,} rows\n\n"
        f"Timeout 5 s. The least number of calls that answers every row is {needed:,}: each attempt up "
        "to the one that meets no fault. Where rows are lost, fewer calls are no merit."
    )
    report.table(table)


def rates(report: Report, options: argparse.Namespace) -> None:
    """The servers that admit 60 requests a second."""
    rows = options.rate_rows
    for rate, latency_s, title in RATES:
        table = Table("", "right", "lost", "calls", "over the least", "seconds")
        compete(table, options, rows, rows, {"rate": rate, "latency_s": latency_s})
        report.text(
            f"### A server that admits {title}, Retry-After 1 beyond, {rows:,} rows\n\n"
            f"At 60 rows a second they take {rows / 60:.1f} s"
            + (f", and {(rows - 60) / 60:.1f} s where the bucket is full at first." if rate == "bucket" else ".")
        )
        report.table(table)
    own = Table("", "latency", "", "right", "calls per row", "of the rate")
    for name in (name for name in OURS if name in options.only):
        for rate, latency_s in OWN_RATES:
            with serving(rate=rate, latency_s=latency_s) as server:
                done = answer_rows(PEERS[name], options.venvs, server.url, rows=rows, in_flight=0, timeout_s=30)
                calls = calls_of(server.counts(), rows)
            own.add(
                PEERS[name].title,
                f"{latency_s * 1000:.0f} ms",
                rate,
                f"{done.right:,}",
                f"{calls / rows:.3f}",
                f"{done.rows_per_s / 60:.0%}",
            )
    report.text("### The same at other latencies, ours, auto (goal: at most 1.06 calls a row, 90 % of the rate)")
    report.table(own)


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    add_arguments(parser)
    parser.add_argument("--tables", nargs="+", choices=["faults", "cut", "rates"], default=["faults", "cut", "rates"])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rate-rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3, help="of ours; of the others one")
    parser.add_argument("--patience", type=float, default=240, metavar="S")


def main() -> None:
    """Measure, and print the tables."""
    options = arguments(__doc__, more)
    options.only = [name for name in options.only if name not in WITHOUT]
    report = Report("faults", "Faults and rate limits: `python benchmarks/faults.py`")
    report.text(
        "Every library with its own retries and 64 in flight; `auto`: as ours decides by itself. Ours: the median of "
        f"{options.rounds} runs for calls and seconds, the worst for rows. Calls: how often rows were sent."
    )
    if "faults" in options.tables:
        faults(report, options, "mix", "5 % 429 with Retry-After 1, 3 % 500, 1 % resets, 0.5 % hangs")
    if "cut" in options.tables:
        only = replace_only(options, [name for name in options.only if name in OURS])
        faults(report, only, "mix and cut JSON", "The same and 2 % JSON that breaks off")
    if "rates" in options.tables:
        rates(report, options)
    for name in options.only:
        try:
            report.used(Environment(PEERS[name].environment, options.venvs).versions())
        except PeerError:
            continue
    report.finish(options)


def replace_only(options: argparse.Namespace, only: list[str]) -> argparse.Namespace:
    """The same options for others."""
    return argparse.Namespace(**{**vars(options), "only": only})


if __name__ == "__main__":
    main()
