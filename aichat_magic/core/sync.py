"""Run a coroutine to its end from synchronous code, anywhere, and cancel it cleanly.

Each thread has one private event loop, which stays open between calls because the connections live on it. It is a
loop of our own class: nothing is done to the loop of a notebook kernel, to `asyncio.run`, to `asyncio.Task` or to the
policy. Where a loop is already running in the thread, ours is made nestable; everywhere else it is asyncio's own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from ..text.words import shorten
from .errors import AichatError, ChatInterrupt, NestedCallError, UnexpectedError

T = TypeVar("T")

# How long tasks that outlive their call may go on, how long they may take to end once cancelled, and a loop to close.
_LINGER_S = 0.05
_SWEEP_S = 0.3
_CLOSE_S = 0.5

# After an interrupt SIGINT is ours until it has been quiet for so long: the rest of a burst would hit a kernel in its
# own machinery, and the reply of the cell would be lost (ipykernel 6.29).
_QUIET_S = 0.05
_MOST_QUIETS = 20

# The original is right up to 3.13; from 3.14 on asyncio's insides have moved and only its successor fits.
_NESTERS = ("nest_asyncio2", "nest_asyncio") if sys.version_info >= (3, 14) else ("nest_asyncio", "nest_asyncio2")

if sys.platform == "win32":
    _SystemLoop = asyncio.ProactorEventLoop
else:
    _SystemLoop = asyncio.SelectorEventLoop


def run(coroutine: Coroutine[Any, Any, T], *, grace_s: float = 2.0) -> T:
    """Run a coroutine to its end, whether or not a loop is running in this thread.

    The first SIGINT cancels the coroutine, the second one breaks off even code that blocks. The context variables of
    the caller are visible in the coroutine.

    Args:
        coroutine: What to run.
        grace_s: Longest time the coroutine may take to end after the first SIGINT, in seconds, >= 0.

    Returns:
        What the coroutine returns.

    Raises:
        ChatInterrupt: SIGINT came; whatever the coroutine did about it.
        NestedCallError: Called from a callback that such a call is running.
        UnexpectedError: The coroutine raised an exception group.
    """
    driver = _Coroutine(coroutine)
    try:
        broken, is_interrupted = _advance(_host(), driver, grace_s)
    finally:
        if driver.task is None:
            coroutine.close()
    result: T = _outcome(driver, broken, is_interrupted)
    return result


def iterate(source: AsyncGenerator[T, None], *, grace_s: float = 2.0) -> Iterator[T]:
    """The values of an async generator, one by one, for synchronous code.

    The generator runs in one task from its first value to its end and only while a value is asked for. It is closed
    when it ends, when the consumer stops early and when SIGINT comes.

    Args:
        source: The async generator.
        grace_s: As in `run`.

    Yields:
        What `source` yields.

    Raises:
        ChatInterrupt: SIGINT came while a value was awaited.
        NestedCallError: Called from a callback that such a call is running.
        UnexpectedError: The generator raised an exception group.
    """
    host, pump = _host(), _Pump(source)
    try:
        while True:
            _outcome(pump, *_advance(host, pump, grace_s))
            if not pump.values:
                return
            yield pump.values.popleft()
    finally:
        _release(host, pump, grace_s)


class _Driver(Protocol):
    """What a loop runs for: starts a task, and knows when there is something to give."""

    task: asyncio.Task[Any] | None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        """The task, made at the first call, readied for its next turn at each."""

    def is_ready(self) -> bool:
        """Whether the caller can be answered."""


class _Coroutine(Generic[T]):
    """A driver that is ready when it is done."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.task: asyncio.Task[T] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[T]:
        self.task = loop.create_task(self._coroutine)
        self.task.add_done_callback(lambda _: loop.stop())
        return self.task

    def is_ready(self) -> bool:
        return self.task is not None and self.task.done()


class _Pump(Generic[T]):
    """A driver that is ready whenever its generator has yielded.

    One task for the whole generator: deadlines and cancel scopes that span a `yield` are bound to the task in which
    they were entered.
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


class _PrivateLoop(_SystemLoop):
    """The loop of one thread, ours alone."""

    # asyncio's own, which its type stubs leave out.
    _selector: selectors.BaseSelector
    _ssock: socket.socket
    _csock: socket.socket

    def settle(self) -> None:
        """Back to rest, also when a `KeyboardInterrupt` came in the middle of asyncio's own clean-up."""
        self._stopping = False  # a stop() left over would end the next run at once
        self._thread_id = None

    def open_transports(self) -> list[Any]:
        """The raw connections that are open; none where the system's loop keeps no list of them."""
        return list(getattr(self, "_transports", {}).values())

    def abandon(self) -> None:
        """Let go of a loop without a word on its sockets and without touching what a parent process shares.

        Closing it would take the parent's descriptors out of the selector, which both processes share; closing our
        copy of the selector first leaves the parent's registrations alone.
        """
        self._closed = True
        self._selector.close()
        for transport in self.open_transports():
            transport._closing = True
            if transport._sock is not None:  # one that is closed already, and only not forgotten yet
                transport._sock.close()
                transport._sock = None
        for pipe_end in (self._ssock, self._csock):
            pipe_end.close()


class _NestableLoop(_PrivateLoop):
    """The class that is patched, so that the plain one and asyncio's stay as they are."""


def _make_nestable(loop: _PrivateLoop) -> None:
    """Let a loop run inside another one. It keeps its connections and stays nestable."""
    if isinstance(loop, _NestableLoop):
        return
    for name in _NESTERS:
        with contextlib.suppress(ImportError):
            nester = importlib.import_module(name)
            break
    else:
        raise NestedCallError(f"A loop is running in this thread: install {_NESTERS[0]}, or use `await`.")
    loop.__class__ = _NestableLoop
    nester._patch_loop(loop)


class _Interrupts:
    """The SIGINT handler of one call: the first one cancels the task, the next ones raise.

    It raises only while the loop runs (`is_open`), never between two steps of our own bookkeeping.
    """

    def __init__(self, grace_s: float) -> None:
        self.hits = 0
        self.is_open = False
        self.is_expired = False
        self._is_due = False
        self._grace_s = grace_s
        self._previous: Callable[[int, FrameType | None], Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.hits += 1
        if self.hits == 1:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._cancel)
        elif self.is_open:
            raise KeyboardInterrupt
        else:
            self._is_due = True

    def install(self) -> None:
        """Take SIGINT over where Python code handles it; an ignored or a system one was chosen by somebody."""
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if previous is not None and not isinstance(previous, int):
                self._previous = previous
                signal.signal(signal.SIGINT, self)

    def restore(self) -> None:
        """Give SIGINT back when no more of it comes, unless somebody else has taken it meanwhile."""
        seen = 0
        for _ in range(_MOST_QUIETS if self._previous is not None else 0):
            if seen == self.hits:
                break
            seen = self.hits
            time.sleep(_QUIET_S)
        if (previous := self._previous) is not None and signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, previous)

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        """From now on the first SIGINT cancels this task; so does one that has come already."""
        self._task = task
        self._loop = loop
        if self.hits:
            self._cancel()

    def unwatch(self) -> None:
        """Disarm: nothing of this call may reach into the next one."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Raise what came while `is_open` was false."""
        if self._is_due:
            self._is_due = False
            raise KeyboardInterrupt

    def _cancel(self) -> None:
        if self._loop is not None and self._task is not None and self._timer is None:
            self._timer = self._loop.call_later(self._grace_s, self._expire)
            self._task.cancel()

    def _expire(self) -> None:
        self.is_expired = True
        if self._loop is not None:
            self._loop.stop()


class _Host:
    """The private loop of one thread, and who is using it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.owner: int | None = None
        self.parked: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._loop: _PrivateLoop | None = None
        if threading.current_thread() is threading.main_thread():
            atexit.register(self.close)

    def __del__(self) -> None:
        """The thread has ended."""
        self.close()

    def is_nested(self) -> bool:
        """Whether this very thread is inside a call already."""
        return self.owner == threading.get_ident()

    @contextlib.contextmanager
    def occupied(self, interrupts: _Interrupts) -> Iterator[None]:
        """Keep the loop for one turn. Another thread waits: a generator may be handed from thread to thread."""
        while not self._lock.acquire(timeout=0.05):
            if interrupts.hits:
                raise ChatInterrupt
        self.owner = threading.get_ident()
        try:
            yield
        finally:
            self.owner = None
            self._lock.release()

    def advance(self, driver: _Driver, interrupts: _Interrupts) -> BaseException | None:
        """One turn of the loop: until the driver is ready or the time after an interrupt has run out.

        Returns:
            What broke out of the loop, or None.
        """
        if driver.task is None:
            loop = self._open()
        elif isinstance(own := driver.task.get_loop(), _PrivateLoop) and not own.is_closed():
            loop = own
        else:
            return None
        task = driver.start(loop)
        interrupts.watch(loop, task)
        broken = _spin(loop, lambda: interrupts.is_expired or driver.is_ready(), interrupts)
        interrupts.unwatch()
        if task.done() or broken is not None or interrupts.hits:
            self.parked.discard(task)
        else:
            self.parked.add(task)
        if not (self._sweep(loop, interrupts) and broken is None):
            self.close(interrupts)
        return broken

    def close(self, interrupts: _Interrupts | None = None) -> None:
        """Close the loop and what lives on it, in bounded time. The next call opens another one."""
        loop, self._loop = self._loop, None
        if loop is None or loop.is_closed():
            return
        if self.pid != os.getpid() or sys.is_finalizing():
            loop.abandon()
            return
        interrupts = interrupts or _Interrupts(0)
        loop.set_exception_handler(lambda *_: None)  # nobody is left who could act on a task that does not end
        self.parked.clear()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        tasks.add(loop.create_task(loop.shutdown_asyncgens()))
        _spin_until_done(loop, tasks, _CLOSE_S, interrupts)
        for transport in loop.open_transports():
            transport.abort()
        loop.call_soon(loop.stop)
        _turn(loop, interrupts)  # the sockets close in the round after abort()
        loop.close()

    def _open(self) -> _PrivateLoop:
        if self._loop is None:
            self._loop = _PrivateLoop()
        return self._loop

    def _sweep(self, loop: _PrivateLoop, interrupts: _Interrupts) -> bool:
        """End the tasks that outlived their call, and say whether they did end."""
        left = asyncio.all_tasks(loop) - self.parked
        if not left:
            return True
        if not interrupts.hits:
            _spin_until_done(loop, left, _LINGER_S, interrupts)  # asyncio ends generators in tasks of its own
        for task in left:
            task.cancel()
        return _spin_until_done(loop, left, _SWEEP_S, interrupts)


# The one state a module of this package keeps: a loop can serve one thread only, and the connections on it are meant
# to outlive the call that opened them.
_local = threading.local()


def _host() -> _Host:
    """The host of this thread; a new one in a forked child, where the parent's loop is not ours to use."""
    host: _Host | None = getattr(_local, "host", None)
    if host is None or host.pid != os.getpid():
        if host is not None:
            host.close()
        host = _local.host = _Host()
    return host


def _advance(host: _Host, driver: _Driver, grace_s: float) -> tuple[BaseException | None, bool]:
    """One turn for a driver, with SIGINT in our hands from before the task is made until all is disarmed.

    Returns:
        What broke out of the loop, or None; whether SIGINT came.
    """
    if host.is_nested():
        raise NestedCallError(
            "A synchronous call from inside a callback of another one. Await the asynchronous form there."
        )
    interrupts = _Interrupts(grace_s)
    try:
        interrupts.install()
        with host.occupied(interrupts):
            broken = host.advance(driver, interrupts)
    finally:
        interrupts.restore()
    return broken, interrupts.hits > 0


def _turn(loop: _PrivateLoop, interrupts: _Interrupts) -> BaseException | None:
    """Run the loop until it stops, and leave the thread as it was whatever happens.

    Returns:
        What broke out of the loop, or None.
    """
    outer, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
    if outer is not None:
        _make_nestable(loop)
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
    asyncio._set_running_loop(outer)
    sys.set_asyncgen_hooks(*hooks)
    loop.settle()
    return broken


def _spin(loop: _PrivateLoop, is_ready: Callable[[], bool], interrupts: _Interrupts) -> BaseException | None:
    """Run the loop until `is_ready()`, however often it is stopped on the way."""
    broken = None
    while broken is None and not is_ready():
        broken = _turn(loop, interrupts)
    return broken


def _spin_until_done(
    loop: _PrivateLoop, tasks: set[asyncio.Task[Any]], limit_s: float, interrupts: _Interrupts
) -> bool:
    """Run the loop until all tasks are done or the time is over, and say whether they are done."""
    end = loop.time() + limit_s
    alarm = loop.call_at(end, loop.stop)
    for task in tasks:
        task.add_done_callback(lambda _: loop.stop())
    _spin(loop, lambda: all(task.done() for task in tasks) or loop.time() >= end, interrupts)
    alarm.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # seen: asyncio need not log it
    return all(task.done() for task in tasks)


def _release(host: _Host, pump: _Pump[Any], grace_s: float) -> None:
    """Close the generator of a pump, now if the loop is free, else when it runs next."""
    task = pump.task
    if task is None or task.done() or host.pid != os.getpid():
        return
    pump.is_wanted = False
    if host.owner is None:
        pump.values.clear()
        _outcome(pump, *_advance(host, pump, grace_s))
    else:
        host.parked.discard(task)
        task.get_loop().call_soon_threadsafe(task.cancel)


def _outcome(driver: Any, broken: BaseException | None, is_interrupted: bool) -> Any:
    """What the caller gets, outside of every `except` block.

    IPython sends no error at all for an exception that has an exception group anywhere behind it.
    """
    task = driver.task
    is_lost = task.get_loop().is_closed() and (task.cancelled() or not task.done())
    failure = None if not task.done() or task.cancelled() else task.exception()
    try:
        if is_interrupted:
            raise ChatInterrupt
        if broken is not None:
            raise broken
        if is_lost:  # a generator whose loop was thrown away by the interrupt of another call
            raise ChatInterrupt
        if isinstance(failure, BaseExceptionGroup):
            raise UnexpectedError(_summary(failure))
        if failure is not None:
            _cut_groups(failure)
        return task.result() if task.done() else None  # not done: a generator that has yielded
    finally:
        del task, driver, broken, failure  # an exception that holds the frame that holds the exception


def _summary(group: BaseExceptionGroup[BaseException]) -> str:
    """One line for an exception group; only our own errors are known to hold no secret."""
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
    """Take exception groups out of the history of an error."""
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
