"""httpx over aiohttp's connections (`httpx-aiohttp`), workers over one iterator. No retries."""

from __future__ import annotations

import httpx
import httpx_aiohttp
from rows import Answers, Task, by_workers, measured


async def run(task: Task) -> Answers:
    """One client with as many connections as there may be requests."""
    limits = httpx.Limits(max_connections=task.in_flight, max_keepalive_connections=task.in_flight)
    async with httpx_aiohttp.HttpxAiohttpClient(limits=limits, timeout=task.timeout_s or 60) as client:

        async def ask(prompt: str) -> str:
            message = {"role": "user", "content": prompt}
            response = await client.post(f"{task.url}/chat/completions", json={"model": "m", "messages": [message]})
            response.raise_for_status()
            text: str = response.json()["choices"][0]["message"]["content"]
            return text

        return await by_workers(task, ask)


measured(run)
