"""What faults and rate limits cost: rows right, rows lost, calls sent, seconds; ours and the peers.

    python benchmarks/faults.py                                # all of it; half an hour
    python benchmarks/faults.py --only ours openai        # a few
    python benchmarks/faults.py --tables faults                # of faults, rates, limits, cut

Faults: 5 % of the attempts meet a 429 with Retry-After 1, 3 % a 500, 1 % a reset connection and 0.5 % silence; every
library has a timeout of 5 s and its own retries. Who meets what is a function of the prompt and the attempt, so that
everybody meets the same. Rates: a server that admits 60 requests a second and answers 429 with Retry-After 1 beyond.
Limits: the same, and the wait stands in the body, in another header, in words or nowhere, or the level in bare numbers.
Each run is a new process in the peer's own environment; 64 in flight, and ours also as it decides by itself. Each
table is a section of RESULTS.md of its own, written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from environments import PEERS, PeerError, add_arguments, answer_rows, versions_of
from peers.rows import prompt_of
from report import Report, Table, arguments
from server import Plan, calls_needed, serving

OURS = ("ours", "ours-auto")
# They retry nothing: every fault is a row lost.
WITHOUT = ("httpx", "httpx2", "httpx-aiohttp", "httpx-pyreqwest", "aiohttp")
TIMEOUT_S = 5
TABLES = ("faults", "cut", "rates", "limits")
RATES = (
    ("window", 0.0, "60 in each second of the clock"),
    ("bucket", 0.0, "a bucket of 60 that refills evenly"),
)
OWN_RATES = (
    ("window", 0.02, "60 in each second"),
    ("window", 0.3, "60 in each second"),
    ("bucket", 0.02, "a bucket of 60"),
    ("bucket", 0.3, "a bucket of 60"),
)


LIMITS = (
    ("body", "window", "the wait in the body, as Google's"),
    ("reset", "window", "the wait in x-ratelimit-reset-requests"),
    ("words", "window", "the wait in words"),
    ("nothing", "window", "no wait named"),
    ("bare", "bucket", "the level in bare milliseconds on every answer, as Azure's, no wait named"),
)


def calls_of(counts: dict[str, Any], rows: int) -> int:
    """How often the rows were sent, without the warm-up."""
    return sum(counts["calls"].get(prompt_of(number), 0) for number in range(rows))


def compete(table: Table, options: argparse.Namespace, rows: int, needed: int, plan: dict[str, Any]) -> None:
    """One line for everybody, in the order of rows lost and of seconds."""
    lines = []
    with serving(**plan) as server:
        for name in options.only:
            title = PEERS[name].title
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
                            in_flight=64,
                            timeout_s=TIMEOUT_S,
                            process_timeout_s=options.patience,
                        )
                    )
                    counts = server.counts()
                    calls.append(calls_of(counts, rows))
            except PeerError as error:
                lines.append(((rows + 1, 0.0), (title, str(error), "", "", "", "")))
                print(f"  {title}: {error}", file=sys.stderr)
                continue
            right, seconds = min(one.right for one in done), statistics.median(one.seconds for one in done)
            called = statistics.median(calls)
            cells = (
                title,
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


def faults(options: argparse.Namespace, mix: str, title: str, command: str) -> None:
    """The mix of faults."""
    needed = calls_needed(Plan(faults=mix), [prompt_of(number) for number in range(options.rows)])
    table = Table("", "right", "lost", "calls", "over the least", "seconds")
    report = Report(
        f"faults-{command}", f"{title}, {options.rows:,} rows: `python benchmarks/faults.py --tables {command}`"
    )
    compete(table, options, options.rows, needed, {"faults": mix})
    report.text(
        f"{opening(options)} Timeout {TIMEOUT_S} s. The least number of calls that answers every row is {needed:,}: "
        "each attempt up to the one that meets no fault. Where rows are lost, fewer calls are no merit."
    )
    report.table(table)
    report.used(versions_of(options.only, options.venvs))
    report.finish(options)


def opening(options: argparse.Namespace) -> str:
    """What holds for all tables."""
    return (
        "Every library with its own retries and 64 in flight; `auto`: as ours decides by itself. Ours: the median of "
        f"{options.rounds} runs for calls and seconds, the worst for rows. Calls: how often rows were sent. "
        "openaivec's grouping asks for many rows in one request, which meets faults and limits once for all of them."
    )


def rates(options: argparse.Namespace) -> None:
    """The servers that admit 60 requests a second."""
    rows = options.rate_rows
    report = Report(
        "faults-rates", "Servers that admit 60 requests a second: `python benchmarks/faults.py --tables rates`"
    )
    report.text(f"{rows:,} rows, Retry-After 1 beyond the rate, no latency. {opening(options)}")
    for rate, latency_s, title in RATES:
        table = Table("", "right", "lost", "calls", "over the least", "seconds")
        compete(table, options, rows, rows, {"rate": rate, "latency_s": latency_s})
        least = (
            f"{(rows - 60) / 60:.1f} s, for the bucket is full at first" if rate == "bucket" else f"{rows / 60:.1f} s"
        )
        report.text(f"### {title[0].upper()}{title[1:]}\n\nAt this rate they take {least}.")
        report.table(table)
    if "ours-auto" in options.only:
        report.text("### Ours, auto, at other latencies (goal: at most 1.06 calls a row, 90 % of the rate)")
        report.table(own_rates(options, rows))
    report.used(versions_of(options.only, options.venvs))
    report.finish(options)


def limits(options: argparse.Namespace) -> None:
    """The ways in which servers tell how long to wait."""
    rows = options.rows
    report = Report(
        "faults-limits",
        f"Limits told in other ways, {rows:,} rows: `python benchmarks/faults.py --tables limits`",
    )
    report.text(
        "60 requests in each second of the clock (the last one: a bucket of 60 that refills evenly), 50 ms latency, "
        f"429 beyond. {opening(options)} Goal for ours: every row right, at most 1.06 calls a row."
    )
    for tells, rate, title in LIMITS:
        table = Table("", "right", "lost", "calls", "over the least", "seconds")
        compete(table, options, rows, rows, {"rate": rate, "latency_s": 0.05, "tells": tells})
        report.text(f"### {title[0].upper()}{title[1:]}")
        report.table(table)
    report.used(versions_of(options.only, options.venvs))
    report.finish(options)


def own_rates(options: argparse.Namespace, rows: int) -> Table:
    """Ours at other latencies."""
    table = Table("", "latency", "right", "calls per row", "of the rate")
    for rate, latency_s, title in OWN_RATES:
        done, calls = [], []
        with serving(rate=rate, latency_s=latency_s) as server:
            for _ in range(options.rounds):
                server.reset()
                done.append(
                    answer_rows(PEERS["ours-auto"], options.venvs, server.url, rows=rows, in_flight=64, timeout_s=30)
                )
                calls.append(calls_of(server.counts(), rows))
        share = statistics.median(one.rows_per_s for one in done) / 60
        called = statistics.median(calls) / rows
        right = min(one.right for one in done)
        table.add(title, f"{latency_s * 1000:.0f} ms", f"{right:,}", f"{called:.3f}", f"{share:.0%}")
    return table


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    add_arguments(parser)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rate-rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3, help="of ours; of the others one")
    parser.add_argument("--patience", type=float, default=240, metavar="S")


def main() -> None:
    """Measure, and print the tables."""
    options = arguments(__doc__, more)
    options.only = [name for name in options.only if name not in WITHOUT]
    if "faults" in options.tables:
        faults(options, "mix", "5 % 429 with Retry-After 1, 3 % 500, 1 % resets, 0.5 % hangs", "faults")
    if "cut" in options.tables:
        only = argparse.Namespace(**{**vars(options), "only": [name for name in options.only if name in OURS]})
        faults(only, "mix and cut JSON", "The same and 2 % JSON that breaks off", "cut")
    if "rates" in options.tables:
        rates(options)
    if "limits" in options.tables:
        limits(options)


if __name__ == "__main__":
    main()
