"""A fast loopback server that speaks the OpenAI dialect, in a process of its own.

    python benchmarks/server.py                 # how fast it is, measured with wrk
    python benchmarks/server.py --write         # and into RESULTS.md
    python benchmarks/server.py serve '{"port": 8000, "latency_s": 0.05, "faults": "mix"}'

It parses no more than it must, so that what the other programs measure is the client. A reply is a function of the
prompt (`peers/rows.py`); what an attempt meets is a function of the seed, the prompt and the number of the attempt.

Paths: ``/v1/chat/completions`` (whole and streamed), ``/v1/models``, and for the programs here ``/control/calls`` (how
often each prompt was sent, what was answered, when streams began) and ``/control/reset``.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import math
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from peers.rows import is_warm_up, prompt_of, reply_to
from report import Report, Table, arguments

# What an attempt may meet, and how often.
MIXES: dict[str, tuple[tuple[str, float], ...]] = {
    "": (),
    "mix": (("429", 0.05), ("500", 0.03), ("reset", 0.01), ("hang", 0.005)),
    "mix and cut JSON": (("429", 0.05), ("500", 0.03), ("reset", 0.01), ("hang", 0.005), ("cut", 0.02)),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a server behaves.

    Attributes:
        port: 0: a free one.
        latency_s: From the end of a request to its answer.
        faults: A name of `MIXES`.
        seed: Chooses who meets the faults.
        rate: ``""``, ``"window"`` (so many in each second of the clock) or ``"bucket"`` (refills evenly).
        per_second: How many requests the rate admits in a second.
        tells: Where a refusal says how long to wait: ``header`` (Retry-After: 1), ``body`` (Google's `retryDelay`),
            ``reset`` (the reset of x-ratelimit-reset-requests), ``words``, or ``nothing``; ``bare``: all answers tell
            the level of the bucket in bare milliseconds, as Azure's do.
        chunks: Pieces of a streamed reply.
        chunk_s: Seconds between them.
    """

    port: int = 0
    latency_s: float = 0.0
    faults: str = ""
    seed: int = 1
    rate: str = ""
    per_second: int = 60
    tells: str = "header"
    chunks: int = 8
    chunk_s: float = 0.0


def fault_of(plan: Plan, prompt: str, attempt: int) -> str:
    """The fault that an attempt meets, "" for none: always the same one."""
    digest = hashlib.blake2b(f"{plan.seed} {attempt} {prompt}".encode(), digest_size=8).digest()
    chance = int.from_bytes(digest, "big") / 2**64
    for fault, share in MIXES[plan.faults]:
        chance -= share
        if chance < 0:
            return fault
    return ""


def calls_needed(plan: Plan, prompts: list[str]) -> int:
    """The least number of calls that answers all prompts: every attempt up to the one that meets no fault."""
    needed = 0
    for prompt in prompts:
        needed += 1
        attempt = 1
        while fault_of(plan, prompt, attempt):
            attempt += 1
            needed += 1
    return needed


# --- the server

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1764000000,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":%b},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":20,"completion_tokens":18,"total_tokens":38}}'
)
# The Responses dialect, as far as openaivec needs it: it sends several rows as one JSON text.
RESPONSE = (
    b'{"id":"resp_1","object":"response","created_at":1764000000,"status":"completed","model":%b,"output":[{"type":'
    b'"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":%b,'
    b'"annotations":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{"input_tokens":20,'
    b'"input_tokens_details":{"cached_tokens":0},"output_tokens":18,"output_tokens_details":{"reasoning_tokens":0},'
    b'"total_tokens":38}}'
)
REFUSED_BODY = b'{"error": {"message": "Too many requests", "code": "rate_limit"}}'
OOPS_BODY = b'{"error": {"message": "The server had an error", "type": "server_error"}}'


def whole(status: bytes, body: bytes, *headers: bytes) -> bytes:
    """One HTTP response."""
    lines = (b"HTTP/1.1 " + status, b"content-type: application/json", b"content-length: %d" % len(body), *headers)
    return b"\r\n".join((*lines, b"", body))


ANSWERS = {
    "429": whole(b"429 Too Many Requests", REFUSED_BODY, b"retry-after: 1"),
    "500": whole(b"500 Internal Server Error", OOPS_BODY),
    "models": whole(b"200 OK", b'{"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "bench"}]}'),
    "missing": whole(b"404 Not Found", b'{"error": {"message": "No such path"}}'),
}


def refusal(tells: str, wait_s: float, level: bytes) -> bytes:
    """A 429 that says how long to wait, in one of the ways that servers have."""
    status = b"429 Too Many Requests"
    error: dict[str, Any] = {"message": "Too many requests", "code": "rate_limit"}
    if tells == "body":
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error = {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}
        error["details"] = [{"@type": kind, "retryDelay": f"{wait_s:.3f}s"}]
    elif tells == "words":
        error["message"] = f"Rate limit reached. Please try again in {wait_s:.3f}s."
    body = json.dumps({"error": error}).encode()
    if tells == "reset":
        return whole(status, body, b"x-ratelimit-reset-requests: %dms" % math.ceil(wait_s * 1000))
    return whole(status, body, *([level] if tells == "bare" else []))


def prompts_in(request: dict[str, Any]) -> list[str]:
    """What a request asks: the last message of a chat, as text; or the rows of a group."""
    if "input" in request:
        given = request["input"]
        text = given if isinstance(given, str) else given[-1]["content"]
        return [row["body"] for row in json.loads(text)["user_messages"]]
    if not request["messages"]:
        return [""]
    content = request["messages"][-1]["content"]
    return [content if isinstance(content, str) else "".join(part.get("text", "") for part in content)]


def completion(request: dict[str, Any], prompts: list[str], level: bytes = b"") -> bytes:
    """The whole response to a chat, or to a group of rows; `level`: headers that tell what is left of the limit."""
    model = json.dumps(request.get("model", "m")).encode()
    if "input" in request:
        rows = [{"id": number, "body": reply_to(prompt)} for number, prompt in enumerate(prompts)]
        text = json.dumps(json.dumps({"assistant_messages": rows})).encode()
        data = RESPONSE % (model, text)
    else:
        data = COMPLETION % (model, json.dumps(reply_to(prompts[0])).encode())
    return whole(b"200 OK", data, level) if level else JSON_HEAD % (len(data), data)


class Counts:
    """What was asked and what was answered."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.first_chunk_at: dict[str, float] = {}
        self.connections = self.requests = 0

    def reset(self) -> None:
        """Forget it all."""
        self.calls.clear()
        self.answers.clear()
        self.first_chunk_at.clear()
        self.connections = self.requests = 0

    def told(self) -> bytes:
        """As JSON."""
        return json.dumps(self.__dict__).encode()


class Gate:
    """Admits so many requests in a second, and refuses the others."""

    def __init__(self, plan: Plan) -> None:
        """Begin full."""
        self.plan = plan
        self.fill()

    def fill(self) -> None:
        """Nobody has been admitted yet."""
        self.left, self.at = float(self.plan.per_second), time.monotonic()

    def admits(self) -> bool:
        """Whether a request that comes now may pass."""
        now = time.monotonic()
        if self.plan.rate == "window":
            if int(now) != int(self.at):
                self.left = float(self.plan.per_second)
        else:
            self.left = min(float(self.plan.per_second), self.left + (now - self.at) * self.plan.per_second)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def wait_s(self) -> float:
        """Seconds until a request is admitted again."""
        if self.plan.rate == "window":
            return int(self.at) + 1 - self.at
        return max(1 - self.left, 0) / self.plan.per_second

    def level(self) -> bytes:
        """Headers that tell what is left, as Azure writes them: the reset is a bare number of milliseconds."""
        if self.plan.tells != "bare":
            return b""
        most = self.plan.per_second
        full_ms = (most - self.left) / most * 1000
        return (
            b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: %d\r\nx-ratelimit-renewalperiod-requests: 1"
        ) % (most, self.left, full_ms)


class Delay:
    """Does things so many seconds later: one timer for all that wait, because all wait equally long."""

    def __init__(self, delay_s: float) -> None:
        """Nothing waits yet."""
        self.delay_s = delay_s
        self.waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def later(self, work: Callable[[], None]) -> None:
        """Do `work` when its time has come."""
        if not self.delay_s:
            work()
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self.delay_s
        if not self.waiting:
            loop.call_at(due, self.wake)
        self.waiting.append((due, work))

    def wake(self) -> None:
        """Do what is due."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self.waiting and self.waiting[0][0] <= now:
            self.waiting.popleft()[1]()
        if self.waiting:
            loop.call_at(self.waiting[0][0], self.wake)


class Connection(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self, plan: Plan, counts: Counts, gate: Gate, delay: Delay) -> None:
        """Serve one client."""
        self.plan, self.counts, self.gate, self.delay = plan, counts, gate, delay
        self.data = b""
        self.has_faults = bool(plan.faults)

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        self.transport = transport
        self.counts.connections += 1

    def data_received(self, data: bytes) -> None:
        """A request, a part of one, or several."""
        self.data = self.data + data if self.data else data
        while self.data:
            at = self.data.find(b"\r\n\r\n")
            if at < 0:
                return
            found = LENGTH.search(self.data, 0, at)
            end = at + 4 + (int(found[1]) if found else 0)
            if len(self.data) < end:
                return
            opening, body, self.data = self.data[: self.data.find(b"\r\n")], self.data[at + 4 : end], self.data[end:]
            self.received(opening.split(b" ")[1], body)

    def received(self, path: bytes, body: bytes) -> None:
        """A whole request."""
        if path.endswith((b"/chat/completions", b"/responses")):
            self.asked(json.loads(body))
        elif path.endswith(b"/models"):
            self.transport.write(ANSWERS["models"])
        elif path == b"/control/calls":
            told = self.counts.told()
            self.transport.write(JSON_HEAD % (len(told), told))
        elif path == b"/control/reset":
            self.counts.reset()
            self.gate.fill()
            self.transport.write(JSON_HEAD % (2, b"{}"))
        else:
            self.transport.write(ANSWERS["missing"])

    def asked(self, request: dict[str, Any]) -> None:
        """A chat, or several rows in one request."""
        prompts = prompts_in(request)
        counts = self.counts
        counts.requests += 1
        for prompt in prompts:
            counts.calls[prompt] += 1
        if is_warm_up(prompts[0]):
            what = ""
        elif self.plan.rate and not self.gate.admits():
            what = "429"
        else:
            what = fault_of(self.plan, prompts[0], counts.calls[prompts[0]]) if self.has_faults else ""
        counts.answers[what or "ok"] += 1
        level = self.gate.level() if self.plan.rate else b""
        refused = b""
        if what == "429" and self.plan.rate and self.plan.tells != "header":
            refused = refusal(self.plan.tells, self.gate.wait_s(), level)
        self.delay.later(functools.partial(self.answer, request, prompts, what, level, refused))

    def answer(self, request: dict[str, Any], prompts: list[str], what: str, level: bytes, refused: bytes) -> None:
        """Do what was chosen."""
        transport = self.transport
        if transport.is_closing() or what == "hang":
            return
        if refused:
            transport.write(refused)
        elif what in ANSWERS:
            transport.write(ANSWERS[what])
        elif what == "reset":
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        elif what == "cut":
            transport.write(b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"choices": [{"message": {"content": "re')
            transport.close()
        elif request.get("stream"):
            self.stream(request, prompts[0])
        else:
            transport.write(completion(request, prompts, level))

    def stream(self, request: dict[str, Any], prompt: str) -> None:
        """Server-sent events, one by one."""
        text, pieces = reply_to(prompt), max(1, self.plan.chunks)
        size = -(-len(text) // pieces)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        opening = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": request.get("model", "m")}

        def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
            value = {**opening, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
            return chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

        def chunk(data: bytes) -> bytes:
            return b"%x\r\n%b\r\n" % (len(data), data)

        usage = {"prompt_tokens": 20, "completion_tokens": 18, "total_tokens": 38}
        events = [event({"content": text[at : at + size]}) for at in range(0, len(text), size)]
        events.append(event({}, "stop", usage=usage) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        loop = asyncio.get_running_loop()

        def send(number: int) -> None:
            if self.transport.is_closing():
                return
            if number == 0:
                self.counts.first_chunk_at[prompt] = time.monotonic()
            self.transport.write(events[number])
            if number + 1 < len(events):
                loop.call_later(self.plan.chunk_s, send, number + 1)

        self.transport.write(head)
        send(0)


def serve(plan: Plan) -> None:
    """Serve in this process for ever; the port is the first line that it prints."""

    async def forever() -> None:
        counts, gate, delay = Counts(), Gate(plan), Delay(plan.latency_s)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(plan, counts, gate, delay), "127.0.0.1", plan.port, backlog=4096
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(forever())


# --- for the other programs


class Served:
    """A server in a process of its own."""

    def __init__(self, port: int) -> None:
        """It listens on `port`."""
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/v1"

    def _get(self, path: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.origin}{path}", timeout=60) as response:
            value: dict[str, Any] = json.load(response)
        return value

    def counts(self) -> dict[str, Any]:
        """``calls`` and ``first_chunk_at`` by prompt, ``answers`` by kind, ``requests``, ``connections``."""
        return self._get("/control/calls")

    def reset(self) -> None:
        """Forget what was counted."""
        self._get("/control/reset")


@contextmanager
def serving(**plan: Any) -> Iterator[Served]:
    """A server in a process of its own, for as long as the block lasts; keywords as in `Plan`."""
    process = subprocess.Popen(
        [sys.executable, __file__, "serve", json.dumps(asdict(Plan(**plan)))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Served(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


# --- how fast it is

LUA = """
local n = 0
request = function()
    n = (n + 1) %% 10000
    return wrk.format("POST", "/v1/chat/completions", {["content-type"] = "application/json"},
        '{"model": "m", "messages": [{"role": "user", "content": "%s' .. n .. '"}]}')
end
"""


def wrk(url: str, connections: int, seconds: int = 5) -> tuple[float, float]:
    """Requests a second that `wrk` gets through, and their median latency in ms."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % prompt_of(0))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert median is not None
    assert rate is not None
    return float(rate[1]), float(median[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[median[2]]


def main() -> None:
    """Measure the server with wrk, and print the table."""
    options = arguments(__doc__)
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk")
    table = Table("latency", "connections", "requests/s", "at most", "median, ms")
    for latency_s in (0.0, 0.05):
        with serving(latency_s=latency_s) as server:
            for connections in (8, 64, 512):
                rate, median_ms = wrk(server.origin, connections)
                limit = f"{connections / latency_s:,.0f}" if latency_s else ""
                table.add(f"{latency_s * 1000:.0f} ms", connections, f"{rate:,.0f}", limit, f"{median_ms:.2f}")
    report = Report("server", "The server of these tables: `python benchmarks/server.py`")
    report.text(
        "Raw asyncio in a process of its own, measured by wrk (one thread, distinct prompts): what no client here can "
        "pass. At most: what so many connections can get at that latency."
    )
    report.table(table)
    report.finish(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Plan(**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}")))
    else:
        main()
