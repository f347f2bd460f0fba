"""What commands answer with: notes, transcripts and tables, as HTML and as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from .markdown import _FOOTER, _body_html, _cell, _one_line, _plain_html, _wrapped, terminal_text
from .reply_view import _decimals
from .wrap import text_width, wrapped


@dataclass(frozen=True, slots=True)
class Note:
    """A few words to the user.

    Attributes:
        text: One line or several, as plain text.
    """

    text: str

    def __str__(self) -> str:
        """The text."""
        return terminal_text(self.text)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How notebooks and terminals show it."""
        lines = escape(str(self))
        html = f'<pre style="white-space:pre-wrap">{lines}</pre>' if "\n" in lines else f"<p>{lines}</p>"
        return {"text/plain": str(self), "text/html": _wrapped(html)}


class MessageToShow(Protocol):
    """Any message, as far as it is shown."""

    @property
    def role(self) -> str:
        """Who says it."""

    @property
    def content(self) -> str:
        """The text."""

    @property
    def images(self) -> Sequence[object]:
        """Pictures that go with it; their text stands for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Messages to look at.

    Attributes:
        title: A line above them.
        messages: The messages in order.
        note: A line below them; may be empty.
        is_exact: Whether they are shown letter by letter, and not as Markdown.
    """

    title: str
    messages: Sequence[MessageToShow]
    note: str = ""
    is_exact: bool = False

    def __str__(self) -> str:
        """The messages, each below its role."""
        parts = [_one_line(self.title)]
        parts += [f"[{message.role}]\n{terminal_text(_with_images(message))}" for message in self.messages]
        return "\n\n".join(filter(None, [*parts, _one_line(self.note)]))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How notebooks and terminals show it."""
        as_html = _plain_html if self.is_exact else _body_html
        note = f"{_FOOTER}{escape(_one_line(self.note))}</div>" if self.note else ""
        body = "".join(
            f"<p><strong>{message.role}</strong></p>\n{as_html(_with_images(message))}" for message in self.messages
        )
        title = f"<p>{escape(_one_line(self.title))}</p>\n"
        return {"text/plain": str(self), "text/html": _wrapped(title + body + note)}


def _with_images(message: MessageToShow) -> str:
    """The text of a message, and a line for each of its images."""
    return "\n".join([message.content, *map(str, message.images)])


Cell = str | int | float | None
# A terminal that nobody has widened.
_WIDTH = 80
# A name is not broken where a line of text can give way instead.
_MAX_SHORT = 32
_SHORT = ";vertical-align:top;white-space:nowrap"
_LONG = ";vertical-align:top;min-width:12em;overflow-wrap:anywhere"
_PARTS_OF_CELL = re.compile(r"[^\s/_:=&?,.-]*(?:[/_:=&?,.-]+|\s+|\Z)")


@dataclass(frozen=True, slots=True)
class Table:
    """A small table to look at: models, providers, conversations, usage.

    Attributes:
        title: A line above it; may be empty.
        columns: Headings; when all are empty there is no line of headings.
        rows: Cells, as many in each row as there are headings. Numbers are aligned to the right; None is empty. A
            column without a single cell is left out.
        note: A line below it; may be empty.
        max_lines: Most lines of a cell in plain text.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    max_lines: int = 3

    def __str__(self) -> str:
        """Aligned plain text of at most 80 columns. Long cells take several lines, and end with an ellipsis."""
        shown, is_number = self._shown()
        widths = _fitted([max(map(text_width, column)) for column in zip(*shown, strict=True)], is_number)
        lines = []
        for row in shown:
            folded = [_folded(cell, width, self.max_lines) for cell, width in zip(row, widths, strict=True)]
            for number in range(max(1, *map(len, folded))):
                parts = [part[number] if number < len(part) else "" for part in folded]
                lines.append("  ".join(map(_padded, parts, widths, is_number)))
            if row is shown[0]:
                lines = [*lines, "  ".join("-" * width for width in widths)] if any(self.columns) else []
        around = [_one_line(self.title)] if self.title else []
        note = [wrapped(_one_line(self.note), _WIDTH)] if self.note else []
        return "\n".join(line.rstrip() for line in (*around, *lines, *note))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How notebooks and terminals show it."""
        return {"text/plain": str(self), "text/html": self._html()}

    def _html(self) -> str:
        """The same as an HTML table."""
        (columns, *rows), is_number = self._shown()

        def row_html(tag: str, cells: Iterable[str]) -> str:
            return "".join(
                f"{_cell(tag, 'right' if right else 'left', _SHORT if len(cell) <= _MAX_SHORT else _LONG)}"
                f"{escape(cell)}</{tag}>"
                for cell, right in zip(cells, is_number, strict=True)
            )

        title = f"<p><strong>{escape(_one_line(self.title))}</strong></p>" if self.title else ""
        note = f"{_FOOTER}{escape(_one_line(self.note))}</div>" if self.note else ""
        body = "".join(f"<tr>{row_html('td', row)}</tr>\n" for row in rows)
        head = f"<thead><tr>{row_html('th', columns)}</tr></thead>\n" if any(self.columns) else ""
        table = f'<table style="margin-left:0">\n{head}<tbody>\n{body}</tbody></table>'
        return _wrapped(f"{title}{table}{note}")

    def _shown(self) -> tuple[list[list[str]], list[bool]]:
        """Headings and rows as text, without empty columns; for each column whether it holds numbers."""
        shown = [[_one_line(heading) for heading in self.columns]]
        shown += [[_cell_text(cell) for cell in row] for row in self.rows]
        every = range(len(self.columns))
        kept = [place for place in every if any(row[place] for row in shown[1:])] or every
        is_number = [
            any(row[place] is not None for row in self.rows)
            and not any(isinstance(row[place], str) for row in self.rows)
            for place in kept
        ]
        return [[row[place] for place in kept] for row in shown], is_number


def _cell_text(cell: Cell) -> str:
    """A cell as one line of text."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return _decimals(cell)
    return f"{cell:,}" if isinstance(cell, int) else _one_line(cell)


def _fitted(widths: list[int], is_number: list[bool], limit: int = _WIDTH) -> list[int]:
    """Widths of columns that fit the limit: the widest columns of text give way, down to eight characters."""
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > limit:
        widest = max(range(len(widths)), key=lambda i: 0 if is_number[i] else widths[i])
        if is_number[widest] or widths[widest] <= 8:
            break
        widths[widest] -= 1
    return widths


def _folded(text: str, width: int, max_lines: int) -> list[str]:
    """A cell as lines of its width, broken at spaces and after the marks inside of names and addresses."""
    lines, line = [], ""
    # More than that is not shown.
    for part in _PARTS_OF_CELL.findall(text[: width * (max_lines + 1)]):
        if text_width(line + part.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += part if line else part.lstrip()
        while text_width(line) > width and line.rstrip() != line[:1]:
            end = next(
                end for end in range(1, len(line) + 1) if end == len(line) or text_width(line[: end + 1]) > width
            )
            lines.append(line[:end])
            line = line[end:].lstrip()
    lines = [line for line in (*lines, line.rstrip()) if line]
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while last and text_width(last) > width - 1:
            last = last[:-1]
        lines[max_lines - 1 :] = [f"{last}…"]
    return lines


def _padded(text: str, width: int, is_right: bool) -> str:
    """A line of a cell filled to its width."""
    space = " " * (width - text_width(text))
    return space + text if is_right else text + space
