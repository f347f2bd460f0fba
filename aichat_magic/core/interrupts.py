"""The SIGINT handler of a synchronous call."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

# After an interrupt the handler stays until no SIGINT has come for this long: the rest of a burst would hit a kernel
# in its own code, and the reply of the cell would be lost (ipykernel 6.29).
_QUIET_S = 0.05
_MAX_QUIETS = 20


class InterruptHandler:
    """SIGINT handler of one call: the first signal cancels the task, later ones raise `KeyboardInterrupt`.

    It raises only while the loop runs (`is_open`), never between two steps of this package's bookkeeping.

    Attributes:
        hits: How many signals have come.
        is_open: Whether a signal may raise now.
        is_expired: Whether the grace time after the first signal is over.
    """

    def __init__(self, grace_s: float) -> None:
        """Create a handler that is not installed yet.

        Args:
            grace_s: Longest time that the task may take to end after the first signal, in seconds, >= 0.
        """
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
        """Handle one signal."""
        self.hits += 1
        if self.hits == 1:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._cancel)
        elif self.is_open:
            raise KeyboardInterrupt
        else:
            self._is_due = True

    def install(self) -> None:
        """Replace the handler of SIGINT if it is Python code; another one was chosen on purpose."""
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if previous is not None and not isinstance(previous, int):
                self._previous = previous
                signal.signal(signal.SIGINT, self)

    def restore(self) -> None:
        """Put the previous handler back once no more signals come, unless other code has replaced this one."""
        seen = 0
        for _ in range(_MAX_QUIETS if self._previous is not None else 0):
            if seen == self.hits:
                break
            seen = self.hits
            time.sleep(_QUIET_S)
        if (previous := self._previous) is not None and signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, previous)

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        """Let the first signal cancel this task, also when it has come already."""
        self._task = task
        self._loop = loop
        if self.hits:
            self._cancel()

    def unwatch(self) -> None:
        """Stop watching the task, so that nothing of this call affects the next one."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Raise the `KeyboardInterrupt` of a signal that came while `is_open` was false."""
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
