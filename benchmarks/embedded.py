"""The embedded model: rows and tokens a second against the engine driven directly, and against a loop over the rows.

    python benchmarks/embedded.py

Directly: the same requests as raw HTTP from asyncio to the very same llama.cpp server, as many workers as slots. Both
sides take rows of the same kind in turn, a few times; ratios are those of neighbours. Goal: 95 % of the engine. The
second table compares a run over rows with a loop that asks one row after the other; it has the best of each, because
other work on the machine can only make them slower. Answers are what is batched: where nearly all of the work is the
reading of rows, as for labels of long texts, one row keeps all cores busy already.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from report import Report, Table, arguments

from aichat_magic.batching.api import batch
from aichat_magic.chat.api import ask
from aichat_magic.core.messages import Reply
from aichat_magic.providers.llama.engine import Engine, loaded

MODEL = "local/smollm2-135m"
ROWS = 32
ROUNDS = 3
SLOTS = (1, 2, 4, 8, 16)
GOAL = 0.95
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


def one_by_one(prompts: list[str], max_tokens: int) -> None:
    """The loop that everybody writes first."""
    for prompt in prompts:
        ask(prompt, model=MODEL, max_tokens=max_tokens, **OPTIONS)


def all_at_once(prompts: list[str], max_tokens: int) -> None:
    """A run over rows, as it is by default."""
    outcomes = batch(prompts, model=MODEL, max_tokens=max_tokens, store=False, progress=False, **OPTIONS)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)


async def driven(engine: Engine, prompts: list[str], slots: int, max_tokens: int) -> int:
    """The engine's own server, asked by raw HTTP, so many at a time.

    Returns:
        Tokens that came back.
    """
    place = urlsplit(engine.base_url)
    waiting = iter(prompts)
    tokens = 0

    async def worker() -> None:
        nonlocal tokens
        for prompt in waiting:
            message = {"role": "user", "content": prompt}
            body = json.dumps({"messages": [message], "max_tokens": max_tokens, **OPTIONS}).encode()
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(
                f"POST {place.path}/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\nconnection: close\r\n"
                f"authorization: Bearer {engine.key.reveal()}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            tokens += json.loads(answer.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"]

    await asyncio.gather(*(worker() for _ in range(slots)))
    return tokens


def run_tokens(prompts: list[str], slots: int, max_tokens: int) -> int:
    """A run over rows, so many at a time.

    Returns:
        Tokens that came back.
    """
    options = {**OPTIONS, "max_tokens": max_tokens, "concurrency": slots}
    outcomes = batch(prompts, model=MODEL, store=False, progress=False, **options)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    return sum(outcome.usage.output_tokens or 0 for outcome in outcomes if isinstance(outcome, Reply))


def against_the_engine(engine: Engine, rounds: int) -> Table:
    """Slots, and both sides."""
    table = Table(
        "slots", "engine, tokens/s", "ours, tokens/s", "engine, rows/s", "ours, rows/s", "of the engine", "goal: 95 %"
    )
    template, max_tokens = TASKS[1][1:]
    offset = 100_000
    for slots in SLOTS:
        rows = min(ROWS, 8 * slots)
        told: dict[str, list[tuple[float, float]]] = {"engine": [], "ours": []}
        for turn in range(rounds):
            for side in ("engine", "ours") if turn % 2 == 0 else ("ours", "engine"):
                offset += rows
                prompts = [template.format(number=number) for number in range(offset, offset + rows)]
                begin = time.perf_counter()
                if side == "engine":
                    tokens = asyncio.run(driven(engine, prompts, slots, max_tokens))
                else:
                    tokens = run_tokens(prompts, slots, max_tokens)
                seconds = time.perf_counter() - begin
                told[side].append((tokens / seconds, rows / seconds))
        pairs = zip(told["ours"], told["engine"], strict=True)
        share = statistics.median(mine / its for (mine, _), (its, _) in pairs)
        medians = [statistics.median(one[n] for one in told[side]) for n in (0, 1) for side in ("engine", "ours")]
        met = "met" if share >= GOAL else "missed"
        table.add(
            slots,
            *(f"{value:.1f}" for value in medians[:2]),
            *(f"{value:.2f}" for value in medians[2:]),
            f"{share:.0%}",
            met,
        )
    return table


def against_a_loop(engine: Engine, rounds: int) -> Table:
    """A run over rows, the loop that everybody writes first, and what the engine by itself makes of all slots."""
    table = Table("", "loop, rows/s", "run, rows/s", "ratio", "engine, rows/s", "of the engine")
    for name, template, max_tokens in TASKS:

        def by_engine(prompts: list[str], max_tokens: int) -> None:
            asyncio.run(driven(engine, prompts, SLOTS[-1], max_tokens))

        best: dict[Callable[[list[str], int], object], float] = dict.fromkeys(
            (one_by_one, all_at_once, by_engine), float("inf")
        )
        for turn in range(rounds):
            for side, work in enumerate(best):
                prompts = prompts_of(template, 1000 * (3 * turn + side))
                begin = time.perf_counter()
                work(prompts, max_tokens)
                best[work] = min(best[work], time.perf_counter() - begin)
        loop, together, alone = (ROWS / seconds for seconds in best.values())
        table.add(
            name,
            f"{loop:.2f}",
            f"{together:.2f}",
            f"{together / loop:.2f}",
            f"{alone:.2f}",
            f"{together / alone:.0%}",
        )
    return table


def main() -> None:
    """Measure, and print the tables."""
    options = arguments(__doc__, lambda parser: parser.add_argument("--rounds", type=int, default=ROUNDS))
    ask("Hello", model=MODEL, max_tokens=4)
    engine = loaded(MODEL.partition("/")[2], environ=os.environ)
    assert engine is not None
    report = Report("embedded", "The embedded model: `python benchmarks/embedded.py`")
    report.text(
        f"SmolLM2-135M, `batch` against raw HTTP to the same llama.cpp, 30 tokens in and up to 48 out, median of "
        f"{options.rounds}."
    )
    report.table(against_the_engine(engine, options.rounds))
    report.text(
        f"{ROWS} rows: a loop over them, a run as it is by default, and the engine driven directly with {SLOTS[-1]} "
        f"slots, the best of {options.rounds}. A run cannot be further ahead of the loop than the engine is:"
    )
    report.table(against_a_loop(engine, options.rounds))
    report.used({"xllamacpp": importlib.metadata.version("xllamacpp")})
    report.finish(options)


if __name__ == "__main__":
    main()
