"""The table of `%aichat usage`, and the totals of a session."""

from aichat_magic.core.usage import Usage
from aichat_magic.magic.usage import UsageTotals, usage_table

PLAIN = Usage(input_tokens=3, output_tokens=5, cached_tokens=0, reasoning_tokens=0, cost_usd=0.0)
THOUGHT = Usage(input_tokens=9000, output_tokens=500, cached_tokens=8000, cache_write_tokens=70, reasoning_tokens=480)


def test_table_shows_the_parts_that_there_are() -> None:
    text = str(usage_table("session", [("a/b", "", 1, PLAIN), ("c/d", "main", 2, THOUGHT)]))
    assert all(name in text for name in ("cached", "cache writes", "thinking"))
    assert all(number in text for number in ("8,000", "70", "480"))


def test_table_without_parts_is_narrow() -> None:
    text = str(usage_table("day", [("a/b", "", 1, PLAIN), ("a/b", "", 1, PLAIN)]))
    assert not any(name in text for name in ("cached", "cache writes", "thinking"))


def test_line_tells_the_parts() -> None:
    totals = UsageTotals()
    totals.count("c/d", THOUGHT)
    assert totals.line() == (
        "1 reply, 9000 + 500 tokens (8,000 cached, 70 written to the cache, 480 thinking), cost unknown"
    )
