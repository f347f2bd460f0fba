"""Rows per second of ours and of the peers, side by side, and the scaling law.

    python benchmarks/throughput.py                                    # all of it; an hour and a half
    python benchmarks/throughput.py --only ours httpx aiohttp          # a few
    python benchmarks/throughput.py --quick                            # a few, 2,000 rows: two minutes
    python benchmarks/throughput.py --rows --law in-flight             # only the law over concurrency
    python benchmarks/throughput.py --rows 2000 --law --latency 0 --in-flight 64 --rounds 5 --only ours

Every run is a new process in the peer's own environment (`environments.py`); the store of ours is its default, a SQLite
file. Runs are interleaved: in each round everybody runs once, so that what else the machine does meets all alike. The
tables have medians; ratios are the medians of the ratios within a round. CPU is the client's alone. A run that needs
more than `--patience` seconds beyond what the latency makes of it is given up. Each table is a section of RESULTS.md of
its own, written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import PEERS, Environment, Outcome, PeerError, add_arguments, answer_rows, versions_of
from report import Report, Table, arguments
from server import serving

QUICK = ["ours", "ours-auto", "httpx-aiohttp", "aiohttp", "httpx"]
SCALED = ["ours", "aiohttp"]
SCALES = (8, 64, 256, 512)
# Seconds that few in flight take at 50 ms are arithmetic, so that fewer rows must do there.
SCALE_ROWS = {True: 5_000, False: 20_000}
GROWTH = (1_000, 10_000, 100_000)
GOAL = "goal: flat within 20 %"


@dataclass(frozen=True)
class Case:
    """Who answers how many rows, how many at once."""

    name: str
    rows: int
    in_flight: int

    @property
    def title(self) -> str:
        """In the tables."""
        return PEERS[self.name].title


Told = dict[Case, list[Outcome]]


def measure(
    cases: Sequence[Case], venvs: Path, *, latency_s: float, rounds: int, patience_s: float
) -> tuple[Told, dict[Case, str]]:
    """Let every case run, a few times in turn.

    Returns:
        The outcomes by case, one for each round; and the reason, for those who cannot.
    """
    outcomes: Told = defaultdict(list)
    reasons: dict[Case, str] = {}
    with serving(latency_s=latency_s) as server:
        for turn in range(rounds):
            # Whoever goes first does not always go first.
            at = turn % len(cases)
            for case in (*cases[at:], *cases[:at]):
                if case in reasons:
                    continue
                server.reset()
                begin = time.perf_counter()
                # Few in flight at a long latency take their time by arithmetic: nobody is given up for that.
                wait_s = patience_s + 2 * case.rows * latency_s / case.in_flight
                try:
                    done = answer_rows(
                        PEERS[case.name],
                        venvs,
                        server.url,
                        rows=case.rows,
                        in_flight=case.in_flight,
                        process_timeout_s=wait_s,
                    )
                except PeerError as error:
                    reasons[case] = str(error)
                    print(f"  {case}: {error}", file=sys.stderr)
                    continue
                if done.error:
                    reasons[case] = done.error
                outcomes[case].append(done)
                print(
                    f"  {latency_s * 1000:.0f} ms, round {turn + 1}: {case} {done.rows_per_s:,.0f} rows/s, "
                    f"{cost(done) * 1000:.3f} CPU s per 1,000, {done.right} right, "
                    f"{time.perf_counter() - begin:.0f} s in all",
                    file=sys.stderr,
                )
    return outcomes, reasons


def cost(done: Outcome) -> float:
    """CPU seconds of a row."""
    return done.cpu_s / done.rows


def median_cost(done: Sequence[Outcome]) -> float:
    """CPU seconds of 1,000 rows, at the median."""
    return statistics.median(map(cost, done)) * 1000


def rate(done: Sequence[Outcome]) -> float:
    """Rows a second at the median; 0 without any."""
    return statistics.median(one.rows_per_s for one in done) if done else 0.0


def ratio(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> str:
    """How many times as fast, at the median of the rounds."""
    if not ours or not theirs:
        return ""
    pairs = zip(ours, theirs, strict=False)
    value = statistics.median(one.rows_per_s / max(other.rows_per_s, 1e-9) for one, other in pairs)
    return f"{value:.2f}"


def side_by_side(report: Report, options: argparse.Namespace, rows: int, latency_s: float, rounds: int) -> None:
    """One table: everybody, at one latency."""
    in_flight = options.in_flight
    cases = {name: Case(name, rows, in_flight) for name in options.only}
    outcomes, reasons = measure(
        list(cases.values()), options.venvs, latency_s=latency_s, rounds=rounds, patience_s=options.patience
    )
    table = Table("", "rows/s", "x httpx", "x bare aiohttp", "CPU s per 1,000", "peak RSS, MB", "grown, MB", "right")
    for case in sorted(cases.values(), key=lambda case: -rate(outcomes[case])):
        done = outcomes[case]
        if not done:
            table.add(case.title, reasons.get(case, ""), *[""] * 6)
            continue
        ratios = [ratio(done, outcomes[cases[name]]) if name in cases else "" for name in ("httpx", "aiohttp")]
        table.add(
            case.title,
            f"{rate(done):,.0f}",
            *ratios,
            f"{median_cost(done):.2f}",
            f"{statistics.median(one.peak_bytes for one in done) / 1e6:.0f}",
            f"{statistics.median(one.peak_bytes - one.before_bytes for one in done) / 1e6:.0f}",
            f"{min(one.right for one in done):,}",
        )
    ideal = f"; no client with {in_flight} in flight can pass {in_flight / latency_s:,.0f} rows/s" if latency_s else ""
    report.text(
        f"### {rows:,} rows, latency {latency_s * 1000:.0f} ms, {in_flight} in flight\n\nMedian of {rounds}{ideal}."
    )
    report.table(table)


def law(
    report: Report, options: argparse.Namespace, first: str, steps: Sequence[tuple[int, int]], latency_s: float
) -> None:
    """One table: rows per second and CPU per row, while one number grows.

    Args:
        report: Gets the table.
        options: Of the command line.
        first: Title of the first column.
        steps: Rows, and how many in flight; whichever of both differs is what the first column shows.
        latency_s: Of the server.
    """
    names = [name for name in SCALED if name in options.only]
    cases = [Case(name, rows, in_flight) for rows, in_flight in steps for name in names]
    outcomes, _ = measure(cases, options.venvs, latency_s=latency_s, rounds=options.rounds, patience_s=options.patience)
    titles = [f"{PEERS[name].title}, {unit}" for name in names for unit in ("rows/s", "CPU s per 1,000")]
    table = Table(first, *titles)
    is_by_rows = len({rows for rows, _ in steps}) > 1
    for rows, in_flight in steps:
        cells: list[str] = []
        for name in names:
            done = outcomes[Case(name, rows, in_flight)]
            cells += [f"{rate(done):,.0f}", f"{median_cost(done):.3f}"] if done else ["not done", ""]
        table.add(f"{rows if is_by_rows else in_flight:,}", *cells)
    spreads: list[str] = []
    for name in names:
        costs = [median_cost(done) for case in cases if case.name == name and (done := outcomes[case])]
        spreads += ["", f"{max(costs) / min(costs) - 1:.0%}" if costs else ""]
    table.add("highest over lowest", *spreads)
    report.table(table)


def by_in_flight(options: argparse.Namespace) -> None:
    """The law over concurrency."""
    report = Report("law-in-flight", "The cost of a row as concurrency grows: `--law in-flight`")
    for latency in options.latency:
        rows = SCALE_ROWS[latency > 0]
        report.text(f"### {rows:,} rows, latency {latency:.0f} ms ({GOAL})\n\nMedian of {options.rounds}.")
        law(report, options, "in flight", [(rows, in_flight) for in_flight in SCALES], latency / 1000)
    report.used(versions_of([name for name in SCALED if name in options.only], options.venvs))
    report.finish(options)


def by_rows(options: argparse.Namespace) -> None:
    """The law over rows."""
    report = Report("law-rows", "The cost of a row as rows grow: `--law rows`")
    report.text(f"64 in flight, latency 0 ms ({GOAL}), median of {options.rounds}.")
    law(report, options, "rows", [(rows, 64) for rows in GROWTH], 0.0)
    report.used(versions_of([name for name in SCALED if name in options.only], options.venvs))
    report.finish(options)


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}; 2,000 rows; no scaling law")
    parser.add_argument("--rows", type=int, nargs="*", default=[2_000, 20_000])
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 50.0], metavar="MS")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument(
        "--rounds", type=int, default=3, help="of 2,000 rows and of the laws; of more rows a third of it"
    )
    parser.add_argument("--law", nargs="*", choices=["in-flight", "rows"], default=["in-flight", "rows"])
    parser.add_argument("--patience", type=float, default=300, metavar="S")


def main() -> None:
    """Measure, and print the tables."""
    options = arguments(__doc__, more)
    if options.quick:
        options.only = [name for name in QUICK if name in options.only]
        options.rows, options.law = [2_000], []
    for name in options.only:
        environment = Environment(PEERS[name].environment, options.venvs)
        try:
            environment.make()
        except PeerError as error:
            print(f"{name}: {error}", file=sys.stderr)
    for rows in options.rows:
        rounds = options.rounds if rows <= 2_000 else max(1, options.rounds // 3)
        report = Report(f"rows-{rows}", f"{rows:,} rows: `python benchmarks/throughput.py --rows {rows} --law`")
        report.text(
            "Distinct rows to a loopback server, every reply checked. The store of ours is the default, a file, and "
            "keeps every reply. `auto` is as it is by default: it finds by itself how many at once, up to 256, where "
            f"all others are told {options.in_flight}. Ratios: how many times the rows of plain `httpx.AsyncClient` "
            "with a semaphore, and of bare aiohttp, in the same round. Grown: over what the process held when the "
            "library was loaded and warm."
        )
        for latency in options.latency:
            side_by_side(report, options, rows, latency / 1000, rounds)
        report.used(versions_of(options.only, options.venvs))
        report.finish(options)
    if "in-flight" in options.law:
        by_in_flight(options)
    if "rows" in options.law:
        by_rows(options)


if __name__ == "__main__":
    main()
