"""httpx over pyreqwest's connections (Rust), workers over one iterator. No retries."""

from __future__ import annotations

from datetime import timedelta

import httpx
from pyreqwest.client import ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport
from rows import Answers, Task, by_workers, measured, posting


async def run(task: Task) -> Answers:
    """One client with as many connections as there may be requests."""
    built = ClientBuilder().max_connections(task.in_flight).timeout(timedelta(seconds=task.timeout_s or 60)).build()
    async with httpx.AsyncClient(transport=HttpxTransport(built), timeout=task.timeout_s or 60) as client:
        return await by_workers(task, posting(task, client))


measured(run)
