"""Rows a second of the embedded model: a run over rows against a loop that asks one row after the other.

    python benchmarks/embedded.py

Both take rows of the same kind in turn, three times; the table has the best of each, because other work on the machine
can only make them slower. Goal: 1.8 times the loop on 2 cores. Answers are what is batched: where nearly all of the
work is reading the rows, as for labels of long texts, both cores are busy with one row already.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from aichat_magic.api import ask, batch
from aichat_magic.messages import Reply

MODEL = "local/smollm2-135m"
ROWS = 32
ROUNDS = 3
OPTIONS: dict[str, Any] = {"temperature": 0, "seed": 1}
TASKS = (
    # What rows of a table mostly ask for: a word or two, or a few sentences.
    ("labels: 150 tokens in, 4 out", "Is this good or bad? Answer with one word. {review}", 4),
    ("sentences: 30 tokens in, 48 out", "Tell me something about the number {number}.", 48),
)
REVIEW = (
    "Review {number}: we came for a long weekend in spring and found the house as it was described, with a garden that "
    "looks over the lake, a kitchen that has all that one needs, and beds that are a little soft. The way from the "
    "station is steep, and nobody tells you that the bus does not run on Sundays, so take a taxi if you have luggage. "
    "The owners are friendly and brought us bread each morning. We would come again, although the price for three "
    "nights was rather high and the water was cold twice."
)


def prompts_of(template: str, offset: int) -> list[str]:
    """Rows that nobody has asked before, so that no cached prefix helps more than it would in a table."""
    numbers = range(offset, offset + ROWS)
    return [template.format(number=number, review=REVIEW.format(number=number)) for number in numbers]


def one_by_one(prompts: list[str], max_tokens: int) -> list[object]:
    """The loop that everybody writes first."""
    return [ask(prompt, model=MODEL, max_tokens=max_tokens, **OPTIONS) for prompt in prompts]


def all_at_once(prompts: list[str], max_tokens: int) -> list[object]:
    """A run over rows, as it is by default."""
    return list(batch(prompts, model=MODEL, max_tokens=max_tokens, store=False, progress=False, **OPTIONS))


def seconds_of(work: Callable[[list[str], int], list[object]], prompts: list[str], max_tokens: int) -> float:
    """How long it takes; all rows must be answered."""
    begin = time.perf_counter()
    assert all(isinstance(reply, Reply) for reply in work(prompts, max_tokens))
    return time.perf_counter() - begin


def main() -> None:
    """Measure, and print the table."""
    ask("Hello", model=MODEL, max_tokens=4)
    print(f"{MODEL}, {ROWS} rows, {os.cpu_count()} cores")
    print(f"{'':<34} {'loop, rows/s':>13} {'run, rows/s':>12} {'ratio':>6} {'goal':>7}")
    for name, template, max_tokens in TASKS:
        best = {one_by_one: float("inf"), all_at_once: float("inf")}
        for turn in range(ROUNDS):
            for side, work in enumerate(best):
                prompts = prompts_of(template, 1000 * (2 * turn + side))
                best[work] = min(best[work], seconds_of(work, prompts, max_tokens))
        loop, together = (ROWS / seconds for seconds in best.values())
        print(f"{name:<34} {loop:>13.2f} {together:>12.2f} {together / loop:>6.2f} {'>= 1.8':>7}")


if __name__ == "__main__":
    main()
