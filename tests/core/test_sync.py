"""Synchronous calls of coroutines, and SIGINT, which ends them. Real kernels: test_sync_in_kernels.py."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from effort import PATIENCE_S
from needs import needs
from paths import TESTS
from servers import ChatServer, hang, status

from aichat_magic.core import interrupts, sync
from aichat_magic.core.errors import ChatInterrupt, NestedCallError, RateLimitError, UnexpectedError
from aichat_magic.core.interrupts import InterruptHandler
from aichat_magic.core.private_loop import NestableLoop, PrivateLoop
from aichat_magic.core.sync import iterate
from aichat_magic.core.sync import run_sync as run

colour = contextvars.ContextVar("colour", default="none")


async def give(value: Any, *, after_s: float = 0) -> Any:
    await asyncio.sleep(after_s)
    return value


async def count(to: int, log: list[str] | None = None, *, pause_s: float = 0) -> AsyncGenerator[int, None]:
    try:
        for number in range(to):
            await asyncio.sleep(pause_s)
            yield number
    finally:
        await asyncio.sleep(0)
        if log is not None:
            log.append("closed")


def at_once() -> bool:
    return True


@contextlib.contextmanager
def sigint(*when: Callable[[], object]) -> Iterator[None]:
    """Send SIGINT to this process each time that one of these holds, once a call has installed its handler.

    The second one comes when the first was heard, and so on: two that come together would be one to the system.
    """

    def send() -> None:
        while not isinstance(handler := signal.getsignal(signal.SIGINT), InterruptHandler):
            if over.wait(0.002):
                return
        for number, holds in enumerate(when):
            while handler.hits < number or not holds():
                if over.wait(0.002):
                    return
            time.sleep(0.02)  # mostly, the loop waits for something by then
            os.kill(os.getpid(), signal.SIGINT)

    over = threading.Event()
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def python(code: str, *options: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run a program with every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", ""))),
        },
    )


# --- running


def everywhere(call: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """Return the surroundings in which a call must work."""

    async def inside() -> Any:
        return call()

    def in_thread() -> Any:
        box: list[Any] = []
        thread = threading.Thread(target=lambda: box.append(call()))
        thread.start()
        thread.join()
        return box[0]

    def in_fork() -> Any:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.write(writer, str(call()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            return int(pipe.read())

    def in_uvloop() -> Any:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(inside())

    return {
        "script": call,
        "asyncio.run": lambda: asyncio.run(inside()),
        "uvloop": in_uvloop,
        "thread": in_thread,
        "fork": in_fork,
    }


@pytest.mark.parametrize(
    "place", ["script", "asyncio.run", pytest.param("uvloop", marks=needs("uvloop")), "thread", "fork"]
)
def test_runs_anywhere(place: str) -> None:
    run(give(0))  # a loop that is open already must not matter
    assert everywhere(lambda: run(give(7, after_s=0.01)))[place]() == 7
    assert everywhere(lambda: sum(iterate(count(4))))[place]() == 6


def test_the_loop_and_its_connections_outlive_the_call() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def inside() -> asyncio.AbstractEventLoop:
        return run(loop())

    first = run(loop())
    assert asyncio.run(inside()) is first
    assert run(loop()) is first


def test_asyncios_own_classes_stay_as_they_are() -> None:
    before = (asyncio.run, asyncio.Task, asyncio.Future, asyncio.get_event_loop, asyncio.get_event_loop_policy())
    methods = dict(vars(asyncio.BaseEventLoop)), dict(vars(asyncio.SelectorEventLoop))

    async def inside() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        hooks = sys.get_asyncgen_hooks()
        assert run(give(1)) == 1
        with pytest.raises(ZeroDivisionError):
            run(fail(ZeroDivisionError()))
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        assert sys.get_asyncgen_hooks() == hooks
        await asyncio.sleep(0)

    asyncio.run(inside())
    assert (
        asyncio.run,
        asyncio.Task,
        asyncio.Future,
        asyncio.get_event_loop,
        asyncio.get_event_loop_policy(),
    ) == before
    assert (dict(vars(asyncio.BaseEventLoop)), dict(vars(asyncio.SelectorEventLoop))) == methods
    assert "run_forever" not in vars(PrivateLoop)  # outside of a loop it is asyncio's own


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_timeouts_and_the_current_task_are_valid_inside(place: str) -> None:
    async def inside() -> str:
        assert asyncio.current_task() is not None
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
        except TimeoutError:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(give("timed out"))
            return str(task.result())
        return "went through"

    assert everywhere(lambda: run(inside()))[place]() == "timed out"


def test_context_variables_of_the_caller_are_visible() -> None:
    async def read() -> str:
        return colour.get()

    async def read_often() -> AsyncGenerator[str, None]:
        yield colour.get()

    token = colour.set("green")
    try:
        assert run(read()) == "green"
        assert list(iterate(read_often())) == ["green"]
    finally:
        colour.reset(token)


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt("mine")])
def test_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        run(fail(error))
    if not isinstance(error, asyncio.CancelledError):  # asyncio makes a new one
        assert caught.value is error
    assert run(give(1)) == 1


def test_an_exception_group_becomes_one_error_without_history() -> None:
    secret = ValueError("sk-secret")
    group = ExceptionGroup("many", [secret, ExceptionGroup("more", [RateLimitError("Too many.", status=429)])])
    with pytest.raises(UnexpectedError) as caught:
        run(fail(group))
    assert str(caught.value) == "Several things failed at once: ValueError; RateLimitError: Too many.."
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_an_exception_group_behind_an_error_is_cut_off() -> None:
    async def inside() -> None:
        try:
            raise ExceptionGroup("many", [OSError()])
        except ExceptionGroup:
            try:
                raise KeyError("middle")
            except KeyError as error:
                raise RuntimeError("top") from error

    with pytest.raises(RuntimeError, match="top") as caught:
        run(inside())
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__context__ is None


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_a_call_inside_a_call_is_an_error_and_no_deadlock(place: str) -> None:
    async def inside() -> Any:
        with pytest.raises(NestedCallError, match="Await the asynchronous form"):
            list(iterate(count(3)))
        return run(give(1))

    def call() -> str:
        with pytest.raises(NestedCallError, match="Await the asynchronous form"):
            run(inside())
        return str(run(give(2)))

    assert everywhere(call)[place]() == "2"


def test_a_call_in_a_thread_of_a_call_works() -> None:
    async def inside() -> Any:
        return await asyncio.to_thread(lambda: run(give(5)))

    assert run(inside()) == 5


def test_tasks_left_behind_end_with_the_call() -> None:
    log: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.append("ended")

    async def inside() -> asyncio.AbstractEventLoop:
        inside.task = asyncio.create_task(linger())  # type: ignore[attr-defined]  # a place to keep it
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loop = run(inside())
    assert log == ["ended"]
    assert not loop.is_closed()


def test_tasks_left_behind_may_end_by_themselves_for_a_moment() -> None:
    log: list[str] = []

    async def soon() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        log.append("ended by itself")

    async def inside() -> None:
        inside.task = asyncio.create_task(soon())  # type: ignore[attr-defined]  # a place to keep it

    run(inside())
    assert log == ["ended by itself"]


def test_a_stop_of_the_loop_by_somebody_does_not_end_the_call() -> None:
    async def inside() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return 1

    assert run(inside()) == 1


def test_threads_share_nothing() -> None:
    barrier = threading.Barrier(8, timeout=PATIENCE_S)

    async def meet(number: int) -> int:
        barrier.wait()  # noqa: ASYNC251 RUF100  # all eight loops are running at this moment
        await asyncio.sleep(0.01)
        return number

    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(run(meet(n)))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(8))


# --- interrupts


@pytest.mark.parametrize("place", ["script", "asyncio.run", pytest.param("uvloop", marks=needs("uvloop"))])
def test_the_first_interrupt_cancels(place: str) -> None:
    log: list[str] = []

    async def inside() -> None:
        log.append("began")
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            log.append("cleaned up")

    def call() -> None:
        # What ends in an hour of grace has ended by being cancelled.
        with sigint(lambda: log), pytest.raises(ChatInterrupt) as caught:
            run(inside(), grace_s=3600)
        assert caught.value.__context__ is None
        assert run(give(1)) == 1

    before = signal.getsignal(signal.SIGINT)
    everywhere(call)[place]()
    assert signal.getsignal(signal.SIGINT) is before
    assert log == ["began", "cleaned up"]


@pytest.mark.parametrize(
    "surfacing", [None, ValueError("from a library"), ExceptionGroup("many", [OSError()]), SystemExit(1)]
)
def test_whatever_surfaces_after_an_interrupt_is_the_interrupt(surfacing: BaseException | None) -> None:
    begun = threading.Event()

    async def inside() -> str:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if surfacing is not None:
                raise surfacing from None
        return "swallowed"

    with sigint(begun.is_set), pytest.raises(ChatInterrupt) as caught:
        run(inside())
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_an_interrupt_before_the_task_exists_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def inside() -> None:
        log.append("began")

    def interrupted_start(self: Any, loop: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return start(self, loop)

    start = sync._Coroutine.start
    monkeypatch.setattr(sync._Coroutine, "start", interrupted_start)
    with pytest.raises(ChatInterrupt):
        run(inside())
    assert log == []


def test_an_interrupt_at_the_very_end_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(self: InterruptHandler) -> None:
        signal.raise_signal(signal.SIGINT)
        restore(self)

    restore = InterruptHandler.restore
    monkeypatch.setattr(InterruptHandler, "restore", late)
    with pytest.raises(ChatInterrupt):
        run(give(1))


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_an_interrupt_inside_the_loops_own_clean_up_leaves_no_trace(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(self: Any) -> None:
        run_forever(self)
        self._thread_id, self._stopping = threading.get_ident(), True
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=print)
        raise KeyboardInterrupt

    run_forever: Any = asyncio.SelectorEventLoop.run_forever

    def call() -> None:
        nonlocal run_forever
        run_forever = NestableLoop.run_forever if place == "asyncio.run" else run_forever
        before = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        with monkeypatch.context() as patch:
            patch.setattr(PrivateLoop, "run_forever", broken_off)
            patch.setattr(NestableLoop, "run_forever", broken_off, raising=False)
            with pytest.raises(KeyboardInterrupt):
                run(give(1))
        assert (asyncio._get_running_loop(), sys.get_asyncgen_hooks()) == before
        assert run(give(2)) == 2

    everywhere(lambda: run(give(0)))[place]()  # the loop is there, and nestable where it must be
    everywhere(call)[place]()


def test_a_second_interrupt_between_two_turns_is_kept_for_the_next() -> None:
    handler = InterruptHandler(1.0)
    handler(signal.SIGINT, None)
    handler.check()
    handler(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        handler.check()
    handler.check()


def test_a_handler_that_is_not_pythons_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda signum: None)
        assert run(give(1)) == 1
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_cleanup_that_hangs_ends_with_the_grace_time(caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Event()

    async def inside() -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    with sigint(begun.is_set), pytest.raises(ChatInterrupt):
        run(inside(), grace_s=0.3)
    gc.collect()
    assert caplog.records == []
    assert run(give(1)) == 1


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_the_second_interrupt_breaks_off_code_that_blocks(place: str) -> None:
    log: list[str] = []

    async def inside() -> None:
        log.append("began")
        time.sleep(20)  # noqa: ASYNC251  # the very thing that must be broken off
        log.append("was not broken off")

    def call() -> None:
        with sigint(lambda: log, at_once), pytest.raises(ChatInterrupt) as caught:
            run(inside())
        assert log == ["began"]
        assert caught.value.__context__ is None

    everywhere(call)[place]()
    assert everywhere(lambda: run(give(1)))[place]() == 1


def test_a_later_interrupt_breaks_off_blocking_cleanup() -> None:
    log: list[str] = []

    async def stubborn() -> None:
        log.append("began")
        try:
            time.sleep(20)  # noqa: ASYNC251  # the very thing that must be broken off
            log.append("was not broken off")
        finally:
            log.append("cleaning up")
            time.sleep(20)  # noqa: ASYNC251  # and this as well
            log.append("was not broken off")

    with sigint(lambda: log, at_once, lambda: "cleaning up" in log), pytest.raises(ChatInterrupt):
        run(stubborn())
    assert log == ["began", "cleaning up"]


def test_a_burst_of_interrupts_ends_in_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come while it is waited whether more come are of the burst; none is left for Python's own handler."""
    rest = [signal.SIGINT] * 4

    class Time:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            if rest:
                signal.raise_signal(rest.pop())

    monkeypatch.setattr(interrupts, "time", Time)
    try:
        with sigint(at_once), pytest.raises(ChatInterrupt):
            run(asyncio.sleep(3600))
    except KeyboardInterrupt:
        pytest.fail("one was left for Python's own handler")
    assert rest == []
    assert run(give(1)) == 1


def test_a_later_run_may_last_longer_than_the_grace_time() -> None:
    with sigint(at_once), pytest.raises(ChatInterrupt):
        run(asyncio.sleep(3600), grace_s=0.2)
    assert run(give("late", after_s=0.4), grace_s=0.2) == "late"


@pytest.mark.slow
def test_interrupted_connections_are_closed_even_if_their_task_does_not_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stuck(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    async def inside(port: int) -> None:
        await asyncio.gather(*(stuck(port) for _ in range(20)))

    with ChatServer(lambda received, attempt: hang()) as server:
        before = len(os.listdir("/proc/self/fd"))
        with sigint(lambda: server.in_flight == 20), pytest.raises(ChatInterrupt):
            run(inside(server.port), grace_s=0.1)
        assert server.connections == 20
        assert server.wait_until(lambda server: server.open_connections == 0)
        assert len(os.listdir("/proc/self/fd")) <= before
        gc.collect()
        assert caplog.records == []


@pytest.fixture
def silent() -> Iterator[ChatServer]:
    """Start a server that accepts connections and sends nothing. No collection of garbage closes what is forgotten."""
    gc.disable()
    try:
        with ChatServer(lambda received, attempt: hang()) as server:
            yield server
    finally:
        gc.enable()


def hit_twice() -> None:
    """Be interrupted here and now, and not for the first time."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_a_connection_that_is_made_when_the_second_interrupt_comes_is_closed(place: str, silent: ChatServer) -> None:
    def hit() -> asyncio.Protocol:
        hit_twice()
        return asyncio.Protocol()

    async def connect() -> None:
        await asyncio.get_running_loop().create_connection(hit, "127.0.0.1", silent.port)

    def call() -> None:
        with pytest.raises(ChatInterrupt):
            run(connect())

    everywhere(call)[place]()
    assert silent.connections == 1
    assert silent.wait_until(lambda server: server.open_connections == 0)


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_a_connection_that_is_closing_when_the_second_interrupt_comes_is_closed(
    place: str, silent: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport_type = asyncio.selector_events._SelectorTransport  # type: ignore[attr-defined]  # its stubs leave it out
    closes = transport_type._call_connection_lost
    hits = [hit_twice]

    def hit(transport: Any, error: Exception | None) -> None:
        if hits and transport.get_extra_info("peername")[1] == silent.port:
            hits.pop()()
        closes(transport, error)

    async def connect() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", silent.port)
        writer.close()
        await asyncio.sleep(3600)

    def call() -> None:
        with pytest.raises(ChatInterrupt):
            run(connect())

    monkeypatch.setattr(transport_type, "_call_connection_lost", hit)
    everywhere(call)[place]()
    assert hits == []
    assert silent.connections == 1
    assert silent.wait_until(lambda server: server.open_connections == 0)


@pytest.mark.parametrize("place", ["script", "asyncio.run"])
def test_every_task_is_ended_however_many_interrupts_come_meanwhile(place: str) -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(number)
            hit_twice()

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(wait(number))

    def call() -> None:
        with sigint(at_once), pytest.raises(ChatInterrupt):
            run(many())

    everywhere(call)[place]()
    assert sorted(ended) == list(range(10))


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler, print])
def test_the_handler_in_place_comes_back(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        run(give(1))
        assert signal.getsignal(signal.SIGINT) is handler
        with pytest.raises(KeyError):
            run(fail(KeyError()))
        assert signal.getsignal(signal.SIGINT) is handler
        if handler not in (signal.SIG_IGN, signal.SIG_DFL):
            with sigint(at_once), pytest.raises(ChatInterrupt):
                run(asyncio.sleep(3600))
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def inside() -> str:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.01)
        return "unharmed"

    try:
        assert run(inside()) == "unharmed"
    finally:
        signal.signal(signal.SIGINT, before)


# --- iterating


def test_values_come_one_by_one() -> None:
    log: list[str] = []
    values = iterate(count(3, log))
    assert log == []
    assert list(values) == [0, 1, 2]
    assert log == ["closed"]


def test_a_generator_is_not_run_ahead() -> None:
    made: list[int] = []

    async def source() -> AsyncGenerator[int, None]:
        for number in range(10):
            made.append(number)
            yield number

    values = iterate(source())
    assert next(values) == 0
    run(give(1, after_s=0.02))
    assert made == [0]
    values.close()  # type: ignore[attr-defined]  # a generator in fact


def test_stopping_early_closes_the_generator() -> None:
    log: list[str] = []
    for number in iterate(count(10, log)):
        if number == 2:
            break
    gc.collect()
    assert log == ["closed"]


def test_an_error_of_the_generator_passes_unchanged() -> None:
    error = KeyError("x")

    async def source() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    values = iterate(source())
    assert next(values) == 1
    with pytest.raises(KeyError) as caught:
        next(values)
    assert caught.value is error


def test_an_interrupt_closes_the_generator() -> None:
    log: list[str] = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            yield 0
            log.append("waits")
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    values = iterate(source(), grace_s=3600)
    assert next(values) == 0
    with sigint(lambda: log), pytest.raises(ChatInterrupt) as caught:
        next(values)
    assert log == ["waits", "closed"]
    assert caught.value.__context__ is None
    assert list(values) == []


def test_calls_between_two_values_work() -> None:
    log: list[str] = []
    assert [number + run(give(10)) for number in iterate(count(3, log))] == [10, 11, 12]
    assert [(a, b) for a in iterate(count(2, log)) for b in iterate(count(2, log))] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert log == ["closed"] * 4


def test_a_deadline_may_span_several_values() -> None:
    async def source() -> AsyncIterator[int]:
        async with asyncio.timeout(0.1):
            for number in range(100):
                yield number
                await asyncio.sleep(0.02)

    seen: list[int] = []
    with pytest.raises(TimeoutError):
        seen.extend(iterate(source()))  # type: ignore[arg-type]  # a generator in fact
    values = iterate(source())  # type: ignore[arg-type]  # a generator in fact
    with pytest.raises(TimeoutError):
        for _ in values:
            pass


def test_a_generator_may_go_from_thread_to_thread() -> None:
    values = iterate(count(5))
    seen = [next(values)]
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(next(values)))
        thread.start()
        thread.join()

    async def inside() -> list[int]:
        return list(values)

    assert [*seen, *asyncio.run(inside())] == [0, 1, 2, 3, 4]


def test_an_interrupt_between_two_values_leaves_the_other_stream_closed_in_the_end() -> None:
    log: list[str] = []
    begun = threading.Event()

    async def stuck() -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    values = iterate(count(10, log))
    assert next(values) == 0
    with sigint(begun.is_set), pytest.raises(ChatInterrupt):
        run(stuck(), grace_s=0.1)  # its loop is thrown away
    assert log == ["closed"]
    with pytest.raises(ChatInterrupt):
        next(values)


# --- the end of threads and processes

CONNECTED = """
import asyncio, os, sys, threading
from aichat_magic.core.sync import run_sync as run
kept = {}

async def live(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        print("closed", flush=True)

async def ask(port):
    loop = asyncio.get_running_loop()
    if loop not in kept:
        generator = live(port)
        kept[loop] = (generator, await anext(generator))
    reader, writer = kept[loop][1]
    writer.write(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
    head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    return head[:12]
"""


@pytest.mark.parametrize("options", [(), ("-X", "dev")])
def test_connections_close_quietly_when_the_program_ends(options: tuple[str, ...]) -> None:
    with ChatServer(lambda received, attempt: status(200)) as server:
        done = python(f"{CONNECTED}\nprint(run(ask({server.port})))\nprint(run(ask({server.port})))", *options)
    assert (done.stdout, done.stderr) == ("HTTP/1.1 200\nHTTP/1.1 200\nclosed\n", "")
    assert server.connections == 1


def test_connections_close_quietly_when_a_thread_ends() -> None:
    with ChatServer(lambda received, attempt: status(200)) as server:
        done = python(
            f"""{CONNECTED}
thread = threading.Thread(target=lambda: print(run(ask({server.port}))))
thread.start()
thread.join()
import gc; gc.collect()
import time; time.sleep(0.2)
print("thread is over", len(threading.enumerate()))
"""
        )
    assert (done.stdout, done.stderr) == ("HTTP/1.1 200\nclosed\nthread is over 1\n", "")


def test_a_fork_leaves_the_connection_to_its_parent() -> None:
    with ChatServer(lambda received, attempt: status(200)) as server:
        done = python(
            f"""{CONNECTED}
print(run(ask({server.port})), flush=True)
if (child := os.fork()) == 0:
    print("child", run(ask({server.port})), flush=True)
    sys.exit()
os.waitpid(child, 0)
if (child := os.fork()) == 0:
    sys.exit()  # a child that never calls
os.waitpid(child, 0)
print("parent", run(ask({server.port})), flush=True)
""",
            "-X",
            "dev",
        )
    lines = ["HTTP/1.1 200", "child HTTP/1.1 200", "closed", "parent HTTP/1.1 200", "closed"]
    assert (done.stdout.splitlines(), [line for line in done.stderr.splitlines() if "fork" not in line]) == (lines, [])
    assert server.connections == 2


def test_cleanup_that_hangs_does_not_hold_up_the_end() -> None:
    done = python(
        """
        import asyncio
        from aichat_magic.core.sync import run_sync as run

        async def live():
            try:
                yield 1
            finally:
                await asyncio.sleep(30)
                print("it was waited for")

        async def begin():
            global kept
            kept = live()
            return await anext(kept)

        print(run(begin()))
        """
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_fork_lets_go_of_a_connection_that_is_closed_but_not_forgotten() -> None:
    with ChatServer(lambda received, attempt: status(200)) as server:
        done = python(
            f"""
import asyncio, os, sys
from aichat_magic.core.sync import run_sync as run

async def closed():
    _, writer = await asyncio.open_connection("127.0.0.1", {server.port})
    writer.close()
    await writer.wait_closed()
    return writer.transport

async def seven():
    return 7

kept = run(closed())
if (child := os.fork()) == 0:
    print(run(seven()), flush=True)
    os._exit(0)
os.waitpid(child, 0)
""",
            "-W",
            "ignore",
        )
    assert (done.stdout, done.stderr) == ("7\n", "")
