"""Plain httpx2, the continuation of httpx: one `AsyncClient`, a semaphore, a task for each row. No retries."""

from __future__ import annotations

import httpx2
from rows import Answers, Task, by_semaphore, measured, posting


async def run(task: Task) -> Answers:
    """One client with as many connections as there may be requests."""
    limits = httpx2.Limiter(max_connections=task.in_flight, max_keepalive_connections=task.in_flight)
    async with httpx2.AsyncClient(limits=limits, timeout=task.timeout_s or 60) as client:
        return await by_semaphore(task, posting(task, client))


measured(run)
