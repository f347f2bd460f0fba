"""Plain output: the width of the terminal, and values shown as text in it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from .widgets import Note, Transcript
from .wrap import wrapped


def terminal_width() -> int:
    """Return the columns of the terminal at `sys.stdout`, without the last one; 0 where it is no terminal."""
    is_terminal = getattr(sys.stdout, "isatty", bool)()
    # Some terminals begin a new line when the last column is written to.
    return shutil.get_terminal_size().columns - 1 if is_terminal else 0


def has_dim_text() -> bool:
    """Tell whether `sys.stdout` is a terminal that can write dim letters."""
    return bool(terminal_width()) and os.environ.get("TERM") != "dumb"


def show(value: object) -> None:
    """Display a `Note`, a `Table`, a `Transcript`, or anything else that IPython can display."""
    from IPython.display import display

    width = terminal_width()
    is_exact = isinstance(value, Transcript) and value.is_exact
    if width and isinstance(value, (Note, Transcript)) and not is_exact:
        write_stdout(wrapped(str(value), width) + "\n")
        return
    display(value)  # type: ignore[no-untyped-call]  # IPython's display has no types


def write_stdout(text: str) -> None:
    """Write to the present `sys.stdout`."""
    write_to(sys.stdout, text)


def write_to(stream: Any, text: str) -> None:
    """Write and flush; characters that the stream's encoding lacks are written as escapes."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
