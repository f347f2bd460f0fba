"""Plain output: the width of the terminal, and values shown as text in it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, TextIO

from .front_end import is_kernel_stream
from .widgets import Note, Transcript
from .wrap import wrapped


def terminal_width() -> int:
    """Return the columns of the terminal at `sys.stdout`, without the last one; 0 where it is no terminal."""
    is_terminal = getattr(sys.stdout, "isatty", bool)() and not is_kernel_stream(sys.stdout)
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


def status_stream() -> TextIO:
    """Return the stream for what is shown while something goes on, such as a bar."""
    # Front ends show a kernel's standard error on red, as if something were wrong.
    return sys.stdout if is_kernel_stream(sys.stdout) else sys.stderr


class StatusLine:
    """One line that is rewritten, and erased in the end."""

    def __init__(self) -> None:
        """Prepare to write; nothing is written yet."""
        self._n_shown = 0

    def show(self, line: str, *, is_new: bool = True) -> None:
        """Write the line in place of the last one.

        Args:
            line: What to show.
            is_new: Whether more than a number in it has changed. A stream that cannot rewrite gets new lines only.
        """
        stream = status_stream()
        # Cut to the width of the narrowest usual terminal, because a wrapped line cannot be rewritten.
        cut = line[:79]
        if is_kernel_stream(stream):
            # Consoles of kernels know the return, but not all of them know how to erase.
            write_to(stream, f"\r{cut.ljust(self._n_shown)}")
        elif stream.isatty():
            write_to(stream, f"\r{cut}\x1b[K")
        elif is_new:
            write_to(stream, f"{line}\n")
        self._n_shown = len(cut)

    def clear(self) -> None:
        """Erase the line."""
        stream = status_stream()
        if self._n_shown and is_kernel_stream(stream):
            write_to(stream, f"\r{' ' * self._n_shown}\r")
        elif self._n_shown and stream.isatty():
            write_to(stream, "\r\x1b[K")
        self._n_shown = 0


def write_later(text: str) -> None:
    """Write to the present `sys.stdout`, which sends it when it likes: a kernel's does so five times a second."""
    sys.stdout.write(text)


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
