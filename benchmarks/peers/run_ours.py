"""aichat_magic: `batch`, with its own store in a file; variant ``auto``: it decides how many at once, as by default."""

from __future__ import annotations

from rows import Answers, Task, measured

from aichat_magic import Reply, batch


def run(task: Task) -> Answers:
    """Each prompt is one row."""
    options = {} if task.timeout_s is None else {"timeout": task.timeout_s}
    concurrency = "auto" if task.variant == "auto" else task.in_flight
    outcomes = batch(
        task.prompts, model="vllm/m", base_url=task.url, concurrency=concurrency, progress=False, **options
    )
    return [str(outcome) if isinstance(outcome, Reply) else None for outcome in outcomes]


measured(run)
