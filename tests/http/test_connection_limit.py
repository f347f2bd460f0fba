"""The limit of connections: a quarter of the file descriptors of the process, for all its loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from effort import PATIENCE_S
from hypothesis import given
from hypothesis import strategies as st
from kernels import Kernel, clean_environment
from paths import TESTS
from servers import Answer, ChatServer, Received, hang, text
from simulation import run_batch

from aichat_magic.batching.api import batch_async
from aichat_magic.batching.progress import Progress
from aichat_magic.chat.api import ask_async
from aichat_magic.chat.chat import Chat
from aichat_magic.core import errors
from aichat_magic.core.settings import Settings
from aichat_magic.http.client import HttpClient, HttpRequest
from aichat_magic.http.connection_limit import ConnectionLimit, descriptor_limit
from aichat_magic.store.memory import MemoryStore

HOST, OTHER = "a.example", "b.example"
posix_only = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="RLIMIT_NOFILE and /proc")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def small(descriptors: int = 32, clock: Clock | None = None) -> ConnectionLimit:
    """Return a limit that allows, with 32 descriptors, 8 connections in all and 7 to one host."""
    return ConnectionLimit(descriptors=lambda: descriptors, clock=clock or Clock())


# --- arithmetic


@pytest.mark.parametrize(
    ("descriptors", "most", "to_one"), [(256, 64, 56), (1024, 256, 224), (10, 8, 7), (None, 1000, 875)]
)
def test_a_quarter_of_the_descriptors_is_for_connections(descriptors: int | None, most: int, to_one: int) -> None:
    limit = ConnectionLimit(descriptors=lambda: descriptors)
    assert (limit.max_connections, limit.max_per_host) == (most, to_one)


def test_limit_of_this_process_is_the_systems() -> None:
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert descriptor_limit() == (None if soft == resource.RLIM_INFINITY else soft)


def test_system_without_such_limits_has_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert descriptor_limit() is None
    assert ConnectionLimit().max_connections == 1000


def test_one_host_leaves_places_to_the_others() -> None:
    limit = small()
    assert [limit.acquire_nowait(HOST) for _ in range(8)] == [True] * 7 + [False]
    assert [limit.acquire_nowait(OTHER) for _ in range(2)] == [True, False]
    limit.release(HOST)
    assert limit.acquire_nowait(OTHER)


def test_idle_connections_leave_places_to_those_in_use() -> None:
    limit = small(256)
    for _ in range(56):
        limit.acquire_nowait(HOST)
    assert [limit.mark_idle(HOST) for _ in range(50)] == [True] * 49 + [False]
    assert limit.in_use == 7
    limit.mark_in_use(HOST)
    assert limit.in_use == 8


def test_runs_share_the_places() -> None:
    limit = small(256)
    assert limit.share == 56
    with limit.shared(), limit.shared():
        assert limit.share == 28
        with contextlib.ExitStack() as stack:
            for _ in range(98):
                stack.enter_context(limit.shared())
            assert limit.share == 1
    assert limit.share == 56


def test_limit_falls_to_what_is_open_and_grows_again() -> None:
    clock = Clock()
    limit = small(256, clock)
    for _ in range(20):
        limit.acquire_nowait(HOST)
    limit.lower()
    assert not limit.acquire_nowait(HOST)
    clock.now += 1
    assert [limit.acquire_nowait(HOST) for _ in range(3)] == [True, True, False]  # an eighth
    for _ in range(20):
        clock.now += 1
        limit.acquire_nowait(HOST)
    assert sum(limit.acquire_nowait(HOST) for _ in range(99)) == 56 - 42
    limit.lower()
    for _ in range(56):
        limit.release(HOST)
    assert sum(limit.acquire_nowait(HOST) for _ in range(99)) == 56


def test_fall_with_nothing_open_leaves_one_place() -> None:
    limit = small()
    limit.lower()
    assert [limit.acquire_nowait(HOST) for _ in range(2)] == [True, False]


# --- waiting


@pytest.mark.anyio
async def test_first_come_first_served() -> None:
    limit = small()
    for _ in range(7):
        limit.acquire_nowait(HOST)
    served: list[int] = []

    async def wait(number: int) -> None:
        await limit.acquire(HOST)
        served.append(number)

    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(wait(number)))
        await asyncio.sleep(0)
    for number in range(5):
        limit.release(HOST)
        assert not limit.acquire_nowait(HOST)  # nobody overtakes those who wait
        await tasks[number]
        assert served == list(range(number + 1))


@pytest.mark.anyio
async def test_line_to_a_full_host_holds_up_nobody_else() -> None:
    limit = small()
    for _ in range(7):
        limit.acquire_nowait(HOST)
    stuck = asyncio.create_task(limit.acquire(HOST))
    await asyncio.sleep(0)
    await limit.acquire(OTHER)
    limit.release(OTHER)
    assert not stuck.done()
    limit.release(HOST)
    await stuck


@given(st.lists(st.sampled_from(["wait", "cancel", "release", "turn"]), max_size=60))
def test_places_are_neither_lost_nor_made_up(steps: list[str]) -> None:
    async def main() -> None:
        limit = small()
        held = sum(limit.acquire_nowait(HOST) for _ in range(7))
        waiting: list[asyncio.Task[None]] = []
        for step in steps:
            if step == "wait":
                waiting.append(asyncio.create_task(limit.acquire(HOST)))
            elif step == "cancel" and waiting:
                waiting[len(steps) % len(waiting)].cancel()
            elif step == "release" and held:
                limit.release(HOST)
                held -= 1
            else:
                await asyncio.sleep(0)
            for task in [task for task in waiting if task.done()]:
                waiting.remove(task)
                held += not task.cancelled()
        for task in waiting:
            task.cancel()
        held += sum(result is None for result in await asyncio.gather(*waiting, return_exceptions=True))
        assert limit.in_use == held <= 7
        assert sum(limit.acquire_nowait(HOST) for _ in range(99)) == 7 - held

    asyncio.run(main())


def test_place_goes_from_thread_to_thread() -> None:
    limit = small()
    for _ in range(7):
        limit.acquire_nowait(HOST)  # by this thread, until all others wait
    rounds, most = 200, 0
    inside = finished = 0
    lock = threading.Lock()
    all_wait = threading.Semaphore(0)

    async def use() -> None:
        nonlocal inside, most, finished
        for number in range(rounds):
            if not limit.acquire_nowait(HOST):
                if not number:
                    all_wait.release()
                await limit.acquire(HOST)
            with lock:
                inside += 1
                most = max(most, inside)
            await asyncio.sleep(0)
            with lock:
                inside -= 1
            limit.release(HOST)
        with lock:
            finished += 1

    async def several() -> None:
        await asyncio.gather(*(use() for _ in range(4)))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(16):
        assert all_wait.acquire(timeout=PATIENCE_S)
    for _ in range(7):
        limit.release(HOST)
    for thread in threads:
        thread.join()
    assert finished == 16
    assert most <= 7
    assert limit.in_use == 0


def test_loop_that_was_closed_while_somebody_waited_takes_no_place() -> None:
    limit = small()
    for _ in range(7):
        limit.acquire_nowait(HOST)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(limit.acquire(HOST))
    loop.run_until_complete(asyncio.sleep(0))
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be
    loop.close()
    limit.release(HOST)
    assert limit.in_use == 6
    del waiting, loop
    gc.collect()  # ends the coroutine that waited, which must not release what it never had
    assert limit.in_use == 6


# --- requests


def request(server: ChatServer, number: int = 0, **changes: Any) -> HttpRequest:
    body = json.dumps({"messages": [{"role": "user", "content": str(number)}]}).encode()
    return HttpRequest(provider="openai", url=f"{server.url}/chat/completions", body=body, **changes)


@pytest.fixture(params=[True, False], ids=["direct", "httpx"])
def http(request: pytest.FixtureRequest) -> HttpClient:
    return HttpClient(environ={}, is_direct=request.param, limit=small)


@pytest.mark.anyio
async def test_more_requests_than_places_are_all_answered(http: HttpClient) -> None:
    with ChatServer(lambda received, attempt: text("fine", delay_s=0.01)) as server:
        answers = await asyncio.gather(*(http.send(request(server, number)) for number in range(40)))
        assert [answer.status for answer in answers] == [200] * 40
        assert server.most_in_flight <= 7
        await http.aclose()
        assert http.limit.in_use == 0


@pytest.mark.anyio
async def test_wait_for_a_place_counts_to_the_deadline(http: HttpClient) -> None:
    with ChatServer(lambda received, attempt: hang()) as server:
        others = [asyncio.create_task(http.send(request(server, number))) for number in range(7)]
        assert await asyncio.to_thread(server.wait_until, lambda s: s.in_flight == 7)
        with pytest.raises(errors.DeadlineError, match=r"(?s)No connection to 127.* within 0\.3 s.*ulimit -n"):
            await http.send(request(server, timeout_s=0.3))
        assert len(server.requests) == 7
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert http.limit.in_use == 0
        await http.aclose()


@pytest.mark.anyio
async def test_idle_connection_makes_room_for_another_host(http: HttpClient) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ChatServer()) for _ in range(12)]
        for _ in range(2):
            for server in servers:  # all of them on one host by its name
                await http.send(request(server))

        def are_few(_: ChatServer) -> bool:
            return sum(server.open_connections for server in servers) <= 7

        assert await asyncio.to_thread(servers[0].wait_until, are_few)  # a server sees the end a little later
        await http.aclose()


def test_loop_that_is_thrown_away_gives_its_places_back() -> None:
    http = HttpClient(environ={}, limit=small)
    with ChatServer() as server:
        for _ in range(10):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(http.send(request(server)))
            for adapter in http._pools[loop]._all:
                loop.run_until_complete(adapter.aclose())
            loop.close()  # without its asynchronous generators
        assert http.limit.in_use == 0


@pytest.mark.anyio
async def test_run_leaves_few_idle_connections() -> None:
    chat = Chat(settings=Settings, store=MemoryStore())
    with ChatServer(lambda received, attempt: text("fine", delay_s=0.02)) as server:
        where: dict[str, Any] = {"model": "vllm/m", "base_url": server.url, "chat": chat}
        await batch_async([f"row {n}" for n in range(200)], progress=False, concurrency=32, **where)
        assert server.connections > 4
        assert await asyncio.to_thread(server.wait_until, lambda s: 0 < s.open_connections <= 4)
        connections = server.connections
        await ask_async("one more", **where)
        assert server.connections == connections
        await chat.http.aclose()


@pytest.mark.anyio
async def test_concurrency_that_cannot_be_is_told() -> None:
    chat = Chat(settings=Settings, store=MemoryStore(), http=HttpClient(environ={}, limit=small))
    with ChatServer(lambda received, attempt: text("fine", delay_s=0.02)) as server:
        with pytest.warns(UserWarning, match=r"concurrency=50 .* 7 connections .*ulimit -n"):
            await batch_async(
                [f"row {n}" for n in range(60)], chat=chat, model="vllm/m", base_url=server.url, progress=False,
                concurrency=50,
            )  # fmt: skip
        assert server.most_in_flight <= 7
        await chat.http.aclose()


# --- runs that find no descriptor, in virtual time


def no_descriptor(times: float) -> Callable[[str, int], errors.ProviderError | None]:
    """Return a fault that lets the first calls of each row find no descriptor."""
    return lambda prompt, attempt: errors.TooManyOpenFilesError("none left") if attempt <= times else None


@pytest.mark.parametrize("in_flight", [1, 2, 64])
def test_rows_spend_nothing_when_there_is_no_descriptor(in_flight: int) -> None:
    """It costs no attempt and no retry of the run, and does not count as an outage."""
    rows = [f"row {number}" for number in range(100)]
    said: list[Progress] = []
    made, _ = run_batch(
        rows, concurrency=in_flight, max_retries=0, fault=no_descriptor(4), patience_s=0, on_progress=said.append
    )
    assert made.stopped_by is None
    assert [str(outcome) for outcome in made.outcomes()] == [f"reply to {row}" for row in rows]
    assert not any(progress.away_s for progress in said)


def test_try_without_a_descriptor_tells_nothing_of_an_outage() -> None:
    """The next attempt comes as soon, and the run waits no longer for the outage to end."""
    rows = [f"row {number}" for number in range(1000)]
    made, network = run_batch(
        rows, max_retries=0, patience_s=5, away=[(2, 30)], broken=errors.ConnectionFailedError,
        refused=errors.TooManyOpenFilesError,
    )  # fmt: skip
    assert made.stopped_by is None
    assert [str(outcome) for outcome in made.outcomes()] == [f"reply to {row}" for row in rows]
    assert sum(1 for at in network.sent_at if 2.1 < at < 30) in (27, 28)


def test_run_that_never_finds_a_descriptor_ends() -> None:
    rows = [f"row {number}" for number in range(100)]
    made, network = run_batch(rows, fault=no_descriptor(math.inf))
    assert isinstance(made.stopped_by, errors.TooManyOpenFilesError)
    assert sum(network.reached.values()) <= 500 + 20 + 64 + 20


# --- processes with few descriptors


def answer(received: Received, attempt: int) -> Answer:
    is_slow = received.last_message.startswith("slow")
    return text(f"echo: {received.last_message}", delay_s=0.3 if is_slow else 0.02)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


def crowd(server: ChatServer, home: Path, **asked: Any) -> dict[str, Any]:
    """Return the results of runs in a process with few descriptors, and check that it prints nothing else."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "crowd.py"), server.url, json.dumps(asked)],
        env=clean_environment(home, {"AICHAT_STORE": str(home / "replies.sqlite3")}),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("limit", [256, 1024])
@pytest.mark.parametrize(("runs", "rows"), [(1, 2000), (50, 40)], ids=["one", "fifty at once"])
def test_runs_with_all_defaults_get_every_row(
    server: ChatServer, tmp_path: Path, limit: int, runs: int, rows: int
) -> None:
    """Row 118."""
    found = crowd(server, tmp_path, limit=limit, runs=runs, rows=rows)
    assert found["wrong"] == []
    assert server.most_in_flight <= limit // 4
    assert len(server.requests) == 1 + runs * rows
    assert found["after"] <= found["before"] + 8
    # Runs that share the slots reuse their connections instead of passing the slots to and fro.
    assert server.connections < len(server.requests) / 2


@pytest.mark.slow
@posix_only
def test_run_that_finds_few_descriptors_left_goes_on_with_them(server: ChatServer, tmp_path: Path) -> None:
    """Row 118: files of the user take the others."""
    found = crowd(server, tmp_path, limit=256, rows=600, left=12)
    assert found["wrong"] == []
    assert len(server.requests) == 601
    assert server.most_in_flight <= 12


@pytest.mark.slow
@posix_only
def test_run_that_finds_no_descriptor_left_waits_for_one(server: ChatServer, tmp_path: Path) -> None:
    """Row 118: longer than a single request waits, and without using up an attempt of any row."""
    found = crowd(
        server, tmp_path, limit=256, rows=60, left=0, free_after_s=8, options={"max_retries": 0, "store": False}
    )
    assert found["wrong"] == []
    assert len(server.requests) == 61


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("is_freed", [True, False])
def test_question_waits_for_a_descriptor_for_a_while(server: ChatServer, tmp_path: Path, is_freed: bool) -> None:
    program = f"""
import resource, sys, threading
sys.path.insert(0, {str(TESTS)!r})
import aichat_magic, crowd
aichat_magic.ask("warm", model="vllm/m", base_url={server.url!r})
from aichat_magic.chat.chat import shared_chat
from aichat_magic.core.sync import run_sync as run
run(shared_chat().http.aclose())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
eaten = crowd.eat(0)
if {is_freed}:
    threading.Timer(1, crowd.close, [eaten]).start()
shared_chat().set("max_retries", "0")
try:
    print(aichat_magic.ask("hi", model="vllm/m", base_url={server.url!r}))
except aichat_magic.AichatError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(tmp_path), capture_output=True, text=True,
        timeout=2 * PATIENCE_S, check=False,
    )  # fmt: skip
    if is_freed:
        assert done.stdout == "echo: hi\n", done
    else:
        assert done.stdout.startswith("TooManyOpenFilesError No connection to 127.0.0.1"), done
        assert "ulimit -n" in done.stdout
        assert len(server.requests) == 1


@pytest.mark.slow
@posix_only
def test_kernel_with_few_descriptors_lives(server: ChatServer) -> None:
    """Row 118."""
    with Kernel() as kernel:
        cells = [
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))",
            "%load_ext aichat_magic",
            "%aichat use vllm/m",
            f"%config AIChat.base_url = '{server.url}'",
            "import pandas as pd; df = pd.DataFrame({'n': range(1500)})",
            "_ = df.head(5).aichat.complete('warm {n}')",
        ]
        assert [outcome.status for outcome in kernel.run_all(cells)] == ["ok"] * len(cells)
        before = kernel.fds
        outcome = kernel.run("df['r'] = df.aichat.complete('slow {n}')")
        assert (outcome.status, outcome.error_value) == ("ok", "")
        assert kernel.value("(df['r'] == 'echo: slow ' + df['n'].astype(str)).sum()") in ("1500", "np.int64(1500)")
        assert kernel.fds <= before + 6
        assert kernel.run("%%aichat\nstill there?").shown.endswith("echo: still there?")
        assert server.most_in_flight <= 64


# --- a request that is cancelled


@contextlib.asynccontextmanager
async def small_answers() -> AsyncGenerator[str, None]:
    """Answer every request with an empty JSON object; the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(Exception):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.anyio
@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "through httpx"])
@pytest.mark.parametrize("is_fresh", [True, False], ids=["new connection", "kept connection"])
async def test_request_that_is_cancelled_in_any_turn_of_the_loop_keeps_no_slot(is_direct: bool, is_fresh: bool) -> None:
    async with small_answers() as url:
        for turns in range(30):
            limit = ConnectionLimit(descriptors=lambda: 256)
            async with contextlib.aclosing(
                HttpClient(environ={}, is_direct=is_direct, limit=lambda limit=limit: limit)
            ) as http:
                request = HttpRequest(provider="p", url=url, body=b"{}")
                if not is_fresh:
                    await http.send(request)
                task = asyncio.ensure_future(http.send(request))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert limit.in_use == 0, turns


@pytest.mark.anyio
async def test_closing_of_idle_connections_that_is_cancelled_loses_no_slot() -> None:
    limit = ConnectionLimit(descriptors=lambda: 256)
    async with small_answers() as url, contextlib.aclosing(HttpClient(environ={}, limit=lambda: limit)) as http:
        request = HttpRequest(provider="p", url=url, body=b"{}")
        await asyncio.gather(*(http.send(request) for _ in range(30)))

        async def close() -> None:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)  # an interrupt in the turn in which a run ends
            await http.close_idle()

        await asyncio.wait({asyncio.ensure_future(close())})
        await http.close_idle()
        assert limit._total <= 4
