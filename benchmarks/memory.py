"""What a run over rows takes in memory, and how long a rerun of stored rows takes.

    python benchmarks/memory.py

Every line is a process of its own. Growth is the peak of its resident memory above what it held when the table and the
imports were there. The provider is `echo`: it answers in this process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = (
    ("1,000,000 rows, 1,000 distinct", 1_000_000, 1_000, "memory", "< 400 MB"),
    ("200,000 rows, all distinct", 200_000, 200_000, "memory", "< 400 MB"),
    ("200,000 rows, all distinct, store in a file", 200_000, 200_000, "file", "< 400 MB"),
    ("100,000 rows, all distinct, store in a file", 100_000, 100_000, "file", ""),
    ("the same again: all stored", 100_000, 100_000, "file again", "< 5 s, 0 calls"),
)


def peak_bytes() -> int:
    """The highest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def now_bytes() -> int:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
    assert (replies == "Please: " + frame["text"]).all()
    told = {"seconds": seconds, "cpu_s": cpu_s, "calls": run.progress.calls, "tasks": most_tasks}
    print(json.dumps({**told, "grown": peak_bytes() - before}))


def main() -> None:
    """Measure every case, and print the table."""
    print(f"{'':<46} {'growth':>8} {'seconds':>8} {'CPU s':>7} {'calls':>8} {'tasks':>6}   goal")
    with tempfile.TemporaryDirectory() as folder:
        for name, rows, distinct, store, goal in CASES:
            place = "memory" if store == "memory" else f"{folder}/{rows}.sqlite3"
            done = subprocess.run(
                [sys.executable, __file__, str(rows), str(distinct)],
                env={**os.environ, "AICHAT_STORE": place},
                capture_output=True,
                text=True,
                check=True,
                timeout=600,
            )
            told = json.loads(done.stdout)
            print(
                f"{name:<46} {told['grown'] / 1e6:>5.0f} MB {told['seconds']:>8.1f} {told['cpu_s']:>7.1f} "
                f"{told['calls']:>8,} {told['tasks']:>6}   {goal}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
