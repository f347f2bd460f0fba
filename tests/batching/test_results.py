"""What a run keeps of its replies comes back as it went in."""

import dataclasses

import pytest

from aichat_magic.batching.results import BatchResults
from aichat_magic.core.errors import ServerError
from aichat_magic.core.messages import Message, RateLimits, Reply
from aichat_magic.core.usage import Usage


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text=""),
        Reply(text="a", model="openai/m", finish_reason="length", elapsed_s=1.5),
        Reply(
            text="b",
            model="x/y",
            model_version="y-2026",
            usage=Usage(
                input_tokens=0,
                output_tokens=2**63 - 1,
                cached_tokens=5,
                cache_write_tokens=6,
                reasoning_tokens=7,
                cost_usd=0.0,
            ),
        ),
    ],
    ids=["empty", "cut", "counted"],
)
def test_reply_comes_back_as_it_went_in(reply: Reply) -> None:
    results = BatchResults()
    other, number = results.add(), results.add()
    results.set_reply(number, reply)
    assert results[number] == reply
    assert results.text(number) == reply.text
    assert (results.is_open(other), results.is_open(number)) == (True, False)
    assert results[other] is None


@pytest.mark.parametrize("count", [-5, 2**63, 10**30])
def test_count_that_no_reply_can_have_is_not_known_and_spoils_nothing(count: int) -> None:
    results = BatchResults()
    results.set_reply(results.add(), Reply(text="a", usage=Usage(input_tokens=count, output_tokens=3)))
    assert results[0] == Reply(text="a", usage=Usage(output_tokens=3))


def test_error_is_kept_and_is_no_reply() -> None:
    results, error = BatchResults(), ServerError("down", status=500)
    results.set_error(results.add(), error)
    assert results[0] is results.error(0) is error
    assert results.text(0) is None
    assert not results.is_open(0)


def test_equal_rows_share_one_reply_and_missing_ones_have_none() -> None:
    results = BatchResults()
    results.set_reply(results.add(), Reply(text="a"))
    results.add()
    first, missing, still_open, again = results.each([0, -1, 1, 0])
    assert first is again
    assert (missing, still_open) == (None, None)


def test_measured_reply_differs_in_usage_and_time_only() -> None:
    reply = Reply(
        text="a",
        model="x/y",
        finish_reason="length",
        messages=(Message("user", "q"),),
        value={"a": 1},
        rate_limits=RateLimits(),
        thinking="hm",
        thinking_blocks=("{}",),
        model_version="y-2026",
        logprobs=[{"token": "a", "logprob": -0.1}],
        remarks=("x/y does not take temperature=0.2 (left out).",),
        notice="cut",
    )
    measured = reply.measured(Usage(input_tokens=7), 2.0)
    changed = {"usage": Usage(input_tokens=7), "elapsed_s": 2.0}
    for field in dataclasses.fields(Reply):
        default = field.default if field.default is not dataclasses.MISSING else None
        assert field.name in changed or getattr(reply, field.name) != default, "set it above, or a loss goes unseen"
        assert getattr(measured, field.name) == changed.get(field.name, getattr(reply, field.name))
