"""When a request is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.chat.retry import RetryBudget, RetryPolicy, backoff_s, next_wait_s, stop_reason
from aichat_magic.core.errors import (
    AuthenticationError,
    ConnectionFailedError,
    DeadlineError,
    ModelLoadingError,
    NotRunningError,
    OptionError,
    RateLimitError,
    ServerError,
)

POLICY = RetryPolicy()


def refused(retry_after_s=None):
    return RateLimitError("slow down", status=429, retry_after_s=retry_after_s)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_between_zero_and_its_bound(attempt, dice):
    wait_s = backoff_s(attempt, base_s=0.5, cap_s=30, random=lambda: dice)
    assert 0 <= wait_s <= min(30, 0.5 * 2 ** min(attempt - 1, 20))


def test_the_bound_doubles_up_to_the_cap():
    waits = [backoff_s(n, base_s=0.5, cap_s=3, random=lambda: 1.0) for n in (1, 2, 3, 4, 5)]
    assert waits == [0.5, 1, 2, 3, 3]


def test_an_error_that_a_retry_cannot_help_is_not_tried_again():
    error = AuthenticationError("no", status=401)
    assert next_wait_s(error, 1, POLICY, lambda: 0.5) is None
    assert stop_reason(error, 1, POLICY) == ""


def test_retries_end_after_their_number():
    error = ServerError("no", status=500)
    waits = [next_wait_s(error, attempt, RetryPolicy(max_retries=2), lambda: 0.5) for attempt in (1, 2, 3)]
    assert waits == [0.25, 0.5, None]
    assert stop_reason(error, 3, RetryPolicy(max_retries=2)) == "It was tried 3 times."


def test_no_retries_means_none():
    assert next_wait_s(ConnectionFailedError("no"), 1, RetryPolicy(max_retries=0), lambda: 0.5) is None


@given(st.floats(0.001, 120), st.integers(1, 4), st.floats(0, 1, exclude_max=True))
def test_what_the_server_asks_for_is_waited_at_least(asked_s, attempt, dice):
    wait_s = next_wait_s(refused(asked_s), attempt, POLICY, lambda: dice)
    assert wait_s is not None
    assert asked_s <= wait_s <= asked_s + POLICY.base_s


def test_a_server_that_asks_for_too_much_is_not_waited_for():
    assert next_wait_s(refused(300), 1, POLICY, lambda: 0.5) is None
    reason = stop_reason(refused(300), 1, POLICY)
    assert reason is not None
    assert "300 s" in reason
    assert "120 s" in reason


def test_a_deadline_is_tried_again_less_often():
    waits = [next_wait_s(DeadlineError("late"), attempt, POLICY, lambda: 0.5) for attempt in (1, 2, 3)]
    assert waits == [0.25, 0.5, None]


def test_a_server_that_was_not_started_is_tried_once_more():
    error = NotRunningError("refused")
    assert next_wait_s(error, 1, RetryPolicy(), lambda: 1.0) == 0.5
    assert next_wait_s(error, 2, RetryPolicy(), lambda: 1.0) is None
    assert next_wait_s(error, 1, RetryPolicy(max_retries=0), lambda: 1.0) is None


def test_a_run_may_retry_its_reserve_and_a_share_of_its_requests():
    budget = RetryBudget(reserve=2, ratio=0.1)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(10):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]


@given(st.integers(0, 50), st.sampled_from([0.05, 0.1, 0.2, 0.5]), st.integers(0, 500))
def test_a_budget_never_gives_more_than_it_says(reserve, ratio, requests):
    budget = RetryBudget(reserve=reserve, ratio=ratio)
    for _ in range(requests):
        budget.earn()
    spent = sum(budget.spend() for _ in range(reserve + requests + 1))
    assert spent == int(reserve + ratio * requests + 1e-6)


def loading_waits(policy=POLICY, *, estimate_s=None):
    error, waits = ModelLoadingError("loading", status=503, retry_after_s=estimate_s), []
    while (wait_s := next_wait_s(error, len(waits) + 1, policy, lambda: 0.5)) is not None:
        waits.append(wait_s)
    return waits, stop_reason(error, len(waits) + 1, policy)


def test_a_model_that_loads_is_waited_for_up_to_two_minutes():
    waits, reason = loading_waits()
    assert waits == [1, 2, 4, 8, *[15] * 7]
    assert sum(waits) == 120
    assert reason == "It was still loading after 120 s."


@pytest.mark.parametrize(("estimate_s", "longest_s"), [(0.5, 15), (20.0, 20), (90.0, 30), (5000.0, 30)])
def test_the_servers_estimate_is_waited_for_and_does_not_make_it_longer(estimate_s, longest_s):
    waits, _ = loading_waits(estimate_s=estimate_s)
    assert waits[0] == max(1, min(estimate_s, longest_s))
    assert max(waits) == longest_s
    assert sum(waits) == pytest.approx(120)


@given(st.floats(0.5, 1000), st.none() | st.floats(0.001, 1e6))
def test_a_model_that_loads_is_waited_for_exactly_as_long_as_the_policy_says(patience_s, estimate_s):
    waits, reason = loading_waits(RetryPolicy(loading_patience_s=patience_s), estimate_s=estimate_s)
    assert sum(waits) == pytest.approx(patience_s)
    assert reason


def test_without_retries_a_model_that_loads_is_not_waited_for():
    assert loading_waits(RetryPolicy(max_retries=0)) == ([], "")


@pytest.mark.parametrize(
    "wrong", [{"max_retries": -1}, {"max_retries": 1.5}, {"max_retries": True}, {"cap_s": 0}, {"base_s": float("nan")}]
)
def test_numbers_that_make_no_policy_are_refused(wrong):
    with pytest.raises(OptionError):
        RetryPolicy(**wrong)
