"""Rows per second of ours and of the peers, side by side, and the scaling law.

    python benchmarks/throughput.py                                    # all of it; an hour
    python benchmarks/throughput.py --only ours httpx aiohttp     # a few
    python benchmarks/throughput.py --quick                            # ours, 2,000 rows, three rounds: a minute or two
    python benchmarks/throughput.py --rows 2000 --latency 0 --in-flight 64 --rounds 5 --only ours

Every run is a new process in the peer's own environment (`environments.py`); the store of ours is its default, a SQLite
file. Runs are interleaved: in each round everybody runs once, so that what else the machine does meets all
alike. The table
has medians; ratios are the medians of the ratios within a round. CPU is the client's alone. A run that needs more than
`--patience` seconds is given up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from environments import PEERS, Environment, Outcome, PeerError, add_arguments, answer_rows
from report import Report, Table, arguments
from server import serving

QUICK = ["ours", "httpx-aiohttp", "aiohttp", "httpx"]
SCALED = ["ours", "aiohttp"]
SCALES = (8, 64, 256, 512)


def measure(
    names: Iterable[str], venvs: Path, *, rows: int, latency_s: float, in_flight: int, rounds: int, patience_s: float
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    """Let everybody answer the rows, a few times in turn.

    Returns:
        The outcomes by name, one for each round; and the reason, for those who cannot.
    """
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    reasons: dict[str, str] = {}
    names = list(names)
    # Few in flight at a long latency take their time by arithmetic: nobody is given up for that.
    wait_s = patience_s + 2 * rows * latency_s / max(1, in_flight)
    with serving(latency_s=latency_s) as server:
        for turn in range(rounds):
            # Whoever goes first does not always go first.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                if name in reasons:
                    continue
                server.reset()
                begin = time.perf_counter()
                try:
                    done = answer_rows(
                        PEERS[name], venvs, server.url, rows=rows, in_flight=in_flight, process_timeout_s=wait_s
                    )
                except PeerError as error:
                    reasons[name] = str(error)
                    print(f"  {name}: {error}", file=sys.stderr)
                    continue
                if done.error:
                    reasons[name] = done.error
                outcomes[name].append(done)
                print(
                    f"  {rows} rows, {latency_s * 1000:.0f} ms, {in_flight} in flight, round {turn + 1}: {name} "
                    f"{done.rows_per_s:,.0f} rows/s, {done.cpu_s / rows * 1000:.3f} CPU s per 1,000, "
                    f"{done.right} right, {time.perf_counter() - begin:.0f} s in all",
                    file=sys.stderr,
                )
    return outcomes, reasons


def ratio(ours: list[Outcome], theirs: list[Outcome] | None) -> str:
    """How many times as fast, at the median of the rounds."""
    if not theirs:
        return ""
    pairs = zip(ours, theirs, strict=False)
    value = statistics.median(one.rows_per_s / max(other.rows_per_s, 1e-9) for one, other in pairs)
    return f"{value:.2f}"


def side_by_side(report: Report, options: argparse.Namespace, rows: int, latency_s: float, rounds: int) -> None:
    """One table: everybody, at one latency."""
    in_flight = options.in_flight[0]
    outcomes, reasons = measure(
        options.only,
        options.venvs,
        rows=rows,
        latency_s=latency_s,
        in_flight=in_flight,
        rounds=rounds,
        patience_s=options.patience,
    )
    table = Table("", "rows/s", "x httpx", "x bare aiohttp", "CPU s per 1,000", "peak RSS, MB", "grown, MB", "right")
    for name in sorted(options.only, key=lambda name: -median(outcomes[name], "rows_per_s")):
        title, done = PEERS[name].title, outcomes[name]
        if not done:
            table.add(title, reasons.get(name, ""), *[""] * 6)
            continue
        table.add(
            title,
            f"{median(done, 'rows_per_s'):,.0f}",
            ratio(done, outcomes.get("httpx")),
            ratio(done, outcomes.get("aiohttp")),
            f"{median(done, 'cpu_s') / rows * 1000:.2f}",
            f"{median(done, 'peak_bytes') / 1e6:.0f}",
            f"{statistics.median(one.peak_bytes - one.before_bytes for one in done) / 1e6:.0f}",
            f"{min(one.right for one in done):,}",
        )
    ideal = f"; no client can pass {in_flight / latency_s:,.0f} rows/s" if latency_s else ""
    report.text(
        f"### {rows:,} rows, latency {latency_s * 1000:.0f} ms, {in_flight} in flight\n\nMedian of {rounds}{ideal}."
    )
    report.table(table)


def median(outcomes: list[Outcome], name: str) -> float:
    """The median of one figure; 0 without any."""
    return float(statistics.median(getattr(outcome, name) for outcome in outcomes)) if outcomes else 0.0


def scaling(report: Report, options: argparse.Namespace, rows: int, latency_s: float, rounds: int) -> None:
    """One table: CPU per row and rows per second as concurrency grows."""
    names = [name for name in SCALED if name in options.only]
    titles = [f"{PEERS[name].title}, {unit}" for name in names for unit in ("rows/s", "CPU s per 1,000")]
    table = Table("in flight", *titles)
    costs: dict[str, list[float]] = defaultdict(list)
    for in_flight in options.scales:
        outcomes, _ = measure(
            names,
            options.venvs,
            rows=rows,
            latency_s=latency_s,
            in_flight=in_flight,
            rounds=rounds,
            patience_s=options.patience,
        )
        cells = []
        for name in names:
            if not outcomes[name]:
                cells += ["not done", ""]
                continue
            cost = median(outcomes[name], "cpu_s") / rows * 1000
            costs[name].append(cost)
            cells += [f"{median(outcomes[name], 'rows_per_s'):,.0f}", f"{cost:.3f}"]
        table.add(in_flight, *cells)
    spreads = []
    for name in names:
        spread = f"{max(costs[name]) / min(costs[name]) - 1:.0%}" if costs[name] else ""
        spreads += ["", spread]
    table.add("highest over lowest", *spreads)
    report.text(f"### The scaling law: {rows:,} rows, latency {latency_s * 1000:.0f} ms (goal: flat within 20 %)")
    report.table(table)


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}; 2,000 rows; no scaling law")
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 50.0], metavar="MS")
    parser.add_argument("--in-flight", type=int, nargs=1, default=[64])
    parser.add_argument("--rounds", type=int, default=3, help="of 2,000 rows; of more rows a third of it")
    parser.add_argument("--scales", type=int, nargs="*", default=list(SCALES), help="in flight; none: no scaling law")
    parser.add_argument("--scale-rows", type=int, default=10_000)
    parser.add_argument("--patience", type=float, default=300, metavar="S")


def main() -> None:
    """Measure, and print the tables."""
    options = arguments(__doc__, more)
    if options.quick:
        options.only = [name for name in QUICK if name in options.only]
        options.rows, options.scales = [2_000], []
    for name in options.only:
        environment = Environment(PEERS[name].environment, options.venvs)
        try:
            environment.make()
        except PeerError as error:
            print(f"{name}: {error}", file=sys.stderr)
    report = Report("throughput", "Rows: `python benchmarks/throughput.py`")
    report.text(
        "Distinct rows to a loopback server, every reply checked. The store of ours is the default, a file, and keeps "
        "every reply; `aichat_magic` is the default install, without aiohttp. Ratios: how many times the rows of plain "
        "`httpx.AsyncClient` with a semaphore, and of bare aiohttp, in the same round. Grown: over what the process "
        "held when the library was loaded and warm."
    )
    for rows in options.rows:
        rounds = options.rounds if rows <= 2_000 else max(1, options.rounds // 3)
        for latency in options.latency:
            side_by_side(report, options, rows, latency / 1000, rounds)
    for latency in options.latency if options.scales else ():
        scaling(report, options, options.scale_rows, latency / 1000, max(1, options.rounds // 3))
    for name in options.only:
        try:
            report.used(Environment(PEERS[name].environment, options.venvs).versions())
        except PeerError:
            continue
    report.finish(options)


if __name__ == "__main__":
    main()
