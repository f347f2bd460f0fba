"""litellm: `acompletion`, workers over one iterator; retries and transport as they are by default."""

from __future__ import annotations

import litellm
from rows import Answers, Task, by_workers, measured

litellm.suppress_debug_info = True


async def run(task: Task) -> Answers:
    """A worker for each request that may be under way."""
    timeout = {} if task.timeout_s is None else {"timeout": task.timeout_s}

    async def ask(prompt: str) -> str | None:
        message = {"role": "user", "content": prompt}
        response = await litellm.acompletion(
            model="openai/m", messages=[message], api_base=task.url, api_key="none", num_retries=2, **timeout
        )
        text: str | None = response.choices[0].message.content
        return text

    return await by_workers(task, ask)


measured(run)
