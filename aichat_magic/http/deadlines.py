"""Deadlines: points in time, in seconds of the loop's clock, at which waiting for the other side ends."""

from __future__ import annotations

from asyncio import CancelledError, current_task, timeout_at
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class DeadlineExpiredError(Exception):
    """The deadline passed before the step was done."""


async def await_until(deadline: float, step: Awaitable[_T]) -> _T:
    """Await a step that knows no deadline itself.

    Args:
        deadline: When to give up, in seconds of the loop's clock.
        step: What to wait for; it is cancelled at the deadline.

    Raises:
        DeadlineExpiredError: The deadline has passed.
        Exception: Whatever the step raises. anyio can turn a cancellation into another exception: it is turned back.
    """
    task = current_task()
    before = task.cancelling() if task is not None else 0
    timer = timeout_at(deadline)
    error: BaseException
    try:
        async with timer:
            return await step
    except (Exception, BaseExceptionGroup) as caught:
        is_cancelled = task is not None and task.cancelling() > before
        error = CancelledError() if is_cancelled else DeadlineExpiredError() if timer.expired() else caught
    raise error
