"""Plain httpx2, the continuation of httpx: one `AsyncClient`, a semaphore, a task for each row. No retries."""

from __future__ import annotations

import httpx2
from rows import Answers, Task, by_semaphore, measured


async def run(task: Task) -> Answers:
    """One client with as many connections as there may be requests."""
    limits = httpx2.Limits(max_connections=task.in_flight, max_keepalive_connections=task.in_flight)
    async with httpx2.AsyncClient(limits=limits, timeout=task.timeout_s or 60) as client:

        async def ask(prompt: str) -> str:
            message = {"role": "user", "content": prompt}
            response = await client.post(f"{task.url}/chat/completions", json={"model": "m", "messages": [message]})
            response.raise_for_status()
            text: str = response.json()["choices"][0]["message"]["content"]
            return text

        return await by_semaphore(task, ask)


measured(run)
