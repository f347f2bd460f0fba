"""What a run over rows costs and keeps: throughput, faults, a server with a rate limit.

    python benchmarks/batch.py                       # all tables
    python benchmarks/batch.py throughput|faults|rate

The server runs in a process of its own on raw asyncio sockets and parses no more than it must, so that what is measured
is the client. CPU is that of the client alone. Every figure is one run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import re
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aichat_magic.api import batch
from aichat_magic.bridge import run
from aichat_magic.chat import Chat
from aichat_magic.messages import Reply
from aichat_magic.settings import Settings
from aichat_magic.store import MemoryStore

ROWS = 2000
PROMPT = re.compile(rb"row (\d+)")
FAULTS = (("429", 0.05), ("500", 0.03), ("reset", 0.01), ("hang", 0.005))
CUT_JSON = ("cut JSON", 0.02)

Act = Callable[[int, int], str]


# --- the server


def fault_of(row: int, attempt: int, shares: tuple[tuple[str, float], ...]) -> str:
    """The fault that an attempt of a row meets, "" for none: always the same one."""
    chance = random.Random(f"{row} {attempt}").random()
    for fault, share in shares:
        chance -= share
        if chance < 0:
            return fault
    return ""


def response(status: str, body: bytes, *headers: str) -> bytes:
    """One HTTP response."""
    lines = (f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


class Server(asyncio.Protocol):
    """One connection. `act(row, attempt)` names what happens; `counts` collects it."""

    def __init__(self, act: Act, delay_s: float, counts: Counter[str], attempts: Counter[int]) -> None:
        """Serve one client."""
        self.act, self.delay_s, self.counts, self.attempts = act, delay_s, counts, attempts
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """A request, or a part of one."""
        self.data += data
        opening, _, body = self.data.partition(b"\r\n\r\n")
        size = re.search(rb"content-length: *(\d+)", opening, re.IGNORECASE)
        if size is None or len(body) < int(size[1]):
            return
        self.data = b""
        found = PROMPT.search(body)
        row = int(found[1]) if found else -1
        if row < 0:
            self.transport.write(response("200 OK", json.dumps(dict(self.counts)).encode()))
            self.counts.clear()
            self.attempts.clear()
            return
        self.attempts[row] += 1
        what = self.act(row, self.attempts[row])
        self.counts["calls"] += 1
        self.counts[what or "ok"] += 1
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self.answer, row, what)
        else:
            self.answer(row, what)

    def answer(self, row: int, what: str) -> None:
        """Do what was chosen."""
        if self.transport.is_closing() or what == "hang":
            return
        if what == "429":
            self.transport.write(response("429 Too Many Requests", b'{"error": {"message": "slow"}}', "retry-after: 1"))
        elif what == "500":
            self.transport.write(response("500 Oops", b'{"error": {"message": "oops"}}'))
        elif what == "reset":
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        elif what == "cut JSON":
            self.transport.write(
                b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"choices": [{"message": {"content": "re'
            )
            self.transport.close()
        else:
            choice = {"message": {"role": "assistant", "content": f"reply {row}"}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 2}
            body = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
            self.transport.write(response("200 OK", body))


def gate(per_second: int) -> Act:
    """Admits so many requests in a second of the clock, refuses the others."""
    admitted: Counter[int] = Counter()

    def act(row: int, attempt: int) -> str:
        second = int(time.monotonic())
        if admitted[second] >= per_second:
            return "429"
        admitted[second] += 1
        return ""

    return act


def bucket(per_second: int, size: int) -> Act:
    """Admits from a bucket that refills evenly."""
    left, at = float(size), time.monotonic()

    def act(row: int, attempt: int) -> str:
        nonlocal left, at
        now = time.monotonic()
        left, at = min(float(size), left + (now - at) * per_second), now
        if left < 1:
            return "429"
        left -= 1
        return ""

    return act


def faults(shares: tuple[tuple[str, float], ...]) -> Act:
    """Faults as a function of row and attempt."""
    return lambda row, attempt: fault_of(row, attempt, shares)


def serve(port: Any, kind: str, arguments: tuple[Any, ...], delay_s: float) -> None:
    """Run a server in this process for ever; its port goes through the pipe."""

    async def main() -> None:
        acts: dict[str, Callable[..., Act]] = {"faults": faults, "gate": gate, "bucket": bucket}
        act = acts[kind](*arguments)
        counts: Counter[str] = Counter()
        attempts: Counter[int] = Counter()
        server = await asyncio.get_running_loop().create_server(
            lambda: Server(act, delay_s, counts, attempts), "127.0.0.1", 0, backlog=2048
        )
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def server(kind: str, *arguments: Any, delay_s: float = 0.0) -> Iterator[str]:
    """A server in a process of its own; gives its base URL."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(there, kind, arguments, delay_s), daemon=True
    )
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def counts_of(url: str) -> dict[str, int]:
    """What a server has counted since it was asked last."""
    import httpx

    counted: dict[str, int] = httpx.post(f"{url}/counts", json={}).json()
    return counted


# --- the client


class Measure:
    """One run: seconds, CPU seconds, rows that are right."""

    def __init__(self, url: str, rows: int, **options: Any) -> None:
        """Run, and measure."""
        chat = Chat(settings=Settings, store=MemoryStore())
        cpu_s, begin = cpu(), time.perf_counter()
        prompts = [f"row {number}" for number in range(rows)]
        outcomes = batch(prompts, chat=chat, model="vllm/m", base_url=url, progress=False, **options)
        self.seconds = time.perf_counter() - begin
        self.cpu_s = cpu() - cpu_s
        self.right = sum(
            isinstance(reply, Reply) and reply.text == f"reply {row}" for row, reply in enumerate(outcomes)
        )
        run(chat.http.aclose())


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def throughput() -> None:
    """Rows a second of a server without faults."""
    print("Throughput: a server that always answers")
    print(f"{'latency':>8} {'concurrency':>12} {'rows':>6} {'rows/s':>8} {'CPU s per 1,000 rows':>22}")
    for delay_s, rows in ((0.0, 10_000), (0.05, 10_000)):
        with server("faults", (), delay_s=delay_s) as url:
            Measure(url, 500)
            for concurrency in (64, "auto"):
                done = Measure(url, rows, concurrency=concurrency)
                assert done.right == rows
                print(
                    f"{delay_s * 1000:>5.0f} ms {concurrency!s:>12} {rows:>6} {rows / done.seconds:>8.0f} "
                    f"{done.cpu_s / rows * 1000:>22.2f}"
                )


def fault_mix() -> None:
    """The fault mix of the peers' comparison, and the same with JSON that breaks off."""
    print("Faults: 5 % 429 with Retry-After 1, 3 % 500, 1 % resets, 0.5 % hangs, timeout 5 s")
    print(f"{'':<16} {'rows':>6} {'right':>6} {'twice':>6} {'calls':>6} {'needed':>7} {'over':>7} {'seconds':>8}")
    for name, shares in (("", FAULTS), ("and 2 % cut JSON", (*FAULTS, CUT_JSON))):
        with server("faults", shares) as url:
            needed = sum(attempts_needed(row, shares) for row in range(ROWS))
            done = Measure(url, ROWS, timeout=5)
            counted = counts_of(url)
        over = counted["calls"] / needed - 1
        print(
            f"{name:<16} {ROWS:>6} {done.right:>6} {counted['ok'] - ROWS:>6} {counted['calls']:>6} {needed:>7} "
            f"{over:>7.2%} {done.seconds:>8.1f}"
        )


def attempts_needed(row: int, shares: tuple[tuple[str, float], ...]) -> int:
    """The attempt of a row that meets no fault."""
    attempt = 1
    while fault_of(row, attempt, shares):
        attempt += 1
    return attempt


def rate() -> None:
    """A server that admits 60 requests a second and asks the others to come back in a second."""
    print("Rate: 60 requests a second are admitted, 429 with Retry-After 1 beyond; 1,000 rows")
    print(f"{'':<22} {'latency':>8} {'right':>6} {'calls per row':>14} {'seconds':>8} {'of the rate':>12}")
    for name, kind, arguments in (("60 in each second", "gate", (60,)), ("a bucket of 60", "bucket", (60, 60))):
        for delay_s in (0.0, 0.02, 0.3):
            with server(kind, *arguments, delay_s=delay_s) as url:
                done = Measure(url, 1000)
                counted = counts_of(url)
            print(
                f"{name:<22} {delay_s * 1000:>5.0f} ms {done.right:>6} {counted['calls'] / 1000:>14.3f} "
                f"{done.seconds:>8.1f} {1000 / done.seconds / 60:>12.0%}"
            )


def main() -> None:
    """Measure, and print the tables."""
    tables = {"throughput": throughput, "faults": fault_mix, "rate": rate}
    for name in sys.argv[1:] or tables:
        tables[name]()
        print()


if __name__ == "__main__":
    main()
