"""httpx over aiohttp's connections (`httpx-aiohttp`), workers over one iterator. No retries."""

from __future__ import annotations

import httpx
import httpx_aiohttp
from rows import Answers, Task, by_workers, measured, posting


async def run(task: Task) -> Answers:
    """One client with as many connections as there may be requests."""
    limits = httpx.Limits(max_connections=task.in_flight, max_keepalive_connections=task.in_flight)
    async with httpx_aiohttp.HttpxAiohttpClient(limits=limits, timeout=task.timeout_s or 60) as client:
        return await by_workers(task, posting(task, client))


measured(run)
