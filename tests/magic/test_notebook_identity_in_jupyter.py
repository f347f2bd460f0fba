"""Which conversation goes out, with a real Jupyter server that renames, copies, restarts and deletes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_servers import JupyterServer, OpenNotebook
from servers import ChatServer, Received, text

pytestmark = pytest.mark.kernel

LOAD, ONE, TWO, THREE, FOUR = "aa0e3d01", "bb1e3d02", "cc2e3d03", "dd3e3d04", "ee4e3d05"
NEW_LOAD, NEW = "0f1a2b3c", "1f2a3b4c"
LOADED = "%load_ext aichat_magic"


def answer(received: Received, attempt: int) -> object:
    return text(f"echo: {received.last_message}")


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:  # type: ignore[arg-type]  # an Answer
        yield server


@pytest.fixture
def jupyter(chat: ChatServer, tmp_path: Path) -> Iterator[JupyterServer]:
    environment = {
        "AICHAT_CONVERSATIONS": str(tmp_path / "talk.sqlite3"),
        "AICHAT_MODEL": "vllm/m",
        "AICHAT_BASE_URL": chat.url,
    }
    with JupyterServer(tmp_path, env=environment) as server:
        yield server


@contextlib.contextmanager
def opened(jupyter: JupyterServer, path: str, load: str = LOAD) -> Iterator[OpenNotebook]:
    """A notebook whose first cell was run."""
    with jupyter.open(path) as notebook:
        assert notebook.run(load, LOADED).status == "ok"
        yield notebook


def sent(chat: ChatServer) -> list[str]:
    """Prompts of the request that came last."""
    return [message["content"] for message in chat.requests[-1].json["messages"] if message["role"] == "user"]


def asks(notebook: OpenNotebook, chat: ChatServer, cell_id: str | None, prompt: str) -> tuple[list[str], str]:
    """Run a prompt; the prompts that were sent, and all that was shown."""
    outcome = notebook.run(cell_id, f"%%aichat\n{prompt}")
    assert outcome.status == "ok", outcome.error_value
    return sent(chat), str(outcome.outputs) + outcome.stdout


def test_new_rename_new_again_restart_and_rename_back(chat: ChatServer, jupyter: JupyterServer) -> None:
    """Row 90, step by step."""
    jupyter.write("Untitled.ipynb", {LOAD: LOADED, ONE: "%%aichat\nq1"})
    with opened(jupyter, "Untitled.ipynb") as old:
        assert asks(old, chat, ONE, "q1")[0] == ["q1"]
        old.rename("analysis.ipynb")
        assert asks(old, chat, TWO, "q2")[0] == ["q1", "q2"]

        jupyter.write("Untitled.ipynb", {NEW_LOAD: LOADED})
        with opened(jupyter, "Untitled.ipynb", NEW_LOAD) as new:
            prompts, shown = asks(new, chat, NEW, "n1")
            assert prompts == ["n1"]
            assert "Untitled.ipynb (2 turns" in shown
            assert re.search(r"%aichat switch main@[0-9a-f]{6}", shown)

            old.restart()
            assert old.run(LOAD, LOADED).status == "ok"
            assert asks(old, chat, THREE, "q3")[0] == ["q1", "q2", "q3"]
            assert asks(new, chat, "2f3a4b5c", "n2")[0] == ["n1", "n2"]
        jupyter.api("DELETE", "contents/Untitled.ipynb")
        old.rename("Untitled.ipynb")
        old.restart()
        assert old.run(LOAD, LOADED).status == "ok"
        assert asks(old, chat, ONE, "again")[0] == ["again"]
    with opened(jupyter, "Untitled.ipynb") as reopened:
        prompts, shown = asks(reopened, chat, FOUR, "q4")
        assert prompts == ["again", "q2", "q3", "q4"]
        assert "switch" not in shown


def test_older_conversation_is_taken_up_with_the_command_that_is_shown(
    chat: ChatServer, jupyter: JupyterServer
) -> None:
    jupyter.write("Untitled.ipynb", {LOAD: LOADED, ONE: "%%aichat\nq1"})
    with opened(jupyter, "Untitled.ipynb") as old:
        asks(old, chat, ONE, "q1")
    jupyter.api("DELETE", "contents/Untitled.ipynb")
    jupyter.write("Untitled.ipynb", {NEW_LOAD: LOADED})
    with opened(jupyter, "Untitled.ipynb", NEW_LOAD) as new:
        _, shown = asks(new, chat, NEW, "n1")
        assert new.run(None, "%aichat chats").status == "ok"
        command = re.findall(r"%aichat switch main@[0-9a-f]{6}", shown)[0]
        assert new.run("2f3a4b5c", command).status == "ok"
        assert asks(new, chat, NEW, "n2")[0] == ["q1", "n2"]


def test_copy_and_original_keep_apart(chat: ChatServer, jupyter: JupyterServer) -> None:
    jupyter.write("a.ipynb", {LOAD: LOADED, ONE: "%%aichat\nq1"})
    with opened(jupyter, "a.ipynb") as original:
        asks(original, chat, ONE, "q1")
        copied = jupyter.api("POST", "contents", {"copy_from": "a.ipynb"})["path"]
        with opened(jupyter, copied) as copy:
            assert asks(copy, chat, ONE, "of the copy")[0] == ["of the copy"]
            assert asks(original, chat, TWO, "q2")[0] == ["q1", "q2"]
            assert asks(copy, chat, TWO, "more")[0] == ["of the copy", "more"]


def test_kernels_inside_a_kernel_have_their_own(chat: ChatServer, jupyter: JupyterServer) -> None:
    """Rows 91 and 92: nbclient in a notebook's kernel, which hands the session's name on and names no cell."""
    jupyter.write("a.ipynb", {LOAD: LOADED, ONE: "%%aichat\nq1"})
    inner = """
import nbclient, nbformat
cells = ["%load_ext aichat_magic", "%%aichat\\nq1", "%%aichat\\nq1", "import os; print(os.environ['JPY_SESSION_NAME'])"]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
nbclient.NotebookClient(book, kernel_name="python3").execute()
print(book.cells[-1].outputs[0].text, book)
"""
    with opened(jupyter, "a.ipynb") as outer:
        asks(outer, chat, ONE, "q1")
        for _ in range(2):
            ran = outer.run(TWO, inner)
            assert ran.status == "ok", ran.error_value
            assert "a.ipynb" in ran.stdout
            assert "switch main@" not in ran.stdout
            assert [message["content"] for message in chat.requests[-2].json["messages"]] == ["q1"]
            assert sent(chat) == ["q1", "q1"]
        assert asks(outer, chat, THREE, "q2")[0] == ["q1", "q2"]
