"""LangChain: `ChatOpenAI.abatch` with `max_concurrency`; retries as they are by default (2)."""

from __future__ import annotations

from langchain_openai import ChatOpenAI
from rows import Answers, Task, measured


async def run(task: Task) -> Answers:
    """One call for all rows; a row that fails is returned as its exception."""
    timeout = {} if task.timeout_s is None else {"timeout": task.timeout_s}
    model = ChatOpenAI(model="m", base_url=task.url, api_key="none", **timeout)
    replies = await model.abatch(list(task.prompts), config={"max_concurrency": task.in_flight}, return_exceptions=True)
    return [None if isinstance(reply, Exception) else reply.text for reply in replies]


measured(run)
