"""curator: `curator.LLM` with its own OpenAI client and no limit of its own; retries as they are by default (10)."""

from __future__ import annotations

from bespokelabs import curator
from rows import Answers, Task, measured


class Asker(curator.LLM):
    """Each row is a prompt."""

    def prompt(self, row: dict[str, str]) -> str:
        """As it stands."""
        return row["prompt"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        """The reply beside its prompt, because rows come back in the order in which they are done."""
        return {"prompt": row["prompt"], "reply": response}


def run(task: Task) -> Answers:
    """One dataset; None where there is no reply."""
    timeout = {} if task.timeout_s is None else {"request_timeout": int(task.timeout_s)}
    asker = Asker(
        model_name="gpt-4o-mini",
        backend="openai",
        backend_params={
            "base_url": task.url,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "max_concurrent_requests": task.in_flight,
            "require_all_responses": False,
            **timeout,
        },
    )
    done = asker([{"prompt": prompt} for prompt in task.prompts])
    dataset = getattr(done, "dataset", done)
    replies = dict(zip(dataset["prompt"], dataset["reply"], strict=True))
    return [replies.get(prompt) for prompt in task.prompts]


measured(run)
