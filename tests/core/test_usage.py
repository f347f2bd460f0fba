"""Sums of usage, the growth of usage in a stream, and its parts in words."""

import dataclasses

import pytest

from aichat_magic.core.usage import Usage

FULL = Usage(
    input_tokens=1200,
    output_tokens=50,
    cached_tokens=1000,
    cache_write_tokens=30,
    cache_write_1h_tokens=20,
    reasoning_tokens=40,
    cost_usd=0.5,
)


def test_sum_has_every_number() -> None:
    total = FULL + FULL
    for field in dataclasses.fields(Usage):
        assert getattr(total, field.name) == 2 * getattr(FULL, field.name)


def test_count_may_be_known_of_one_side_only_and_the_cost_of_both() -> None:
    assert FULL + Usage() == dataclasses.replace(FULL, cost_usd=None)


@pytest.mark.parametrize("other", [Usage(), Usage(input_tokens=0, output_tokens=0, cost_usd=0.0), FULL])
def test_usage_of_a_stream_only_grows(other: Usage) -> None:
    assert FULL.grown(other) == other.grown(FULL) == FULL


def test_later_counts_take_the_place_of_smaller_ones() -> None:
    later = Usage(output_tokens=60, reasoning_tokens=45, cost_usd=0.6)
    assert FULL.grown(later) == dataclasses.replace(FULL, output_tokens=60, reasoning_tokens=45, cost_usd=0.6)


def test_parts_are_told_in_words_and_nothing_where_there_are_none() -> None:
    assert FULL.details == "1,000 cached, 30 written to the cache, 40 thinking"
    assert Usage(input_tokens=5, output_tokens=5, cached_tokens=0, reasoning_tokens=0).details == ""
