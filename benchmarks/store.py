"""What the store of replies costs: rows per second written and read, and a rerun of 100,000 rows.

    python benchmarks/store.py

Each figure is measured once in a fresh directory. "busy loop" is the same while other tasks of the loop use the
interpreter all the time, with a system call every 0.2 ms as HTTP has them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aichat_magic.messages import Message, Options, Reply, Usage
from aichat_magic.store import RequestKeys, SqliteStore

ROWS = 100_000
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


async def main() -> None:
    """Measure and print the table."""
    begin = time.perf_counter()
    keys = keys_of_a_run(ROWS)
    hashing_s = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "replies.sqlite3")
        writing_s = await timed(write(store, keys))
        store.close()
        size_bytes = store.summary().size_bytes
        store.close()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reading_s = await timed(store.get(keys))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        busy_reading_s = await timed_busily(lambda: store.get(keys[:10_000]))
        busy = SqliteStore(Path(directory) / "busy.sqlite3")
        busy_writing_s = await timed_busily(lambda: write(busy, keys[:10_000]))
        store.close()
        busy.close()
    print(f"{ROWS:,} replies of 400 characters, {PUTTERS} at once, Python {sys.version.split()[0]}")
    print(f"{'':<28}{'seconds':>10}{'rows/s':>12}{'goal':>16}")

    def line(name: str, rows: int, seconds: float, goal: str = "") -> None:
        print(f"{name:<28}{seconds:>10.2f}{rows / seconds:>12,.0f}{goal:>16}")

    line("hash", ROWS, hashing_s, ">= 100,000/s")
    line("write", ROWS, writing_s, ">= 16,000/s")
    line("read, file just opened", ROWS, reading_s, "< 0.7 s")
    line("rerun: hash and read", ROWS, hashing_s + reading_s, "< 5 s")
    line("write, busy loop", 10_000, busy_writing_s)
    line("read, busy loop", 10_000, busy_reading_s)
    print(f"{size_bytes / ROWS:.0f} bytes a row in the file; reading grew the process by {grown / 1024:.0f} MB")


if __name__ == "__main__":
    asyncio.run(main())
