"""Runs over rows in a process that may have few file descriptors.

``python crowd.py URL '{"limit": 256, "runs": 50, "rows": 60, "left": null, "free_after_s": 0, "options": {}}'`` prints
a line of JSON: what came that is not right, and the descriptors that are open before and after.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
from typing import Any

import aichat_magic
from aichat_magic.core.errors import AichatError


def n_open() -> int:
    """How many descriptors are open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def eat(left: int) -> list[int]:
    """Open descriptors until so many are left."""
    eaten = []
    try:
        while True:
            eaten.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(left):
            os.close(eaten.pop())
    return eaten


def close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def main(url: str, limit: int, runs: int, rows: int, left: int | None, free_after_s: float, options: Any) -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    options = {"progress": False, "model": "vllm/m", "base_url": url, **options}
    aichat_magic.batch(["warm"], **options)
    before = n_open()
    eaten = [] if left is None else eat(left)
    if free_after_s:
        threading.Timer(free_after_s, close, [eaten]).start()
    wrong: list[str] = []

    def ask(who: int) -> None:
        prompts = [f"row {row} of {who}" for row in range(rows)]
        try:
            outcomes = aichat_magic.batch(prompts, **options)
        except (AichatError, OSError) as error:
            wrong.append(f"run {who}: {type(error).__name__}: {error}")
            return
        for prompt, outcome in zip(prompts, outcomes, strict=True):
            if str(outcome) != f"echo: {prompt}":
                wrong.append(f"{prompt}: {type(outcome).__name__}: {outcome}")

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(1, runs)]
    for thread in threads:
        thread.start()
    ask(0)
    for thread in threads:
        thread.join()
    close(eaten)
    return {"wrong": wrong[:5], "before": before, "after": n_open()}


if __name__ == "__main__":
    asked = {"runs": 1, "left": None, "free_after_s": 0, "options": {}, **json.loads(sys.argv[2])}
    print(json.dumps(main(sys.argv[1], **asked)))  # noqa: T201  # a program
