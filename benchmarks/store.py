"""What the store of replies costs: rows per second written and read, and a rerun of 100,000 rows.

    python benchmarks/store.py

Each figure is the median of three, each in a fresh directory. A rerun is a whole `df.aichat.run` in a new process, all
of whose replies are stored, up to the column; hash and read is the store's part of it. "busy loop" is the same while
other tasks of the loop use the interpreter all the time, with a system call every 0.2 ms as HTTP has them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from memory import in_a_process
from report import Report, Table, arguments

from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.usage import Usage
from aichat_magic.store.keys import RequestKeys
from aichat_magic.store.sqlite import SqliteStore

ROWS = 100_000
BUSY_ROWS = 2_000
ROUNDS = 3
PUTTERS = 64
USAGE = Usage(input_tokens=40, output_tokens=100, cost_usd=0.0001)


def keys_of_a_run(rows: int) -> list[bytes]:
    """The keys of that many prompts of about 200 characters."""
    keys = RequestKeys(provider="openai", host="api.openai.com", model="m", options=Options(temperature=0))
    return [keys.key((Message("user", f"Classify number {number}: " + "text " * 36),)) for number in range(rows)]


async def write(store: SqliteStore, keys: list[bytes]) -> None:
    """Put a reply of about 400 characters under every key."""
    numbers = itertools.count()

    async def putter() -> None:
        while (number := next(numbers)) < len(keys):
            text = f"Answer {number}: " + "word " * 78
            await store.put(keys[number], Reply(text=text, model="openai/m", usage=USAGE, elapsed_s=0.5))

    await asyncio.gather(*(putter() for _ in range(PUTTERS)))


async def keep_busy() -> None:
    """Leave the interpreter to others only for the time of a system call, every 0.2 ms."""
    while True:
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            continue
        os.stat(__file__)
        await asyncio.sleep(0)


async def timed(work: Awaitable[object]) -> float:
    """Seconds that something takes."""
    begin = time.perf_counter()
    await work
    return time.perf_counter() - begin


async def timed_busily(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that something takes beside other work in the loop."""
    other = asyncio.create_task(keep_busy())
    try:
        return await timed(work())
    finally:
        other.cancel()


async def measured(rows: int) -> dict[str, float]:
    """Every figure once: seconds by name, and the file's bytes a row."""
    begin = time.perf_counter()
    keys = keys_of_a_run(rows)
    told = {"hash": time.perf_counter() - begin}
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "replies.sqlite3")
        told["write"] = await timed(write(store, keys))
        store.close()
        told["bytes"] = store.summary().size_bytes / rows
        store.close()
        told["read"] = await timed(store.get(keys))
        told["busy read"] = await timed_busily(lambda: store.get(keys[:BUSY_ROWS]))
        busy = SqliteStore(Path(directory) / "busy.sqlite3")
        told["busy write"] = await timed_busily(lambda: write(busy, keys[:BUSY_ROWS]))
        store.close()
        busy.close()
    return told


def main() -> None:
    """Measure and print the table."""
    options = arguments(__doc__)
    rounds = [asyncio.run(measured(ROWS)) for _ in range(ROUNDS)]
    seconds = {name: statistics.median(told[name] for told in rounds) for name in rounds[0]}
    with tempfile.TemporaryDirectory() as directory:
        place = f"{directory}/rerun.sqlite3"
        first = in_a_process(ROWS, ROWS, place)
        again = [in_a_process(ROWS, ROWS, place) for _ in range(ROUNDS)]
    assert first["calls"] == ROWS
    assert all(told["calls"] == 0 for told in again)
    table = Table("", "seconds", "rows/s", "goal")

    def line(name: str, rows: int, seconds: float, goal: str = "") -> None:
        table.add(name, f"{seconds:.2f}", f"{rows / seconds:,.0f}", goal)

    line("hash", ROWS, seconds["hash"], "100,000/s")
    line("write", ROWS, seconds["write"], "16,000/s")
    line("read, file just opened", ROWS, seconds["read"], "0.7 s")
    line("hash and read", ROWS, seconds["hash"] + seconds["read"])
    line("a run, written", ROWS, first["seconds"])
    line("the same again, all stored", ROWS, statistics.median(told["seconds"] for told in again), "2 s")
    line("write, busy loop", BUSY_ROWS, seconds["busy write"])
    line("read, busy loop", BUSY_ROWS, seconds["busy read"])
    report = Report("store", "The store: `python benchmarks/store.py`")
    report.text(
        f"{ROWS:,} replies of 400 characters, {PUTTERS} at once, {seconds['bytes']:.0f} bytes a row in the file. Busy "
        "loop: the same while other tasks of the loop use the interpreter all the time. A run: `df.aichat.run` with "
        "the echo provider, short replies."
    )
    report.table(table)
    report.used({"SQLite": sqlite3.sqlite_version})
    report.finish(options)


if __name__ == "__main__":
    main()
