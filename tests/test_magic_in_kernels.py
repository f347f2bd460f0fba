"""`%%aichat` and columns in real kernels, against a loopback server. The bridge alone: test_kernels.py."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from kernels import Kernel, Outcome
from servers import Answer, ChatServer, Received, chunks, hang, text


def answer(received: Received, attempt: int) -> Answer:
    """What the last message asks for."""
    prompt = received.last_message
    if prompt.startswith("hang"):
        return hang()
    if prompt.startswith("long"):
        return chunks([f"word{number} " for number in range(400)], delay_s=0.02)
    if prompt.startswith("600"):
        return chunks([f"t{number} " for number in range(600)], delay_s=0.005)
    return text(f"echo: {prompt}")


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def shared_kernel(server: ChatServer) -> Iterator[Kernel]:
    with Kernel() as kernel:
        prepare(kernel, server)
        yield kernel


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel with the extension, every test in a new conversation, and well afterwards."""
    shared_kernel.run("%aichat reset")
    yield shared_kernel
    assert reply(shared_kernel, "%%aichat --no-history\nstill there?") == "echo: still there?", shared_kernel.log


def prepare(kernel: Kernel, server: ChatServer) -> None:
    cells = ["%load_ext aichat_magic", "%aichat use vllm/test-model", f"%config AIChat.base_url = '{server.url}'"]
    assert [outcome.status for outcome in kernel.run_all(cells)] == ["ok"] * 3


def reply(kernel: Kernel, cell: str) -> str:
    """The text that a cell shows in the end."""
    outcome = kernel.run(cell)
    assert outcome.status == "ok", outcome
    return str(outcome.outputs[-1]["data"]["text/plain"])


def is_interrupted(outcome: Outcome) -> bool:
    return (outcome.status, outcome.error_name) == ("error", "ChatInterrupt") and len(outcome.traceback) <= 3


def sent(server: ChatServer) -> list[str]:
    """The contents of all messages of the last request."""
    return [message["content"] for message in server.bodies[-1]["messages"]]


@pytest.mark.parametrize("prepared", ["", "import nest_asyncio; nest_asyncio.apply()"])
def test_cells_queued_while_one_streams_run_in_order(server: ChatServer, prepared: str) -> None:
    with Kernel() as kernel:
        prepare(kernel, server)
        outcomes = kernel.run_all(
            [
                prepared,
                "%%aichat\n600 please",
                "%%aichat\ntwo",
                "await __import__('asyncio').sleep(0)",
                "%%aichat\nthree",
            ]
        )
        assert [outcome.status for outcome in outcomes] == ["ok"] * 5
        assert outcomes[1].shown.endswith("t599 ")
        assert [outcomes[2].outputs[-1]["data"]["text/plain"], outcomes[4].outputs[-1]["data"]["text/plain"]] == [
            "echo: two",
            "echo: three",
        ]
        assert sent(server)[0::2] == ["600 please", "two", "three"]


@pytest.mark.parametrize("by_message", [False, True], ids=["signal", "message"])
def test_an_interrupted_stream_stays_visible_and_out_of_the_history(
    kernel: Kernel, server: ChatServer, by_message: bool
) -> None:
    kernel.run("%%aichat\nfirst")
    cell = kernel.start("%%aichat\nlong")
    kernel.seen(cell, "word20 ")
    begin = time.monotonic()
    kernel.interrupt(by_message=by_message)
    outcome = kernel.finish(cell)
    assert time.monotonic() - begin < 1
    assert is_interrupted(outcome)
    assert "interrupted" in outcome.outputs[-1]["data"]["text/html"]
    assert "word20 " in outcome.outputs[-1]["data"]["text/plain"]
    assert server.wait_until(lambda server: server.in_flight == 0)
    kernel.run("%%aichat\nsecond")
    assert sent(server) == ["first", "echo: first", "second"]


def test_an_interrupted_hang_ends_within_a_second(kernel: Kernel, server: ChatServer) -> None:
    cells = [kernel.start(code) for code in ("%%aichat\nhang", "'behind'")]
    assert server.wait_until(lambda server: server.in_flight == 1)
    begin = time.monotonic()
    kernel.interrupt()
    outcomes = [kernel.finish(cell) for cell in cells]
    assert time.monotonic() - begin < 1
    assert is_interrupted(outcomes[0])
    assert outcomes[1].status == "aborted"
    assert server.wait_until(lambda server: server.in_flight == 0)


BATCH = """
import pandas as pd
column = pd.Series([f"{'hang' if n > 50 else 'row'} {n}" for n in range(400)])
column.aichat.complete(concurrency=200)
"""
CELL = "%%aichat\nlong"


@pytest.mark.parametrize("code", [CELL, BATCH], ids=["stream", "batch"])
def test_twenty_interrupts_at_random_moments(server: ChatServer, code: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201  # a failure names it
    chance = random.Random(seed)
    with Kernel() as kernel:
        prepare(kernel, server)
        kernel.value("import asyncio, gc\nimport pandas as pd\npd.Series(['warm', 'up']).aichat.complete()")
        fds = kernel.fds
        for _ in range(20):
            before = len(server.requests)
            cell = kernel.start(code)
            assert server.wait_until(lambda server: len(server.requests) > before)  # noqa: B023  # called at once
            time.sleep(chance.uniform(0, 0.3))
            kernel.interrupt()
            outcome = kernel.finish(cell, timeout=10)
            assert is_interrupted(outcome), outcome
            assert server.wait_until(lambda server: server.in_flight == 0)
            quiet = len(server.requests)
        assert reply(kernel, "%%aichat --no-history\nafter") == "echo: after"
        assert len(server.requests) == quiet + 1
        count = "sum(isinstance(o, asyncio.Task) and not o.done() and 'aichat' in repr(o) for o in gc.get_objects())"
        assert kernel.value(f"gc.collect(); {count}") == "0"
        assert kernel.fds <= fds + 60  # idle connections of the pool may stay
        assert kernel.value("await asyncio.sleep(0.01); 'await works'") == "'await works'"
        assert "Traceback" not in kernel.log, kernel.log


def test_a_long_stream_is_few_messages_and_complete(kernel: Kernel) -> None:
    outcome = kernel.run("%%aichat\n600 please")
    assert outcome.status == "ok"
    assert len(outcome.outputs) <= 40
    assert outcome.outputs[-1]["data"]["text/plain"].split() == [f"t{number}" for number in range(600)]
    captured = kernel.run_all(["%%capture kept\n%aichat ask --no-history 600 please", "len(kept.outputs)"])
    assert (captured[0].outputs, captured[1].result) == ([], "1")


def test_cells_share_a_connection_and_recover_when_it_is_closed(server: ChatServer) -> None:
    with ChatServer(answer) as own, Kernel() as kernel:
        prepare(kernel, own)
        assert reply(kernel, "%%aichat\none") == "echo: one"
        assert reply(kernel, "%%aichat\ntwo") == "echo: two"
        assert own.connections == 1
        own.close_idle()
        assert reply(kernel, "%%aichat\nthree") == "echo: three"
        assert own.connections == 2
