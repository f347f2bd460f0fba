"""What every runner shares: the rows, what the server says to each of them, and how a run is measured.

A runner is ``peers/run_NAME.py``: it defines one function that answers prompts with a library and ends with
``measured(function)``. It runs in that library's own environment, so this room needs the standard library only::

    python run_NAME.py '{"url": ..., "rows": 2000, "in_flight": 64}'     # prints one line of JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM_ROWS = 64
WARM_FROM = 9_000_000


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a runner is asked for.

    Attributes:
        url: Base URL of the server, with ``/v1``.
        prompts: The rows, all distinct.
        in_flight: How many requests may be under way at once.
        timeout_s: The library's timeout of one request; None: its own.
        variant: Which way of a library that has several.
    """

    url: str
    prompts: Sequence[str]
    in_flight: int
    timeout_s: float | None
    variant: str


Answers = Iterable[str | None]


def prompt_of(number: int) -> str:
    """The row of that number."""
    return f"Row {number:07d}: in one sentence, what does the customer of this row say about the delivery?"


def is_warm_up(prompt: str) -> bool:
    """Whether it is one of the rows that nobody counts: they meet neither faults nor limits."""
    return prompt.startswith("Row 9")


def reply_to(prompt: str) -> str:
    """What the server says to a prompt: a function of the prompt alone."""
    mark = zlib.crc32(prompt.encode())
    return f"{mark:08x} The customer of this row says that it came two days late and was well packed."


def peak_bytes() -> int:
    """The highest resident memory of this process so far."""
    # `ru_maxrss` begins with the parent's on Linux.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def now_bytes() -> int:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s() -> float:
    """CPU seconds of this process and its finished children."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def measured(run: Callable[[Task], Answers | Coroutine[None, None, Answers]]) -> None:
    """Run what the command line asks for, once for a few rows that nobody counts and once in earnest.

    Args:
        run: Answers the prompts of a task in order; None for a row that is lost.
    """
    asked = json.loads(sys.argv[1])
    rows = asked["rows"]

    def task(first: int, count: int) -> Task:
        return Task(
            url=asked["url"],
            prompts=[prompt_of(number) for number in range(first, first + count)],
            in_flight=asked["in_flight"],
            timeout_s=asked.get("timeout_s"),
            variant=asked.get("variant", ""),
        )

    error = ""
    answers: list[str | None] = []
    # One loop for both: some libraries keep connections that belong to it.
    with asyncio.Runner() as loop:

        def done(wanted: Task) -> list[str | None]:
            made = run(wanted)
            return list(loop.run(made) if asyncio.iscoroutine(made) else made)

        done(task(WARM_FROM, WARM_ROWS))
        wanted = task(0, rows)
        before_bytes, before_cpu_s, begin = now_bytes(), cpu_s(), time.perf_counter()
        try:
            answers = done(wanted)
        except Exception as caught:
            traceback.print_exc()
            error = f"{type(caught).__name__}: {caught}".splitlines()[0][:200]
        seconds, used_s = time.perf_counter() - begin, cpu_s() - before_cpu_s
    padded = [*answers, *[None] * (rows - len(answers))]
    told = {
        "rows": rows,
        "seconds": seconds,
        "cpu_s": used_s,
        "peak_bytes": peak_bytes(),
        "before_bytes": before_bytes,
        "right": sum(answer == reply_to(prompt) for answer, prompt in zip(padded, wanted.prompts, strict=False)),
        "lost": sum(answer is None or answer == "" for answer in padded),
        "error": error,
    }
    # Libraries print; the last line is ours.
    print("\n" + json.dumps(told), flush=True)


async def by_workers(task: Task, ask: Callable[[str], Awaitable[str | None]]) -> list[str | None]:
    """Answer all prompts, `in_flight` at a time, with as many workers over one iterator: the cheapest way there is.

    A row whose `ask` raises is lost, and the others go on.
    """
    answers: list[str | None] = [None] * len(task.prompts)
    numbered = iter(enumerate(task.prompts))

    async def worker() -> None:
        for number, prompt in numbered:
            try:
                answers[number] = await ask(prompt)
            except Exception:
                answers[number] = None

    await asyncio.gather(*(worker() for _ in range(task.in_flight)))
    return answers


async def by_semaphore(task: Task, ask: Callable[[str], Awaitable[str | None]]) -> list[str | None]:
    """Answer all prompts, `in_flight` at a time, with a task for each and a semaphore: what everybody writes first."""
    free = asyncio.Semaphore(task.in_flight)

    async def one(prompt: str) -> str | None:
        async with free:
            try:
                return await ask(prompt)
            except Exception:
                return None

    return await asyncio.gather(*(one(prompt) for prompt in task.prompts))


def posting(task: Task, client: Any) -> Callable[[str], Awaitable[str | None]]:
    """Ask by a client of httpx's kind: the least that has to be done for a row.

    Args:
        task: Where the server is.
        client: An `AsyncClient`, of httpx or of one that speaks like it.
    """
    url = f"{task.url}/chat/completions"

    async def ask(prompt: str) -> str | None:
        message = {"role": "user", "content": prompt}
        response = await client.post(url, json={"model": "m", "messages": [message]})
        response.raise_for_status()
        text: str = response.json()["choices"][0]["message"]["content"]
        return text

    return ask
