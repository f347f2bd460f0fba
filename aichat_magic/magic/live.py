"""Outputs that change while a cell runs, as far as the front end shows changes; `live_view` chooses.

::

    live = live_view(shell)
    live.status("Waiting for echo/echo", lambda: bundle)
    live.update("Hello", lambda: bundle)
    live.update("Hello world", lambda: bundle)
    live.finish("Hello world.", lambda: bundle)
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from ..text.characters import terminal_text
from ..text.front_end import FrontEnd, front_end, is_only_magic
from ..text.terminal import StatusLine, has_dim_text, terminal_width, write_later, write_stdout
from ..text.wrap import WordWrap, wrapped

Bundle = dict[str, str]
"""Representations of an output by MIME type."""
Make = Callable[[], Bundle]
"""Renders the present state; called only when it is shown."""
Publish = Callable[[Bundle, str, bool], None]
"""Shows a MIME bundle under a display id; if the flag is True, it replaces the bundle shown under that id."""

DISPLAY_ID_PREFIX = "aichat-"
# The Jupyter server drops outputs of a kernel that sends more than 1 MB/s (its default, 2026-11), and a front end
# renders the whole output with each update. A quarter of that rate leaves room for the cell's other outputs.
_MIN_INTERVAL_S = 0.1
_MAX_BYTES_PER_S = 250_000
# Rendering takes at most a fifth of the time, however long the output gets.
_RENDER_SHARE = 4.0
# SGR codes (ECMA-48): dim in a terminal; grey and italic in consoles, because qtconsole knows no dim.
_DIM = ("\x1b[2m", "\x1b[22m")
_GREY = ("\x1b[3;38;5;244m", "\x1b[0m")


class LiveView(Protocol):
    """Protocol of one output that changes until it is finished. Each call has it as plain text and as a bundle."""

    def line(self, text: str, make: Make) -> None:
        """Show a line above everything else, which stays."""

    def status(self, line: str, make: Make, *, is_new: bool = True) -> None:
        """Show what is going on, in place of the status before. `is_new` is False if just a number in it changed."""

    def update(self, text: str, make: Make, *, is_dim: bool = False, is_first: bool = False) -> None:
        """Show the state so far.

        Args:
            text: The paragraph so far, as plain text. One that does not continue the last one begins below it.
            make: Renders everything so far.
            is_dim: Whether the paragraph is not the reply itself.
            is_first: Whether it is shown at once, however recent the last update.
        """

    def finish(self, text: str, make: Make, *, mark: str = "") -> None:
        """Show the final state: `text` is the complete last paragraph; `mark` says in a few words what is wrong."""


class UpdatedView:
    """One output below the cell, replaced while it grows, but no faster than a server of notebooks allows."""

    def __init__(self, publish: Publish, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare to show; nothing is shown yet.

        Args:
            publish: Shows a MIME bundle.
            clock: Seconds that only grow.
        """
        self._publish = publish
        self._clock = clock
        self._display_id = DISPLAY_ID_PREFIX + uuid.uuid4().hex
        self._is_shown = False
        self._next_s = 0.0

    def line(self, text: str, make: Make) -> None:
        """Show the line with all there is."""
        self._show(make())

    def status(self, line: str, make: Make, *, is_new: bool = True) -> None:
        """Show the status with all there is."""
        self._show(make())

    def update(self, text: str, make: Make, *, is_dim: bool = False, is_first: bool = False) -> None:
        """Show everything so far, unless the last update was too recent."""
        begin_s = self._clock()
        if not is_first and begin_s < self._next_s:
            return
        bundle = make()
        self._show(bundle)
        end_s = self._clock()
        n_bytes = sum(len(content.encode("utf-8", "replace")) for content in bundle.values())
        pause_s = max(_MIN_INTERVAL_S, n_bytes / _MAX_BYTES_PER_S, _RENDER_SHARE * (end_s - begin_s))
        self._next_s = begin_s + pause_s

    def finish(self, text: str, make: Make, *, mark: str = "") -> None:
        """Show the final state, however recent the last update."""
        bundle = make()
        if self._is_shown or any(bundle.values()):
            self._show(bundle)

    def _show(self, bundle: Bundle) -> None:
        """Publish a new output the first time, and update it afterwards."""
        is_update, self._is_shown = self._is_shown, True
        self._publish(bundle, self._display_id, is_update)


class FinalView:
    """One output at the end, where every update would be kept as an output of its own, or nobody watches."""

    def __init__(self, publish: Publish) -> None:
        """Prepare to show; nothing is shown yet.

        Args:
            publish: Shows a MIME bundle.
        """
        self._publish = publish

    def line(self, text: str, make: Make) -> None:
        """Do nothing: the line is part of the final state."""

    def status(self, line: str, make: Make, *, is_new: bool = True) -> None:
        """Do nothing: a status would be kept."""

    def update(self, text: str, make: Make, *, is_dim: bool = False, is_first: bool = False) -> None:
        """Do nothing: the text is part of the final state."""

    def finish(self, text: str, make: Make, *, mark: str = "") -> None:
        """Show everything at once."""
        bundle = make()
        if any(bundle.values()):
            self._publish(bundle, DISPLAY_ID_PREFIX + uuid.uuid4().hex, False)


class StreamedView:
    """Text written once as it arrives. A status is a line that is erased again."""

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        *,
        width: int | None = None,
        dim: tuple[str, str] | None = None,
        shows_dim: bool | None = None,
        status: StatusLine | None = None,
        replace: Callable[[Bundle], None] | None = None,
    ) -> None:
        """Prepare to write; nothing is written yet.

        Args:
            write: Writes the text; default: to the current `sys.stdout`.
            width: Columns of a line; 0: lines are not wrapped. Default: those of the terminal, or 0 if there is none.
            dim: Control sequences before and after a dim piece.
            shows_dim: Whether dim paragraphs are written. Default: where there is a terminal that has dim letters,
                because elsewhere they would pass for the reply.
            status: The line for the status; default: on the error stream.
            replace: Puts the final bundle in place of all that was written; default: what was written stays.
        """
        self._write = write or write_stdout
        self._width = terminal_width() if width is None and write is None else width or 0
        self._dim = dim or _DIM
        self._shows_dim = has_dim_text() if shows_dim is None else shows_dim
        self._status = status or StatusLine()
        self._replace = replace
        self._words = WordWrap(self._width)
        self._text = ""
        self._is_dim = False
        self._is_line_open = False

    def line(self, text: str, make: Make) -> None:
        """Write the line."""
        self._write(f"{wrapped(terminal_text(text), self._width)}\n")

    def status(self, line: str, make: Make, *, is_new: bool = True) -> None:
        """Rewrite the status line."""
        self._status.show(line, is_new=is_new)

    def update(self, text: str, make: Make, *, is_dim: bool = False, is_first: bool = False) -> None:
        """Write the text that is new."""
        if is_dim and not self._shows_dim:
            return
        if self._text and text and (is_dim != self._is_dim or not text.startswith(self._text)):
            self._end_paragraph()
            self._write("\n")
        if text:
            self._is_dim = is_dim
            piece, self._text = terminal_text(text[len(self._text) :]), text
            self._write_piece(self._words.add(piece))

    def finish(self, text: str, make: Make, *, mark: str = "") -> None:
        """Write the missing text and what is wrong with it, or put the final bundle in place of all."""
        if self._replace is not None and (text or self._text or mark):
            self._status.clear()
            self._replace(make())
            return
        self.update(text, make)
        was_dim = self._is_dim
        self._status.clear()
        self._end_paragraph()
        if was_dim:
            self._write("\n")
        if mark:
            self._write(f"{wrapped(terminal_text(f'[{mark}]'), self._width)}\n")

    def _end_paragraph(self) -> None:
        """Write what is left of the paragraph, and end its line."""
        self._write_piece(self._words.flush())
        if self._is_line_open:
            self._write("\n")
        self._words, self._text, self._is_dim, self._is_line_open = WordWrap(self._width), "", False, False

    def _write_piece(self, piece: str) -> None:
        """Write text in place of the status. A dim piece is dim by itself: an interrupt leaves no terminal dim."""
        if piece:
            self._status.clear()
            before, after = self._dim if self._is_dim else ("", "")
            self._write(f"{before}{piece}{after}")
            self._is_line_open = not piece.endswith("\n")


def live_view(shell: Any, kind: FrontEnd | None = None) -> LiveView:
    """Create the view that suits where a cell runs.

    Args:
        shell: The IPython shell.
        kind: Kind of its front end; default: as the request says.

    Returns:
        A view for one output.
    """
    kind = kind or front_end(shell)
    publish = _publisher(shell)
    if kind is FrontEnd.NOTEBOOK:
        return UpdatedView(publish)
    if kind is FrontEnd.TERMINAL:
        return StreamedView()
    if kind is FrontEnd.CONSOLE:
        return StreamedView(write_later, dim=_GREY, shows_dim=True)
    if kind is FrontEnd.CLASSIC and is_only_magic(shell):
        # What is cleared is all that the cell has shown, and here that is nothing but ours.
        return StreamedView(write_later, dim=_GREY, shows_dim=True, replace=_replacer(shell, publish))
    return FinalView(publish)


def _publisher(shell: Any) -> Publish:
    """Return a function that shows MIME bundles with the shell's current publisher."""
    publisher = getattr(shell, "display_pub", None)

    def publish(bundle: Bundle, display_id: str, is_update: bool) -> None:
        publisher.publish(data=bundle, metadata={}, transient={"display_id": display_id}, update=is_update)  # type: ignore[union-attr]

    return publish


def _replacer(shell: Any, publish: Publish) -> Callable[[Bundle], None]:
    """Return a function that shows a bundle in place of all that the cell has shown."""

    def replace(bundle: Bundle) -> None:
        shell.display_pub.clear_output(wait=True)
        publish(bundle, DISPLAY_ID_PREFIX + uuid.uuid4().hex, False)

    return replace
