"""Where the CPU of a row goes: the same requests through one layer of ours after the other, from the bare socket up.

    python benchmarks/layers.py

Each layer answers 5,000 distinct rows over loopback without latency, in a new process, everybody in turn; medians.
CPU is the client's alone; what a layer takes is its figure less that of the layer below it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from environments import clean_environment
from peers.rows import WARM_FROM, WARM_ROWS, Task, by_workers, cpu_s, prompt_of, reply_to
from report import Report, Table, arguments
from server import serving

from aichat_magic import Reply, batch
from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.messages import ChatRequest, Message
from aichat_magic.http.client import HttpClient, HttpRequest
from aichat_magic.providers.openai import OpenAI

ROUNDS = 5
ROWS = 5_000
IN_FLIGHT = (8, 64, 512)
Ask = Callable[[str], Awaitable[str | None]]


def body_of(prompt: str) -> bytes:
    """The request's body."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()


class Socket(asyncio.Protocol):
    """One connection of asyncio's: bytes out, bytes in, next to no HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.answer: asyncio.Future[bytes] | None = None

    def data_received(self, data: bytes) -> None:
        """The answer; the server sends it in one piece."""
        assert self.answer is not None
        self.answer.set_result(data)


async def by_sockets(task: Task) -> list[str | None]:
    """As little as can be done."""
    place = urlsplit(task.url)
    free: list[Socket] = []
    loop = asyncio.get_running_loop()

    async def ask(prompt: str) -> str:
        if free:
            line = free.pop()
        else:
            _, line = await loop.create_connection(Socket, place.hostname, place.port)
        body = body_of(prompt)
        line.answer = loop.create_future()
        line.transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        answer = await line.answer
        free.append(line)
        text: str = json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
        return text

    try:
        return await by_workers(task, ask)
    finally:
        for line in free:
            line.transport.abort()


async def by_transport(task: Task) -> list[str | None]:
    """`HttpClient.send`: connections, HTTP, deadlines, caps, typed errors."""
    http = HttpClient()

    async def ask(prompt: str) -> str:
        response = await http.send(
            HttpRequest(provider="vllm", url=f"{task.url}/chat/completions", body=body_of(prompt))
        )
        text: str = response.json()["choices"][0]["message"]["content"]
        return text

    try:
        return await by_workers(task, ask)
    finally:
        await http.aclose()


async def by_provider(task: Task) -> list[str | None]:
    """`OpenAI.complete`: from a `ChatRequest` to a `Reply`."""
    http = HttpClient()
    provider = OpenAI(Endpoint(provider="vllm", base_url=task.url), http)

    async def ask(prompt: str) -> str:
        request = ChatRequest(model="m", messages=(Message("user", prompt),))
        return (await provider.complete(request)).text

    try:
        return await by_workers(task, ask)
    finally:
        await http.aclose()


def by_batch(task: Task, *, store: bool) -> list[str | None]:
    """`batch`: unique requests, retries, limits, order; and the store."""
    outcomes = batch(
        list(task.prompts),
        model="vllm/m",
        base_url=task.url,
        concurrency=task.in_flight,
        progress=False,
        store=None if store else False,
    )
    return [outcome.text if isinstance(outcome, Reply) else None for outcome in outcomes]


LAYERS: dict[str, Callable[[Task], list[str | None]]] = {
    "asyncio's socket and json": lambda task: asyncio.run(by_sockets(task)),
    "+ HttpClient.send": lambda task: asyncio.run(by_transport(task)),
    "+ OpenAI.complete": lambda task: asyncio.run(by_provider(task)),
    "+ batch, store=False": lambda task: by_batch(task, store=False),
    "+ the store, a file": lambda task: by_batch(task, store=True),
}


def measure(layer: str, url: str, in_flight: int) -> None:
    """Print the CPU seconds per 1,000 rows of one layer."""

    def task(first: int, count: int) -> Task:
        prompts = [prompt_of(number) for number in range(first, first + count)]
        return Task(url=url, prompts=prompts, in_flight=in_flight, timeout_s=None, variant="")

    LAYERS[layer](task(WARM_FROM, WARM_ROWS))
    wanted, before = task(0, ROWS), cpu_s()
    answers = LAYERS[layer](wanted)
    used = cpu_s() - before
    assert answers == [reply_to(prompt) for prompt in wanted.prompts]
    print(used / ROWS * 1000)


def main() -> None:
    """Measure every layer, and print the table."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rounds", type=int, default=ROUNDS)

    options = arguments(__doc__, more)
    told: dict[tuple[str, int], list[float]] = defaultdict(list)
    report = Report("layers", "Where the CPU of a row goes: `python benchmarks/layers.py`")
    with serving() as server:
        for turn in range(options.rounds):
            cases = [(layer, in_flight) for in_flight in IN_FLIGHT for layer in LAYERS]
            for layer, in_flight in cases[turn % len(cases) :] + cases[: turn % len(cases)]:
                with tempfile.TemporaryDirectory() as home:
                    done = subprocess.run(
                        [sys.executable, __file__, "measure", layer, server.url, str(in_flight)],
                        env={**clean_environment(home), "PYTHONPATH": os.pathsep.join(sys.path[:1])},
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                told[layer, in_flight].append(float(done.stdout))
    table = Table("CPU s per 1,000 rows", *(f"{in_flight} in flight" for in_flight in IN_FLIGHT))
    for layer in LAYERS:
        table.add(layer, *(f"{statistics.median(told[layer, in_flight]):.3f}" for in_flight in IN_FLIGHT))
    report.text(f"{ROWS:,} distinct rows, no latency, median of {options.rounds}; each line contains those above it.")
    report.table(table)
    report.finish(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
