"""Line breaking for terminals: words stay whole, code and tables stay as they are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from .code_blocks import closes, opened_by

# Line feeds, white space, and words.
_PARTS = re.compile(r"\n|[^\S\n]+|\S+")
_MARKER = re.compile(r"[-*+>]|\d{1,3}[.)]")
# Text is not wrapped to less than this, in columns.
_MIN_WIDTH = 20
_MAX_INDENT = 12
# A longer part, in characters, is not held back until its end is known.
_MAX_HELD = 200


def text_width(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def wrapped(text: str, width: int) -> str:
    """Break lines between words, so that no line of words is longer than the width.

    Args:
        text: Markdown or plain text.
        width: In columns; less than 20: the text stays as it is.

    Returns:
        The text. Words longer than a line, code inside a fence and lines of a table are left whole.
    """
    lines = WordWrap(width)
    return lines.add(text) + lines.flush()


class WordWrap:
    """Line breaking for a text that arrives in pieces. A word is written when its end is known, so it never moves."""

    def __init__(self, width: int) -> None:
        """Create a line breaker for a new text.

        Args:
            width: Maximum columns of a line; less than 20: every piece is returned as it is.
        """
        self._width = width
        self._fence = ""
        self._held = ""
        # The line that is being written: its text, the space before its next word, its width, its indentation.
        self._line = ""
        self._space = ""
        self._column = 0
        self._indent = 0
        self._is_inside = False

    def add(self, piece: str) -> str:
        """Add a piece, and return what can be written now."""
        if self._width < _MIN_WIDTH:
            return piece
        text, self._held = self._held + piece, ""
        parts = _PARTS.findall(text)
        written = [piece for part in parts[:-1] for piece in self._part(part)]
        if parts and not parts[-1].isspace() and not self._fence:
            *parts, self._held = _words(parts[-1])
            written += [piece for part in parts for piece in self._part(part)]
            if len(self._held) > _MAX_HELD:
                written += self._part(self._held)
                self._held, self._is_inside = "", True
        elif parts:
            written += self._part(parts[-1])
        return "".join(written)

    def flush(self) -> str:
        """Return what is still held back, at the end of the text."""
        held, self._held = self._held, ""
        written = "".join(self._part(held)) + self._space if held else self._space
        self._space = ""
        return written

    def _part(self, part: str) -> Iterator[str]:
        """Yield the output for a line feed, white space or a word."""
        if part == "\n":
            yield self._space + part
            self._end_line()
            return
        is_space = part.isspace()
        is_first = not is_space and not self._line.strip()
        self._line += part
        if self._is_verbatim():
            yield self._space + part
            self._space = ""
        elif is_space:
            self._space += part
        else:
            if is_first:
                lead = len(self._line) - len(part)
                self._indent = min(lead + (len(part) + 1 if _MARKER.fullmatch(part) else 0), _MAX_INDENT)
            for word in _words(part):
                yield self._placed(word)

    def _placed(self, word: str) -> str:
        """Put a word after the one before it, or on a new line."""
        space, self._space = self._space, ""
        is_inside, self._is_inside = self._is_inside and not space, False
        width = text_width(word)
        end = self._column + text_width(space) + width
        if end <= self._width or self._column <= self._indent or is_inside:
            self._column = end
            return space + word
        self._column = self._indent + width
        return "\n" + " " * self._indent + word

    def _is_verbatim(self) -> bool:
        """Tell whether a line break in the present line would change its meaning."""
        return bool(self._fence) or self._line.lstrip().startswith(("```", "~~~", "|"))

    def _end_line(self) -> None:
        """Finish the line, and note whether the next one is inside a fence."""
        if self._fence:
            if closes(self._line, self._fence):
                self._fence = ""
        else:
            self._fence = opened_by(self._line)
        self._line = self._space = ""
        self._column = self._indent = 0
        self._is_inside = False


def _words(part: str) -> Iterator[str]:
    """Yield the pieces between which a line may break: it may break after any wide character."""
    begin = 0
    for place, char in enumerate(part, start=1):
        if place - begin and unicodedata.east_asian_width(char) in "WF" and place < len(part):
            # A combining mark stays with its character; closing punctuation does not begin a line.
            following = part[place]
            if not unicodedata.combining(following) and unicodedata.category(following) not in ("Pe", "Pf", "Po", "Mn"):
                yield part[begin:place]
                begin = place
    if begin < len(part):
        yield part[begin:]
