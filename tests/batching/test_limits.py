"""Limits of servers in whole runs, in virtual time: waits that are named, waits that are not, quotas, full queues."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import simulation
from simulation import Gate, bucket, fixed_window, run_batch

from aichat_magic.batching.progress import Progress
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.core.errors import (
    DeadlineError,
    ModelLoadingError,
    NoCapacityError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from aichat_magic.core.messages import ChatRequest, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.rate_limits import RateLimits


def rows_of(count: int) -> list[str]:
    return [f"row {number}" for number in range(count)]


def assert_all_right(runner: BatchRunner, rows: list[str]) -> None:
    assert runner.stopped_by is None
    assert [str(outcome) for outcome in runner.outcomes()] == [f"reply to {row}" for row in rows]


def n_right(runner: BatchRunner) -> int:
    return sum(isinstance(outcome, Reply) for outcome in runner.outcomes())


def with_wait(wait_s: float) -> ProviderError:
    return RateLimitError("busy", status=429, retry_after_s=wait_s)


def without_wait(wait_s: float) -> ProviderError:
    return RateLimitError("busy", status=429)


REFUSALS = {"wait named": with_wait, "no wait named": without_wait}


# --- 429 (rows 69 and 70)


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("latency_s", [0.05, 0.5, 3])
def test_fifteen_a_minute_answer_every_row(latency_s: float, refusal: Callable[[float], ProviderError]) -> None:
    rows = rows_of(40)
    gate = fixed_window(15, period_s=60, phase_s=7, retry_after_s=None)
    runner, _ = run_batch(rows, concurrency="auto", gate=gate, refusal=refusal, latency_s=lambda prompt: latency_s)
    assert_all_right(runner, rows)
    assert runner.calls <= 40 + 35
    assert runner.elapsed_s < 200


LIMITS: dict[str, Callable[[], Gate]] = {
    "15 a minute": lambda: fixed_window(15, period_s=60, phase_s=20, retry_after_s=None),
    "60 a minute": lambda: fixed_window(60, period_s=60, phase_s=20, retry_after_s=None),
    "60 a second": lambda: fixed_window(60),
    "bucket of 60, 60 a second": lambda: bucket(60, 60),
    "bucket of 10, 1 a second": lambda: bucket(1, 10),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("latency_s", [0.05, 0.5])
@pytest.mark.parametrize("limit", LIMITS)
def test_two_thousand_rows_come_out_whole_with_few_calls_wasted(
    limit: str, latency_s: float, refusal: Callable[[float], ProviderError]
) -> None:
    rows = rows_of(2000)
    runner, _ = run_batch(
        rows, concurrency="auto", gate=LIMITS[limit](), refusal=refusal, latency_s=lambda prompt: latency_s
    )
    assert_all_right(runner, rows)
    assert runner.calls <= 1.06 * 2000


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_refusals_for_pace_leave_the_retries_to_other_failures(refusal: Callable[[float], ProviderError]) -> None:
    """Also with few retries: 429s use none, and 500s find all of them."""
    rows = rows_of(300)

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        is_hit = random.Random(f"{prompt} {attempt}").random() < 0.05
        return ServerError("down", status=500) if is_hit else None

    gate = fixed_window(10, period_s=30, retry_after_s=None)
    runner, _ = run_batch(rows, concurrency="auto", max_retries=2, gate=gate, refusal=refusal, fault=fault)
    assert n_right(runner) >= 299
    assert runner.stopped_by is None


def test_retries_that_a_run_may_make_are_not_needed_for_a_limit() -> None:
    rows = rows_of(40)
    gate = fixed_window(15, period_s=60, retry_after_s=None)
    runner, _ = run_batch(rows, concurrency="auto", max_retries=0, gate=gate)
    assert_all_right(runner, rows)


def test_one_call_probes_after_a_pause_that_grows_to_a_minute() -> None:
    """The limit moves again after nine minutes; the others wait until the probe is admitted."""
    rows = rows_of(200)

    def gate(now: float) -> float | None:
        return None if now < 5 or now > 545 else 1.0

    runner, network = run_batch(rows, concurrency="auto", gate=gate, refusal=without_wait, latency_s=lambda prompt: 2)
    assert_all_right(runner, rows)
    probes = [at for at in network.sent_at if 10 < at <= 545]
    gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
    assert all(later >= earlier - 0.1 for earlier, later in itertools.pairwise(gaps))
    assert gaps[0] < 10
    assert gaps[-1] == pytest.approx(60, abs=1)
    assert len(probes) <= 15


@pytest.mark.parametrize("patience_s", [600, 60])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_limit_that_does_not_move_stops_the_run_and_loses_nothing(
    refusal: Callable[[float], ProviderError], patience_s: float
) -> None:
    rows = rows_of(500)

    def gate(now: float) -> float | None:
        return None if now < 3 else 30.0

    runner, _ = run_batch(rows, concurrency="auto", gate=gate, refusal=refusal, limit_patience_s=patience_s)
    assert isinstance(runner.stopped_by, RateLimitError)
    assert "limit_patience_s" in str(runner.stopped_by)
    assert patience_s <= runner.elapsed_s <= patience_s + 130
    assert runner.errors() == {}
    assert runner.pending == 500 - n_right(runner) > 0


def test_row_that_alone_is_refused_is_given_up() -> None:
    """Such as one with more tokens than the limit has for a minute; others are admitted all the time."""
    rows = rows_of(2000)

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        return without_wait(0) if prompt == "row 3" else None

    runner, network = run_batch(rows, concurrency=8, fault=fault, max_retries=1)
    assert n_right(runner) == 1999
    assert isinstance(runner.errors()[3], RateLimitError)
    assert network.reached["row 3"] < 20


def test_hints_of_a_refusal_are_those_of_an_answer() -> None:
    """An empty bucket that refills at one call a second: the pace is known after the first refusals."""
    rows = rows_of(60)

    def refusal(wait_s: float) -> ProviderError:
        error = with_wait(1.0)
        error.rate_limits = RateLimits(  # type: ignore[attr-defined]
            limit_requests=10, remaining_requests=0, reset_requests_s=10.0
        )
        return error

    runner, _ = run_batch(rows, concurrency="auto", gate=bucket(1, 10), refusal=refusal)
    assert_all_right(runner, rows)
    assert runner.calls <= 60 + 20


# --- quotas (row 71)


@pytest.mark.parametrize("in_flight", ["auto", 8])
@pytest.mark.parametrize("good", [0, 15, 200])
def test_wait_of_hours_stops_the_run_and_says_when_the_quota_is_there_again(good: int, in_flight: int | str) -> None:
    rows = rows_of(2000)
    admitted = iter(range(good))

    def gate(now: float) -> float | None:
        return None if next(admitted, None) is not None else 25_000.0

    runner, _ = run_batch(rows, concurrency=in_flight, gate=gate)  # type: ignore[arg-type]
    assert isinstance(runner.stopped_by, RateLimitError)
    assert "6 h 57 min" in str(runner.stopped_by)
    assert "free again at" in str(runner.stopped_by)
    assert runner.calls <= good + 60
    assert runner.errors() == {}
    assert n_right(runner) == good
    assert runner.pending == 2000 - good - (len(rows) - len(runner))


@pytest.mark.parametrize("retry_after_s", [None, 3_600.0])
def test_exhausted_quota_spends_no_row(retry_after_s: float | None) -> None:
    admitted = iter(range(100))

    def gate(now: float) -> float | None:
        return None if next(admitted, None) is not None else 1.0

    def refusal(wait_s: float) -> ProviderError:
        return QuotaError("The quota is used up.", status=429, retry_after_s=retry_after_s)

    runner, _ = run_batch(rows_of(1000), concurrency="auto", gate=gate, refusal=refusal)
    assert isinstance(runner.stopped_by, QuotaError)
    assert ("in 1 h " in str(runner.stopped_by)) == (retry_after_s is not None)
    assert runner.errors() == {}
    assert n_right(runner) == 100


def test_one_row_that_the_quota_of_today_does_not_cover_is_its_own_error() -> None:
    rows = rows_of(500)

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        return with_wait(9_000) if prompt == "row 5" else None

    runner, _ = run_batch(rows, concurrency=8, fault=fault)
    assert n_right(runner) == 499
    assert list(runner.errors()) == [5]
    assert runner.stopped_by is None


# --- a model that is being loaded, a tier without capacity (row 74)


def test_run_waits_for_a_model_that_is_being_loaded_and_says_so() -> None:
    rows, told = rows_of(100), list[Progress]()

    def gate(now: float) -> float | None:
        return 1.0 if now < 100 else None

    def loading(wait_s: float) -> ProviderError:
        return ModelLoadingError("The server is loading the model.", status=503)

    runner, network = run_batch(
        rows, concurrency="auto", gate=gate, refusal=loading, max_retries=0, on_progress=told.append
    )
    assert_all_right(runner, rows)
    assert runner.elapsed_s < 130
    assert len([at for at in network.sent_at if at < 100]) < 12 + 20
    assert any(progress.pause_reason == "loading" and progress.pause_s > 1 for progress in told)
    assert told[-1].pause_reason == ""


def test_model_that_is_never_loaded_stops_the_run_after_two_minutes() -> None:
    runner, _ = run_batch(
        rows_of(100),
        concurrency="auto",
        gate=lambda now: 1.0,
        refusal=lambda wait_s: ModelLoadingError("The server is loading the model.", status=503),
    )
    assert isinstance(runner.stopped_by, ModelLoadingError)
    assert 120 <= runner.elapsed_s < 140
    assert runner.errors() == {}


def test_no_capacity_waits_like_a_limit() -> None:
    rows = rows_of(50)

    def gate(now: float) -> float | None:
        return 1.0 if 2 < now < 200 else None

    runner, _ = run_batch(
        rows,
        concurrency=4,
        gate=gate,
        refusal=lambda wait_s: NoCapacityError("No capacity.", status=429),
    )
    assert_all_right(runner, rows)


def test_where_the_user_allows_it_rows_without_capacity_go_to_the_other_tier_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(simulation.Network):
        """A server without capacity for every tenth row at the tier flex."""

        async def complete(self, request: ChatRequest) -> Reply:
            if request.options.tier == "flex,auto" and request.messages[-1].content.endswith("3"):
                raise NoCapacityError("No capacity.", status=429)
            return await super().complete(request)

    monkeypatch.setattr(simulation, "Network", Full)
    rows = rows_of(50)
    runner, _ = run_batch(rows, concurrency=4, options=Options(tier="flex,auto"))
    assert_all_right(runner, rows)
    assert runner.calls == 50 + 5
    assert runner.elapsed_s < 5


# --- a server with few slots (row 89b)


def spread(mean_s: float) -> Callable[[str], float]:
    return lambda prompt: mean_s * (0.8 + 0.4 * random.Random(prompt).random())


@pytest.mark.parametrize("finishes_abandoned", [False, True])
@pytest.mark.parametrize(("slots", "mean_s"), [(1, 0.65), (2, 0.65), (3, 0.65), (1, 3.0), (2, 1.5), (4, 2.0)])
def test_timeouts_of_a_full_queue_cost_no_row(slots: int, mean_s: float, finishes_abandoned: bool) -> None:
    rows = rows_of(40)
    runner, _ = run_batch(
        rows,
        concurrency="auto",
        slots=slots,
        latency_s=spread(mean_s),
        timeout_s=5.0,
        finishes_abandoned=finishes_abandoned,
        max_retries=2,
    )
    assert_all_right(runner, rows)


def test_queue_of_one_slot_is_as_fast_as_one_after_the_other() -> None:
    rows = rows_of(40)
    runner, _ = run_batch(rows, concurrency="auto", slots=1, latency_s=lambda prompt: 0.65, timeout_s=5.0)
    assert_all_right(runner, rows)
    assert runner.elapsed_s < 1.25 * 40 * 0.65
    assert runner.calls <= 55


def test_queue_that_is_slow_and_times_nobody_out_is_left_alone() -> None:
    rows = rows_of(200)
    runner, _ = run_batch(rows, concurrency="auto", slots=4, latency_s=spread(2.0), timeout_s=600.0)
    assert_all_right(runner, rows)
    assert runner.calls == 200


def test_server_that_stops_to_answer_stops_the_run_when_the_patience_is_over() -> None:
    runner, _ = run_batch(
        rows_of(500),
        concurrency="auto",
        slots=4,
        latency_s=lambda prompt: 1.0 if int(prompt[4:]) < 50 else 10**6,
        timeout_s=100.0,
        patience_s=600.0,
    )
    assert isinstance(runner.stopped_by, DeadlineError)
    assert runner.elapsed_s < 2000
    assert n_right(runner) == 50


def test_row_that_is_too_slow_for_its_timeout_is_its_own_error() -> None:
    rows = rows_of(100)
    runner, _ = run_batch(
        rows, concurrency="auto", slots=8, latency_s=lambda prompt: 99.0 if prompt == "row 7" else 0.3, timeout_s=5.0
    )
    assert n_right(runner) == 99
    assert isinstance(runner.errors()[7], DeadlineError)


def test_usage_is_counted_once_whatever_is_sent_again() -> None:
    rows = rows_of(40)
    gate = fixed_window(15, period_s=60, retry_after_s=None)
    runner, _ = run_batch(rows, concurrency="auto", gate=gate)
    assert (runner.usage.input_tokens, runner.usage.output_tokens) == (400, 200)
