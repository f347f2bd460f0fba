"""Conversations that outlive their kernel, in real kernels with a real file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import Kernel
from servers import ChatServer, Received, chunks, hang, text


def answer(received: Received, attempt: int) -> object:
    if received.last_message == "hang":
        return hang()
    if received.last_message == "long":
        return chunks([f"word{number} " for number in range(200)], delay_s=0.05)
    return text(f"echo: {received.last_message}")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:  # type: ignore[arg-type]  # an Answer
        yield server


@contextlib.contextmanager
def notebook(server: ChatServer, folder: Path, name: str = "a.ipynb") -> Iterator[Kernel]:
    """A kernel of a notebook, with the file of conversations in `folder`."""
    environment = {"JPY_SESSION_NAME": str(folder / name), "AICHAT_CONVERSATIONS": str(folder / "talk.sqlite3")}
    with Kernel(env=environment) as kernel:
        for cell in ("%load_ext aichat_magic", "%aichat use vllm/m", f"%config AIChat.base_url = '{server.url}'"):
            assert kernel.run(cell).status == "ok"
        yield kernel


def sent(server: ChatServer) -> list[str]:
    """Contents of the messages that came last."""
    return [message["content"] for message in server.requests[-1].json["messages"]]


def test_cell_that_is_run_again_sends_earlier_turns_only_and_later_turns_stay(
    server: ChatServer, tmp_path: Path
) -> None:
    with notebook(server, tmp_path) as kernel:
        for number in range(1, 5):
            assert kernel.run(f"%%aichat\nq{number}", cell_id=f"id-{number}").status == "ok"
        kernel.run("%%aichat\nagain", cell_id="id-2")
        assert sent(server) == ["q1", "echo: q1", "again"]
        kernel.run("%%aichat\nq5", cell_id="id-5")
    questions = ["q1", "again", "q3", "q4"]
    assert sent(server) == [text for question in questions for text in (question, f"echo: {question}")] + ["q5"]


def test_kernel_killed_in_the_middle_loses_only_the_turn_in_flight(server: ChatServer, tmp_path: Path) -> None:
    with notebook(server, tmp_path) as kernel:
        for number in range(1, 4):
            kernel.run(f"%%aichat\nq{number}", cell_id=f"id-{number}")
        kernel.start("%%aichat\nlong")
        assert server.wait_until(lambda server: len(server.requests) == 4)
        kernel.kill()
    with notebook(server, tmp_path) as kernel:
        shown = kernel.run("%aichat show").outputs
        kernel.run("%%aichat\nq4", cell_id="id-4")
    assert "echo: q3" in str(shown)
    assert sent(server) == ["q1", "echo: q1", "q2", "echo: q2", "q3", "echo: q3", "q4"]


def test_main_is_empty_in_a_new_notebook_and_a_named_one_is_shared(server: ChatServer, tmp_path: Path) -> None:
    with notebook(server, tmp_path) as kernel:
        kernel.run("%%aichat\nmine")
        kernel.run("%%aichat -c plan\nours")
    with notebook(server, tmp_path, "b.ipynb") as kernel:
        kernel.run("%%aichat\nhello")
        assert sent(server) == ["hello"]
        kernel.run("%%aichat -c plan\nmore")
        assert sent(server) == ["ours", "echo: ours", "more"]


def test_two_kernels_in_one_conversation_lose_no_turn(server: ChatServer, tmp_path: Path) -> None:
    with notebook(server, tmp_path) as one, notebook(server, tmp_path, "b.ipynb") as other:
        outcomes = []

        def talk(kernel: Kernel, who: str) -> None:
            for number in range(10):
                outcomes.append(kernel.run(f"%%aichat -c plan\n{who} {number}"))

        threads = [threading.Thread(target=talk, args=pair) for pair in ((one, "one"), (other, "other"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {outcome.status for outcome in outcomes} == {"ok"}
        assert [outcome.stderr for outcome in outcomes] == [""] * 20
        assert "locked" not in str(outcomes)
        one.run("%%aichat -c plan\nlast")
    asked = sent(server)[::2]
    assert sorted(asked[:-1]) == sorted(f"{who} {number}" for who in ("one", "other") for number in range(10))


def test_interrupted_turn_is_not_kept(server: ChatServer, tmp_path: Path) -> None:
    with notebook(server, tmp_path) as kernel:
        kernel.run("%%aichat\nq1")
        key = kernel.start("%%aichat\nhang")
        assert server.wait_until(lambda server: len(server.requests) == 2)
        kernel.interrupt()
        assert kernel.finish(key).status == "error"
        kernel.run("%%aichat\nq2")
    assert sent(server) == ["q1", "echo: q1", "q2"]


def test_history_switched_off_writes_no_file(server: ChatServer, tmp_path: Path) -> None:
    with notebook(server, tmp_path) as kernel:
        kernel.run("%aichat set keep_history false")
        kernel.run("%%aichat\nq1")
        kernel.run("%%aichat\nq2")
        assert sent(server) == ["q1", "echo: q1", "q2"]
        assert list(tmp_path.iterdir()) == []
