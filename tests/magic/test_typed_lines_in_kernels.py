"""What is typed in real kernels and in the terminal reaches the server as it was meant. Rows 95 to 99."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from effort import PATIENCE_S
from kernels import Kernel, clean_environment
from servers import Answer, ChatServer, Received, text

pytestmark = pytest.mark.kernel

QUESTIONS = [
    "Why?",
    "What's wrong (if anything)?",
    "Is it 'so'??",
    "an open (",
    "What is {thing}?",
    "5 % 3 = ?",
    "Why? # now",
]
PNG = "b'\\x89PNG\\r\\n\\x1a\\n...'"


def answer(received: Received, attempt: int) -> Answer:
    return text(f"<{received.last_message}>")


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def kernel(server: ChatServer) -> Iterator[Kernel]:
    with Kernel(env={"AICHAT_BASE_URL": server.url, "AICHAT_MODEL": "openai/m"}) as kernel:
        assert kernel.run("%load_ext aichat_magic").status == "ok"
        yield kernel


def asked(server: ChatServer, kernel: Kernel, cell: str) -> list[str]:
    """The prompts that a cell sends, which must succeed."""
    before = len(server.bodies)
    outcome = kernel.run(cell)
    assert outcome.status == "ok", "\n".join(outcome.traceback)
    return [body["messages"][-1]["content"] for body in server.bodies[before:]]


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_is_asked_wherever_a_value_may_stand(server: ChatServer, kernel: Kernel, question: str) -> None:
    line = f"%aichat ask {question}"
    assert asked(server, kernel, line) == [question]
    assert asked(server, kernel, f"q = {line}") == [question]
    assert kernel.value("type(q).__name__, str(q)") == repr(("Reply", f"<{question}>"))
    cell = f"for number in range(2):\n    q = {line}\n    if number: {line}\ndef f():\n    return {line}\nr = f()"
    assert asked(server, kernel, cell) == [question] * 4
    assert kernel.value("str(r)") == repr(f"<{question}>")


def test_value_of_a_cell_is_shown_once(server: ChatServer, kernel: Kernel) -> None:
    outcome = kernel.run("q = %aichat ask Why?\nq")
    assert "<Why?>" in outcome.shown
    assert outcome.result == ""


@pytest.mark.parametrize(
    "cell",
    [
        "x = '''\n%aichat ask Why?\nq = %aichat ask Why?\n'''",
        "x = f'{1} %aichat ask Why?'  # %aichat ask Why?",
        "x = 'one \\\n%aichat ask Why?'",
        "aichat = 3\nx = (7\n%aichat)",
    ],
)
def test_literals_and_comments_are_python_s_own(server: ChatServer, kernel: Kernel, cell: str) -> None:
    names: dict[str, object] = {}
    exec(cell, names)
    assert asked(server, kernel, cell) == []
    assert kernel.value("x") == repr(names["x"])


def test_prompt_below_a_cell_magic_is_no_python(server: ChatServer, kernel: Kernel) -> None:
    assert asked(server, kernel, "%%aichat\nq = %aichat ask Why?") == ["q = %aichat ask Why?"]
    assert asked(server, kernel, "%%capture kept\nq = %aichat ask Why?") == ["Why?"]


def test_help_of_ipython_stays(server: ChatServer, kernel: Kernel) -> None:
    for cell in ("%aichat?", "?%aichat", "%aichat ??"):
        assert asked(server, kernel, cell) == []


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%aichat what is it?", "Did you mean: %aichat ask what is it?"),
        ("q = %aichat what's it", "Did you mean: %aichat ask what's it"),
        ("print(%aichat ask Why?)", "Assign it first: q = %aichat"),
        ("%%aichat -temperature 0.7\nhi", "Did you mean '--temperature'?"),
        ("%%aichat what is it?\nhi", "To ask in one line: %aichat ask TEXT"),
        ("%%aichat\nExplain {dff}", "Did you mean {df}? Nothing was sent."),
        ("%%aichat -i C:\\data\\x.csv\nhi", "--attach 'C:\\data\\x.csv'"),
        ("%%aichat --attach C:\\data\\x.csv\nhi", "There is no file 'C:\\data\\x.csv'"),
    ],
)
def test_what_is_nearly_right_sends_nothing_and_is_met_with_what_was_meant(
    server: ChatServer, kernel: Kernel, cell: str, words: str
) -> None:
    kernel.run("df = [1]")
    before = len(server.bodies)
    outcome = kernel.run(cell)
    assert outcome.status == "error"
    assert words in " ".join("\n".join(outcome.traceback).split())
    assert len(server.bodies) == before


def test_path_of_windows_is_read(server: ChatServer, kernel: Kernel) -> None:
    """On other systems a name with backslashes is a file's name like any other."""
    name = "C:\\new folder\\table.csv"
    (kernel.home / name).write_text("a,b")
    for line in (f'"{name}"', f"'{name}'", name.replace(" ", "\\ ")):
        (prompt,) = asked(server, kernel, f"%%aichat --no-history --attach {line}\nSum up.")
        assert "a,b" in prompt


def test_formulas_go_out_as_they_are(server: ChatServer, kernel: Kernel) -> None:
    kernel.run("x = a = n = 'CANARY'")
    formula = r"\mathbf{x} + \frac{a}{n} = x_{n}^{n}, $\{a\} = {n}$ \begin{x}"
    assert asked(server, kernel, f"%%aichat --no-history\n{formula} {{x}}") == [f"{formula} CANARY"]


def test_picture_is_sent_again_once_and_each_cell_says_so(server: ChatServer, kernel: Kernel) -> None:
    kernel.run(f"picture = {PNG}")
    prompts = ["What is on {picture}?", "And below?", "And above?"]
    shown = [kernel.run(f"%%aichat -c pictures\n{prompt}").shown for prompt in prompts]
    # The reply repeats the prompt, so only messages of the user count.
    images = [
        sum(
            part["type"] == "image_url"
            for message in body["messages"]
            if message["role"] == "user" and isinstance(message["content"], list)
            for part in message["content"]
        )
        for body in server.bodies[-3:]
    ]
    assert images == [1, 1, 0]
    assert "sent again: 1 image" in shown[1]
    assert "not sent again: 1 image" in shown[2]
    before = len(server.bodies)
    assert "not sent again: 1 image" in kernel.run("%aichat show --next -c pictures").shown
    assert len(server.bodies) == before


def test_terminal_takes_each_line_at_once(server: ChatServer, tmp_path: Path) -> None:
    """IPython asks whether a line is complete: it is, with an open bracket or quote as well."""
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
        env=clean_environment(tmp_path, {"TERM": "dumb", "AICHAT_BASE_URL": server.url, "AICHAT_MODEL": "openai/m"}),
        cwd=str(tmp_path),
        timeout=PATIENCE_S,
        encoding="utf-8",
    )
    before = len(server.bodies)
    lines = ["%load_ext aichat_magic", *(f"q = %aichat ask {question}" for question in QUESTIONS), "str(q)"]
    try:
        for number, line in enumerate(lines, 1):
            terminal.expect_exact(f"In [{number}]: ")
            terminal.sendline(line)
        terminal.expect_exact(f"In [{len(lines) + 1}]: ")
        assert f"'<{QUESTIONS[-1]}>'" in terminal.before
        terminal.sendline("exit()")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert [body["messages"][-1]["content"] for body in server.bodies[before:]] == QUESTIONS


def test_every_line_in_a_function_sees_its_variables(server: ChatServer, kernel: Kernel) -> None:
    outcome = kernel.run("def f():\n    own = 'own-4711'\n    %aichat show --next -i own\nf()")
    assert outcome.status == "ok"
    assert "own-4711" in outcome.shown
    (prompt,) = asked(server, kernel, "def f():\n    def inner(): return 4712\n    %aichat doc inner\nf()")
    assert "4712" in prompt
