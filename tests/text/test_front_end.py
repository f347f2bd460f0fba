"""Kinds of front ends, by what the request for a cell says."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from aichat_magic.text.front_end import FrontEnd, cell_id, front_end, is_only_magic
from aichat_magic.text.terminal import StatusLine, status_stream, terminal_width


class CapturingDisplayPublisher:
    """Named as IPython's own."""


def shell(request: Any, **attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(kernel=object(), get_parent=lambda: request, **attributes)


def request(code: str = "%aichat ask Hi", *, cell: str | None = None, allow_stdin: bool = True) -> dict[str, Any]:
    metadata = {} if cell is None else {"cellId": cell}
    return {"metadata": metadata, "content": {"code": code, "allow_stdin": allow_stdin}}


@pytest.mark.parametrize(
    ("running", "has_notebook", "kind"),
    [
        (None, False, FrontEnd.TERMINAL),
        (SimpleNamespace(), True, FrontEnd.TERMINAL),
        (SimpleNamespace(display_pub=CapturingDisplayPublisher()), False, FrontEnd.CAPTURED),
        (shell(request(cell="1f0e"), display_pub=CapturingDisplayPublisher()), True, FrontEnd.CAPTURED),
        (shell(request(cell="1f0e")), False, FrontEnd.NOTEBOOK),
        (shell(request(cell="1f0e", allow_stdin=False)), True, FrontEnd.NOTEBOOK),
        (shell(request(allow_stdin=False)), True, FrontEnd.PROGRAM),
        (shell(request()), True, FrontEnd.CLASSIC),
        (shell(request()), False, FrontEnd.CONSOLE),
        (shell(request(cell="")), False, FrontEnd.CONSOLE),
        # Nothing is running, such as at the start of a kernel.
        (shell({}), False, FrontEnd.CONSOLE),
        (shell(None), False, FrontEnd.CONSOLE),
        (shell({"metadata": None, "content": {}}), False, FrontEnd.CONSOLE),
        (SimpleNamespace(kernel=object()), False, FrontEnd.CONSOLE),
    ],
)
def test_kind_of_front_end_by_what_its_request_says(running: Any, has_notebook: bool, kind: FrontEnd) -> None:
    assert front_end(running, has_notebook=has_notebook) is kind


def test_cell_is_named_by_its_request() -> None:
    assert cell_id(shell(request(cell="1f0e"))) == "1f0e"
    assert cell_id(shell(request())) == ""
    assert cell_id(SimpleNamespace()) == ""


@pytest.mark.parametrize(
    ("code", "is_only"),
    [
        ("%%aichat\nprint('mine')\n%aichat ask x", True),
        ("\n%%aichat --new\nHi\n\nyou", True),
        ("%%aichat", True),
        ("%aichat ask Hi", True),
        ("  %aichat ask Hi\n\n", True),
        ("reply = %aichat ask Hi", True),
        ("%aichat ask Hi\n%aichat ask again", False),
        ("print('mine')\n%aichat ask Hi", False),
        ("print('mine'); x = %aichat ask Hi", False),
        ("for n in range(3):\n    %aichat ask Hi", False),
        ("%%time\n%aichat ask Hi", False),
        ("%%aichatter\nHi", False),
        ("df.aichat.complete('x')", False),
        ("", False),
    ],
)
def test_cell_that_is_nothing_but_a_magic(code: str, is_only: bool) -> None:
    assert is_only_magic(shell(request(code))) is is_only


class OutStream(io.StringIO):
    """Named as ipykernel's own."""


class TTYOutStream(OutStream):
    """As Spyder's: a stream to a front end that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream_type", [OutStream, TTYOutStream])
def test_stream_of_a_kernel_that_claims_to_be_a_terminal_is_none(
    stream_type: type[OutStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_type()
    monkeypatch.setattr(sys, "stdout", stream)
    assert terminal_width() == 0
    assert status_stream() is stream
    line = StatusLine()
    line.show("Fetching 10 %")
    line.show("Loading")
    line.clear()
    line.clear()
    # Covered with blanks: qtconsole would keep what no new letter covers.
    assert stream.getvalue() == f"\rFetching 10 %\r{'Loading':13}\r{' ' * 7}\r"
