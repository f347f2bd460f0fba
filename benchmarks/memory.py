"""What a run over rows takes in memory, from 1,000 rows to 1,000,000.

    python benchmarks/memory.py
    python benchmarks/memory.py --rows 1000 10000 100000      # without the million: a minute less

Every line is a process of its own. Growth is the peak of its resident memory above what it held when the table and the
imports were there; the replies are what their texts take as Python strings, which is what the caller gets back. The
provider is `echo`: it answers in this process. The store is the default, a file, unless the line says something else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from peers.rows import now_bytes, peak_bytes
from report import Report, Table, arguments


def measure(rows: int, distinct: int) -> None:
    """One run in this process; prints what it took as JSON."""
    import asyncio

    import pandas as pd

    import aichat_magic  # noqa: F401  # it is what gives pandas the accessor

    most_tasks = 0

    def watch(progress: object) -> None:
        nonlocal most_tasks
        most_tasks = max(most_tasks, len(asyncio.all_tasks()))

    frame = pd.DataFrame({"text": [f"What do you say of number {row % distinct}?" for row in range(rows)]})
    pd.Series(["warm", "up"]).aichat.complete(model="echo/echo", progress=False, store=False)
    before = now_bytes()
    begin, cpu = time.perf_counter(), time.process_time()
    run = frame.aichat.run("Please: {text}", model="echo/echo", progress=watch)
    replies = pd.Series(list(run.texts()), index=frame.index, dtype="string")
    seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    grown = peak_bytes() - before
    assert (replies == "Please: " + frame["text"]).all()
    texts = {id(text): sys.getsizeof(text) for text in run.texts()}
    told = {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "calls": run.progress.calls,
        "tasks": most_tasks,
        "grown": grown,
        # A list of them and the texts, each once.
        "replies": sum(texts.values()) + 8 * rows,
    }
    print(json.dumps(told))


def in_a_process(rows: int, distinct: int, store: str) -> dict[str, Any]:
    """The same in a process of its own.

    Args:
        rows: How many.
        distinct: How many different ones.
        store: ``AICHAT_STORE``: a file, or ``memory``.
    """
    done = subprocess.run(
        [sys.executable, __file__, "measure", str(rows), str(distinct)],
        env={**os.environ, "AICHAT_STORE": store},
        capture_output=True,
        text=True,
        check=True,
        timeout=1200,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])


def main() -> None:
    """Measure every case, and print the table."""
    options = arguments(__doc__, more)
    table = Table("rows", "", "growth, MB", "replies, MB", "beyond, bytes a row", "seconds", "CPU s", "calls", "tasks")
    cases = [(rows, rows, "file", "all distinct") for rows in options.rows]
    if max(options.rows) >= 200_000:
        cases += [(200_000, 200_000, "memory", "all distinct, store in memory")]
        cases += [(1_000_000, 1_000, "file", "1,000 distinct")]
    with tempfile.TemporaryDirectory() as folder:
        for rows, distinct, place, title in cases:
            store = "memory" if place == "memory" else f"{folder}/{rows}-{distinct}.sqlite3"
            told = in_a_process(rows, distinct, store)
            table.add(
                f"{rows:,}",
                title,
                f"{told['grown'] / 1e6:.0f}",
                f"{told['replies'] / 1e6:.1f}",
                f"{(told['grown'] - told['replies']) / rows:,.0f}",
                f"{told['seconds']:.1f}",
                f"{told['cpu_s']:.1f}",
                f"{told['calls']:,}",
                told["tasks"],
            )
            print(f"  {rows:,} rows, {title}: {told}", file=sys.stderr)
    report = Report("memory", "Memory: `python benchmarks/memory.py`")
    report.text(
        "Growth of the peak over the table and the imports, the echo provider, `df.aichat.run` and its texts as a "
        "column. Goal: flat but for the replies."
    )
    report.table(table)
    report.finish(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
