"""Conversations that outlive their kernel, in real kernels with a real file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel
from servers import ChatServer, Received, chunks, hang, text

pytestmark = pytest.mark.kernel


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


def save(folder: Path, cells: dict[str, str], name: str = "a.ipynb") -> None:
    """Write a notebook with these cells."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text, id=key) for key, text in cells.items()])
    nbformat.write(book, folder / name)


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
    save(tmp_path, {f"id-{number}": f"%%aichat\nq{number}" for number in range(1, 5)})
    with notebook(server, tmp_path) as kernel:
        kernel.run("1", cell_id="id-4")
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


def test_notebook_in_vs_code_goes_on_by_its_file_and_not_by_the_names_of_its_window(
    server: ChatServer, tmp_path: Path
) -> None:
    """Row 93. VS Code names the file in the namespace, and cells by URIs that begin anew with each window."""
    first, second = (f"vscode-notebook-cell:/a.ipynb#W{number}sZmlsZQ%3D%3D" for number in range(2))
    save(tmp_path, {"1f0e3dad": "%%aichat\nq1", "2a0b3c4d": "%%aichat\nq2"})
    with notebook(server, tmp_path) as kernel:  # in JupyterLab
        kernel.run("%%aichat\nq1", cell_id="1f0e3dad")
    vs_code = {"AICHAT_CONVERSATIONS": str(tmp_path / "talk.sqlite3"), "AICHAT_MODEL": "vllm/m"}
    asked: list[list[str]] = []
    for _ in range(2):
        with Kernel(env={**vs_code, "AICHAT_BASE_URL": server.url}) as kernel:
            # What JupyterLab's cell made has an id; what a window's cell makes has a name of this kernel only.
            kernel.run(f"__vsc_ipynb_file__ = {str(tmp_path / 'a.ipynb')!r}")
            kernel.run("%load_ext aichat_magic", cell_id=first)
            kernel.run("%%aichat\nq2", cell_id=second)
            kernel.run("%%aichat\nagain", cell_id=second)
            assert sent(server)[::2][-1] == "again"
            asked.append(sent(server)[::2])
    assert asked == [["q1", "again"], ["q1", "again", "again"]]


def test_front_end_without_cell_ids_asks_the_same_twice_as_two_turns(server: ChatServer, tmp_path: Path) -> None:
    """Row 92: qtconsole, jupyter-console, nbclient."""
    with notebook(server, tmp_path) as kernel:
        kernel.run("%%aichat\nmore", cell_id=None)
        kernel.run("%%aichat\nmore", cell_id=None)
        kernel.run("%%aichat\nmore", cell_id=None)
    assert sent(server)[::2] == ["more", "more", "more"]


def test_kernel_that_is_unloaded_and_loaded_again_is_the_same_notebook_until_then(
    server: ChatServer, tmp_path: Path
) -> None:
    with notebook(server, tmp_path) as kernel:
        assert kernel.run("%reload_ext aichat_magic").status == "ok"
        assert kernel.run("%unload_ext aichat_magic").status == "ok"
        assert kernel.value("get_ipython().events.callbacks['pre_run_cell']").count("see_cell") == 0
