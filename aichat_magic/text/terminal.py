"""Plain output: the width of the terminal, and values that are shown as text."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from .widgets import Note, Transcript
from .wrap import wrapped

if TYPE_CHECKING:
    pass


def terminal_width() -> int:
    """Columns of the terminal that `sys.stdout` is, less the last one; 0 where it is none."""
    is_terminal = getattr(sys.stdout, "isatty", bool)()
    # What is written into the last column makes some terminals begin a new line.
    return shutil.get_terminal_size().columns - 1 if is_terminal else 0


def show(value: object) -> None:
    """Display a `Note`, a `Table` or a `Transcript`, or anything else that knows how to be shown."""
    from IPython.display import display

    width = terminal_width()
    is_exact = isinstance(value, Transcript) and value.is_exact
    if width and isinstance(value, (Note, Transcript)) and not is_exact:
        _write_stdout(wrapped(str(value), width) + "\n")
        return
    display(value)  # type: ignore[no-untyped-call]  # IPython's display has no types


def _write_stdout(text: str) -> None:
    """Write to what `sys.stdout` is now."""
    _write_to(sys.stdout, text)


def _write_to(stream: Any, text: str) -> None:
    """Write and flush; characters that the stream's encoding lacks are written as escapes."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
