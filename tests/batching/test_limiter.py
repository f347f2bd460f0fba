"""Concurrency, pace and pauses of a run, simulated in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from simulation import bucket, fixed_window, in_virtual_time, random_faults, simulate

from aichat_magic.batching.leases import Outcome
from aichat_magic.batching.limiter import RunLimiter
from aichat_magic.core.messages import RateLimits
from aichat_magic.http.rate_limits import rate_limits_from

OK = Outcome(latency_s=0.1, tokens=10)


def constant(seconds):
    return lambda dice: seconds


def spread(low, high):
    return lambda dice: dice.uniform(low, high)


# --- a server with a limit

ADMISSIONS = {
    **{f"window-{n}": lambda n=n: fixed_window(60, phase_s=n / 4) for n in range(4)},
    **{f"exact-{n}": lambda n=n: fixed_window(60, phase_s=n / 4, retry_after_s=None) for n in range(2)},
    "bucket": lambda: bucket(60, 60),
}


@pytest.mark.parametrize("refusal_s", [None, 0.002], ids=["slow-refusals", "quick-refusals"])
@pytest.mark.parametrize("latency_s", [0.02, 0.05])
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_limit_of_60_a_second_is_met_with_few_calls_wasted(admission, latency_s, refusal_s):
    run = simulate(1000, gate=ADMISSIONS[admission](), latency=constant(latency_s), refusal_s=refusal_s)
    assert run.lost == 0
    assert run.calls <= 1060
    assert 1000 / run.seconds >= 0.9 * 60


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("latency", [constant(0.3), spread(0.02, 0.3)], ids=["300ms", "20-300ms"])
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_limit_is_met_with_slow_replies(admission, latency, seed):
    run = simulate(1000, gate=ADMISSIONS[admission](), latency=latency, seed=seed)
    assert run.lost == 0
    assert run.calls <= 1090
    assert 1000 / run.seconds >= 0.8 * 60


@pytest.mark.parametrize("capacity", [1, 10, 30])
def test_bucket_that_allows_no_burst_is_met_too(capacity):
    run = simulate(1000, gate=bucket(60, capacity), latency=constant(0.1))
    assert run.lost == 0
    assert run.calls <= 1060
    assert 1000 / run.seconds >= 0.5 * 60


# Not 0.3: where a latency divides the period, the rounding of its sums decides on which side of an edge calls fall.
@pytest.mark.parametrize("latency_s", [0.2999, 0.301, 0.35])
def test_limit_by_the_minute_is_not_probed_every_second(latency_s):
    gate = fixed_window(60, period_s=60, retry_after_s=None)
    run = simulate(480, gate=gate, latency=constant(latency_s))
    assert run.lost == 0
    assert run.calls <= 1.05 * 480
    assert run.seconds <= 8.5 * 60


def test_fixed_concurrency_is_paced_after_refusals():
    run = simulate(1000, gate=bucket(60, 60), latency=constant(0.02), concurrency=8)
    assert run.most_at_once == 8
    assert run.calls <= 1060
    assert 1000 / run.seconds >= 0.9 * 60


# --- overdue calls


def hangs(*rows):
    return lambda row, attempt: "timeout" if row in rows and attempt == 1 else None


@pytest.mark.parametrize("latency_s", [0.001, 0.05, 0.3])
def test_calls_that_nobody_answers_do_not_hold_up_the_others(latency_s):
    """More of them than the first window has places, and some more when the others have gone on."""
    run = simulate(400, latency=constant(latency_s), fault=hangs(*range(5, 25), 300), hang_s=30.0)
    assert run.lost == 0
    assert run.seconds < 45  # one after the other: two times 30 s


def test_as_many_calls_again_are_out_at_most_in_place_of_those_that_are_stuck():
    run = simulate(100, latency=constant(0.05), fault=hangs(*range(5, 100)), hang_s=30.0)
    assert run.most_at_once <= 28  # twice a window that has begun to grow
    run = simulate(100, latency=constant(0.05), fault=hangs(*range(5, 100)), hang_s=30.0, max_concurrency=16)
    assert run.most_at_once == 16


def test_a_fixed_concurrency_holds_whatever_is_stuck():
    run = simulate(100, latency=constant(0.05), fault=hangs(*range(5, 25)), hang_s=10.0, concurrency=8)
    assert run.most_at_once == 8


# --- pauses


def play(script, **options):
    """Run ``script(limiter, clock)`` in virtual time."""

    async def main(clock):
        return await script(RunLimiter(clock=clock, sleep=asyncio.sleep, **options), clock)

    return in_virtual_time(main)


def test_lone_429_pauses_every_worker_for_its_retry_after():
    refused = iter([True])

    def gate(now):
        return 2.0 if now > 0.5 and next(refused, False) else None

    run = simulate(300, gate=gate, latency=constant(0.1))
    (at,) = run.refused_at
    later = [t for t in run.sent_at if t > at]
    assert later[0] - at == pytest.approx(2.0)
    # and no longer, and not slower than before
    assert sum(t < later[0] + 0.1 for t in later) >= 12


def test_refusals_at_random_do_not_make_the_run_crawl():
    for seed in range(5):
        run = simulate(2000, fault=random_faults(seed), latency=constant(0.05), busy_s=0.0005, seed=seed)
        assert run.lost == 0
        assert run.seconds < 7


@pytest.mark.parametrize("seed", range(3))
def test_pace_is_given_up_when_refusals_do_not_come_from_it(seed):
    limit, by_chance = bucket(60, 60), random.Random(seed)

    def gate(now):
        if now < 10:
            return limit(now)
        return 1.0 if by_chance.random() < 0.05 else None

    run = simulate(6000, gate=gate, latency=constant(0.1), seed=seed)
    assert run.lost == 0
    assert run.seconds < 60


@pytest.mark.parametrize("seed", range(5))
def test_refusals_at_random_do_not_slow_a_long_run_of_slow_replies(seed):
    run = simulate(3000, fault=random_faults(seed), latency=spread(0.5, 1.5), seed=seed)
    assert run.lost == 0
    assert run.seconds < 60


def test_retry_after_of_an_hour_pauses_nobody():
    async def script(limiter, clock):
        lease = await limiter.acquire()
        limiter.report(lease, Outcome(latency_s=0, kind="throttled", retry_after_s=3600))
        await limiter.acquire()
        return clock()

    assert play(script) == 0


def test_server_that_refuses_all_without_retry_after_is_asked_less_and_less():
    async def script(limiter, clock):
        sent = []
        while clock() < 60:
            lease = await limiter.acquire()
            sent.append(clock())
            await asyncio.sleep(0.01)
            limiter.report(lease, Outcome(latency_s=0.01, kind="throttled"))
        return sent

    assert len(play(script)) < 60


# --- how many at once


def test_fast_server_is_used_fully():
    run = simulate(2000, latency=constant(0.05), busy_s=0.0004)
    assert run.most_at_once >= 64
    assert run.seconds < 2.5


@pytest.mark.parametrize(("slots", "mean_s"), [(4, 0.5), (16, 0.2)])
def test_growth_stops_where_throughput_stops(slots, mean_s):
    run = simulate(600, latency=spread(0.6 * mean_s, 1.4 * mean_s), slots=slots)
    assert run.seconds <= 1.1 * 600 * mean_s / slots
    assert run.most_at_once <= 64


def test_busy_client_settles_at_a_modest_number():
    run = simulate(2000, latency=constant(0.0005), busy_s=0.0006)
    assert run.most_at_once <= 48
    assert run.seconds < 1.05 * 2000 * 0.0006


def test_timeouts_of_all_calls_halve_the_window():
    async def script(limiter, clock):
        leases = [await limiter.acquire() for _ in range(12)]
        await asyncio.sleep(5)
        for lease in leases:
            limiter.report(lease, Outcome(latency_s=5, kind="timeout"))
        return limiter.concurrency

    assert play(script) == 6


def test_number_that_is_found_has_an_upper_bound():
    run = simulate(1000, latency=constant(1), max_concurrency=40)
    assert run.most_at_once == 40


def test_fixed_number_is_kept():
    run = simulate(200, latency=constant(0.1), concurrency=7)
    assert run.most_at_once == 7
    assert run.limiter.workers_wanted == 7


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=40))
def test_cancelled_waiters_leak_no_slot(size, cancelled):
    async def script(limiter, clock):
        leases = [await limiter.acquire() for _ in range(size)]
        waiters = [asyncio.ensure_future(limiter.acquire()) for _ in cancelled]
        await asyncio.sleep(0)
        for waiter, is_cancelled in zip(waiters, cancelled, strict=True):
            if is_cancelled:
                waiter.cancel()
        for lease in leases:
            limiter.report(lease, OK)
            await asyncio.sleep(0)
        for waiter in waiters:
            if not waiter.cancelled():
                await asyncio.wait([waiter], timeout=0.01)
                if waiter.done() and not waiter.cancelled():
                    limiter.report(waiter.result(), OK)
        await asyncio.sleep(1)
        for waiter, is_cancelled in zip(waiters, cancelled, strict=True):
            assert waiter.cancelled() == is_cancelled
            assert waiter.done()
        assert limiter.in_flight == 0
        async with asyncio.timeout(10):
            for _ in range(size):
                await limiter.acquire()

    play(script, concurrency=size)


# --- pace


def test_requests_per_minute_are_spaced():
    run = simulate(60, latency=constant(0.01), requests_per_minute=120)
    gaps = [b - a for a, b in itertools.pairwise(run.sent_at)]
    assert run.seconds == pytest.approx(29.5, abs=0.1)
    assert min(gaps) > 0.48


def test_tokens_per_minute_hold_although_the_estimate_is_wrong():
    async def script(limiter, clock):
        for _ in range(101):
            lease = await limiter.acquire(10)
            limiter.report(lease, Outcome(latency_s=0, tokens=100))
        return clock()

    # 100 calls of 100 tokens at 6,000 a minute
    assert play(script, tokens_per_minute=6000) == pytest.approx(100, rel=0.1)


def test_headers_of_an_empty_bucket_slow_the_run_to_what_flows_in():
    async def script(limiter, clock):
        level = RateLimits(limit_requests=600, remaining_requests=0, reset_requests_s=60)
        sent = []
        for _ in range(21):
            lease = await limiter.acquire()
            sent.append(clock())
            limiter.report(lease, Outcome(latency_s=0, rate_limits=level))
        return sent[-1] - sent[1]

    assert play(script) == pytest.approx(1.9, abs=0.1)


@pytest.mark.parametrize(
    "level",
    [
        RateLimits(limit_requests=10_000, remaining_requests=9_999, reset_requests_s=0.006),
        RateLimits(limit_requests=5, remaining_requests=5, reset_requests_s=60),
        RateLimits(remaining_requests=0, reset_requests_s=60),
    ],
    ids=["nearly full", "full", "no limit named"],
)
def test_headers_that_show_no_shortage_slow_nothing(level):
    async def script(limiter, clock):
        for _ in range(100):
            lease = await limiter.acquire()
            limiter.report(lease, Outcome(latency_s=0, rate_limits=level))
        return clock()

    assert play(script) < 0.1


def test_clock_that_is_read_is_the_one_given():
    async def script(limiter, clock):
        lease = await limiter.acquire()
        limiter.report(lease, Outcome(latency_s=0, kind="throttled", retry_after_s=30))
        assert limiter.pause == (30, "limit")
        await limiter.acquire()
        return clock()

    assert play(script) == 30


# --- headers


def test_openai_headers():
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert rate_limits_from(headers, 0) == RateLimits(
        limit_requests=60,
        remaining_requests=59,
        reset_requests_s=1.0,
        limit_tokens=150_000,
        remaining_tokens=149_984,
        reset_tokens_s=360.0,
    )


def test_anthropic_headers_and_the_scarcer_of_its_tokens():
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-20T10:00:30Z",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-20T10:00:02Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "100",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-20T10:00:59Z",
    }
    assert rate_limits_from(headers, 1795168800.0) == RateLimits(
        limit_requests=50,
        remaining_requests=49,
        reset_requests_s=30.0,
        limit_tokens=8000,
        remaining_tokens=100,
        reset_tokens_s=59.0,
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120ms", 0.12), ("1s", 1.0), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("1d", 86400.0), ("7", 7.0), ("0", 0.0)]
    + [(text, None) for text in ("", "soon", "-1s", "1s!", "inf", "nan", "9" * 40, "99999-01-01T00:00:00Z")],
)
def test_times_to_a_reset(text, seconds):
    read = rate_limits_from({"x-ratelimit-limit-requests": "1", "x-ratelimit-reset-requests": text}, 0)
    assert read is not None
    assert read.reset_requests_s == (None if seconds is None else pytest.approx(seconds))


NAMES = [
    f"{head}{middle}{tail}"
    for head, middle, tail in [
        *itertools.product(["x-ratelimit-"], ["limit", "remaining", "reset"], ["-requests", "-tokens"]),
        *itertools.product(
            ["anthropic-ratelimit-"],
            ["requests", "tokens", "input-tokens", "output-tokens"],
            ["-limit", "-remaining", "-reset"],
        ),
    ]
]


@example(
    {
        f"x-ratelimit-{name}": text
        for name, text in zip(["limit-tokens", "remaining-tokens", "reset-tokens"], ["1", "0", "300d"], strict=True)
    }
)
@given(st.dictionaries(st.sampled_from(NAMES), st.text() | st.from_regex(r"[0-9.\-:TZsmhd]{1,30}"), max_size=8))
def test_headers_of_any_content_are_read_or_ignored(headers):
    read = rate_limits_from(headers, 1.8e9)
    if read is not None:

        async def script(limiter, clock):
            for _ in range(3):
                lease = await limiter.acquire(5)
                limiter.report(lease, Outcome(latency_s=0.1, rate_limits=read))
            return clock()

        # Whatever a server says, no call waits for more than a minute for it.
        assert play(script) <= 200
