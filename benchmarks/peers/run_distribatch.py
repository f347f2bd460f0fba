"""distribatch: a `GenerateJob` in this process, all rows one batch (else each 32 wait for their slowest); 5 retries."""

from __future__ import annotations

import distribatch
from rows import Answers, Task, measured


def run(task: Task) -> Answers:
    """One job over a list of rows; a row that fails is None."""
    timeout = {} if task.timeout_s is None else {"timeout_s": task.timeout_s}
    job = distribatch.GenerateJob(
        model=distribatch.models.openai("m", base_url=task.url, api_key_env="OPENAI_API_KEY"),
        prompt="{prompt}",
        engine_options={"max_concurrency": task.in_flight, **timeout},
    )
    rows = [{"prompt": prompt} for prompt in task.prompts]
    done = job.run(rows, backend="local", output_col="reply", batch_size=len(rows))
    return [row["reply"] for row in done]


measured(run)
