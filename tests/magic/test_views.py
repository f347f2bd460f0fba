"""Replies while they arrive: in a notebook, in a terminal, in a captured cell."""

import io
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from aichat_magic.core.messages import Reply
from aichat_magic.core.usage import Usage
from aichat_magic.magic import views as display
from aichat_magic.magic.views import CapturedView, NotebookView, ShownReplies, TerminalView, view_for
from aichat_magic.text.reply_view import reply_bundle, summary_line
from aichat_magic.text.terminal import show
from aichat_magic.text.widgets import Note, Table

REPLY = Reply(text="Hello **you**", model="echo/echo", usage=Usage(input_tokens=3, output_tokens=2), elapsed_s=0.5)


class Clock:
    """Seconds that pass when the test says so; rendering takes `cost_s` each time something is published."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Screen:
    """What a front end was sent."""

    def __init__(self, clock: Clock | None = None, cost_s: float = 0.0) -> None:
        self.sent: list[tuple[dict[str, str], str, bool]] = []
        self.clock = clock
        self.cost_s = cost_s

    def publish(self, bundle: dict[str, str], display_id: str, is_update: bool) -> None:
        self.sent.append((bundle, display_id, is_update))
        if self.clock is not None:
            self.clock.now_s += self.cost_s

    @property
    def html(self) -> list[str]:
        return [bundle["text/html"] for bundle, _, _ in self.sent]

    @property
    def plain(self) -> list[str]:
        return [bundle["text/plain"] for bundle, _, _ in self.sent]


# Notebook ---------------------------------------------------------------------------------------------------------


def test_notebook_rewrites_one_output() -> None:
    clock, screen = Clock(), Screen()
    view = NotebookView(screen.publish, clock=clock)
    view.update("Hel")
    clock.now_s += 1
    view.update("Hello **you**")
    view.finish(REPLY)
    assert [is_update for _, _, is_update in screen.sent] == [False, True, True]
    assert len({display_id for _, display_id, _ in screen.sent}) == 1
    assert screen.sent[-1][0] == reply_bundle(REPLY)


def test_cursor_is_shown_while_the_reply_grows_only() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.update("Hel")
    view.finish(REPLY)
    assert ["▍" in html for html in screen.html] == [True, False]


def test_600_tokens_in_3_seconds_are_at_most_40_messages_and_the_last_is_complete() -> None:
    clock, screen = Clock(), Screen()
    view = NotebookView(screen.publish, clock=clock)
    text = ""
    for _ in range(600):
        text += "word "
        view.update(text)
        clock.now_s += 3 / 600
    assert 20 <= len(screen.sent) <= 39
    view.finish(Reply(text=text))
    assert screen.plain[-1] == text
    assert text.strip() in screen.html[-1]


def test_first_text_is_shown_at_once() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.status("loading the model")
    view.update("H")
    assert "H▍" in screen.html[-1]


def test_large_reply_stays_below_a_quarter_of_a_megabyte_a_second() -> None:
    clock, screen = Clock(), Screen()
    view = NotebookView(screen.publish, clock=clock)
    text = "x" * 60_000
    begin_s = clock.now_s
    for _ in range(1000):
        text += "y"
        view.update(text)
        clock.now_s += 0.01
    n_bytes = sum(len(part.encode()) for bundle, _, _ in screen.sent[:-1] for part in bundle.values())
    assert len(screen.sent) > 5
    assert n_bytes / (clock.now_s - begin_s) <= 250_000


def test_slow_rendering_takes_a_fifth_of_the_time_at_most() -> None:
    clock = Clock()
    screen = Screen(clock, cost_s=0.2)
    view = NotebookView(screen.publish, clock=clock)
    begin_s = clock.now_s
    while clock.now_s < begin_s + 20:
        view.update("x")
        clock.now_s += 0.01
    assert 10 <= len(screen.sent) <= 25


def test_notebook_shows_a_status_until_the_first_text() -> None:
    clock, screen = Clock(), Screen()
    view = NotebookView(screen.publish, clock=clock)
    view.status("Fetching the model", 0, 98_000_000)
    view.status("Fetching the model", 100, 98_000_000)
    clock.now_s += 1
    view.status("Fetching the model", 49_000_000, 98_000_000)
    view.status("Trying again", 1, 3)
    view.update("H")
    view.status("late")
    assert screen.plain == ["Fetching the model 0 %", "Fetching the model 50 %", "Trying again (1/3)", "H"]
    assert "Fetching" not in screen.html[-1]


def test_remarks_stand_above_the_reply() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.note("filled: <df>")
    view.update("Hel")
    view.finish(REPLY)
    assert all("filled: &lt;df&gt;" in html for html in screen.html)
    assert screen.plain == ["filled: <df>\n", "filled: <df>\nHel", "filled: <df>\nHello **you**"]


def test_unstreamed_reply_is_shown_once() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, is_streamed=False, clock=Clock())
    view.update("Hel")
    view.finish(REPLY)
    assert screen.html == [reply_bundle(REPLY)["text/html"]]


def test_text_before_an_error_stays_without_a_cursor() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.update("Hel")
    view.finish(None, note="interrupted")
    assert "Hel" in screen.html[-1]
    assert "interrupted" in screen.html[-1]
    assert "▍" not in screen.html[-1]


def test_status_goes_away_when_nothing_arrived() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.status("connecting")
    view.finish(None)
    assert screen.sent[-1][0] == {"text/plain": "", "text/html": ""}


def test_nothing_is_shown_when_nothing_happened() -> None:
    screen = Screen()
    NotebookView(screen.publish).finish(None)
    CapturedView(screen.publish).finish(None)
    assert screen.sent == []


def test_interrupted_reply_is_marked() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.update("Hel")
    view.finish(Reply(text="Hel", finish_reason="interrupted"))
    assert "⚠ interrupted" in screen.html[-1]


# Captured ---------------------------------------------------------------------------------------------------------


def test_captured_cell_gets_one_output() -> None:
    screen = Screen()
    view = CapturedView(screen.publish)
    view.status("loading")
    for end in range(1, 5):
        view.update("Hello **you**"[:end])
    view.finish(REPLY)
    assert [(bundle, is_update) for bundle, _, is_update in screen.sent] == [(reply_bundle(REPLY), False)]


def test_captured_cell_keeps_the_text_before_an_error() -> None:
    screen = Screen()
    view = CapturedView(screen.publish)
    view.update("Hel")
    view.finish(None, note="interrupted")
    assert screen.plain == ["Hel\ninterrupted"]


# Thinking ---------------------------------------------------------------------------------------------------------

THOUGHT = Reply(text="Four.", thinking="Hm, 2 + 2.", model="echo/echo", elapsed_s=0.5)


def test_notebook_shows_thinking_open_while_there_is_nothing_else_then_folded() -> None:
    clock, screen = Clock(), Screen()
    view = NotebookView(screen.publish, clock=clock)
    view.think("Hm,")
    clock.now_s += 1
    view.think("Hm, 2 + 2.")
    view.update("Fo")
    clock.now_s += 1
    view.update("Four.")
    assert ["<details open" in html for html in screen.html] == [True, True, False, False]
    assert ["<details" in html for html in screen.html] == [True] * 4
    assert "Hm, 2 + 2." in screen.html[1]
    assert "Hm" not in "".join(screen.html[2:])  # while the text grows, it would be sent again each time
    assert "▍" not in screen.html[1]
    view.finish(THOUGHT)
    assert "Hm, 2 + 2." in screen.html[-1]
    assert "<details open" not in screen.html[-1]
    assert len({display_id for _, display_id, _ in screen.sent}) == 1
    assert not any("Hm" in plain for plain in screen.plain)


def test_thinking_is_sent_as_seldom_as_text_and_never_much_of_it() -> None:
    clock, screen = Clock(), Screen()
    view = NotebookView(screen.publish, clock=clock)
    thinking = ""
    for _ in range(600):
        thinking += "a longer word " * 10
        view.think(thinking)
        clock.now_s += 3 / 600
    assert 20 <= len(screen.sent) <= 39
    assert max(map(len, screen.html)) < 4_000
    view.update("F")  # the first text is shown at once
    assert "F▍" in screen.html[-1]


def test_status_gives_way_to_thinking() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.think("Hm")
    view.status("Waiting for echo/echo")
    assert len(screen.sent) == 1


def test_view_that_does_not_stream_shows_thinking_with_the_reply_only() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock(), is_streamed=False)
    view.think("Hm")
    assert screen.sent == []
    view.finish(THOUGHT)
    captured = CapturedView(screen.publish)
    captured.think("Hm")
    captured.finish(THOUGHT)
    assert ["Hm, 2 + 2." in html for html in screen.html] == [True, True]
    assert screen.plain == ["Four.", "Four."]


def test_interrupted_thinking_stays() -> None:
    screen = Screen()
    view = NotebookView(screen.publish, clock=Clock())
    view.think("Hm")
    view.finish(Reply(text="", thinking="Hm", finish_reason="interrupted"))
    assert "Hm" in screen.html[-1]
    assert "interrupted" in screen.html[-1]


def test_terminal_writes_thinking_dim_above_the_text() -> None:
    written: list[str] = []
    view = TerminalView(written.append, shows_thinking=True)
    view.think("Hm")
    view.think("Hm,\x1b]52;c;aGk=\x07 no\x9b31m")
    assert written == ["\x1b[2mHm\x1b[22m", "\x1b[2m,]52;c;aGk= no31m\x1b[22m"]
    view.update("Four")
    view.update("Four.")
    view.finish(THOUGHT)
    assert written[2:] == ["\n", "\n", "Four", ".", "\n"]


def test_dim_thinking_is_wrapped_and_leaves_the_terminal_as_it_was() -> None:
    written: list[str] = []
    view = TerminalView(written.append, shows_thinking=True, width=20)
    thinking = "several words that are longer than a line"
    for end in range(len(thinking) + 1):
        view.think(thinking[:end])
        assert "".join(written).count("\x1b[2m") == "".join(written).count("\x1b[22m")
    view.finish(Reply(text="", thinking=thinking, finish_reason="interrupted"))
    shown = "".join(written).replace("\x1b[2m", "").replace("\x1b[22m", "")
    assert shown == "several words that\nare longer than a\nline\n\n[interrupted]\n"


def test_terminal_begins_again_where_a_request_was_sent_again() -> None:
    written: list[str] = []
    view = TerminalView(written.append, shows_thinking=True)
    view.think("Hm, hm")
    view.think("Ah")
    view.update("Four")
    assert "".join(written).replace("\x1b[2m", "").replace("\x1b[22m", "") == "Hm, hm\n\nAh\n\nFour"


def test_terminal_begins_a_new_paragraph_where_text_turns_out_to_be_thinking() -> None:
    written, view = streamed(["Hm, ", "2 + 2.\n"])
    view.update("F")
    view.update("Four.")
    view.finish(THOUGHT)
    assert "".join(written) == "Hm, 2 + 2.\n\nFour.\n"


@pytest.mark.parametrize(
    ("stdout", "term", "is_shown"), [("tty", "xterm", True), ("tty", "dumb", False), ("file", "xterm", False)]
)
def test_thinking_is_written_to_terminals_that_can_dim_only(
    stdout: str, term: str, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Tty() if stdout == "tty" else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", term)
    view = TerminalView()
    view.think("Hm")
    view.finish(Reply(text="Four.", thinking="Hm"))
    assert ("Hm" in stream.getvalue()) == is_shown
    assert stream.getvalue().endswith("Four.\n")
    assert ("\x1b" in stream.getvalue()) == is_shown


# Terminal ---------------------------------------------------------------------------------------------------------


def streamed(pieces: list[str], **options: Any) -> tuple[list[str], TerminalView]:
    written: list[str] = []
    view = TerminalView(written.append, **options)
    for end in range(1, len(pieces) + 1):
        view.update("".join(pieces[:end]))
    return written, view


def test_terminal_writes_each_piece_once_and_ends_the_line() -> None:
    written, view = streamed(["Hel", "lo ", "**you**"])
    view.finish(REPLY)
    assert written == ["Hel", "lo ", "**you**", "\n"]


def test_terminal_does_not_end_a_line_that_is_ended() -> None:
    written, view = streamed(["a\n"])
    view.finish(Reply(text="a\n"))
    assert written == ["a\n"]


def test_terminal_writes_what_was_not_streamed() -> None:
    written, view = streamed(["Hel"], is_streamed=False)
    view.finish(REPLY)
    assert written == ["Hello **you**", "\n"]


def test_terminal_gets_no_control_sequence_even_in_pieces() -> None:
    written, view = streamed(["a\x1b", "]52;c;aGk=\x07", "\x9b", "31m\u202e"])
    view.finish(Reply(text="a\x1b]52;c;aGk=\x07\x9b31m\u202e"))
    assert "".join(written) == "a]52;c;aGk=31m\n"


def test_terminal_says_that_a_reply_was_interrupted() -> None:
    written, view = streamed(["Hel"])
    view.finish(Reply(text="Hel", finish_reason="interrupted"))
    assert written == ["Hel", "\n", "[interrupted]\n"]


def test_terminal_writes_remarks_as_lines() -> None:
    written, view = streamed([])
    view.note("filled: df\x1b")
    assert written == ["filled: df\n"]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_status_in_a_terminal_is_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Tty()
    monkeypatch.setattr(sys, "stderr", stderr)
    _, view = streamed([])
    view.status("Fetching\x1b[2J", 0, 2000)
    view.status("Fetching\x1b[2J", 2000, 2000)
    view.update("H")
    assert stderr.getvalue() == "\rFetching[2J 0 %\x1b[K\rFetching[2J 100 %\x1b[K\r\x1b[K"


def test_status_in_a_log_is_one_line_for_each_text(capsys: pytest.CaptureFixture[str]) -> None:
    _, view = streamed([])
    for done in range(10):
        view.status("Fetching", done, 10)
    view.status("Loading")
    view.finish(None)
    assert capsys.readouterr().err == "Fetching (0/10)\nLoading\n"


def test_characters_that_a_terminal_lacks_are_written_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    TerminalView().finish(Reply(text="né 日"))
    assert raw.getvalue() == b"n\\xe9 \\u65e5\n"


# Choosing a view --------------------------------------------------------------------------------------------------


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A real IPython shell without a history file."""
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    hook = sys.displayhook
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=config)
    made.user_ns["reply"] = REPLY
    yield made
    InteractiveShell.clear_instance()
    sys.displayhook = hook


def test_view_fits_where_the_cell_runs(shell: InteractiveShell) -> None:
    assert isinstance(view_for(shell), TerminalView)
    with capture_output():
        assert isinstance(view_for(shell), CapturedView)
    shell.kernel = object()  # type: ignore[attr-defined]  # what the shell of a kernel has
    assert isinstance(view_for(shell), NotebookView)
    with capture_output():
        assert isinstance(view_for(shell), CapturedView)


def test_notebook_view_publishes_through_the_shell() -> None:
    calls: list[dict[str, Any]] = []
    publisher = types.SimpleNamespace(publish=lambda **fields: calls.append(fields))
    view = view_for(types.SimpleNamespace(display_pub=publisher, kernel=object()))
    view.update("Hel")
    view.finish(REPLY)
    assert [call["update"] for call in calls] == [False, True]
    assert calls[0]["transient"] == calls[1]["transient"]
    assert calls[1]["data"] == reply_bundle(REPLY)


def test_show_prints_in_a_terminal(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    show(Note("a note"))
    show(Table("T", ("a",), (("b",),)))
    assert capsys.readouterr().out == "a note\nT\na\n-\nb\n"


# The value of the cell --------------------------------------------------------------------------------------------


@pytest.fixture
def shown(shell: InteractiveShell) -> ShownReplies:
    shown = ShownReplies(shell)
    shown.install()

    def ask(stream: bool = True) -> Reply:
        """What the magic does: stream the reply, then return it."""
        view = view_for(shell)
        view.update(REPLY.text[:5])
        view.finish(REPLY)
        shown.mark(REPLY)
        return REPLY

    shell.user_ns["ask"] = ask
    return shown


def ran(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    result = shell.run_cell(cell, store_history=True)
    result.raise_error()
    return re.sub(r"\n+", "\n", capsys.readouterr().out)


def test_terminal_shows_the_text_once_and_a_line_about_it(
    shell: InteractiveShell, shown: ShownReplies, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ran(shell, capsys, "ask()")
    assert out == f"Hello **you**\nOut[1]: {summary_line(REPLY)}\n"
    assert shell.user_ns["_"] is REPLY
    assert shell.user_ns["Out"][1] is REPLY


def test_terminal_shows_the_reply_in_full_when_it_is_looked_at_again(
    shell: InteractiveShell, shown: ShownReplies, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(shell, capsys, "ask()")
    assert ran(shell, capsys, "_") == "Out[2]: Hello **you**\n"
    assert ran(shell, capsys, "x = ask()") == "Hello **you**\n"
    assert ran(shell, capsys, "x") == "Out[4]: Hello **you**\n"


@pytest.mark.skipif(not hasattr(DisplayHook, "is_active"), reason="IPython before 9.2 does not tell them apart")
def test_explicit_display_in_the_same_cell_is_in_full(
    shell: InteractiveShell, shown: ShownReplies, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ran(shell, capsys, "x = ask()\ndisplay(x)")
    assert out == "Hello **you**\nHello **you**\n"


def test_equal_reply_of_another_call_is_shown(
    shell: InteractiveShell, shown: ShownReplies, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ran(shell, capsys, "import copy; x = ask()\ncopy.copy(x)")
    assert out.count("Hello **you**") == 2


def test_captured_cell_has_one_output(
    shell: InteractiveShell, shown: ShownReplies, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(shell, capsys, "%%capture got\nask()") == ""
    assert [output.data for output in shell.user_ns["got"].outputs] == [reply_bundle(REPLY)]
    assert shell.user_ns["got"].stdout == ""


def test_captured_cell_keeps_a_reply_that_is_not_its_value(
    shell: InteractiveShell, shown: ShownReplies, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(shell, capsys, "%%capture got\nx = ask()")
    assert [output.data for output in shell.user_ns["got"].outputs] == [reply_bundle(REPLY)]


def test_kernel_shows_no_value_for_a_reply_just_shown(shell: InteractiveShell, shown: ShownReplies) -> None:
    shell.kernel = object()  # type: ignore[attr-defined]  # what the shell of a kernel has
    assert shell.display_formatter is not None
    formatted = shell.display_formatter.format
    shown.mark(REPLY)
    assert formatted(REPLY)[0] == reply_bundle(REPLY)  # display(reply): the hook has no message in the making
    shell.displayhook.msg = {"content": {}}
    assert formatted(REPLY) == ({}, {})
    assert formatted(REPLY)[0] == reply_bundle(REPLY)
    shown.mark(REPLY)
    shell.execution_count += 1
    assert formatted(REPLY)[0] == reply_bundle(REPLY)


def test_uninstall_leaves_the_formatter_as_it_was(shell: InteractiveShell) -> None:
    assert shell.display_formatter is not None
    printers = shell.display_formatter.ipython_display_formatter.type_printers
    before = dict(printers)
    shown = ShownReplies(shell)
    shown.uninstall()
    shown.install()
    shown.install()
    assert Reply in printers
    shown.uninstall()
    shown.uninstall()
    assert printers == before


def test_printer_of_the_user_is_asked_and_put_back(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    def own(reply: Reply) -> None:
        sys.stdout.write("own")

    assert shell.display_formatter is not None
    printers = shell.display_formatter.ipython_display_formatter.type_printers
    printers[Reply] = own
    shown = ShownReplies(shell)
    shown.install()
    assert "own" in ran(shell, capsys, "reply")
    shown.uninstall()
    assert printers[Reply] is own


# Progress ---------------------------------------------------------------------------------------------------------


def test_room_is_loaded_without_heavy_imports() -> None:
    import subprocess

    code = (
        "import sys, aichat_magic.magic.views, aichat_magic.text.markdown;"
        "print([m for m in ('IPython', 'tqdm', 'markdown_it', 'mdit_py_plugins', 'pygments') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    assert display.__doc__
