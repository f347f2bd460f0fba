"""A reply while it arrives, shown by the view that suits the front end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from ..core.messages import Reply
from ..text.characters import terminal_text
from ..text.front_end import FrontEnd
from ..text.reply_view import finish_mark, folded_thinking_html, growing_thinking_html, reply_bundle, reply_html
from .live import Bundle, LiveView, live_view

_STATUS_INTERVAL_S = 0.25


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


class LiveReply:
    """A reply that grows in an output that changes: notes, then its thinking, then its text."""

    def __init__(
        self, live: LiveView, *, is_streamed: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare to show; nothing is shown yet.

        Args:
            live: The output.
            is_streamed: Whether the text is shown before it is complete.
            clock: Seconds that only grow.
        """
        self._live = live
        self._is_streamed = is_streamed
        self._clock = clock
        self._notes: list[str] = []
        self._thinking = ""
        self._text = ""
        self._status = ""
        self._next_s = 0.0

    def note(self, line: str) -> None:
        """Show a note above the reply."""
        self._notes.append(line)
        self._live.line(line, lambda: self._bundle(""))

    def status(self, text: str, done: int = 0, total: int = 0) -> None:
        """Show what is going on before the first text; the same again only after a moment."""
        is_new = text != self._status
        if self._text or self._thinking or not (is_new or done >= total or self._clock() >= self._next_s):
            return
        self._status = text
        line = _status_line(text, done, total)
        self._live.status(line, lambda: self._bundle("", footer=line), is_new=is_new)
        self._next_s = self._clock() + _STATUS_INTERVAL_S

    def think(self, thinking_so_far: str) -> None:
        """Show the thinking so far; in HTML its newest part, in an open block."""
        is_first = not self._thinking
        self._thinking = thinking_so_far
        if self._is_streamed and thinking_so_far:
            self._live.update(
                thinking_so_far,
                lambda: self._bundle("", fold=growing_thinking_html(thinking_so_far)),
                is_dim=True,
                is_first=is_first,
            )

    def update(self, text_so_far: str) -> None:
        """Show the text so far, below its folded thinking."""
        is_first = not self._text
        self._text = text_so_far
        if self._is_streamed and text_so_far:
            self._live.update(
                text_so_far,
                lambda: self._bundle(
                    text_so_far, fold=folded_thinking_html(self._thinking, is_growing=True), is_growing=True
                ),
                is_first=is_first,
            )

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        """Show the final state."""
        text = self._text if reply is None else reply.text
        # A complete reply becomes the cell's value, and a line about it is shown for that value.
        mark = note or ("" if reply is None else reply.notice or ("" if reply.is_complete else finish_mark(reply)))
        self._live.finish(text, lambda: _final_bundle(self._text, reply, note, self._notes), mark=mark)

    def _bundle(self, text: str, *, fold: str = "", footer: str = "", is_growing: bool = False) -> Bundle:
        """Return a MIME bundle of the notes, and below them thinking, a growing text or a status."""
        return {
            "text/plain": terminal_text("\n".join([*self._notes, text or footer])),
            "text/html": reply_html(text, header=self._notes, fold=fold, footer=footer, is_growing=is_growing),
        }


def view_for(shell: Any, kind: FrontEnd | None = None, *, is_streamed: bool = True) -> ReplyView:
    """Create the view that suits where a cell runs.

    Args:
        shell: The IPython shell.
        kind: Kind of its front end; default: as the request says.
        is_streamed: Whether the text is shown before it is complete.

    Returns:
        A view for one reply.
    """
    return LiveReply(live_view(shell, kind), is_streamed=is_streamed)


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
