"""Replies as the users of other front ends see them: qtconsole, jupyter-console, Spyder's kernel, run notebooks.

The window and the terminal are the programs' own; the page is all the text in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from front_ends import LINES, REPLY, THOUGHT, JupyterConsole, QtConsole, answer, cells, ran_notebook
from kernels import PATIENT, Kernel
from needs import needs
from servers import ChatServer

pytestmark = pytest.mark.kernel

CONSOLES = {"qtconsole": QtConsole, "jupyter-console": JupyterConsole}


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("qtconsole", "ipykernel_launcher"), marks=needs("qtconsole", "PyQt5"), id="qtconsole"),
        pytest.param(("jupyter-console", "ipykernel_launcher"), marks=needs("jupyter_console"), id="jupyter-console"),
        pytest.param(
            ("qtconsole", "spyder_kernels.console"),
            marks=[
                needs("qtconsole", "PyQt5"),
                pytest.mark.skipif(
                    find_spec("spyder_kernels") is None,
                    reason='not installed: spyder_kernels. Mend it: pip install -e ".[alltests,spydertest]"',
                ),
            ],
            id="spyder",
        ),
    ],
)
def console(request: pytest.FixtureRequest, server: ChatServer) -> Iterator[QtConsole | JupyterConsole]:
    """A console whose kernel has the extension. Spyder's console is qtconsole's widget on a kernel of its own."""
    client, module = request.param
    with Kernel(module=module) as kernel:
        for code in [*cells(server), PATIENT]:
            kernel.run(code, cell_id=None, allow_stdin=True)
        with CONSOLES[client](kernel) as console:
            yield console


def test_console_shows_the_whole_reply_once_and_a_line_about_it(console: QtConsole | JupyterConsole) -> None:
    page = console.run("%aichat ask long")
    assert page.count(REPLY) == 1
    assert [page.count(line) for line in LINES[:-1]] == [1] * 5
    assert len(re.findall(r"\n\[vllm/test-model · \d+ \+ \d+ tokens · [\d.]+ s\]\n", page)) == 1
    assert "<" not in page.partition(REPLY)[2]


def test_console_shows_the_text_before_an_interrupt_once(console: QtConsole | JupyterConsole) -> None:
    page = console.run("%aichat ask endless", interrupt="word20 ")
    assert page.count("word20 ") == 1
    assert page.count("[interrupted]") == 1
    assert "word3999" not in page


def test_console_shows_the_text_before_an_error_once(console: QtConsole | JupyterConsole) -> None:
    page = console.run("%aichat ask break")
    assert page.count("word0 word1") == 1
    assert "[broke off before its end]" in page


def test_console_shows_thinking_apart_from_the_text(console: QtConsole | JupyterConsole) -> None:
    page = re.sub(r"\x1b\[[0-9;]*m", "", console.run("%aichat ask think"))
    assert page.count(THOUGHT) == 1
    assert f"{THOUGHT}.\n\nFour.\n" in page


def test_console_shows_no_status_next_to_the_reply(console: QtConsole | JupyterConsole) -> None:
    page = console.run(f"%aichat ask {type(console).__name__}{id(console)} busy")
    assert page.count("echo: ") == 1
    if isinstance(console, QtConsole):  # the terminal's page has what was written over, too
        assert "Trying" not in page
        assert "Waiting" not in page


def test_console_shows_a_reply_in_full_when_it_is_looked_at_again(console: QtConsole | JupyterConsole) -> None:
    assert console.run("reply = %aichat ask long").count(REPLY) == 1
    assert re.search(r"Out\[\d+\]: ?\n?" + re.escape(REPLY), re.sub(r"\x1b\[[0-9;]*m", "", console.run("reply")))


def test_console_shows_one_line_for_a_run(console: QtConsole | JupyterConsole) -> None:
    console.run("import pandas as pd")
    page = console.run(f"_ = pd.Series(['a', '{id(console)}']).aichat.complete()")
    assert len(re.findall(r"2 rows · ", page)) == 1


@pytest.mark.parametrize(
    "tool",
    [
        "nbclient",
        "jupyter execute",
        pytest.param("papermill", marks=needs("papermill")),
        pytest.param("nbconvert --execute", marks=needs("nbconvert")),
    ],
)
def test_program_keeps_one_output_of_each_reply(tmp_path: Path, server: ChatServer, tool: str) -> None:
    sources = ["%%aichat\nlong", "print('mine')\n%aichat ask think", "%%capture got\n%aichat ask long"]
    outputs = ran_notebook(tool, tmp_path, [*cells(server), *sources])[-len(sources) :]
    assert [[output["output_type"] for output in cell] for cell in outputs] == [
        ["display_data"],
        ["stream", "display_data"],
        [],
    ]
    assert outputs[0][0]["data"]["text/plain"] == REPLY
    assert "<strong>reply</strong>" in outputs[0][0]["data"]["text/html"]
    assert outputs[1][0]["text"] == "mine\n"
    assert "<details" in outputs[1][1]["data"]["text/html"]
