"""Views that show a reply while it arrives: in a notebook, in a terminal, in a cell whose output is captured."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from ..core.messages import Reply
from ..text.characters import terminal_text
from ..text.reply_view import (
    finish_mark,
    folded_thinking_html,
    growing_thinking_html,
    reply_bundle,
    reply_html,
    summary_line,
)
from ..text.terminal import has_dim_text, terminal_width, write_stdout, write_to
from ..text.wrap import WordWrap, wrapped

Publish = Callable[[dict[str, str], str, bool], None]
"""Shows a MIME bundle under a display id; if the flag is True, it replaces the bundle shown under that id."""

# The Jupyter server drops outputs of a kernel that sends more than 1 MB/s (its default, 2026-11), and a front end
# renders the whole output with each update. A quarter of that rate leaves room for the cell's other outputs.
_MIN_INTERVAL_S = 0.1
_MAX_BYTES_PER_S = 250_000
# Rendering takes at most a fifth of the time, however long the reply gets.
_RENDER_SHARE = 4.0
_STATUS_INTERVAL_S = 0.25
_DISPLAY_ID_PREFIX = "aichat-"
# SGR 2 and 22 (ECMA-48).
_DIM, _NOT_DIM = "\x1b[2m", "\x1b[22m"


class ReplyView(Protocol):
    """Protocol of a view of one reply.

    Order of calls: `note` and `status`, `think` and then `update` for each chunk, `finish` once.
    """

    def note(self, line: str) -> None:
        """Show a note above the reply."""

    def status(self, text: str, done: int = 0, total: int = 0) -> None:
        """Show what is going on before the first text, such as ``Fetching the model``; a `total` of 0 means unknown."""

    def think(self, thinking_so_far: str) -> None:
        """Show the thinking received so far, before there is any text."""

    def update(self, text_so_far: str) -> None:
        """Show the text received so far."""

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        """Show the final state. `reply` is None if nothing arrived; `note` is a last line, such as ``interrupted``."""


class NotebookView:
    """One output below the cell, updated while the reply grows, but no faster than a server of notebooks allows."""

    def __init__(
        self, publish: Publish, *, is_streamed: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare to show; nothing is shown yet.

        Args:
            publish: Shows a MIME bundle.
            is_streamed: Whether the text is shown before it is complete.
            clock: Seconds that only grow.
        """
        self._publish = publish
        self._is_streamed = is_streamed
        self._clock = clock
        self._display_id = _DISPLAY_ID_PREFIX + uuid.uuid4().hex
        self._is_shown = False
        self._notes: list[str] = []
        self._thinking = ""
        self._text = ""
        self._status = ""
        self._next_s = 0.0

    def note(self, line: str) -> None:
        """Show a note above the reply."""
        self._notes.append(line)
        self._show(self._bundle(""))

    def status(self, text: str, done: int = 0, total: int = 0) -> None:
        """Show what is going on before the first text."""
        if self._text or self._thinking or (text == self._status and done < total and self._clock() < self._next_s):
            return
        self._status = text
        self._show(self._bundle("", footer=_status_line(text, done, total)))
        self._next_s = self._clock() + _STATUS_INTERVAL_S

    def think(self, thinking_so_far: str) -> None:
        """Show the newest part of the thinking in an open block, unless the last update was too recent."""
        is_first = not self._thinking
        self._thinking = thinking_so_far
        if self._is_streamed and thinking_so_far:
            self._grow(lambda: self._bundle("", fold=growing_thinking_html(thinking_so_far)), is_first=is_first)

    def update(self, text_so_far: str) -> None:
        """Show the text received so far, below its folded thinking, unless the last update was too recent."""
        is_first = not self._text
        self._text = text_so_far
        if self._is_streamed and text_so_far:
            fold = folded_thinking_html(self._thinking, is_growing=True)
            self._grow(lambda: self._bundle(text_so_far, fold=fold, is_growing=True), is_first=is_first)

    def _grow(self, make: Callable[[], dict[str, str]], *, is_first: bool) -> None:
        """Show a bundle if it is the first of its kind or the last one was long enough ago."""
        begin_s = self._clock()
        if not is_first and begin_s < self._next_s:
            return
        bundle = make()
        self._show(bundle)
        end_s = self._clock()
        n_bytes = sum(len(content.encode("utf-8", "replace")) for content in bundle.values())
        pause_s = max(_MIN_INTERVAL_S, n_bytes / _MAX_BYTES_PER_S, _RENDER_SHARE * (end_s - begin_s))
        self._next_s = begin_s + pause_s

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        """Show the final state, however recent the last update."""
        if reply is None and not (self._text or note or self._is_shown):
            return
        self._show(_final_bundle(self._text, reply, note, self._notes))

    def _bundle(self, text: str, *, fold: str = "", footer: str = "", is_growing: bool = False) -> dict[str, str]:
        """Return a MIME bundle of the notes, and below them thinking, a growing text or a status."""
        return {
            "text/plain": terminal_text("\n".join([*self._notes, text or footer])),
            "text/html": reply_html(text, header=self._notes, fold=fold, footer=footer, is_growing=is_growing),
        }

    def _show(self, bundle: dict[str, str]) -> None:
        """Publish a new output the first time, and update it afterwards."""
        is_update, self._is_shown = self._is_shown, True
        self._publish(bundle, self._display_id, is_update)


class CapturedView:
    """One output when the reply is complete; a captured cell would keep every update as a separate output."""

    def __init__(self, publish: Publish) -> None:
        """Prepare to show; nothing is shown yet.

        Args:
            publish: Shows a MIME bundle.
        """
        self._publish = publish
        self._notes: list[str] = []
        self._text = ""

    def note(self, line: str) -> None:
        """Show a note above the reply."""
        self._notes.append(line)

    def status(self, text: str, done: int = 0, total: int = 0) -> None:
        """Do nothing: a status would be captured."""

    def think(self, thinking_so_far: str) -> None:
        """Do nothing: the thinking is part of the reply that `finish` shows."""

    def update(self, text_so_far: str) -> None:
        """Keep the text for `finish`."""
        self._text = text_so_far

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        """Show everything at once."""
        if reply is not None or self._text or note:
            bundle = _final_bundle(self._text, reply, note, self._notes)
            self._publish(bundle, _DISPLAY_ID_PREFIX + uuid.uuid4().hex, False)


class TerminalView:
    """Text written once as it arrives, below dim thinking. A status goes to the error stream and is erased again."""

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        *,
        is_streamed: bool = True,
        clock: Callable[[], float] = time.monotonic,
        width: int | None = None,
        shows_thinking: bool | None = None,
    ) -> None:
        """Prepare to write; nothing is written yet.

        Args:
            write: Writes to the terminal; default: the current `sys.stdout`.
            is_streamed: Whether the text is shown before it is complete.
            clock: Seconds that only grow.
            width: Columns of a line; 0: lines are not wrapped. Default: those of the terminal, or 0 if there is none.
            shows_thinking: Whether thinking is written, in dim letters. Default: where there is a terminal that has
                them, because elsewhere it would pass for text.
        """
        self._write = write or write_stdout
        self._width = terminal_width() if width is None and write is None else width or 0
        self._words = WordWrap(self._width)
        self._shows_thinking = is_streamed and (has_dim_text() if shows_thinking is None else shows_thinking)
        self._thought = WordWrap(self._width)
        self._n_thought = 0
        self._is_streamed = is_streamed
        self._clock = clock
        self._n_written = 0
        self._is_line_open = False
        self._status = ""
        self._next_s = 0.0

    def note(self, line: str) -> None:
        """Write a line above the reply."""
        self._write(f"{wrapped(terminal_text(line), self._width)}\n")

    def status(self, text: str, done: int = 0, total: int = 0) -> None:
        """Rewrite the status line; if the stream is not a terminal, write one line for each new text."""
        if (
            self._n_written
            or self._n_thought
            or (text == self._status and done < total and self._clock() < self._next_s)
        ):
            return
        line = _status_line(text, done, total)
        is_terminal = sys.stderr.isatty()
        if is_terminal or text != self._status:
            # Cut to the width of the narrowest usual terminal, because a wrapped line cannot be rewritten.
            write_to(sys.stderr, f"\r{line[:79]}\x1b[K" if is_terminal else f"{line}\n")
        self._status = text
        self._next_s = self._clock() + _STATUS_INTERVAL_S

    def think(self, thinking_so_far: str) -> None:
        """Write the thinking that is new."""
        if not self._shows_thinking:
            return
        if len(thinking_so_far) < self._n_thought:  # the request was sent again
            self._end_thinking()
        piece = terminal_text(thinking_so_far[self._n_thought :])
        self._n_thought = len(thinking_so_far)
        self._write_dim(self._thought.add(piece))

    def update(self, text_so_far: str) -> None:
        """Write the text that is new."""
        if self._is_streamed:
            self._write_from(text_so_far)

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        """Write the missing text, and end the line."""
        if reply is not None:
            self._write_from(reply.text)
            # A complete reply becomes the cell's value, and the line for that value shows its summary.
            note = note or reply.notice or ("" if reply.is_complete else finish_mark(reply))
        self._end_thinking()
        self._clear_status()
        self._write_piece(self._words.flush())
        self._end_line()
        if note:
            self._write(f"{wrapped(terminal_text(f'[{note}]'), self._width)}\n")

    def _write_from(self, text: str) -> None:
        """Write the part of `text` that has not been written yet."""
        if text:
            self._end_thinking()
        if len(text) < self._n_written:  # what was written has turned out to be thinking
            self._write_piece(self._words.flush())
            self._end_line()
            self._write("\n")
            self._words, self._n_written = WordWrap(self._width), 0
        piece = terminal_text(text[self._n_written :])
        self._n_written = max(self._n_written, len(text))
        self._write_piece(self._words.add(piece))

    def _write_piece(self, piece: str) -> None:
        """Write text in place of the status."""
        if piece:
            self._clear_status()
            self._write(piece)
            self._is_line_open = not piece.endswith("\n")

    def _write_dim(self, piece: str) -> None:
        """Write thinking. Each piece is dim by itself, so that an interrupt leaves no terminal dim."""
        if piece:
            self._clear_status()
            self._write(f"{_DIM}{piece}{_NOT_DIM}")
            self._is_line_open = not piece.endswith("\n")

    def _end_thinking(self) -> None:
        """Write what is left of the thinking, and a blank line below it."""
        if self._n_thought:
            self._write_dim(self._thought.flush())
            self._end_line()
            self._write("\n")
            self._thought, self._n_thought = WordWrap(self._width), 0

    def _end_line(self) -> None:
        """End the line that is being written."""
        if self._is_line_open:
            self._write("\n")
            self._is_line_open = False

    def _clear_status(self) -> None:
        """Erase the status line."""
        if self._status and sys.stderr.isatty():
            write_to(sys.stderr, "\r\x1b[K")
        self._status = ""


def view_for(shell: Any, *, is_streamed: bool = True) -> ReplyView:
    """Create the view that suits where a cell runs.

    Args:
        shell: The IPython shell.
        is_streamed: Whether the text is shown before it is complete.

    Returns:
        A view for one reply.
    """
    if type(shell.display_pub).__name__ == "CapturingDisplayPublisher":
        return CapturedView(_publisher(shell))
    if getattr(shell, "kernel", None) is not None:
        return NotebookView(_publisher(shell), is_streamed=is_streamed)
    return TerminalView(is_streamed=is_streamed)


class ShownReplies:
    """A hook that keeps a streamed reply from being shown a second time as the value of its cell.

    The value is still the reply, so that `_` and `Out` hold it. Only IPython's own display of that same object in that
    same execution is suppressed: in a notebook entirely, in a terminal except for one line about the reply.
    """

    def __init__(self, shell: Any) -> None:
        """Keep the shell; it is not changed before `install`."""
        self._shell = shell
        self._fresh: Reply | None = None
        self._execution_count = -1
        self._replaced: Callable[[Reply], object] | None = None
        self._is_installed = False

    def install(self) -> None:
        """Register the hook that IPython calls before it shows a reply."""
        if not self._is_installed:
            printers = self._printers()
            self._replaced = printers.get(Reply)
            printers[Reply] = self._display
            self._is_installed = True

    def uninstall(self) -> None:
        """Restore the shell as it was."""
        if self._is_installed:
            printers = self._printers()
            del printers[Reply]
            if self._replaced is not None:
                printers[Reply] = self._replaced
            self._fresh = self._replaced = None
            self._is_installed = False

    def mark(self, reply: Reply) -> None:
        """Remember that this reply has just been shown in full."""
        self._fresh = reply
        self._execution_count = self._shell.execution_count

    def _printers(self) -> dict[type, Callable[[Reply], object]]:
        """Return IPython's display functions by type of value."""
        printers: dict[type, Callable[[Reply], object]]
        printers = self._shell.display_formatter.ipython_display_formatter.type_printers
        return printers

    def _display(self, reply: Reply) -> None:
        """Display a reply for IPython's formatter; returning means that it has been shown.

        Raises:
            NotImplementedError: IPython shall show the reply in the usual way.
        """
        hook = sys.displayhook
        is_fresh = reply is self._fresh and self._shell.execution_count == self._execution_count
        if is_fresh and type(hook).__name__ == "CapturingDisplayHook":
            # This hook keeps an output for the value in any case, even an empty one, so that output replaces ours.
            _remove_captured(hook.outputs)  # type: ignore[attr-defined]  # the class is IPython's
            self._fresh = None
        elif is_fresh and self._is_value():
            self._fresh = None
            if getattr(self._shell, "kernel", None) is None:
                width = terminal_width() - len(f"Out[{self._shell.displayhook.prompt_count}]: ")
                write_stdout(f"{wrapped(summary_line(reply), width)}\n")
            return
        if self._replaced is not None:
            self._replaced(reply)
        elif width := terminal_width():
            text = wrapped(reply_bundle(reply)["text/plain"], width)
            write_stdout("\n" * (self._is_value() and "\n" in text) + text + "\n")
        else:
            raise NotImplementedError

    def _is_value(self) -> bool:
        """Tell whether IPython is showing the value of a cell, and not an explicit `display(reply)`."""
        hook = self._shell.displayhook
        if getattr(self._shell, "kernel", None) is not None:
            # The hook of kernels has no flag for it, but a message in preparation.
            return getattr(hook, "msg", None) is not None
        # IPython 8.18 to 9.0 have no such flag: there, an explicit display may also show just that one line.
        return bool(getattr(hook, "is_active", True))


def _final_bundle(text: str, reply: Reply | None, note: str, notes: list[str]) -> dict[str, str]:
    """Return the final MIME bundle: of the reply, or of the text that arrived before a failure."""
    if reply is not None:
        return reply_bundle(reply, header=notes, note=note)
    return {
        "text/plain": terminal_text("\n".join([*notes, *filter(None, (text, note))])),
        "text/html": reply_html(text, header=notes, mark=note) if text or note or notes else "",
    }


def _status_line(text: str, done: int, total: int) -> str:
    """Return a status as one line: large totals (bytes) as a percentage, small ones (attempts) as a fraction."""
    count = f" {100 * done // total} %" if total >= 1000 else f" ({done}/{total})" if total else ""
    return " ".join(terminal_text(text).split()) + count


def _publisher(shell: Any) -> Publish:
    """Return a function that shows MIME bundles with the shell's current publisher."""
    publisher = shell.display_pub

    def publish(bundle: dict[str, str], display_id: str, is_update: bool) -> None:
        publisher.publish(data=bundle, metadata={}, transient={"display_id": display_id}, update=is_update)

    return publish


def _remove_captured(outputs: list[dict[str, Any]]) -> None:
    """Remove the most recently captured reply."""
    for index in reversed(range(len(outputs))):
        if str((outputs[index].get("transient") or {}).get("display_id", "")).startswith(_DISPLAY_ID_PREFIX):
            del outputs[index]
            return
