"""openaivec: `Series.aio.responses`, a row a request (`batch_size=1`) or grouped as it likes (variant ``grouping``)."""

from __future__ import annotations

import functools

import openaivec
import pandas as pd
from openai import AsyncOpenAI
from openaivec import pandas_ext  # noqa: F401  # it is what gives pandas the accessor
from rows import Answers, Task, measured


@functools.cache
def use_server(url: str, timeout_s: float | None) -> None:
    """One client for all runs."""
    timeout = {} if timeout_s is None else {"timeout": timeout_s}
    openaivec.set_async_client(AsyncOpenAI(base_url=url, api_key="none", **timeout))
    openaivec.set_responses_model("gpt-4o-mini")


async def run(task: Task) -> Answers:
    """One column; None where there is no reply."""
    use_server(task.url, task.timeout_s)
    column = pd.Series(list(task.prompts))
    replies = await column.aio.responses(
        "Answer.",
        batch_size=None if task.variant == "grouping" else 1,
        max_concurrency=task.in_flight,
        show_progress=False,
    )
    return [reply if isinstance(reply, str) else None for reply in replies]


measured(run)
