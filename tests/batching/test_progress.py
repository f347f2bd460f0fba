"""The progress of a run in words."""

from __future__ import annotations

import io

import pytest

from aichat_magic.batching.progress import Progress
from aichat_magic.batching.progress_bar import ProgressBar
from aichat_magic.core.usage import Usage


def words(**counts: int) -> str:
    return str(Progress(rows=counts.pop("rows", 8), done=8, elapsed_s=2.0, **counts))


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"errors": 1}, "1 error"),
        ({"errors": 2}, "2 errors"),
        ({"hits": 1}, "1 from the store"),
        ({"hits": 3, "duplicates": 1}, "3 from the store · 1 duplicate"),
        ({"duplicates": 1_500, "missing": 1, "errors": 1}, "1,500 duplicates · 1 missing · 1 error"),
    ],
)
def test_one_is_told_in_the_singular_and_the_store_apart_from_duplicates(counts: dict[str, int], shown: str) -> None:
    assert words(**counts).endswith(f" tokens · $0.00 · {shown}") or words(**counts).endswith(f" tokens · $0 · {shown}")
    file = io.StringIO()
    bar = ProgressBar(8, file=file)
    bar(Progress(rows=8, done=8, elapsed_s=2.0, is_last=True, **counts))
    assert shown in " ".join(file.getvalue().split())


def test_one_row_and_one_call_are_told_in_the_singular() -> None:
    one = str(Progress(rows=1, done=1, calls=2, elapsed_s=1.0))
    assert one.startswith("1 row · ")
    assert " · 2 calls · " in one
    assert " · 1 call · " in words(calls=1)
    assert words(rows=8).startswith("8 rows · ")
    assert str(Progress(rows=1_200, done=1, elapsed_s=1.0)).startswith("1 of 1,200 rows · ")


def test_parts_of_the_tokens_stand_behind_the_word() -> None:
    usage = Usage(input_tokens=66, output_tokens=16, cached_tokens=24)
    shown = str(Progress(rows=2, done=2, calls=2, elapsed_s=1.0, usage=usage))
    assert " · 66 + 16 tokens (24 cached)" in shown
