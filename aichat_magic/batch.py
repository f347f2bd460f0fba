"""Many prompts, each asked once, a few at a time, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable

from .chat import Call, Chat
from .errors import AichatError
from .messages import Reply

Outcome = Reply | AichatError


async def run_calls(chat: Chat, calls: Iterable[Call | None], *, concurrency: int = 8) -> list[Outcome | None]:
    """Ask all calls; equal requests are sent once.

    Args:
        chat: Who asks.
        calls: The calls in order; None stands for a row that has nothing to ask.
        concurrency: Most requests in flight at once, >= 1.

    Returns:
        One entry for each call, in order: the reply, the error it ended with, or None.
    """
    rows: list[Hashable | None] = []
    unique: dict[Hashable, Call] = {}
    for call in calls:
        key = None if call is None else (call.model, call.provider.endpoint.base_url, call.request)
        rows.append(key)
        if call is not None:
            unique.setdefault(key, call)
    outcomes: dict[Hashable | None, Outcome | None] = {None: None}
    waiting = iter(unique.items())

    async def work() -> None:
        for key, call in waiting:
            try:
                outcomes[key] = await chat.ask(call)
            except AichatError as error:
                outcomes[key] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(unique))):
            group.create_task(work())
    return [outcomes[key] for key in rows]
