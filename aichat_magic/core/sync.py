"""Synchronous calls of coroutines, inside or outside of a running event loop, with clean cancellation.

Each thread has one private event loop, which stays open between calls because it holds the connections. It is a loop
of our own class: the loop of a notebook kernel, `asyncio.run`, `asyncio.Task` and the policy stay as they are. Where a
loop is already running in the thread, ours is made nestable; everywhere else it is asyncio's own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

from ..text.words import shorten
from .errors import AichatError, ChatInterrupt, NestedCallError, UnexpectedError
from .interrupts import InterruptHandler
from .private_loop import PrivateLoop, make_nestable

T = TypeVar("T")

# How long tasks that outlive their call may go on, how long they may take to end once cancelled, and how long a loop
# may take to close.
_LINGER_S = 0.05
_SWEEP_S = 0.3
_CLOSE_S = 0.5


def run_sync(coroutine: Coroutine[Any, Any, T], *, grace_s: float = 2.0) -> T:
    """Run a coroutine to its end, whether or not a loop is running in this thread.

    The first SIGINT cancels the coroutine, the second one interrupts even code that blocks. The coroutine sees the
    context variables of the caller.

    Args:
        coroutine: The coroutine.
        grace_s: Longest time the coroutine may take to end after the first SIGINT, in seconds, >= 0.

    Returns:
        The result of the coroutine.

    Raises:
        ChatInterrupt: SIGINT came, even if the coroutine ignored its cancellation.
        NestedCallError: Called from code that another call of this module is running.
        UnexpectedError: The coroutine raised an exception group.
    """
    driver = _Coroutine(coroutine)
    try:
        broken, is_interrupted = _advance(_runner(), driver, grace_s)
    finally:
        if driver.task is None:
            coroutine.close()
    result: T = _result(driver, broken, is_interrupted)
    return result


def iterate(source: AsyncGenerator[T, None], *, grace_s: float = 2.0) -> Iterator[T]:
    """Yield the values of an async generator to synchronous code.

    The generator runs in one task from its first value to its end and only while a value is asked for. It is closed
    when it ends, when the consumer stops early and when SIGINT comes.

    Args:
        source: The async generator.
        grace_s: As in `run_sync`.

    Yields:
        The values of `source`, in order.

    Raises:
        ChatInterrupt: SIGINT came while a value was awaited.
        NestedCallError: Called from code that another call of this module is running.
        UnexpectedError: The generator raised an exception group.
    """
    runner, generator = _runner(), _Generator(source)
    try:
        while True:
            _result(generator, *_advance(runner, generator, grace_s))
            if not generator.values:
                return
            yield generator.values.popleft()
    finally:
        _release(runner, generator, grace_s)


class _Driver(Protocol):
    """A unit of work for the loop: starts a task, and knows when there is a result to hand over."""

    task: asyncio.Task[Any] | None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        """Return the task: create it at the first call, let it continue at later ones."""

    def is_ready(self) -> bool:
        """Tell whether there is a result for the caller."""


class _Coroutine(Generic[T]):
    """The driver of a coroutine: ready when the task is done."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.task: asyncio.Task[T] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[T]:
        self.task = loop.create_task(self._coroutine)
        self.task.add_done_callback(lambda _: loop.stop())
        return self.task

    def is_ready(self) -> bool:
        return self.task is not None and self.task.done()


class _Generator(Generic[T]):
    """The driver of an async generator: ready whenever the generator has yielded.

    One task runs the whole generator, because deadlines and cancel scopes that span a `yield` are bound to the task in
    which they were entered.
    """

    def __init__(self, source: AsyncGenerator[T, None]) -> None:
        self._source = source
        self._wanted = asyncio.Event()
        self.is_wanted = True
        self.values: deque[T] = deque()
        self.task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        if self.task is None:
            self.task = loop.create_task(self._feed(loop))
            self.task.add_done_callback(lambda _: loop.stop())
        self._wanted.set()
        return self.task

    def is_ready(self) -> bool:
        return bool(self.values) or (self.task is not None and self.task.done())

    async def _feed(self, loop: asyncio.AbstractEventLoop) -> None:
        async with contextlib.aclosing(self._source) as source:
            async for value in source:
                self.values.append(value)
                self._wanted.clear()
                loop.stop()
                await self._wanted.wait()
                if not self.is_wanted:
                    return


class _ThreadRunner:
    """The private loop of one thread, and a lock for the thread that uses it.

    Attributes:
        pid: The process that made it.
        owner: Identifier of the thread that is inside a call, or None.
        parked: Tasks of generators that wait until the next value is asked for.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.owner: int | None = None
        self.parked: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._loop: PrivateLoop | None = None
        if threading.current_thread() is threading.main_thread():
            atexit.register(self.close)

    def __del__(self) -> None:
        """Close the loop when the thread has ended."""
        self.close()

    def is_nested(self) -> bool:
        """Tell whether the current thread is inside a call already."""
        return self.owner == threading.get_ident()

    @contextlib.contextmanager
    def occupied(self, interrupts: InterruptHandler) -> Iterator[None]:
        """Hold the lock during one run of the loop. Other threads wait: a generator may move from thread to thread."""
        while not self._lock.acquire(timeout=0.05):
            if interrupts.hits:
                raise ChatInterrupt
        self.owner = threading.get_ident()
        try:
            yield
        finally:
            self.owner = None
            self._lock.release()

    def advance(self, driver: _Driver, interrupts: InterruptHandler) -> BaseException | None:
        """Run the loop until the driver is ready, or the grace time after an interrupt is over.

        Returns:
            The exception that ended the loop, or None.
        """
        if driver.task is None:
            loop = self._open()
        elif isinstance(own := driver.task.get_loop(), PrivateLoop) and not own.is_closed():
            loop = own
        else:
            return None
        task = driver.start(loop)
        interrupts.watch(loop, task)
        broken = _run_until(loop, lambda: interrupts.is_expired or driver.is_ready(), interrupts)
        interrupts.unwatch()
        if task.done() or broken is not None or interrupts.hits:
            self.parked.discard(task)
        else:
            self.parked.add(task)
        is_swept = self._sweep(loop, interrupts)
        # A second signal may have hit the loop in its own code: what it was about to do then is never done.
        if not is_swept or broken is not None or interrupts.hits > 1:
            self.close(interrupts)
        return broken

    def close(self, interrupts: InterruptHandler | None = None) -> None:
        """Close the loop with its tasks and connections, in bounded time. The next call opens another one."""
        loop, self._loop = self._loop, None
        if loop is None or loop.is_closed():
            return
        if self.pid != os.getpid() or sys.is_finalizing():
            loop.abandon()
            return
        interrupts = interrupts or InterruptHandler(0)
        loop.set_exception_handler(lambda *_: None)  # no caller is left who could act on a task that does not end
        self.parked.clear()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        tasks.add(loop.create_task(loop.shutdown_asyncgens()))
        _run_until_done(loop, tasks, _CLOSE_S, interrupts)
        for transport in loop.open_transports():
            transport.abort()
        loop.call_soon(loop.stop)
        _run_once(loop, interrupts)  # the sockets close in the round after abort()
        loop.close_sockets()
        loop.close()

    def _open(self) -> PrivateLoop:
        if self._loop is None:
            self._loop = PrivateLoop()
        return self._loop

    def _sweep(self, loop: PrivateLoop, interrupts: InterruptHandler) -> bool:
        """Cancel the tasks that outlived their call. Return whether they have ended."""
        left = asyncio.all_tasks(loop) - self.parked
        if not left:
            return True
        if not interrupts.hits:
            _run_until_done(loop, left, _LINGER_S, interrupts)  # asyncio ends generators in tasks of its own
        for task in left:
            task.cancel()
        return _run_until_done(loop, left, _SWEEP_S, interrupts)


# State in a module, as an exception: a loop can serve one thread only, and its connections are meant to outlive the
# call that opened them.
_local = threading.local()


def _runner() -> _ThreadRunner:
    """Return the runner of this thread; a new one in a forked child, which must not use its parent's loop."""
    runner: _ThreadRunner | None = getattr(_local, "runner", None)
    if runner is None or runner.pid != os.getpid():
        if runner is not None:
            runner.close()
        runner = _local.runner = _ThreadRunner()
    return runner


def _advance(runner: _ThreadRunner, driver: _Driver, grace_s: float) -> tuple[BaseException | None, bool]:
    """Run the loop for a driver, with our SIGINT handler installed from before the task is made until after the run.

    Returns:
        The exception that ended the loop, or None; whether SIGINT came.
    """
    if runner.is_nested():
        raise NestedCallError(
            "A synchronous call from inside a callback of another one. Await the asynchronous form there."
        )
    interrupts = InterruptHandler(grace_s)
    try:
        interrupts.install()
        with runner.occupied(interrupts):
            broken = runner.advance(driver, interrupts)
    finally:
        interrupts.restore()
    return broken, interrupts.hits > 0


def _run_once(loop: PrivateLoop, interrupts: InterruptHandler) -> BaseException | None:
    """Run the loop until it stops, and restore the state of the thread whatever happens.

    Returns:
        The exception that ended the loop, or None.
    """
    outer, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
    if outer is not None:
        make_nestable(loop)
    broken: BaseException | None = None
    try:
        try:
            interrupts.is_open = True
            interrupts.check()
            loop.run_forever()
        finally:
            interrupts.is_open = False
    except BaseException as error:
        interrupts.is_open = False
        broken = error
        if interrupts.hits:
            _close_sockets_in(error)
    asyncio._set_running_loop(outer)
    sys.set_asyncgen_hooks(*hooks)
    loop.settle()
    return broken


def _close_sockets_in(error: BaseException) -> None:
    """Close the sockets that asyncio's frames hold: one that has no transport yet has nobody else to close it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).startswith("asyncio."):
            for value in frame.f_locals.values():
                if isinstance(value, socket.socket):
                    value.close()


def _run_until(loop: PrivateLoop, is_ready: Callable[[], bool], interrupts: InterruptHandler) -> BaseException | None:
    """Run the loop until `is_ready()`, however often it is stopped before that."""
    broken = None
    while broken is None and not is_ready():
        broken = _run_once(loop, interrupts)
    return broken


def _run_until_done(
    loop: PrivateLoop, tasks: set[asyncio.Task[Any]], limit_s: float, interrupts: InterruptHandler
) -> bool:
    """Run the loop until all tasks are done or the time is over. Return whether they are done."""
    end = loop.time() + limit_s
    alarm = loop.call_at(end, loop.stop)
    for task in tasks:
        task.add_done_callback(lambda _: loop.stop())
    # A signal ends what runs, not what waits to be ended.
    while _run_until(loop, lambda: all(task.done() for task in tasks) or loop.time() >= end, interrupts) is not None:
        pass
    alarm.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it
    return all(task.done() for task in tasks)


def _release(runner: _ThreadRunner, generator: _Generator[Any], grace_s: float) -> None:
    """Close an async generator: now if the loop is free, else when it runs next."""
    task = generator.task
    if task is None or task.done() or runner.pid != os.getpid():
        return
    generator.is_wanted = False
    if runner.owner is None:
        generator.values.clear()
        _result(generator, *_advance(runner, generator, grace_s))
    else:
        runner.parked.discard(task)
        task.get_loop().call_soon_threadsafe(task.cancel)


def _result(driver: Any, broken: BaseException | None, is_interrupted: bool) -> Any:
    """Return the result for the caller, or raise its error, outside of every `except` block.

    IPython sends no error at all for an exception with an exception group anywhere in its history.
    """
    task = driver.task
    is_lost = task.get_loop().is_closed() and (task.cancelled() or not task.done())
    failure = None if not task.done() or task.cancelled() else task.exception()
    try:
        if is_interrupted:
            raise ChatInterrupt
        if broken is not None:
            raise broken
        if is_lost:  # a generator whose loop was closed by the interrupt of another call
            raise ChatInterrupt
        if isinstance(failure, BaseExceptionGroup):
            raise UnexpectedError(_summary(failure))
        if failure is not None:
            _cut_groups(failure)
        return task.result() if task.done() else None  # not done: a generator that has yielded
    finally:
        del task, driver, broken, failure  # no cycle of an exception and the frame that holds it


def _summary(group: BaseExceptionGroup[BaseException]) -> str:
    """Describe an exception group in one line; only our own errors are known to hold no secret."""
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    names = [
        f"{type(leaf).__name__}: {leaf}" if isinstance(leaf, AichatError) else type(leaf).__name__ for leaf in leaves
    ]
    return shorten(f"Several things failed at once: {'; '.join(dict.fromkeys(names))}.")


def _cut_groups(error: BaseException) -> None:
    """Remove exception groups from the history of an error."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        error = todo.pop()
        if id(error) not in seen:
            seen.add(id(error))
            if isinstance(error.__cause__, BaseExceptionGroup):
                error.__cause__ = None
            if isinstance(error.__context__, BaseExceptionGroup):
                error.__context__ = None
            todo += [other for other in (error.__cause__, error.__context__) if other is not None]
