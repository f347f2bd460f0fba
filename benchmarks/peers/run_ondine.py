"""ondine: a pipeline over a data frame, a row a request, `with_concurrency`; retries as they are by default (3)."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
from ondine import PipelineBuilder
from rows import Answers, Task, measured


def run(task: Task) -> Answers:
    """One pipeline; a row that fails is skipped."""
    frame = pd.DataFrame({"prompt": list(task.prompts)})
    timeout = {} if task.timeout_s is None else {"timeout": task.timeout_s}
    result = (
        PipelineBuilder.create()
        .from_dataframe(frame, input_columns=["prompt"], output_columns=["reply"])
        .with_prompt("{prompt}")
        .with_llm(
            provider="openai_compatible",
            model="m",
            base_url=task.url,
            api_key="none",
            input_cost_per_1k_tokens=Decimal(0),
            output_cost_per_1k_tokens=Decimal(0),
            **timeout,
        )
        .with_concurrency(task.in_flight)
        .with_error_policy("skip")
        .with_progress_mode("none")
        .build()
        .execute()
    )
    return [reply if isinstance(reply, str) else None for reply in result.data["reply"]]


measured(run)
