"""Replies of several models in one output: side by side where there is HTML, below each other where there is text.

Each column is a view of one reply over a part of the output, so that thinking, notes and marks look as they do alone.
Text is written in the order of the models: the first reply as it comes, then the second with all it has so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.messages import Reply
from ..text.characters import terminal_text
from ..text.front_end import FrontEnd
from ..text.latex import latex_line
from ..text.reply_view import columns_html, summary_line
from .live import Bundle, LiveView, Make, live_view
from .views import LiveReply, ReplyView


class SideBySide:
    """One output with a column for each of several replies."""

    def __init__(self, live: LiveView, titles: Sequence[str], *, is_streamed: bool = True) -> None:
        """Prepare to show; nothing is shown yet.

        Args:
            live: The output.
            titles: The line above each reply.
            is_streamed: Whether the texts are shown before they are complete.
        """
        self._live = live
        self._notes: list[str] = []
        self._columns = tuple(_Column(self, title) for title in titles)
        self._views = tuple(_ColumnReply(column, is_streamed=is_streamed) for column in self._columns)
        self._front = 0
        self._written = ("", False)

    @property
    def views(self) -> tuple[ReplyView, ...]:
        """Return the view of each reply."""
        return self._views

    def note(self, line: str) -> None:
        """Show a note above all replies."""
        self._notes.append(line)
        self._live.line(line, self._bundle)

    def show_status(self, *, is_new: bool) -> None:
        """Show what goes on in all columns, in one line as long as there is no text."""
        if any(column.paragraphs for column in self._columns):
            self.show()
        else:
            line = " · ".join(filter(None, (column.status_line for column in self._columns)))
            self._live.status(line, self._bundle, is_new=is_new)

    def show(self, *, is_first: bool = False) -> None:
        """Show all columns as they are now; text only of the first one that is not finished, and those before it."""
        while True:
            column = self._columns[self._front]
            is_last = self._front == len(self._columns) - 1
            for paragraph in column.new_paragraphs():
                if self._written[0] and paragraph is not self._written:
                    self._write(*self._written, is_first=False)
                self._written = paragraph
            if is_last or not column.is_finished:
                break
            self._front += 1
        if all(column.is_finished for column in self._columns):
            self._live.finish(self._written[0], self._bundle)
        else:
            # Also if no text is new: another column has changed, or its status.
            self._write(*self._written, is_first=is_first)

    def _write(self, text: str, is_dim: bool, *, is_first: bool) -> None:
        """Hand over a paragraph and the whole."""
        self._live.update(text, self._bundle, is_dim=is_dim, is_first=is_first)

    def _bundle(self) -> Bundle:
        """Return the notes, and below them all columns."""
        bundles = [column.make() if column.make else {} for column in self._columns]
        plain = [
            "\n".join(filter(None, (column.title, bundle.get("text/plain", ""), column.end)))
            for column, bundle in zip(self._columns, bundles, strict=True)
        ]
        columns = [
            (column.title, bundle.get("text/html", "")) for column, bundle in zip(self._columns, bundles, strict=True)
        ]
        whole = {
            "text/plain": terminal_text("\n\n".join([*filter(None, ("\n".join(self._notes),)), *plain])),
            "text/html": columns_html(columns, header=self._notes),
        }
        if all(column.is_finished for column in self._columns):
            # For notebooks that are converted, as that of one reply. What failed before its first word has plain text.
            parts = [*map(latex_line, self._notes)]
            for column, bundle in zip(self._columns, bundles, strict=True):
                text = bundle.get("text/latex") or latex_line(bundle.get("text/plain", ""))
                parts += filter(None, (latex_line(column.title), text))
            whole["text/latex"] = "\n".join(parts)
        return whole


class _Column:
    """The part of the output that belongs to one reply; to its view, an output of its own."""

    def __init__(self, board: SideBySide, title: str) -> None:
        self._board = board
        self.title = title
        self.make: Make | None = None
        self.status_line = ""
        self.paragraphs: list[tuple[str, bool]] = []
        self.is_finished = False
        self.end = ""
        self._n_shown = 0

    @property
    def text(self) -> str:
        """Return the last paragraph."""
        return self.paragraphs[-1][0]

    def new_paragraphs(self) -> list[tuple[str, bool]]:
        """Return the paragraphs from the last one that was returned before, which may have grown since."""
        new = self.paragraphs[max(self._n_shown - 1, 0) :]
        self._n_shown = len(self.paragraphs)
        return new

    def line(self, text: str, make: Make) -> None:
        """Add a line above the reply."""
        self.make = make
        self._add(text)
        self._board.show()

    def status(self, line: str, make: Make, *, is_new: bool = True) -> None:
        """Keep the status, and show it."""
        self.make, self.status_line = make, line
        self._board.show_status(is_new=is_new)

    def update(self, text: str, make: Make, *, is_dim: bool = False, is_first: bool = False) -> None:
        """Keep the paragraph, which continues the last one or begins below it, and show it."""
        self.make, self.status_line = make, ""
        self._add(text, is_dim=is_dim)
        self._board.show(is_first=is_first)

    def finish(self, text: str, make: Make, *, mark: str = "") -> None:
        """Keep the final state, with the lines about the reply below it, and show it."""
        self.make, self.status_line, self.is_finished = make, "", True
        # What was written stays, so the lines come after it as it is.
        text += "\n" * bool(text and not text.endswith("\n"))
        self._add(text + "\n".join(f"[{line}]" for line in dict.fromkeys((mark, self.end)) if line))
        self._board.show(is_first=True)

    def _add(self, text: str, *, is_dim: bool = False) -> None:
        """Add a paragraph, or more of the last one; the title is the first."""
        if not self.paragraphs:
            self.paragraphs.append((self.title, False))
        last, was_dim = self.paragraphs[-1]
        if len(self.paragraphs) > 1 and was_dim == is_dim and text.startswith(last):
            self.paragraphs[-1] = (text, is_dim)
        else:
            self.paragraphs.append((text, is_dim))


class _ColumnReply(LiveReply):
    """A reply in a column: the line about it, which a cell's value shows otherwise, stands below it."""

    def __init__(self, column: _Column, *, is_streamed: bool) -> None:
        super().__init__(column, is_streamed=is_streamed)
        self._column = column

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        """Show the final state."""
        self._column.end = "" if reply is None else summary_line(reply)
        super().finish(reply, note=note)


def side_by_side(
    shell: Any, titles: Sequence[str], kind: FrontEnd | None = None, *, is_streamed: bool = True
) -> SideBySide:
    """Create the view of several replies that suits where a cell runs.

    Args:
        shell: The IPython shell.
        titles: The line above each reply.
        kind: Kind of its front end; default: as the request says.
        is_streamed: Whether the texts are shown before they are complete.
    """
    return SideBySide(live_view(shell, kind), titles, is_streamed=is_streamed)
