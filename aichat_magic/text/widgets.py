"""Notes, transcripts and tables that commands show, as HTML and as plain text."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from .characters import printable_line, terminal_text
from .html_parts import cell_tag, output_html, plain_html, small_html
from .markdown import markdown_html
from .numbers import decimals
from .wrap import text_width, wrapped

# Browsers show these as pictures and run nothing in them.
_THUMBNAIL_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MAX_THUMBNAIL_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Note:
    """A short message to the user.

    Attributes:
        text: One line or several, as plain text.
    """

    text: str

    def __str__(self) -> str:
        """Return the text."""
        return terminal_text(self.text)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what notebooks and terminals show."""
        lines = escape(str(self))
        html = f'<pre style="white-space:pre-wrap">{lines}</pre>' if "\n" in lines else f"<p>{lines}</p>"
        return {"text/plain": str(self), "text/html": output_html(html)}


class MessageToShow(Protocol):
    """Any message of a conversation, as far as it is shown."""

    @property
    def role(self) -> str:
        """Return the role of its author."""

    @property
    def content(self) -> str:
        """Return the text."""

    @property
    def images(self) -> Sequence[object]:
        """Return its pictures; their `str` is shown for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Messages, shown one below the other.

    Attributes:
        title: A line above them.
        messages: The messages in order.
        note: A line below them; may be empty.
        is_exact: Whether they are shown letter by letter and with their pictures, instead of as Markdown.
    """

    title: str
    messages: Sequence[MessageToShow]
    note: str = ""
    is_exact: bool = False

    def __str__(self) -> str:
        """Return the messages as plain text, each below its role."""
        parts = [printable_line(self.title)]
        parts += [f"[{message.role}]\n{terminal_text(_with_images(message))}" for message in self.messages]
        return "\n\n".join(filter(None, [*parts, printable_line(self.note)]))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what notebooks and terminals show."""
        as_html = plain_html if self.is_exact else markdown_html
        note = small_html(self.note) if self.note else ""
        body = "".join(
            f"<p><strong>{message.role}</strong></p>\n{as_html(_with_images(message))}"
            f"{''.join(map(_thumbnail, message.images)) if self.is_exact else ''}"
            for message in self.messages
        )
        title = f"<p>{escape(printable_line(self.title))}</p>\n"
        return {"text/plain": str(self), "text/html": output_html(title + body + note)}


def _with_images(message: MessageToShow) -> str:
    """Return the text of a message, with a line for each of its images."""
    return "\n".join([message.content, *map(str, message.images)])


def _thumbnail(image: object) -> str:
    """Return a picture as HTML, small; empty for one that is too large to be kept in a notebook twice."""
    kind, data = getattr(image, "media_type", ""), getattr(image, "data", b"")
    if kind not in _THUMBNAIL_TYPES or not 0 < len(data) <= _MAX_THUMBNAIL_BYTES:
        return ""
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{escape(str(image))}" src="{source}" style="max-height:6em;max-width:12em;margin:0">'


Cell = str | int | float | None
# The width of most terminals, in columns.
_WIDTH = 80
# Shorter cells are not wrapped: a long text can give way instead.
_MAX_SHORT = 32
_SHORT = ";vertical-align:top;white-space:nowrap"
_LONG = ";vertical-align:top;min-width:12em;overflow-wrap:anywhere"
_PARTS_OF_CELL = re.compile(r"[^\s/_:=&?,.-]*(?:[/_:=&?,.-]+|\s+|\Z)")


@dataclass(frozen=True, slots=True)
class Table:
    """A small table: models, providers, conversations, usage.

    Attributes:
        title: A line above it; may be empty.
        columns: Headings; when all are empty, no headings are shown.
        rows: Cells, as many in each row as there are headings. Numbers are aligned to the right; None is empty. A
            column in which every cell is empty is left out.
        note: A line below it; may be empty.
        max_lines: Maximum lines of a cell in plain text.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    max_lines: int = 3

    def __str__(self) -> str:
        """Return aligned plain text of at most 80 columns. Long cells are wrapped, then cut with an ellipsis."""
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
        around = [printable_line(self.title)] if self.title else []
        note = [wrapped(printable_line(self.note), _WIDTH)] if self.note else []
        return "\n".join(line.rstrip() for line in (*around, *lines, *note))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what notebooks and terminals show."""
        return {"text/plain": str(self), "text/html": self._html()}

    def _html(self) -> str:
        """Return the table as HTML."""
        (columns, *rows), is_number = self._shown()

        def row_html(tag: str, cells: Iterable[str]) -> str:
            return "".join(
                f"{cell_tag(tag, 'right' if right else 'left', _SHORT if len(cell) <= _MAX_SHORT else _LONG)}"
                f"{escape(cell)}</{tag}>"
                for cell, right in zip(cells, is_number, strict=True)
            )

        title = f"<p><strong>{escape(printable_line(self.title))}</strong></p>" if self.title else ""
        note = small_html(self.note) if self.note else ""
        body = "".join(f"<tr>{row_html('td', row)}</tr>\n" for row in rows)
        head = f"<thead><tr>{row_html('th', columns)}</tr></thead>\n" if any(self.columns) else ""
        table = f'<table style="margin-left:0">\n{head}<tbody>\n{body}</tbody></table>'
        return output_html(f"{title}{table}{note}")

    def _shown(self) -> tuple[list[list[str]], list[bool]]:
        """Return headings and rows as text, without empty columns, and for each column whether it holds numbers."""
        shown = [[printable_line(heading) for heading in self.columns]]
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
    """Format a cell as one line of text."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return decimals(cell)
    return f"{cell:,}" if isinstance(cell, int) else printable_line(cell)


def _fitted(widths: list[int], is_number: list[bool], limit: int = _WIDTH) -> list[int]:
    """Shrink columns to fit the limit: the widest columns of text give way, down to eight characters."""
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > limit:
        widest = max(range(len(widths)), key=lambda i: 0 if is_number[i] else widths[i])
        if is_number[widest] or widths[widest] <= 8:
            break
        widths[widest] -= 1
    return widths


def _folded(text: str, width: int, max_lines: int) -> list[str]:
    """Wrap a cell to its width, at spaces and after the punctuation inside of names and addresses."""
    lines, line = [], ""
    # No more than this can be shown.
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
    """Fill a line of a cell to its width."""
    space = " " * (width - text_width(text))
    return space + text if is_right else text + space
