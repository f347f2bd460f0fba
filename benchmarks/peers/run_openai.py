"""The openai SDK: one `AsyncOpenAI`, workers over one iterator; retries as they are by default (2)."""

from __future__ import annotations

from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient
from rows import Answers, Task, by_workers, measured


async def run(task: Task) -> Answers:
    """One client with the SDK's own limits (1,000 connections); variant ``aiohttp``: its extra."""
    kind = DefaultAioHttpClient if task.variant == "aiohttp" else DefaultAsyncHttpxClient
    timeout = {} if task.timeout_s is None else {"timeout": task.timeout_s}
    async with AsyncOpenAI(base_url=task.url, api_key="none", http_client=kind(), **timeout) as client:

        async def ask(prompt: str) -> str | None:
            message = {"role": "user", "content": prompt}
            completion = await client.chat.completions.create(model="m", messages=[message])
            return completion.choices[0].message.content

        return await by_workers(task, ask)


measured(run)
