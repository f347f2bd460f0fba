"""Embeddings: texts a second with `local/wordllama` against its library called directly, and the arithmetic of vectors.

    python benchmarks/embeddings.py

Directly: `WordLlama.load().embed(texts)` in batches of 64, its default. Both sides take the same texts in turn, a few
times; ratios are those of neighbours. Goal: half of the library's rate, with the store.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["AICHAT_STORE"] = str(Path(tempfile.mkdtemp()) / "replies.sqlite3")

import numpy as np
import pandas as pd
import wordllama
from report import Report, Table, arguments

import aichat_magic

GOAL = 0.5
WORDS = (
    "the quick brown fox jumps over a lazy dog while penguins measure the length of their bills in Antarctica and "
    "nobody on the ship can tell whether last winter was colder than the one before it"
).split()


def texts_of(count: int, offset: int) -> list[str]:
    """Texts of 5 to 40 words that nobody has embedded before."""
    chosen = random.Random(offset)
    return [f"{offset + n} {' '.join(chosen.choices(WORDS, k=chosen.randint(5, 40)))}" for n in range(count)]


def seconds(task: Callable[[], Any]) -> float:
    """The time that a task takes."""
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def rates(count: int, rounds: int) -> Table:
    """Texts a second, everybody in turn."""
    library = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    aichat_magic.embed("loaded", progress=False)
    kinds: dict[str, Callable[[pd.Series], Any]] = {
        "the library, directly": lambda texts: library.embed(texts.to_list()),
        "a column, without the store": lambda texts: texts.aichat.embed(progress=False, store=False),
        "a column, and kept in the store": lambda texts: texts.aichat.embed(progress=False),
        "the same again, from the store": lambda texts: texts.aichat.embed(progress=False),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        texts = pd.Series(texts_of(count, number * count))
        for kind, task in kinds.items():
            took[kind].append(seconds(lambda task=task, texts=texts: task(texts)))  # type: ignore[misc]
    table = Table(f"{count:,} texts", "texts/s", "times the library")
    direct = took["the library, directly"]
    for kind, each in took.items():
        ratio = statistics.median(a / b for a, b in zip(direct, each, strict=True))
        table.add(kind, f"{count / statistics.median(each):,.0f}", f"{ratio:.2f}")
    return table


def arithmetic(count: int) -> Table:
    """Seconds for a table of vectors."""
    vectors = np.random.default_rng(1).standard_normal((count, 256), np.float32)
    frame = pd.DataFrame({"vector": list(vectors)})
    table = Table(f"{count:,} vectors of 256 numbers", "seconds")
    tasks: dict[str, Callable[[], Any]] = {
        "similarity of a column with one vector": lambda: aichat_magic.similarity(frame["vector"], vectors[0]),
        "the 10 nearest rows": lambda: aichat_magic.nearest(frame, vectors[0], "vector"),
        "without near duplicates: all pairs": lambda: aichat_magic.dedupe(frame, "vector"),
    }
    for name, task in tasks.items():
        table.add(name, f"{seconds(task):.2f}")
    return table


def main() -> None:
    """Measure, and print the tables."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--texts", type=int, default=100_000)
        parser.add_argument("--rounds", type=int, default=3)

    options = arguments(__doc__, more)
    report = Report("embeddings", "Embeddings: `python benchmarks/embeddings.py`")
    report.text(
        f"`local/wordllama`, texts of 5 to 40 words, everybody in turn, median of {options.rounds}. Goal: {GOAL:.0%} "
        f"of the library called directly."
    )
    report.table(rates(options.texts, options.rounds))
    report.text("The arithmetic, exact and in blocks:")
    report.table(arithmetic(options.texts))
    report.used({name: importlib.metadata.version(name) for name in ("wordllama", "numpy", "pandas")})
    report.finish(options)


if __name__ == "__main__":
    main()
