"""What kernels send to front ends that name no cell: consoles, programs that run notebooks, old notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from front_ends import REPLY, THOUGHT, answer, cells
from kernels import PATIENT, Kernel, Outcome
from servers import ChatServer

pytestmark = pytest.mark.kernel

GREY = "\x1b[3;38;5;244m"


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def kernel(server: ChatServer) -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.run_all([*cells(server), PATIENT])
        yield kernel


@pytest.fixture(scope="module")
def classic(server: ChatServer) -> Iterator[Kernel]:
    """A kernel that a Jupyter server has started for a notebook, whose page names no cells (nbclassic)."""
    with Kernel(env={"JPY_SESSION_NAME": "a.ipynb"}) as kernel:
        kernel.run_all([*cells(server), PATIENT])
        yield kernel


def console(kernel: Kernel, code: str) -> Outcome:
    """Run a cell as consoles and nbclassic do."""
    return kernel.run(code, cell_id=None, allow_stdin=True)


def program(kernel: Kernel, code: str) -> Outcome:
    """Run a cell as nbclient does."""
    return kernel.run(code, cell_id=None)


def screen(text: str) -> str:
    """What a console shows in the end: a return goes back to the start of the line, and what comes covers it."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n"):
        shown = ""
        for piece in line.split("\r"):
            shown = piece + shown[len(piece) :]
        lines.append(shown.rstrip())
    return "\n".join(lines)


def is_interrupted(outcome: Outcome) -> bool:
    return (outcome.status, outcome.error_name) == ("error", "ChatInterrupt")


# Consoles: qtconsole, Spyder, jupyter-console ----------------------------------------------------------------------


@pytest.mark.parametrize("code", ["%%aichat\nlong", "%aichat ask long", "for n in [1]:\n    %aichat ask long"])
def test_console_gets_the_whole_reply_once_as_text(kernel: Kernel, code: str) -> None:
    outcome = console(kernel, code)
    assert outcome.stdout.count(REPLY) == 1
    assert outcome.stdout.startswith(f"{REPLY}\n")
    assert (outcome.outputs, outcome.was_cleared, outcome.stderr) == ([], False, "")


def test_console_gets_a_line_about_the_reply_where_it_is_the_value(kernel: Kernel) -> None:
    about = r"\[vllm/test-model · \d+ \+ \d+ tokens · [\d.]+ s\]\n"
    assert re.fullmatch(re.escape(REPLY) + "\n" + about, console(kernel, "%%aichat\nlong").stdout)
    assert console(kernel, "reply = %aichat ask long").stdout == f"{REPLY}\n"
    assert console(kernel, "reply").result.startswith(REPLY)


def test_console_gets_a_line_about_each_of_several_replies_once(kernel: Kernel) -> None:
    text = console(kernel, "%%aichat -m openai/x -m openai/y\nlong").stdout
    assert re.findall(r"\[(openai/\w) · ", text) == ["openai/x", "openai/y"]


def test_console_gets_a_reply_while_it_grows(kernel: Kernel) -> None:
    cell = kernel.start("%%aichat\nendless", cell_id=None, allow_stdin=True)
    kernel.seen(cell, "word5 ")
    kernel.interrupt()
    outcome = kernel.finish(cell)
    assert is_interrupted(outcome)
    assert "word3999" not in outcome.stdout
    assert outcome.stdout.count("word5 ") == 1
    assert outcome.stdout.endswith("\n[interrupted]\n")
    assert outcome.outputs == []


def test_console_keeps_the_text_before_an_error_once(kernel: Kernel) -> None:
    outcome = console(kernel, "%%aichat\nbreak")
    assert outcome.status == "error"
    assert outcome.stdout.startswith("word0 word1")
    assert outcome.stdout.count("word0") == 1
    assert "broke off" in outcome.stdout


def test_console_gets_thinking_grey_above_the_text(kernel: Kernel) -> None:
    outcome = console(kernel, "%%aichat\nthink")
    assert outcome.stdout.startswith(f"{GREY}{THOUGHT}")
    assert screen(outcome.stdout).startswith(f"{THOUGHT}.\n\nFour.\n")
    assert GREY not in outcome.stdout.partition("\n\n")[2]


def test_console_erases_a_status_where_others_have_their_output(kernel: Kernel) -> None:
    outcome = console(kernel, "%%aichat\nnow busy")
    assert "Trying again" in outcome.stdout
    assert screen(outcome.stdout).startswith("echo: now busy\n")
    assert "Trying" not in screen(outcome.stdout)
    assert outcome.stderr == ""


def test_console_gets_notes_once(kernel: Kernel) -> None:
    console(kernel, "who = 'you'")
    outcome = console(kernel, "%%aichat\nto {who} long")
    assert outcome.stdout.startswith(f"filled: who\n{REPLY}\n")


def test_console_gets_the_bar_of_a_run_as_text(kernel: Kernel) -> None:
    code = "import pandas as pd\n_ = pd.Series(['a', 'slow']).aichat.complete()\nprint('after')"
    outcome = console(kernel, code)
    assert "100 %|" in outcome.stdout
    assert re.fullmatch(r"2 rows · .*\nafter\n", screen(outcome.stdout))
    assert (outcome.outputs, outcome.stderr) == ([], "")


# Programs: nbclient, papermill, jupyter execute, nbconvert ------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "before", "after"),
    [
        ("%%aichat\nlong", "", ""),
        ("%aichat ask long", "", ""),
        ("print('before')\n%aichat ask long\nprint('after')", "before\n", "after\n"),
    ],
)
def test_program_keeps_one_output_of_a_reply(kernel: Kernel, code: str, before: str, after: str) -> None:
    outcome = program(kernel, code)
    assert [(output["type"], output["data"]["text/plain"]) for output in outcome.outputs] == [("display_data", REPLY)]
    assert "<strong>reply</strong>" in outcome.outputs[0]["data"]["text/html"]
    assert (outcome.stdout, outcome.stderr) == (before + after, "")


def test_program_keeps_the_text_before_an_interrupt_or_error_once(kernel: Kernel) -> None:
    outcome = program(kernel, "%%aichat\nbreak")
    assert outcome.status == "error"
    assert len(outcome.outputs) == 1
    assert outcome.shown.startswith("word0 word1")
    for n_waits in range(1, 100):  # nothing tells when the first text is there
        cell = kernel.start("%%aichat\nendless", cell_id=None)
        for _ in range(n_waits):
            kernel.listen()
        kernel.interrupt()
        outcome = kernel.finish(cell)
        assert is_interrupted(outcome)
        if outcome.outputs:
            break
    assert [output["type"] for output in outcome.outputs] == ["display_data"]
    assert outcome.shown.startswith("word0 ")


def test_program_keeps_thinking_folded_and_no_status(kernel: Kernel) -> None:
    outcome = program(kernel, "%%aichat\nthink")
    assert "<details" in outcome.outputs[0]["data"]["text/html"]
    assert outcome.shown == "Four."
    outcome = program(kernel, "%%aichat\nagain busy")
    assert (outcome.shown, outcome.stdout, outcome.stderr) == ("echo: again busy", "", "")


def test_program_keeps_the_last_line_of_a_run_and_no_bar(kernel: Kernel) -> None:
    outcome = program(kernel, "import pandas as pd\n_ = pd.Series(['c', 'so slow']).aichat.complete()")
    assert re.fullmatch(r"2 rows · [^\r\n]*\n", outcome.stdout)
    assert outcome.stderr == ""


# Notebooks that name no cells: nbclassic -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["%%aichat\nlong", "%aichat ask long", "reply = %aichat ask long"])
def test_old_notebook_gets_text_and_in_its_place_one_view(classic: Kernel, code: str) -> None:
    outcome = console(classic, code)
    assert outcome.was_cleared
    assert outcome.stdout == ""
    assert [(output["type"], output["data"]["text/plain"]) for output in outcome.outputs] == [("display_data", REPLY)]
    assert "<strong>reply</strong>" in outcome.outputs[0]["data"]["text/html"]


def test_old_notebook_gets_a_reply_while_it_grows_and_keeps_what_came(classic: Kernel) -> None:
    cell = classic.start("%%aichat\nendless", cell_id=None, allow_stdin=True)
    classic.seen(cell, "word5 ")
    classic.interrupt()
    outcome = classic.finish(cell)
    assert is_interrupted(outcome)
    assert (outcome.was_cleared, outcome.stdout) == (True, "")
    assert len(outcome.outputs) == 1
    assert "word5 " in outcome.shown
    assert "interrupted" in outcome.outputs[0]["data"]["text/html"]


def test_old_notebook_gets_thinking_grey_then_folded(classic: Kernel) -> None:
    cell = classic.start("%%aichat\nthink", cell_id=None, allow_stdin=True)
    outcome = classic.finish(cell)
    assert outcome.stdout == ""
    assert THOUGHT in outcome.outputs[0]["data"]["text/html"]
    assert "<details" in outcome.outputs[0]["data"]["text/html"]


@pytest.mark.parametrize(
    "code",
    [
        "print('mine')\n%aichat ask long",
        "print('mine'); get_ipython().run_line_magic('aichat', 'ask long');",
        "%%time\nprint('mine')\n%aichat ask long",
    ],
)
def test_old_notebook_keeps_what_else_the_cell_has_printed(classic: Kernel, code: str) -> None:
    outcome = console(classic, code)
    assert not outcome.was_cleared
    assert "mine\n" in outcome.stdout
    assert "line" not in outcome.stdout
    assert outcome.shown == REPLY


# All of them --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allow_stdin", [True, False])
@pytest.mark.parametrize("cell_id", ["", None])
def test_captured_cell_keeps_one_output_in_every_front_end(
    kernel: Kernel, cell_id: str | None, allow_stdin: bool
) -> None:
    def run(code: str) -> Outcome:
        return kernel.run(code, cell_id=cell_id, allow_stdin=allow_stdin)

    outcome = run("%%capture got\n%aichat ask long")
    assert (outcome.stdout, outcome.outputs, outcome.status) == ("", [], "ok")
    assert run("len(got.outputs), got.stdout, got.stderr").result == "(1, '', '')"


def test_notebook_that_names_its_cells_gets_updates(kernel: Kernel) -> None:
    outcome = kernel.run("print('mine')\n%aichat ask long", allow_stdin=True)
    assert {output["type"] for output in outcome.outputs} == {"display_data", "update_display_data"}
    assert outcome.stdout == "mine\n"
    assert outcome.outputs[-1]["data"]["text/plain"] == REPLY
