"""What rate limits cost a run: calls per row and the share of the admitted rate that it reaches.

    python benchmarks/limits.py [--simulated]

A server admits 60 requests a second and answers 429 with ``Retry-After: 1`` beyond; 1,000 rows. First in virtual time
over many kinds of servers, then over real sockets on loopback. Goals: no row lost, at most 1.06 calls per row, at least
90 % of the admitted rate. A token bucket may pass 100 %: what was saved up at the start counts too.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from servers import Answer, ChatServer, Exchange, Received, completion, payload, status
from simulation import Gate, Kind, Result, bucket, drive, fixed_window, random_faults, simulate

from aichat_magic.limits import Limits

RATE = 60
ROWS = 1000
SEEDS = 8

GATES: dict[str, Callable[[int], Gate]] = {
    "window of 1 s": lambda n: fixed_window(RATE, phase_s=n / SEEDS),
    "same, exact Retry-After": lambda n: fixed_window(RATE, phase_s=n / SEEDS, retry_after_s=None),
    "bucket of 60": lambda n: bucket(RATE, RATE),
    "bucket of 30": lambda n: bucket(RATE, RATE / 2),
    "bucket of 1": lambda n: bucket(RATE, 1),
}
LATENCIES: dict[str, Callable[[random.Random], float]] = {
    "20 ms": lambda dice: 0.02,
    "100 ms": lambda dice: 0.1,
    "300 ms": lambda dice: 0.3,
    "20-300 ms": lambda dice: dice.uniform(0.02, 0.3),
}


def row(title: str, runs: list[Result]) -> None:
    """One line of the table: worst and mean."""
    calls = [run.calls / ROWS for run in runs]
    rates = [ROWS / run.seconds / RATE * 100 for run in runs]
    lost = sum(run.lost for run in runs)
    means = sum(calls) / len(runs), sum(rates) / len(runs)
    print(f"{title:<40}{max(calls):>8.3f}{means[0]:>8.3f}{min(rates):>9.0f}{means[1]:>8.0f}{lost:>6}")


def heading(title: str) -> None:
    """The head of a table."""
    print(f"\n{title:<40}{'calls per row':>16}{'% of rate':>17}{'lost':>6}")
    print(f"{'':<40}{'worst':>8}{'mean':>8}{'worst':>9}{'mean':>8}")


def simulated() -> None:
    """Many servers in virtual time."""
    heading(f"virtual time, {SEEDS} runs each")
    for gate_name, gate in GATES.items():
        for latency_name, latency in LATENCIES.items():
            for refusal_s in (None, 0.003):
                runs = [
                    simulate(ROWS, gate=gate(n), latency=latency, refusal_s=refusal_s, seed=n) for n in range(SEEDS)
                ]
                row(f"{gate_name}, {latency_name}{', quick refusals' if refusal_s else ''}", runs)
    print(f"\n{'2,000 rows, no limit on the rate':<40}{'seconds':>10}{'calls':>8}{'most at once':>14}{'lost':>6}")
    for title, options in {
        "50 ms": {"latency": lambda dice: 0.05, "busy_s": 0.0004},
        "0 ms": {"latency": lambda dice: 0.0, "busy_s": 0.0006},
        "200 ms, 16 slots": {"latency": lambda dice: dice.uniform(0.15, 0.25), "slots": 16},
        "50 ms, 5 % 429 and 4 % 500 at random": {"latency": lambda dice: 0.05, "busy_s": 0.0004, "fault": 1},
        "1 s, 5 % 429 and 4 % 500 at random": {"latency": lambda dice: dice.uniform(0.5, 1.5), "fault": 1},
    }.items():
        if options.pop("fault", None):
            options["fault"] = random_faults(1)
        run = simulate(2000, **options)  # type: ignore[arg-type]  # a table of keywords
        print(f"{title:<40}{run.seconds:>10.2f}{run.calls:>8}{run.most_at_once:>14}{run.lost:>6}")


class Client:
    """The least HTTP client: one connection per call in flight, kept alive."""

    def __init__(self, port: int) -> None:
        """Talk to this port of loopback."""
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, number: int, attempt: int) -> tuple[Kind, float | None]:
        """POST a chat request; say how it went and how long the server asks to wait."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": f"row {number}"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: loopback\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        self._idle.append((reader, writer))
        wait_s = float(headers["retry-after"]) if "retry-after" in headers else None
        return ("ok" if " 200 " in lines[0] else "throttled"), wait_s

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()


def over_sockets(gate: Gate, latency: Callable[[random.Random], float], seed: int) -> Result:
    """One run against the loopback server."""
    dice = random.Random(seed)

    def answer(received: Received, attempt: int) -> Answer:
        wait_s = gate(time.monotonic())
        latency_s = latency(dice)

        async def play(exchange: Exchange) -> bool:
            await asyncio.sleep(latency_s)
            if wait_s is not None:
                return await status(429, headers={"retry-after": f"{wait_s:g}"}).play(exchange)
            return await payload(completion("fine", received)).play(exchange)

        return Answer(play)

    async def main() -> Result:
        client = Client(server.port)
        try:
            return await drive(Limits(), ROWS, client.ask, time.monotonic, dice)
        finally:
            client.close()

    with ChatServer(answer) as server:
        return asyncio.run(main())


def main() -> None:
    """Print the tables."""
    simulated()
    if "--simulated" in sys.argv:
        return
    heading("real sockets, 2 runs each")
    for gate_name in ("window of 1 s", "bucket of 60"):
        for latency_name, latency in LATENCIES.items():
            runs = [over_sockets(GATES[gate_name](n), latency, n) for n in range(2)]
            row(f"{gate_name}, {latency_name}", runs)


if __name__ == "__main__":
    main()
