r"""The words of a magic line, with the quotes of a shell and the backslashes of a path.

A backslash is kept, because paths on Windows have them. Only before a quote or a blank it makes that a part of the
word, between double quotes only before such a quote, and between single quotes never::

    C:\data\x.csv    \\server\share    My\ File.txt    "say \"hi\""    'C:\My Data\'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..text.words import shorten
from .flags import ArgumentError

_QUOTES = "'\""
# Between double quotes: a quote, and backslashes that would make a part of the word of the quote that follows.
_TO_ESCAPE = re.compile(r'"|(?P<backslashes>\\+)(?="|\Z)')


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line.

    Attributes:
        text: The word, without its quotes.
        start: Its position in the line.
        quote: The quote that is open at its end, or empty.
    """

    text: str
    start: int
    quote: str = ""


def words_at_cursor(line: str) -> list[Word]:
    """Split a line into words; the last one ends at the end of the line, and may be empty or have an open quote."""
    words: list[Word] = []
    text, start, quote, position = "", -1, "", 0
    while position < len(line):
        char, after = line[position], line[position + 1 : position + 2]
        if start < 0 and not char.isspace():
            start = position
        if char == "\\" and quote == '"' and after in ('"', "\\"):
            text += after if after == '"' else "\\\\"
            position += 1
        elif char == "\\" and not quote and after and (after in _QUOTES or after.isspace()):
            text += after
            position += 1
        elif quote:
            quote, text = ("", text) if char == quote else (quote, text + char)
        elif char in _QUOTES:
            quote = char
        elif not char.isspace():
            text += char
        elif start >= 0:
            words.append(Word(text, start))
            text, start = "", -1
        position += 1
    words.append(Word(text, len(line) if start < 0 else start, quote))
    return words


def split_line(line: str) -> list[str]:
    """Split a magic line into words. A semicolon at its end is dropped.

    Raises:
        ArgumentError: A quote is not closed.
    """
    line = line.strip()
    line = line[:-1] if line.endswith(";") else line
    *words, last = words_at_cursor(line)
    if last.quote:
        way = "Close it; put a value with an apostrophe in double quotes."
        if '\\"' in line or "\\'" in line:
            way = "A backslash before a quote makes it a part of the value: leave out the last backslash of a path."
        raise ArgumentError(f"A quote is not closed in: {shorten(line, 80)} {way}")
    return [word.text for word in (*words, last) if word.start < len(line)]


def quoted(text: str, quote: str, *, is_closed: bool = False) -> str:
    """Return a text as one word of a line.

    Args:
        text: Any text in one line.
        quote: The quote that is open already; empty: one is opened where the text needs it.
        is_closed: Whether the closing quote stands there already.
    """
    if not quote:
        if text and not any(char.isspace() or char in "'\"\\;" for char in text):
            return text
        quote = "'" if "'" not in text else '"'
    if quote == "'":
        inside = text.replace("'", "'\"'\"'")
    else:
        inside = _TO_ESCAPE.sub(lambda at: f"\"'{at[0]}'\"" if at["backslashes"] else '\\"', text)
    return f"{quote}{inside}{'' if is_closed else quote}"
