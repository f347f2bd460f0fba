"""Outages of the network: one event for all rows, one probe, nothing spent and nothing lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from simulation import run_batch

from aichat_magic.batching.outages import FIRST_PROBE_S, MAX_PROBE_S, Outages
from aichat_magic.batching.progress import Progress
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.core.errors import (
    AuthenticationError,
    BlankReplyError,
    ConnectionFailedError,
    HostNotFoundError,
    IncompleteReplyError,
    NotRunningError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from aichat_magic.core.messages import Reply

ROWS = [f"row {number}" for number in range(3000)]


def assert_all_right(runner: BatchRunner, rows: list[str]) -> None:
    assert runner.stopped_by is None
    assert [str(outcome) for outcome in runner.outcomes()] == [f"reply to {row}" for row in rows]


def resets(share: float, seed: int = 0) -> Callable[[str, int], ProviderError | None]:
    """Reset this share of all calls, each independently."""

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        is_hit = random.Random(f"{seed} {prompt} {attempt}").random() < share
        return ConnectionFailedError("the connection was reset") if is_hit else None

    return fault


# --- runs, in virtual time


@pytest.mark.parametrize("refused", [NotRunningError, ConnectionFailedError, HostNotFoundError])
@pytest.mark.parametrize(("seconds", "reply_s"), [(2.8, 3), (30, 20)])
def test_answers_to_calls_that_were_sent_before_do_not_end_an_outage(
    refused: type[ProviderError], seconds: float, reply_s: float
) -> None:
    """A server that restarts gracefully refuses new connections while it finishes what is in flight."""
    runner, network = run_batch(
        ROWS,
        away=[(20, 20 + seconds)],
        drains=True,
        refused=refused,
        latency_s=lambda prompt: reply_s * (0.5 + random.Random(prompt).random()),
    )
    assert_all_right(runner, ROWS)
    assert len([at for at in network.sent_at if 20 <= at < 20 + seconds]) <= 64


@pytest.mark.parametrize("in_flight", [8, "auto"])
def test_wait_that_is_longer_than_allowed_stops_the_run_soon(in_flight: Any) -> None:
    answered: list[str] = []

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        answered.append(prompt)
        return RateLimitError("busy", status=429, retry_after_s=3600.0) if len(answered) > 50 else None

    runner, network = run_batch(ROWS, concurrency=in_flight, fault=fault)
    assert isinstance(runner.stopped_by, RateLimitError)
    assert len(network.sent_at) <= 50 + 60
    assert runner.progress().errors <= 60


def test_server_that_always_fails_stops_a_run_without_retries_too() -> None:
    runner, network = run_batch(ROWS, max_retries=0, fault=lambda prompt, attempt: ServerError("down", status=500))
    assert isinstance(runner.stopped_by, ServerError)
    assert len(network.sent_at) <= 200


@pytest.mark.parametrize("in_flight", [1, 8, 64])
def test_rows_without_an_answer_that_follow_each_other_do_not_stop_a_run(in_flight: int) -> None:
    rows = ROWS[:1000]
    runner, _ = run_batch(
        rows,
        concurrency=in_flight,
        fault=lambda prompt, attempt: BlankReplyError("no text") if 300 <= rows.index(prompt) < 400 else None,
    )
    assert runner.stopped_by is None
    assert list(runner.errors()) == list(range(300, 400))


@pytest.mark.parametrize("in_flight", [1, 2, 3, 64, 256, "auto"])
@pytest.mark.parametrize("seconds", [0.5, 2.8, 5, 60, 300])
def test_rows_survive_an_outage(in_flight: Any, seconds: float) -> None:
    rows = ROWS if in_flight not in (1, 2, 3) else ROWS[:100]
    runner, network = run_batch(rows, concurrency=in_flight, away=[(2, 2 + seconds)])
    assert_all_right(runner, rows)
    most = 256 if in_flight == "auto" else in_flight
    assert sum(network.reached.values()) - len(rows) <= most
    # 1 s, 2 s, 4 s and so on up to 30 s: no more calls than that find out that it is still away.
    tries = [at for at in network.sent_at if 2.1 < at < 2 + seconds]
    assert len(tries) <= 5 + seconds / MAX_PROBE_S
    assert runner.elapsed_s < 2 + 2 * seconds + FIRST_PROBE_S + 0.3 * (len(rows) / most + 20)


@pytest.mark.parametrize("kind", [ConnectionFailedError, IncompleteReplyError])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("seconds", [0.1, 60.0])
def test_last_rows_that_always_break_come_to_an_end(kind: type[ProviderError], count: int, seconds: float) -> None:
    """Or are waited for until the patience is over, where that is all there is to see."""
    rows = ["good", *ROWS[:count]]
    runner, network = run_batch(
        rows,
        latency_s=lambda prompt: 0.05 if prompt == "good" else seconds,
        # A run that would try for ever ends after far too many calls.
        fault=lambda prompt, attempt: None if prompt == "good" or attempt > 200 else kind("it broke"),
    )
    assert runner.progress().done + runner.pending == len(rows)
    assert sum(network.reached.values()) <= 1 + 30 + 12 * count


@pytest.mark.parametrize("kind", [ConnectionFailedError, HostNotFoundError, NotRunningError])
@pytest.mark.parametrize("broken", [ConnectionFailedError, IncompleteReplyError])
def test_it_does_not_matter_how_connections_fail(kind: type[ProviderError], broken: type[ProviderError]) -> None:
    runner, network = run_batch(ROWS, refused=kind, broken=broken, away=[(1, 40)])
    assert_all_right(runner, ROWS)
    assert sum(network.reached.values()) - len(ROWS) <= 64


def test_calls_that_hang_in_an_outage_until_their_deadline_belong_to_it() -> None:
    """Within it, and long after it."""
    hangs = {0: 0.0, 1: 10.0, 2: 60.0}
    runner, network = run_batch(
        ROWS, max_retries=0, away=[(2, 40)], hangs_s=lambda prompt: hangs[int(prompt.split()[1]) % 3]
    )
    assert_all_right(runner, ROWS)
    assert sum(network.reached.values()) - len(ROWS) <= 64


def test_rows_spend_no_attempt_in_an_outage() -> None:
    runner, _ = run_batch(ROWS, max_retries=0, away=[(1, 30), (100, 101)])
    assert_all_right(runner, ROWS)


def test_rows_have_all_their_attempts_after_an_outage() -> None:
    runner, _ = run_batch(
        ROWS,
        max_retries=1,
        away=[(6, 30)],
        fault=lambda prompt, attempt: ServerError("down", status=500) if attempt == 2 else None,
    )
    assert_all_right(runner, ROWS)


def test_the_last_row_waits_for_the_network_as_others_do() -> None:
    runner, _ = run_batch(["a", "b"], concurrency=1, latency_s=lambda prompt: 2.0, away=[(3, 100)])
    assert_all_right(runner, ["a", "b"])


def test_outages_that_come_and_go_are_all_survived() -> None:
    away = [(begin, begin + 3) for begin in range(1, 400, 20)]
    runner, _ = run_batch(ROWS, concurrency=8, away=away)
    assert_all_right(runner, ROWS)


@pytest.mark.parametrize("apart_s", [0.0, 0.7])
def test_calls_that_were_sent_before_and_fail_after_an_outage_belong_to_it(apart_s: float) -> None:
    """Connections that were open when the network went are reset long after it is back, when others are answered.

    All at the same moment, or one by one: each of these looks as if it had failed by itself.
    """
    runner, network = run_batch(
        ROWS,
        max_retries=0,
        away=[(2, 5)],
        hangs_s=lambda prompt: (
            8.0 + apart_s * (number // 8 % 8) if (number := int(prompt.split()[1])) % 8 == 1 else 0.0
        ),
        late=ConnectionFailedError,
    )
    assert_all_right(runner, ROWS)
    assert runner.calls > len(ROWS)
    assert sum(network.reached.values()) - len(ROWS) <= 64


def _after_an_answer(fault: Callable[[str, int], ProviderError | None]) -> Callable[[str, int], ProviderError | None]:
    """Start a fault after the first answer of the server, which may be an error."""
    has_answered: list[str] = []

    def found(prompt: str, attempt: int) -> ProviderError | None:
        if not has_answered:
            has_answered.append(prompt)
            return None
        return fault(prompt, attempt)

    return found


def test_lone_resets_are_no_outage() -> None:
    runner, network = run_batch(ROWS, fault=resets(0.01))
    assert_all_right(runner, ROWS)
    failed = sum(1 for row in ROWS if resets(0.01)(row, 1))
    assert failed > 20
    assert sum(network.reached.values()) - len(ROWS) <= failed * 1.1
    calm, _ = run_batch(ROWS)
    assert runner.elapsed_s < calm.elapsed_s * 1.15


def test_row_that_breaks_its_own_connection_is_given_up_and_the_others_are_not() -> None:
    poison = {f"row {number}" for number in range(100, 3000, 300)}
    runner, _ = run_batch(
        ROWS,
        fault=lambda prompt, attempt: ConnectionFailedError("the connection was reset") if prompt in poison else None,
    )
    assert runner.stopped_by is None
    assert set(runner.errors()) == {ROWS.index(row) for row in poison}
    assert all("It was tried 5 times" in str(error) for error in runner.errors().values())


def test_rows_that_are_too_slow_for_a_proxy_are_not_sent_for_ever() -> None:
    """Nothing but such rows is left: each looks as if the network were gone, and as if it were back."""
    rows = ["quick", *ROWS[:10]]
    runner, network = run_batch(
        rows,
        latency_s=lambda prompt: 1.0 if prompt == "quick" else 60.0,
        fault=lambda prompt, attempt: ConnectionFailedError("closed") if prompt != "quick" else None,
    )
    assert runner.progress().done + runner.pending == len(rows)
    assert max(network.reached.values()) <= 12


def test_server_that_is_gone_for_good_stops_the_run_when_the_patience_is_over() -> None:
    runner, network = run_batch(ROWS, away=[(2, 10**6)])
    stop = runner.stopped_by
    assert isinstance(stop, ConnectionFailedError)
    assert "http://127.0.0.1:8000/v1/chat/completions: connection refused" in str(stop)
    assert "600 s" in str(stop)
    assert "outage_patience_s" in str(stop)
    assert runner.elapsed_s == pytest.approx(602, abs=2)
    # What was finished is kept, the rest is pending, and nothing has failed.
    assert runner.errors() == {}
    assert runner.progress().done == sum(isinstance(outcome, Reply) for outcome in runner.outcomes()) > 300
    assert runner.pending > 0
    assert len(network.sent_at) < runner.progress().done + 64 + 30


@pytest.mark.parametrize("patience_s", [0, 5, 60])
def test_patience_is_what_the_caller_says(patience_s: float) -> None:
    runner, _ = run_batch(ROWS, away=[(2, 10**6)], patience_s=patience_s)
    assert isinstance(runner.stopped_by, NotRunningError)
    assert 2 + patience_s <= runner.elapsed_s <= 2 + patience_s + 2
    assert runner.errors() == {}


def test_server_that_answers_now_and_then_is_not_waited_for_without_end() -> None:
    """Each try succeeds, and all that follow it fail: the time away is added up."""
    state = {"good": 30}

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        if state["good"]:
            state["good"] -= 1
            return None
        state["good"] = int(random.Random(f"{prompt} {attempt}").random() < 0.02)
        return ConnectionFailedError("the connection was reset")

    runner, _ = run_batch(ROWS, fault=fault, concurrency=8)
    assert runner.stopped_by is not None
    assert runner.elapsed_s < 2 * 600


@pytest.mark.parametrize(
    ("kind", "most_calls", "most_s"),
    [(NotRunningError, 24, 3), (HostNotFoundError, 40, 16), (ConnectionFailedError, 40, 16)],
)
@pytest.mark.parametrize("in_flight", [1, 12, 64])
def test_server_that_was_never_there_is_not_waited_for(
    kind: type[ProviderError], most_calls: int, most_s: float, in_flight: int
) -> None:
    runner, network = run_batch(ROWS, refused=kind, away=[(0, 10**6)], concurrency=in_flight)
    assert isinstance(runner.stopped_by, kind)
    assert "connection refused" in str(runner.stopped_by)
    assert len(network.sent_at) <= most_calls + in_flight
    assert runner.elapsed_s < most_s


def test_network_that_goes_before_the_first_answer_and_is_soon_back_costs_no_row() -> None:
    rows = ROWS[:200]
    runner, network = run_batch(rows, latency_s=lambda prompt: 20.0, away=[(10, 10.5)], refused=ConnectionFailedError)
    assert_all_right(runner, rows)
    assert sum(network.reached.values()) <= 200 + 64


def test_lone_reset_before_the_first_answer_stops_nothing() -> None:
    runner, _ = run_batch(
        ROWS[:100],
        max_retries=0,
        latency_s=lambda prompt: 0.1 if prompt == "row 3" else 0.3,
        fault=lambda prompt, attempt: ConnectionFailedError("reset") if prompt == "row 3" else None,
    )
    assert runner.stopped_by is None
    assert list(runner.errors()) == [3]


def test_answers_that_always_break_off_are_no_outage() -> None:
    runner, network = run_batch(ROWS, fault=_after_an_answer(lambda prompt, attempt: IncompleteReplyError("broke off")))
    assert isinstance(runner.stopped_by, IncompleteReplyError)
    assert runner.elapsed_s < 20
    assert len(network.sent_at) < 64 * 4


def test_another_error_ends_an_outage_and_the_run() -> None:
    runner, _ = run_batch(
        ROWS,
        away=[(2, 10)],
        fault=lambda prompt, attempt: AuthenticationError("no", status=401) if int(prompt.split()[1]) > 500 else None,
    )
    assert isinstance(runner.stopped_by, AuthenticationError)


def test_server_that_comes_back_with_503_goes_on_as_soon_as_it_can() -> None:
    """llama.cpp says so while it loads its model."""
    clock: list[float] = []

    def fault(prompt: str, attempt: int) -> ProviderError | None:
        clock.append(0)
        return ServerError("loading", status=503, retry_after_s=1.0) if 450 < len(clock) < 460 else None

    runner, _ = run_batch(ROWS, away=[(2, 5)], fault=fault)
    assert_all_right(runner, ROWS)


def test_progress_says_that_the_network_is_away_and_for_how_long() -> None:
    told: list[Progress] = []
    run_batch(ROWS, away=[(2, 32)], on_progress=told.append)
    away = [progress for progress in told if progress.away_s]
    assert len(away) > 25
    assert max(progress.away_s for progress in away) == pytest.approx(30, abs=3)
    assert {progress.try_every_s for progress in away} >= {1, 2, 4, 8}
    assert told[-1].away_s == 0


# --- the arithmetic


class Row:
    attempt = lone_failures = 0


def test_the_time_away_is_made_up_for_by_time_that_goes_well() -> None:
    outages: Outages[Row] = Outages(100)
    outages.has_answered = True

    def outage(begin: float, end: float) -> bool:
        for _ in range(3):
            outages.connection_failed(begin, ConnectionFailedError("reset"), others_in_flight=60)
        outages.begin_probe(Row())
        outages.probe_failed(end)
        hopeless = outages.final_error(end) is not None
        outages.end(end)
        return hopeless

    assert not outage(0, 60)
    assert not outage(160, 220)
    assert outage(221, 270)


@pytest.mark.parametrize(("others_in_flight", "breaks"), [(0, 2), (1, 3), (63, 3)])
def test_so_many_breaks_in_a_row_are_an_outage(others_in_flight: int, breaks: int) -> None:
    outages: Outages[Row] = Outages(600)
    outages.has_answered = True
    for number in range(breaks):
        assert not outages.is_on
        outages.connection_failed(float(number), ConnectionFailedError("reset"), others_in_flight=others_in_flight)
    assert outages.is_on


def test_tries_come_after_1_s_then_after_twice_as_long_up_to_30_s() -> None:
    outages: Outages[Row] = Outages(10**6)
    outages.has_answered = True
    outages.connection_failed(0.0, ConnectionFailedError("reset"), others_in_flight=0)
    waits, now = [], 0.0
    for _ in range(8):
        waits.append(outages.next_at - now)
        now = outages.next_at
        outages.begin_probe(Row())
        outages.probe_failed(now)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
