"""Runs over rows against a real server that misbehaves as a function of row and attempt."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from servers import Answer, ChatServer, Received, hang, raw, reset, status, text

from aichat_magic.batching.api import batch, batch_async
from aichat_magic.batching.progress import Progress
from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import AichatError, BadRequestError, BatchStoppedError, QuotaError
from aichat_magic.core.messages import Reply
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.store.memory import MemoryStore

ROWS = 2000
# Shares of all attempts, one after the other.
FAULTS = {"429": 0.05, "500": 0.03, "reset": 0.01, "hang": 0.005}
WITH_BROKEN_JSON = FAULTS | {"truncated": 0.02}


def fault_of(row: str, attempt: int, shares: dict[str, float]) -> str:
    """The fault that an attempt of a row meets, "" for none: always the same one."""
    chance = random.Random(f"{row} {attempt}").random()
    for fault, share in shares.items():
        chance -= share
        if chance < 0:
            return fault
    return ""


def answer_to(fault: str, row: str) -> Answer:
    """How the server misbehaves, or how it does not."""
    if fault == "429":
        return status(429, headers={"retry-after": "1"})
    if fault == "500":
        return status(500)
    if fault == "reset":
        return reset()
    if fault == "hang":
        return hang()
    if fault == "truncated":
        body = b'{"choices": [{"message": {"content": "echo: wr'
        return raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + body)
    return text(f"echo: {row}")


def attempts_needed(row: str, shares: dict[str, float]) -> int:
    """The attempt of a row that meets no fault."""
    attempt = 1
    while fault_of(row, attempt, shares):
        attempt += 1
    return attempt


@pytest.fixture
def chat() -> Iterator[Chat]:
    """Asks as anybody does, with a store of its own."""
    chat = Chat(settings=Settings, store=MemoryStore())
    yield chat
    run(chat.http.aclose())


def ask_all(rows: Iterable[str], chat: Chat, server: ChatServer, **options: Any) -> list[Reply | AichatError | None]:
    options = {"progress": False, **options}
    return batch(rows, chat=chat, model="vllm/test-model", base_url=server.url, **options)


@pytest.mark.slow
@pytest.mark.parametrize("shares", [FAULTS, WITH_BROKEN_JSON], ids=["faults", "faults and truncated JSON"])
def test_every_row_is_answered_once_and_in_order_whatever_the_server_does(chat: Chat, shares: dict[str, float]) -> None:
    answered: Counter[str] = Counter()

    def answer(received: Received, attempt: int) -> Answer:
        row = received.last_message
        fault = fault_of(row, attempt, shares)
        answered[row] += not fault
        return answer_to(fault, row)

    rows = [f"row {number}" for number in range(ROWS)]
    needed = sum(attempts_needed(row, shares) for row in rows)
    with ChatServer(answer) as server:
        outcomes = ask_all(rows, chat, server, timeout=10)
        assert [str(outcome) for outcome in outcomes] == [f"echo: {row}" for row in rows]
        assert set(answered.values()) == {1}
        assert len(server.requests) <= needed * 1.01
        assert server.most_in_flight <= 256


class Gate:
    """Admits so many requests in a second by the clock, and asks all others to come back in a second."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self.admitted: Counter[int] = Counter()

    def __call__(self, received: Received, attempt: int) -> Answer:
        second = int(time.monotonic())
        if self.admitted[second] >= self.per_second:
            return status(429, headers={"retry-after": "1"})
        self.admitted[second] += 1
        return text(f"echo: {received.last_message}", delay_s=0.02)


@pytest.mark.slow
def test_run_stays_below_the_rate_that_a_server_admits_and_loses_nothing(chat: Chat) -> None:
    rows = [f"row {number}" for number in range(1000)]
    with ChatServer(Gate(60)) as server:
        outcomes = ask_all(rows, chat, server)
        assert [str(outcome) for outcome in outcomes] == [f"echo: {row}" for row in rows]
        # The goal is 1,060, and nine tenths of the rate: see test_limits.py, in virtual time, and benchmarks/faults.py.
        assert len(server.requests) <= 1200


@pytest.mark.slow
def test_lone_429_costs_one_call(chat: Chat) -> None:
    rows = [f"row {number}" for number in range(600)]

    def answer(received: Received, attempt: int) -> Answer:
        if received.last_message == "row 100" and attempt == 1:
            return status(429, headers={"retry-after": "1"})
        return text(f"echo: {received.last_message}")

    with ChatServer(answer) as server:
        outcomes = ask_all(rows, chat, server)
        assert [str(outcome) for outcome in outcomes] == [f"echo: {row}" for row in rows]
        assert len(server.requests) == 601


@pytest.mark.slow
def test_every_call_waits_for_the_retry_after(chat: Chat) -> None:
    sent_s: list[float] = []

    def answer(received: Received, attempt: int) -> Answer:
        sent_s.append(time.monotonic())
        return status(429, headers={"retry-after": "2"}) if len(sent_s) == 20 else text("fine", delay_s=0.1)

    with ChatServer(answer) as server:
        ask_all([f"row {number}" for number in range(200)], chat, server, concurrency=8)
    # The seven that were on their way when the refusal came may still arrive.
    assert len([at for at in sent_s[20:] if at < sent_s[19] + 1.95]) <= 7
    assert len(sent_s) == 201


def test_spent_quota_stops_the_run_and_keeps_what_is_finished(chat: Chat) -> None:
    """Row 7."""
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}

    def answer(received: Received, attempt: int) -> Answer:
        return text("fine") if len(server.requests) <= 200 else status(429, body=body)

    with ChatServer(answer) as server, pytest.raises(BatchStoppedError, match="quota") as caught:
        ask_all([f"row {number}" for number in range(1000)], chat, server, concurrency=16)
    stopped = caught.value.run
    assert sum(isinstance(outcome, Reply) for outcome in stopped.outcomes()) == 200
    assert isinstance(stopped.stopped_by, QuotaError)
    assert len(server.requests) <= 200 + 16


def test_server_that_always_fails_ends_the_run_soon_and_says_why(chat: Chat) -> None:
    """Row 8."""
    with ChatServer(lambda received, attempt: status(500)) as server:
        with pytest.raises(BatchStoppedError, match="500"):
            ask_all([f"row {number}" for number in range(1000)], chat, server)
        assert len(server.requests) < 200


def test_one_bad_row_of_a_thousand_is_one_error(chat: Chat) -> None:
    """Row 29."""

    def answer(received: Received, attempt: int) -> Answer:
        return status(400) if received.last_message == "row 500" else text("fine")

    with ChatServer(answer) as server:
        outcomes = ask_all([f"row {number}" for number in range(1000)], chat, server)
        assert len(server.requests) == 1000
    assert isinstance(outcomes[500], BadRequestError)
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 999


@pytest.mark.slow
@pytest.mark.parametrize("day_s", [86_400, -86_400], ids=["forth", "back"])
def test_clock_that_is_set_by_a_day_changes_no_wait(chat: Chat, day_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 36."""
    real = time.time
    offsets_s = [0]

    def answer(received: Received, attempt: int) -> Answer:
        if len(server.requests) == 50:
            threading.Timer(0.4, offsets_s.append, [day_s]).start()  # in the middle of the wait
            return status(429, headers={"retry-after": "1"})
        return text("fine")

    monkeypatch.setattr(time, "time", lambda: real() + offsets_s[-1])
    with ChatServer(answer) as server:
        begin = time.monotonic()
        outcomes = ask_all([f"row {number}" for number in range(200)], chat, server)
        took_s = time.monotonic() - begin
    assert offsets_s[-1] == day_s
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 200
    assert took_s >= 1  # and a wait that grows by a day ends with the time of the test


def test_budget_of_tokens_is_used_up_and_not_passed(chat: Chat) -> None:
    with ChatServer(lambda received, attempt: text("fine", delay_s=0.01)) as server:
        with pytest.raises(BatchStoppedError, match="budget"):
            ask_all([f"row {number}" for number in range(1000)], chat, server, concurrency=8, max_total_tokens=300)
        assert 96 <= len(server.requests) <= 100  # three tokens each


@contextlib.contextmanager
def going_away(server: ChatServer, *, after_requests: int, seconds: float) -> Iterator[threading.Thread]:
    """The server goes away when so many requests have come, and is back so many seconds later, when the thread ends."""

    def outage() -> None:
        server.wait_until(lambda s: len(s.requests) >= after_requests, 30)
        server.go_away()
        time.sleep(seconds)
        server.come_back()

    thread = threading.Thread(target=outage)
    thread.start()
    yield thread
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 5])
def test_rows_survive_a_server_that_is_away(chat: Chat, seconds: float) -> None:
    """Row 117."""
    rows = [f"row {number}" for number in range(3000)]
    answered: Counter[str] = Counter()

    def answer(received: Received, attempt: int) -> Answer:
        answered[received.last_message] += 1
        return text(f"echo: {received.last_message}", delay_s=0.05)

    with ChatServer(answer) as server, going_away(server, after_requests=1000, seconds=seconds):
        outcomes = ask_all(rows, chat, server, concurrency=64)
        assert [str(outcome) for outcome in outcomes] == [f"echo: {row}" for row in rows]
        assert 0 < len(server.requests) - len(rows) <= 64
        assert max(answered.values()) == 2


@pytest.mark.slow
def test_server_on_this_machine_may_be_restarted(chat: Chat) -> None:
    rows = [f"row {number}" for number in range(120)]
    with ChatServer(lambda received, attempt: text(f"echo: {received.last_message}", delay_s=0.1)) as server:
        with going_away(server, after_requests=60, seconds=2.8):
            outcomes = ask_all(rows, chat, server, concurrency=4, max_retries=1)
        assert [str(outcome) for outcome in outcomes] == [f"echo: {row}" for row in rows]


@pytest.mark.slow
def test_interrupt_in_an_outage_ends_the_run_at_once(chat: Chat) -> None:
    async def main(server: ChatServer, outage: threading.Thread) -> tuple[bool, int]:
        told: list[Progress] = []
        rows = [f"row {number}" for number in range(1000)]
        task = asyncio.create_task(
            batch_async(rows, chat=chat, model="vllm/test-model", base_url=server.url, progress=told.append)
        )
        async with asyncio.timeout(30):
            while not any(progress.away_s for progress in told):  # noqa: ASYNC110  # for the network, not for a task
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return outage.is_alive(), told[-1].done

    with ChatServer(lambda received, attempt: text("fine", delay_s=0.02)) as server:
        with going_away(server, after_requests=200, seconds=5) as outage:
            is_away, done = run(main(server, outage))
    assert is_away  # and nobody has waited for it
    assert 0 < done < 1000


# --- limits and refusals that meet every row


def test_quota_says_once_when_it_is_free_again(chat: Chat) -> None:
    """Row 71, in words."""
    words = "Rate limit reached for tokens per day (TPD): Limit 100000. Please try again in 3h12m7.2s."
    refusal = status(429, body={"error": {"message": words, "code": "rate_limit_exceeded"}})
    with ChatServer(lambda received, attempt: refusal) as server, pytest.raises(BatchStoppedError) as caught:
        ask_all([f"row {number}" for number in range(100)], chat, server)
    assert str(caught.value).count("3 h 13 min") == str(caught.value).count("free again") == 1
    assert "Run it again then" in str(caught.value)


@pytest.mark.parametrize("concurrency", ["auto", 16])
def test_quota_that_is_back_in_hours_stops_the_run_and_says_when(chat: Chat, concurrency: Any) -> None:
    """Row 71."""

    def answer(received: Received, attempt: int) -> Answer:
        if len(server.requests) <= 40:
            return text("fine")
        return status(429, headers={"retry-after": "25000"}, body={"error": {"message": "Too many requests"}})

    with ChatServer(answer) as server, pytest.raises(BatchStoppedError, match=r"free again at .*6 h 57 min") as caught:
        ask_all([f"row {number}" for number in range(1000)], chat, server, concurrency=concurrency)
    stopped = caught.value.run
    assert sum(isinstance(outcome, Reply) for outcome in stopped.outcomes()) == 40
    assert stopped.errors == {}
    assert len(server.requests) <= 40 + 60


@pytest.mark.parametrize("code", [400, 403, 422])
def test_refusal_of_the_first_rows_stops_the_run_with_the_words_of_the_server(chat: Chat, code: int) -> None:
    """Rows 77 and 80."""

    def answer(received: Received, attempt: int) -> Answer:
        number = len(server.requests)
        return status(code, body={"error": {"message": f"No such voice as 'v{number}' (request req_{number:06x})"}})

    with ChatServer(answer) as server, pytest.raises(BatchStoppedError, match="No such voice") as caught:
        ask_all([f"row {number}" for number in range(1000)], chat, server, concurrency="auto")
    assert 8 <= len(server.requests) <= 20
    assert len(caught.value.run.errors) <= 7


def test_limit_told_in_words_is_kept_and_costs_no_row(chat: Chat) -> None:
    """Row 69: so many are admitted in any part of a second, whoever asks."""
    admitted: list[float] = []

    def answer(received: Received, attempt: int) -> Answer:
        now = time.monotonic()
        recent = [at for at in admitted if at > now - 0.5]
        if len(recent) < 15:
            admitted.append(now)
            return text("fine")
        wait_s = recent[0] + 0.5 - now
        return status(429, body={"error": {"message": f"Please try again in {wait_s:.3f}s."}})

    with ChatServer(answer) as server:
        outcomes = ask_all([f"row {number}" for number in range(40)], chat, server, concurrency="auto", max_retries=0)
    assert [str(outcome) for outcome in outcomes] == ["fine"] * 40
