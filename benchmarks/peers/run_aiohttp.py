"""Bare aiohttp: the ceiling. One session, workers over one iterator, no retries."""

from __future__ import annotations

import aiohttp
from rows import Answers, Task, by_workers, measured


async def run(task: Task) -> Answers:
    """One session with as many connections as there may be requests."""
    connector = aiohttp.TCPConnector(limit=task.in_flight)
    timeout = aiohttp.ClientTimeout(total=task.timeout_s or 60)
    url = f"{task.url}/chat/completions"
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(prompt: str) -> str:
            message = {"role": "user", "content": prompt}
            async with session.post(url, json={"model": "m", "messages": [message]}) as response:
                response.raise_for_status()
                text: str = (await response.json())["choices"][0]["message"]["content"]
                return text

        return await by_workers(task, ask)


measured(run)
